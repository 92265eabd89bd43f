import Traversal

/// The way that a connection's data takes.
public struct Path: Sendable, Hashable, Codable, CustomStringConvertible {
    /// What an end of the way is (RFC 8445).
    public enum End: String, Sendable, Hashable, Codable {
        /// An address of the host itself.
        case host
        /// An outside address of a NAT, as a server sees it.
        case serverReflexive = "srflx"
        /// One that only the peer sees.
        case peerReflexive = "prflx"
        /// An address of a TURN server.
        case relayed = "relay"
    }

    /// What this side's end is.
    public var local: End
    /// What the peer's end is.
    public var remote: End
    /// Where data is sent to, as `address:port`.
    public var remoteAddress: String
    /// Whether it goes over TCP between the ends; over UDP otherwise.
    public var isTCP: Bool

    /// Whether a TURN server forwards the data.
    public var isRelayed: Bool { local == .relayed || remote == .relayed }

    /// How the way was made: between addresses of the hosts themselves directly, between others by hole punching.
    public var method: ConnectionMethod {
        if isRelayed { return .turnRelay }
        if local == .host && remote == .host { return .direct }
        return isTCP ? .tcpHolePunch : .udpHolePunch
    }

    /// The ends, and where data is sent to.
    public var description: String {
        "\(local.rawValue) to \(remote.rawValue) \(remoteAddress)\(isTCP ? " over TCP" : "")"
    }
}

extension Path {
    init(_ path: ICEPath) {
        self.init(
            local: End(path.localType),
            remote: End(path.remoteType),
            remoteAddress: AddressText.text(path.remote),
            isTCP: path.transport.isTCP
        )
    }
}

extension Path.End {
    init(_ type: ICECandidateType) {
        self =
            switch type {
            case .host: .host
            case .serverReflexive: .serverReflexive
            case .peerReflexive: .peerReflexive
            case .relayed: .relayed
            }
    }
}
