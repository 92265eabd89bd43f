import STUN

/// What a NAT or firewall does with a TCP connection that nobody asked for (RFC 5382 section 4.3).
package enum UnsolicitedStream: String, Sendable, CaseIterable {
    /// Everybody may connect.
    case accepted
    /// It vanishes, so two that connect at the same time meet.
    case dropped
    /// It is answered with a reset, so two meet only if neither comes first by more than the way between them.
    case refused
}

/// What is known of the NATs on the way as far as TCP goes. What they do with UDP says nothing of it.
package struct StreamNATReport: Equatable, Sendable {
    package var mapping: Determination<NATMapping> = .undetermined("nothing was asked yet")
    package var unsolicited: Determination<UnsolicitedStream> = .undetermined("nothing was asked yet")
    /// A port of this machine, and what the server saw of it.
    package var local: Endpoint?
    package var mapped: Endpoint?

    package init() {}

    /// From what one server sees of one port at its first address, at its second, and there at its second port
    /// (RFC 5780 section 4.3, over TCP).
    package static func mapping(_ first: Endpoint, _ second: Endpoint, _ third: Endpoint) -> NATMapping {
        if second != third { return .addressAndPortDependent }
        return first == second ? .endpointIndependent : .addressDependent
    }
}
