/// A request or message of the caller's, by its number. The `id` on the wire.
package struct SignalingRequestID: Hashable, Sendable {
    package let rawValue: UInt64
}

/// What a session wants done. Actions are carried out in order.
package enum SignalingAction: Sendable, Equatable {
    /// Open a WebSocket to the server, and let go of the one before. The number goes with everything that is told
    /// about it. - `authorization`: for the header of that name, where it is to have one. The subprotocol is
    /// `SignalingSession.subprotocol`.
    case connect(socket: UInt64, authorization: String?)
    /// One text message on the newest WebSocket.
    case send(String)
    /// Close the newest WebSocket, behind what was sent. Nothing need be told about it any more.
    case close(code: UInt16)
    case deliver(SignalingEvent)
}

package enum SignalingEvent: Sendable, Equatable {
    /// The server has let the client in.
    case opened(SignalingWelcome)
    /// There is no connection. - `retryAfterMilliseconds`: the next attempt; nil where there is none until the
    /// credentials change.
    case disconnected(SignalingError, retryAfterMilliseconds: UInt64?)
    /// The server goes, and wants to see the client again so much later. The session does that.
    case shutdownAnnounced(reconnectAfterMilliseconds: UInt64)
    /// The credentials end, or have ended: `setCredentials` goes on without losing anything, if it comes in time.
    case credentialsEnding(afterMilliseconds: UInt64)
    /// `close` is through. The last event.
    case closed

    /// The peer id is registered. - `request`: nil where the session did it by itself, in a new session.
    case registered(peerID: String, request: SignalingRequestID?)
    /// The peer id is not registered any more. - `isFinal`: no further attempt is made.
    case registrationLost(peerID: String, SignalingError, isFinal: Bool)
    case unregistered(peerID: String, request: SignalingRequestID)
    /// - `request`: nil where the session did it by itself; the peers are those who are in the room at the moment.
    case roomJoined(roomID: String, peerID: String, peers: [SignalingPeer], request: SignalingRequestID?)
    case roomLeft(roomID: String, peerID: String, request: SignalingRequestID)
    /// The peer is not in the room any more, and no further attempt is made.
    case roomLost(roomID: String, peerID: String, SignalingError)
    /// The answer to `lookup`; nil where there is no such peer that could be seen.
    case found(peerID: String, SignalingPeer?, request: SignalingRequestID)
    /// TURN credentials: the answer to `requestICEServers`, or unasked before the old ones end.
    case iceServers([SignalingICEServer], ttlSeconds: UInt64, request: SignalingRequestID?)
    /// The answer to `probe`.
    case probed(SignalingProbe, request: SignalingRequestID)
    /// A request or message has no effect.
    case failed(SignalingRequestID, SignalingError)

    case message(SignalingMessage)
    case broadcast(from: String, roomID: String, data: JSONText, timestampMilliseconds: Int64)
    case peerJoined(SignalingPeer, roomID: String)
    case peerLeft(peerID: String, roomID: String)
}

/// What the server said when it let the client in.
package struct SignalingWelcome: Sendable, Hashable {
    package var sessionID: String
    package var user: String
    /// Whether the session before goes on: peer ids and rooms are as they were, and what was missed follows.
    package var isResumed: Bool
    /// Messages to this client that the server could not keep; ask the peers anew.
    package var missed: UInt64
    package var iceServers: [SignalingICEServer]
    package var ttlSeconds: UInt64
    package var limits: SignalingServerLimits
}

/// What the server allows; what it does not say is taken to be as the server has it by default.
package struct SignalingServerLimits: Sendable, Hashable {
    package var messagesPerSecond: UInt64 = 50
    package var burst: UInt64 = 100
    package var maxMessageBytes = 65_536
    package var metadataBytes = 4_096
    package var peersPerConnection = 32
    package var roomsPerPeer = 32
    package var peerTimeoutMilliseconds: UInt64 = 300_000
    package var resumeWindowMilliseconds: UInt64 = 30_000
}

package struct SignalingPeer: Sendable, Hashable {
    package var peerID: String
    /// An object.
    package var metadata: JSONText
}

/// What came of the server's connection to this client.
package struct SignalingProbe: Sendable, Hashable {
    package enum Outcome: String, Sendable, Hashable, CaseIterable {
        /// It stood, dropped without a trace, or was answered with a reset.
        case accepted, dropped, refused
        /// The server has no way to this client, or does not know its address.
        case impossible
    }

    package var outcome: Outcome
    /// What the server connected to, and from where; nil where it did not.
    package var address: String?
    package var from: String?
}

package struct SignalingICEServer: Sendable, Hashable {
    package var urls: [String]
    package var username: String?
    package var credential: String?
}

/// The four kinds of messages from peer to peer.
package enum SignalingMessageKind: Sendable, Hashable, CaseIterable {
    case offer, answer, candidate, signal
}

package struct SignalingMessage: Sendable, Hashable {
    package var kind: SignalingMessageKind
    package var from: String
    /// The peer id of ours that it is for.
    package var to: String
    package var payload: JSONText
    package var timestampMilliseconds: Int64
}

/// What a session counts.
package struct SignalingSessionCounters: Sendable, Hashable {
    package var messagesReceived: UInt64 = 0
    package var messagesSent: UInt64 = 0
    /// Attempts to connect.
    package var connects: UInt64 = 0
    package var sessionsOpened: UInt64 = 0
    package var sessionsResumed: UInt64 = 0
    /// Messages of the server that are not what the protocol has, and were ignored.
    package var malformed: UInt64 = 0
    /// Messages of a type that this client does not know, and ignored.
    package var unknownTypes: UInt64 = 0
    /// Answers to nothing that waits.
    package var unmatched: UInt64 = 0
    /// Messages that were sent again because the server had not got them.
    package var resent: UInt64 = 0
    /// Connections on which nothing was heard any more.
    package var silences: UInt64 = 0
}
