import STUN

/// What was found out, or why it could not be.
package enum Determination<Value: Equatable & Sendable>: Equatable, Sendable {
    case determined(Value)
    case undetermined(String)

    package var value: Value? { if case .determined(let value) = self { value } else { nil } }

    package var reason: String? { if case .undetermined(let reason) = self { reason } else { nil } }
}

/// A NAT's kind by the names of RFC 3489, which people know.
package enum NATName: String, Sendable, CaseIterable {
    case open = "Open"
    case fullCone = "Full Cone"
    case restricted = "Restricted"
    case portRestricted = "Port-Restricted"
    case symmetric = "Symmetric"
    /// No datagram gets out, or none back.
    case blocked = "Blocked"
}

/// On what of the destination a socket's outside address depends (RFC 4787 section 4.1).
package enum NATMapping: String, Sendable {
    case endpointIndependent, addressDependent, addressAndPortDependent
    /// It depends on the destination; servers with one port each cannot show whether the port matters.
    case endpointDependent

    package var isIndependent: Bool { self == .endpointIndependent }
}

/// Whose packets a NAT lets in (RFC 4787 section 5).
package enum NATFiltering: String, Sendable {
    case endpointIndependent, addressDependent, addressAndPortDependent
}

/// How a NAT chooses outside ports.
package enum NATPortAllocation: Hashable, Sendable {
    /// The socket's own port, where it is free.
    case preserving
    /// The next one, counting by this step, which may be negative.
    case sequential(step: Int)
    /// Any of a block; this much of it was seen.
    case chunked(ClosedRange<UInt16>)
    case random
}

/// What is found out of how long mappings live.
package enum NATLifetimeSearch: Sendable {
    case none
    /// How often they have to be used: half a minute, with eight more sockets.
    case forKeepAlives
    /// To a tenth: up to five and a half minutes, with twenty more sockets.
    case thorough

    var seconds: [UInt64] {
        switch self {
        case .none: []
        case .forKeepAlives: Limits.keepAliveLifetimesSeconds
        case .thorough: Limits.lifetimesSeconds
        }
    }
}

/// How long a mapping lives without traffic.
package struct NATLifetime: Equatable, Sendable {
    package var atLeastSeconds: UInt64
    /// Nil where it outlived the longest test.
    package var lessThanSeconds: UInt64?

    /// Nothing more will be found out by a thorough search: it has ended, or lives longer than is looked.
    package var isFinal: Bool { lessThanSeconds != nil || atLeastSeconds == Limits.lifetimesSeconds.last }

    package init(atLeastSeconds: UInt64, lessThanSeconds: UInt64?) {
        self.atLeastSeconds = atLeastSeconds
        self.lessThanSeconds = lessThanSeconds
    }
}

/// What is known of the NATs on the way, for one address family.
package struct NATReport: Equatable, Sendable {
    package var name: Determination<NATName> = .undetermined("nothing was asked yet")
    package var mapping: Determination<NATMapping> = .undetermined("nothing was asked yet")
    package var filtering: Determination<NATFiltering> = .undetermined("nothing was asked yet")
    package var hairpin: Determination<Bool> = .undetermined("nothing was asked yet")
    package var allocation: Determination<NATPortAllocation> = .undetermined("nothing was asked yet")
    package var lifetime: Determination<NATLifetime> = .undetermined(NATReport.unmeasured)
    /// Whether addresses are translated at all.
    package var isTranslated: Determination<Bool> = .undetermined("no server has answered")
    /// Where nothing is translated: whether packets are kept out all the same.
    package var isFirewalled: Determination<Bool> = .undetermined("no server has answered")
    /// The first socket, and what the first server that answered saw of it.
    package var local: Endpoint?
    package var mapped: Endpoint?
    package var answeringServers: [Endpoint] = []
    package var silentServers: [Endpoint] = []
    /// The shortest round trip to a server.
    package var roundTripNanoseconds: UInt64?

    /// Why the lifetime is not known where nobody asked for it.
    package static let unmeasured = "it was not measured"

    package init() {}
}
