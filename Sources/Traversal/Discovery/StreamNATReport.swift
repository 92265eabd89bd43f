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
    /// How outside ports are given out where they depend on the destination; nil where that is not known, or does not
    /// matter.
    package var allocation: NATPortAllocation?
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

    /// From what one server sees of fresh ports, one after the other.
    /// - Parameter others: outside ports that were seen besides.
    package static func allocation(
        _ samples: [(local: UInt16, mapped: UInt16)],
        others: [UInt16]
    ) -> NATPortAllocation? {
        PortPattern.allocation(samples.map { .init(local: $0.local, mapped: $0.mapped) }, others: others).value
    }

    /// The ports that a NAT which counts may have given between two that a server has seen, the likeliest first.
    package static func ports(between before: UInt16?, _ behind: UInt16?, step: Int) -> [UInt16] {
        PortGuesses.between(before, behind, step: step)
    }

    /// By how much a NAT counts of which no more is known than two ports that it gave one soon after the other; 0 where
    /// it does not seem to count. What lies between them is all there is to be tried, so that one is as good as more.
    package static func step(from before: UInt16?, to behind: UInt16?) -> Int {
        guard let before, let behind else { return 0 }
        let distance = Int(behind) - Int(before)
        return abs(distance) <= Limits.sequentialDistance ? distance.signum() : 0
    }

    /// How many fresh ports show it.
    package static let allocationSamples = Limits.allocationSamples + 1
}
