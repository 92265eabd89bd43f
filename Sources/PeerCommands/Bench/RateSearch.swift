/// Finds the highest rate that passes: doubles it until one fails, and then halves the gap. A rate fails when it has
/// failed twice, for a machine that others use too loses a packet now and then at any rate.
package struct RateSearch: Sendable {
    /// What to try next.
    package private(set) var rate: Double
    /// The highest that has passed.
    package private(set) var best: Double?
    package private(set) var isOver = false
    private var failed: Double?
    private var isSecondTry = false

    private static let lowest = 10.0
    private static let highest = 10_000_000.0
    /// A gap of a twentieth is what two runs of one program differ by.
    private static let precision = 1.05

    package init(startingAt rate: Double) {
        self.rate = min(max(rate, Self.lowest), Self.highest)
    }

    package mutating func record(passed: Bool) {
        guard !isOver else { return }
        if !passed, !isSecondTry {
            isSecondTry = true
            return
        }
        isSecondTry = false
        if passed { best = max(best ?? 0, rate) } else { failed = min(failed ?? .infinity, rate) }
        switch (best, failed) {
        case (let best?, let failed?):
            rate = (best * failed).squareRoot()
            isOver = failed / best <= Self.precision
        case (let best?, nil):
            rate = min(best * 2, Self.highest)
            isOver = best >= Self.highest
        case (nil, let failed?):
            rate = max(failed / 4, Self.lowest)
            isOver = failed <= Self.lowest
        case (nil, nil): break
        }
    }
}
