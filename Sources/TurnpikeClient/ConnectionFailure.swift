/// Why there is no connection.
public struct ConnectionFailure: Error, Sendable, Hashable, CustomStringConvertible {
    /// What kind of reason it is.
    public enum Reason: String, Sendable, Hashable, Codable {
        /// The signaling server knows no such peer.
        case peerNotFound
        /// There is no signaling server to ask, or it does not answer or takes no message.
        case signaling
        /// The peer did not answer the offer in time.
        case noAnswer
        /// Nothing of what was tried reached the peer, in time or at all.
        case noPath
        /// There is a path, and none of the kind that was required.
        case noRequiredPath
        /// The peer is not who its offer or answer says, or the encryption failed otherwise.
        case encryption
        /// What the peer sent is no offer or answer of data channels.
        case description
        /// The peer ended the connection.
        case closedByPeer
        /// The coordinator has ended, or the caller has.
        case cancelled
        /// A limit of this process.
        case limit
    }

    /// Whom the attempt was for.
    public var peerId: PeerID
    /// What kind of reason it is.
    public var reason: Reason
    /// What is wrong, and the mend.
    public var error: String
    /// What was tried.
    public var report: ConnectionReport

    /// The peer, what is wrong, and what was tried.
    public var description: String {
        let tried = report.description
        return "no connection to \(peerId): \(error)" + (tried.isEmpty ? "" : "\n\(tried)")
    }
}

/// What was tried to reach a peer.
public struct ConnectionReport: Sendable, Hashable, Codable, CustomStringConvertible {
    /// Two addresses between which a way was looked for.
    public struct Pair: Sendable, Hashable, Codable {
        /// This side's address.
        public var local: String
        /// What it is.
        public var localType: Path.End
        /// The peer's address.
        public var remote: String
        /// What it is.
        public var remoteType: Path.End
        /// Whether it is by TCP; by UDP otherwise.
        public var isTCP: Bool
        /// What came of it, and why.
        public var outcome: String
        /// Whether data can take this way.
        public var works: Bool
        /// Checks that were sent.
        public var checksSent: Int
        /// Checks of this side that were answered.
        public var answersReceived: Int
        /// Checks that came from the peer.
        public var requestsReceived: Int
        /// The round trip in milliseconds; `nil` where none was measured.
        public var roundTripMilliseconds: Double?
    }

    /// Best first.
    public var pairs: [Pair] = []
    /// What else went wrong: servers that did not answer, names that could not be resolved.
    public var notes: [String] = []
    /// Why there is no direct path, and what helps; `nil` where the peer was not heard of.
    public var explanation: Explanation?

    /// One line for the explanation, and for each note and pair.
    public var description: String {
        let lines = pairs.map { pair in
            (pair.isTCP ? "TCP " : "")
                + "\(pair.localType.rawValue) \(pair.local) -> \(pair.remoteType.rawValue) \(pair.remote): "
                + "\(pair.outcome); \(pair.checksSent) checks, \(pair.answersReceived) answers, "
                + "\(pair.requestsReceived) requests"
        }
        return ([explanation?.description].compactMap(\.self) + notes + lines).joined(separator: "\n")
    }
}
