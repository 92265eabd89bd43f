import STUN

/// What a peer says of its NAT, so that both sides come to the same plan.
package struct PunchReport: Hashable, Sendable {
    package enum Mapping: String, Hashable, Sendable {
        case independent, dependent, unknown
    }

    /// Whom the NAT lets in, as far as it matters: with `address`, ordinary checks get through.
    package enum Filtering: String, Hashable, Sendable {
        case none, address, port, unknown
    }

    package enum Wish: String, Hashable, Sendable {
        /// Where the reports show that guessing leads somewhere, and nothing else does.
        case auto
        case never
        /// Also where a report has gaps; these are taken for the harder kind.
        case always
    }

    package var mapping: Mapping
    package var filtering: Filtering
    /// Nil where it is not known.
    package var allocation: NATPortAllocation?
    /// As servers see it.
    package var address: IPAddress
    package var wish: Wish

    package init(
        mapping: Mapping,
        filtering: Filtering,
        allocation: NATPortAllocation?,
        address: IPAddress,
        wish: Wish = .auto
    ) {
        (self.mapping, self.filtering, self.allocation) = (mapping, filtering, allocation)
        (self.address, self.wish) = (address, wish)
    }

    /// - Returns: nil where no server has seen this side's address, or not one that packets may be sent to.
    package init?(_ report: NATReport, wish: Wish) {
        guard let address = report.mapped?.address, PunchTarget.isAllowed(address) else { return nil }
        self.address = address
        self.wish = wish
        mapping =
            switch report.mapping.value {
            case .endpointIndependent: .independent
            case .addressDependent, .addressAndPortDependent, .endpointDependent: .dependent
            case nil: .unknown
            }
        filtering =
            switch report.filtering.value {
            case .endpointIndependent: .none
            case .addressDependent: .address
            case .addressAndPortDependent: .port
            case nil: .unknown
            }
        allocation = report.allocation.value
    }
}
