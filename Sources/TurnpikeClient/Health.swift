/// How a coordinator's services stand; `P2PCoordinator.healthCheck()`.
public struct Health: Sendable, Hashable, Codable {
    /// How one service stands.
    public enum Status: String, Sendable, Hashable, Codable {
        /// It works.
        case healthy
        /// It does not; `Health.issues` says why, and the mend.
        case unhealthy
        /// It is being tried.
        case starting
        /// None is configured.
        case disabled
    }

    /// The way out to peers.
    public struct HolePunching: Sendable, Hashable, Codable {
        /// Unhealthy where no datagram gets out and back.
        public var status: Status
        /// The kind of the NAT.
        public var natType: NATType
    }

    /// The signaling server.
    public struct Signaling: Sendable, Hashable, Codable {
        /// Healthy while the coordinator is signed in.
        public var status: Status
        /// The server's port.
        public var port: Int?
        /// Ids that this coordinator has registered.
        public var peers: Int
    }

    /// The relays.
    public struct Relay: Sendable, Hashable, Codable {
        /// Healthy while one at least is allocated.
        public var status: Status
        /// Relays that can be used at once.
        public var allocated: Int
    }

    /// All of them.
    public struct Services: Sendable, Hashable, Codable {
        /// The way out to peers.
        public var holePunching: HolePunching
        /// The signaling server.
        public var signaling: Signaling
        /// The relays.
        public var relay: Relay
    }

    /// Whether peers can be reached: signaling works, and a way out does.
    public var healthy: Bool
    /// Each service.
    public var services: Services
    /// What is wrong, each with the mend: values of the configuration first, then servers.
    public var issues: [String]
}
