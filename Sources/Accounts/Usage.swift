/// What was relayed: payload alone, without the headers of STUN, UDP and IP.
package struct Usage: Hashable, Sendable {
    package var bytesToPeers: Int64
    package var bytesToClients: Int64
    package var packetsToPeers: Int64
    package var packetsToClients: Int64

    package init(
        bytesToPeers: Int64 = 0,
        bytesToClients: Int64 = 0,
        packetsToPeers: Int64 = 0,
        packetsToClients: Int64 = 0
    ) {
        self.bytesToPeers = bytesToPeers
        self.bytesToClients = bytesToClients
        self.packetsToPeers = packetsToPeers
        self.packetsToClients = packetsToClients
    }

    /// What a monthly limit is about: both directions together.
    package var bytes: Int64 { Self.sum(bytesToPeers, bytesToClients) }

    package static func + (left: Usage, right: Usage) -> Usage {
        Usage(
            bytesToPeers: sum(left.bytesToPeers, right.bytesToPeers),
            bytesToClients: sum(left.bytesToClients, right.bytesToClients),
            packetsToPeers: sum(left.packetsToPeers, right.packetsToPeers),
            packetsToClients: sum(left.packetsToClients, right.packetsToClients)
        )
    }

    /// Saturating: a file that others have changed may hold any number.
    private static func sum(_ left: Int64, _ right: Int64) -> Int64 {
        let (sum, overflow) = left.addingReportingOverflow(right)
        return overflow ? .max : sum
    }
}

/// What one user has relayed in one month, as an operator sees it.
package struct MonthlyUsage: Hashable, Sendable {
    package let user: String
    package let month: UsageMonth
    package let usage: Usage
    /// The user's limit today; `nil` where there is none, or no such user any more.
    package let monthlyBytes: Int64?
}

/// A user who has relayed much of what the month allows.
package struct QuotaState: Hashable, Sendable {
    package let user: String
    package let usedBytes: Int64
    package let monthlyBytes: Int64

    package init(user: String, usedBytes: Int64, monthlyBytes: Int64) {
        self.user = user
        self.usedBytes = usedBytes
        self.monthlyBytes = monthlyBytes
    }

    package var isUsedUp: Bool { usedBytes >= monthlyBytes }
}
