/// What a load has shown.
package struct BenchReport: Sendable {
    /// One load at one rate.
    package struct Step: Sendable {
        /// Packets a second that were asked for.
        package var rate: Double
        package var seconds: Double
        /// Packets whose time came.
        package var due: UInt64 = 0
        package var sent: UInt64 = 0
        package var received: UInt64 = 0
        package var reordered: UInt64 = 0
        package var duplicates: UInt64 = 0
        /// Not sent, since a connection took no more.
        package var held: UInt64 = 0
        /// Not sent, since the generator's clock was looked at too late.
        package var skipped: UInt64 = 0
        package var latency = LatencyHistogram()

        package init(rate: Double, seconds: Double) {
            (self.rate, self.seconds) = (rate, seconds)
        }

        package var lost: UInt64 { sent > received ? sent - received : 0 }

        /// Nothing was lost, what was asked for was sent, but for a hundredth, and nothing waited for long.
        package var isClean: Bool { sent > 0 && lost == 0 && sent >= due - min(due, due / 100) && !isQueued }

        /// Packets piled up somewhere, which a longer load would have lost.
        package var isQueued: Bool { (latency.percentile(99) ?? 0) > Self.longestWaitNanoseconds }

        /// Nobody wants to wait longer for a voice or a key stroke, and no path on earth takes as long.
        private static let longestWaitNanoseconds: UInt64 = 500_000_000

        /// Whether the machine that makes the load was too slow for it.
        package var isGeneratorLimited: Bool { lost == 0 && skipped > due / 100 }
    }

    package var plan: BenchPlan
    package var connections: Int
    /// From the first request to the last channel.
    package var setupNanoseconds: UInt64
    /// From the start of a connection to its allocation.
    package var allocation: LatencyHistogram
    /// With a search, all of them; else one.
    package var steps: [Step]
    /// A person has ended it.
    package var isCutShort = false
    /// Connections that ended before the load did, by reason.
    package var failures: [String: Int] = [:]

    package init(plan: BenchPlan, connections: Int, setupNanoseconds: UInt64, allocation: LatencyHistogram) {
        (self.plan, self.connections, self.setupNanoseconds) = (plan, connections, setupNanoseconds)
        self.allocation = allocation
        steps = []
    }

    /// The step that stands for the whole: the fastest without loss, or the only one.
    package var leading: Step? {
        guard plan.rate == .search else { return steps.last }
        return steps.filter(\.isClean).max { $0.rate < $1.rate }
    }

    /// Whether anything came through.
    package var works: Bool { steps.contains { $0.received > 0 } }
}
