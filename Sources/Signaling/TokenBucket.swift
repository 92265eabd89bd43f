/// How often something may happen: so much for long, and so much at once.
package struct Rate: Hashable, Sendable {
    /// The time in which one token comes back.
    let intervalNanoseconds: UInt64
    /// Tokens of a full bucket.
    let burst: UInt64

    package init(perSecond: UInt64, burst: UInt64) {
        intervalNanoseconds = max(1, 1_000_000_000 / max(1, perSecond))
        self.burst = max(1, burst)
    }

    package init(perMinute: UInt64, burst: UInt64) {
        intervalNanoseconds = max(1, 60_000_000_000 / max(1, perMinute))
        self.burst = max(1, burst)
    }

    func nanoseconds(of tokens: UInt64) -> UInt64 {
        let (product, overflow) = intervalNanoseconds.multipliedReportingOverflow(by: tokens)
        // A quarter of the range leaves room for the sums below.
        return overflow ? .max / 4 : min(product, .max / 4)
    }
}

/// A token bucket in one number: the time at which it will be full again.
struct TokenBucket {
    private(set) var fullAt: UInt64 = 0

    /// How long until `cost` tokens are there; 0 if they are. A cost above the burst counts as the burst, since it
    /// could never be paid otherwise.
    func waitNanoseconds(_ cost: UInt64 = 1, of rate: Rate, now: UInt64) -> UInt64 {
        let wanted = max(fullAt, now) &+ rate.nanoseconds(of: min(cost, rate.burst)) &- now
        let capacity = rate.nanoseconds(of: rate.burst)
        return wanted > capacity ? wanted &- capacity : 0
    }

    /// Takes tokens, whether they are there or not.
    mutating func take(_ cost: UInt64 = 1, of rate: Rate, now: UInt64) {
        let (sum, carry) = max(fullAt, now).addingReportingOverflow(rate.nanoseconds(of: min(cost, rate.burst)))
        fullAt = carry ? .max / 2 : min(sum, .max / 2)
    }

    /// Takes tokens if they are there. Answers how long it takes until they are, or 0.
    mutating func tryTake(_ cost: UInt64 = 1, of rate: Rate, now: UInt64) -> UInt64 {
        let wait = waitNanoseconds(cost, of: rate, now: now)
        if wait == 0 { take(cost, of: rate, now: now) }
        return wait
    }
}
