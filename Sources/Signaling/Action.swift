/// A WebSocket as the gateway numbers it. Numbers are not used twice.
package struct ConnectionID: Hashable, Sendable {
    package let rawValue: UInt64

    package init(_ rawValue: UInt64) { self.rawValue = rawValue }
}

/// What counts as one address: an IPv4 address, or the /64 of an IPv6 address, since a host has all of it.
package struct AddressKey: Hashable, Sendable {
    private let high: UInt64
    private let isIPv6: Bool

    package init(ipv4: UInt32) { self.init(high: UInt64(ipv4), isIPv6: false) }

    /// - Parameters:
    ///   - high: the first eight bytes of the address, the first in the highest bits.
    ///   - low: the other eight. An IPv4 address in IPv6 clothes (RFC 4291 section 2.5.5.2) is taken as what it is.
    package init(ipv6 high: UInt64, _ low: UInt64) {
        if high == 0, low >> 32 == 0xFFFF {
            self.init(ipv4: UInt32(truncatingIfNeeded: low))
        } else {
            self.init(high: high, isIPv6: true)
        }
    }

    private init(high: UInt64, isIPv6: Bool) {
        self.high = high
        self.isIPv6 = isIPv6
    }

    var network: NetworkKey { isIPv6 ? NetworkKey(ipv6: high) : NetworkKey(ipv4: UInt32(truncatingIfNeeded: high)) }
}

/// One WebSocket text message to a client.
package struct Frame: Sendable {
    /// JSON in UTF-8. Copies of a broadcast share the storage.
    package let bytes: [UInt8]
    /// The message's number in its session since the last `welcome`; 0 for what is not counted.
    package let sequence: UInt64
}

/// What a client showed to say who it is. Not to be logged.
package enum Credentials: Sendable {
    /// A user's password, or a time-limited credential: `<expiry>:<name>` and its password.
    case password(username: String, password: String)
    case token(String)
    /// The client holds the resume token of a session of this user. What is left to check is that the user may still
    /// come in.
    case session(user: String)
}

/// The account store's yes.
package struct Grant: Sendable {
    /// The account's name. A time-limited username, `<expiry>:<name>`, stands for its name, and ends the session.
    package let user: String
    /// When the credentials end, in milliseconds since the epoch.
    package let expiresAtWallMilliseconds: Int64?
    /// A JSON array for the member `iceServers`, minted for this user.
    package let iceServers: [UInt8]
    /// For how long those hold.
    package let ttlSeconds: UInt64
    /// When the check began. A revocation after that wins.
    package let checkedAtNanoseconds: UInt64

    package init(
        user: String,
        expiresAtWallMilliseconds: Int64?,
        iceServers: [UInt8],
        ttlSeconds: UInt64,
        checkedAtNanoseconds: UInt64
    ) {
        let (name, expirySeconds) = Name.user(ofUsername: user)
        self.user = name
        let (expiry, overflow) = (expirySeconds ?? .max).multipliedReportingOverflow(by: 1_000)
        self.expiresAtWallMilliseconds =
            overflow ? expiresAtWallMilliseconds : min(expiry, expiresAtWallMilliseconds ?? .max)
        self.iceServers = iceServers
        self.ttlSeconds = ttlSeconds
        self.checkedAtNanoseconds = checkedAtNanoseconds
    }
}

/// The account store's no.
package enum Denial: Sendable {
    case wrongCredentials
    /// It could not answer.
    case unavailable
}

/// A request for TURN credentials, by its number.
package struct CredentialTicket: Hashable, Sendable {
    let rawValue: UInt64
}

/// A request to be connected to, by its number.
package struct ProbeTicket: Hashable, Sendable {
    let rawValue: UInt64
}

/// What came of connecting to a client.
package struct ProbeReport: Sendable {
    package enum Outcome: Sendable, CaseIterable {
        /// The connection stood. It carried nothing, and was ended.
        case accepted
        /// Nothing came back.
        case dropped
        /// A reset came back.
        case refused
        /// The server has no way to that address, or does not know the client's.
        case impossible

        /// As it stands in the answer.
        var name: StaticString {
            switch self {
            case .accepted: "accepted"
            case .dropped: "dropped"
            case .refused: "refused"
            case .impossible: "impossible"
            }
        }
    }

    package let outcome: Outcome
    /// What was connected to, and from where; in text, without ports. Empty where nothing was.
    package let address: String
    package let from: String

    package init(_ outcome: Outcome, address: String = "", from: String = "") {
        (self.outcome, self.address, self.from) = (outcome, address, from)
    }
}

/// How a WebSocket ended, as the gateway saw it.
package enum Ending: Sendable {
    /// The client closed it for good: a close frame with 1000, or with no code.
    case goodbye
    /// Anything else: 1001, a reset, silence. The client may come back.
    ///
    /// `deliveredThrough` is the sequence of the last frame that most likely arrived: the last one that the client's
    /// TCP acknowledged. `nil`: nothing is known beyond what probes told.
    case lost(deliveredThrough: UInt64?)
}

/// What the hub wants done. Actions are carried out in order.
package enum Action: Sendable {
    case send(ConnectionID, Frame)
    /// Sends a WebSocket ping. When its pong is there, the hub hears `acknowledged(through: sequence)`: a WebSocket
    /// answers in order, so the pong says that all before it arrived.
    case probe(ConnectionID, sequence: UInt64)
    /// Asks how far the first connection has come, for the second is to take its place; `Hub.measured` brings the
    /// answer.
    case measure(ConnectionID, for: ConnectionID)
    /// Closes behind what was sent. The hub has forgotten the connection already.
    case close(ConnectionID, CloseCode, reason: StaticString)
    /// Asks the account store; `Hub.authenticated` or `Hub.denied` brings the answer.
    indirect case authenticate(ConnectionID, Credentials)
    /// Mints credentials for a user; `Hub.issued` or `Hub.issueFailed` brings the answer.
    indirect case issueCredentials(CredentialTicket, user: String, ttlSeconds: UInt64)
    /// Opens one TCP connection to the address that this WebSocket comes from, and to no other, and ends it. It may
    /// take `SignalingLimits.probeSeconds`; `Hub.probed` brings the answer.
    case probeTCP(ProbeTicket, ConnectionID, port: UInt16)
}
