import STUN

/// A socket, or one relayed address of an allocation, that the caller owns: what a check is sent from. An allocation
/// with an address of each family is two of them. The number is the caller's.
package struct ICEBase: RawRepresentable, Hashable, Sendable {
    package let rawValue: UInt32

    package init(rawValue: UInt32) { self.rawValue = rawValue }
}

/// UDP, or one of the three ways of TCP (RFC 6544 section 4.5). The caller frames what goes over TCP (RFC 4571).
package enum ICETransport: Hashable, Sendable, CaseIterable {
    case udp, tcpActive, tcpPassive, tcpSimultaneous

    package var isTCP: Bool { self != .udp }

    /// What the other side's candidate must be for a pair (RFC 6544 section 6.2).
    var counterpart: ICETransport {
        switch self {
        case .udp: .udp
        case .tcpActive: .tcpPassive
        case .tcpPassive: .tcpActive
        case .tcpSimultaneous: .tcpSimultaneous
        }
    }
}

package enum ICECandidateType: String, Hashable, Sendable, CaseIterable {
    case host
    case serverReflexive = "srflx"
    case peerReflexive = "prflx"
    case relayed = "relay"

    /// RFC 8445 section 5.1.2.2 for UDP. TCP comes behind UDP of the same type, so that it wins only where UDP fails.
    func preference(_ transport: ICETransport) -> UInt32 {
        switch self {
        case .host: transport.isTCP ? 90 : 126
        case .peerReflexive: transport.isTCP ? 80 : 110
        case .serverReflexive: transport.isTCP ? 70 : 100
        case .relayed: 0
        }
    }
}

/// A candidate as it is signaled, or as a check has shown it.
package struct ICECandidate: Hashable, Sendable {
    /// An address, or a name that the caller may resolve: browsers hide host addresses behind mDNS names.
    package enum Address: Hashable, Sendable {
        case ip(IPAddress)
        case name(String)
    }

    /// 1 to 32 characters of RFC 8839's ice-char.
    package var foundation: String
    /// 1 to 256; this agent has one component, as data channels and bundled media do.
    package var component: UInt16 = 1
    package var transport: ICETransport
    package var priority: UInt32
    package var address: Address
    package var port: UInt16
    package var type: ICECandidateType
    /// The base of a reflexive candidate, the mapped address of a relayed one; nil where it is kept private.
    package var related: Endpoint?
    package var usernameFragment: String?
    package var generation: UInt32?
    package var networkID: UInt32?
    package var networkCost: UInt32?

    package init(
        foundation: String,
        transport: ICETransport = .udp,
        priority: UInt32,
        address: Address,
        port: UInt16,
        type: ICECandidateType,
        related: Endpoint? = nil
    ) {
        self.foundation = foundation
        self.transport = transport
        self.priority = priority
        self.address = address
        self.port = port
        self.type = type
        self.related = related
    }

    /// Nil while the candidate has only a name.
    package var endpoint: Endpoint? {
        guard case .ip(let address) = address else { return nil }
        return Endpoint(address: address, port: port)
    }
}

/// A candidate of this side, with the base that checks leave from.
package struct ICELocalCandidate: Hashable, Sendable {
    package var base: ICEBase
    package var type: ICECandidateType
    package var transport: ICETransport
    package var endpoint: Endpoint
    /// The base's own address: of a host or relayed candidate the endpoint itself.
    package var baseEndpoint: Endpoint
    /// The server it was learned from, which tells foundations apart (RFC 8445 section 5.1.1.3).
    package var server: IPAddress?
    /// Higher is better; `AddressOrder` gives the values of a host's addresses.
    package var localPreference: UInt16
    package var related: Endpoint?
    /// What the base adds to each datagram beyond IP and UDP.
    package var overheadBytes: Int

    package init(
        base: ICEBase,
        type: ICECandidateType,
        endpoint: Endpoint,
        baseEndpoint: Endpoint? = nil,
        transport: ICETransport = .udp,
        server: IPAddress? = nil,
        localPreference: UInt16 = .max,
        related: Endpoint? = nil
    ) {
        self.base = base
        self.type = type
        self.transport = transport
        self.endpoint = endpoint
        self.baseEndpoint = baseEndpoint ?? endpoint
        self.server = server
        self.localPreference = localPreference
        self.related = related
        overheadBytes = type == .relayed ? ICELimits.relayOverheadBytes : 0
    }

    package var priority: UInt32 { ICEPriority.candidate(type, transport, localPreference: localPreference) }

    /// What PRIORITY says in a check from here: the candidate's own, if it turned out to be peer-reflexive
    /// (RFC 8445 section 7.1.1).
    var checkPriority: UInt32 {
        ICEPriority.candidate(.peerReflexive, transport, localPreference: localPreference)
    }

    /// Whether checks are sent from this candidate rather than from its base (RFC 8445 section 6.1.2.4).
    var isBase: Bool { type == .host || type == .relayed }
}

/// RFC 8445 sections 5.1.2.1 and 6.1.2.3.
package enum ICEPriority {
    package static func candidate(
        _ type: ICECandidateType,
        _ transport: ICETransport,
        localPreference: UInt16,
        component: UInt16 = 1
    ) -> UInt32 {
        var preference = UInt32(localPreference)
        if transport.isTCP {
            // RFC 6544 section 4.2: the direction takes the three highest bits. Actively opened connections pass NATs
            // best, but for relayed candidates.
            let direction: UInt32 =
                switch transport {
                case .tcpActive: type == .relayed || type == .host ? 6 : 4
                case .tcpPassive: type == .relayed || type == .host ? 4 : 2
                default: type == .relayed || type == .host ? 2 : 6
                }
            preference = direction << 13 | preference >> 3
        }
        return type.preference(transport) << 24 | preference << 8 | UInt32(256 - min(component, 256))
    }

    /// - Parameters:
    ///   - controlling: the priority of the controlling agent's candidate.
    ///   - controlled: that of the other's.
    package static func pair(controlling: UInt32, controlled: UInt32) -> UInt64 {
        UInt64(min(controlling, controlled)) << 32 | UInt64(max(controlling, controlled)) &* 2
            &+ (controlling > controlled ? 1 : 0)
    }
}
