/// How many packets are due, so that a rate is held over a time although the clock is only looked at now and then.
package struct Pacer: Sendable {
    private let packetsPerSecond: Double
    private let startedAt: UInt64
    private let mostAtOnce: UInt64
    /// Packets whose time has come.
    package private(set) var due: UInt64 = 0
    /// Packets whose time had passed by too far: what was missed is not made up for with a burst that no sender would
    /// send.
    package private(set) var skipped: UInt64 = 0

    /// - Parameter mostAtOnce: what may be sent by one look at the clock.
    package init(packetsPerSecond: Double, startedAt: UInt64, mostAtOnce: UInt64) {
        self.packetsPerSecond = max(packetsPerSecond, 0)
        self.startedAt = startedAt
        self.mostAtOnce = max(mostAtOnce, 1)
    }

    /// - Returns: how many to send now.
    package mutating func take(now: UInt64) -> UInt64 {
        guard now > startedAt else { return 0 }
        // Not beyond what an integer holds, whatever the rate.
        let total = UInt64(min(Double(now - startedAt) / 1e9 * packetsPerSecond, 1e15))
        guard total > due else { return 0 }
        let fresh = total - due
        due = total
        let sent = min(fresh, mostAtOnce)
        skipped += fresh - sent
        return sent
    }
}
