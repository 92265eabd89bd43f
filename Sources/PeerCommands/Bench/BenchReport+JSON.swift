extension BenchReport {
    /// The report for programs. Keys stay; new ones may come.
    package func json() throws -> String { try JSON.text(Document(self)) }

    private struct Document: Encodable {
        let server: String
        let transport: String
        let connections: Int
        let packetBytes: Int
        let mode: String
        let interrupted: Bool
        let setupSeconds: Double
        let allocationMilliseconds: OrNull<Times>
        /// The highest rate of a search that went without loss.
        let bestPacketsPerSecond: OrNull<Double>
        let result: OrNull<StepDocument>
        let steps: [StepDocument]
        let failures: [String: Int]

        init(_ report: BenchReport) {
            server = report.plan.server
            transport = report.plan.transport.word
            connections = report.connections
            packetBytes = report.plan.packetBytes
            let isSearch = report.plan.rate == .search
            mode = isSearch ? "search" : "rate"
            interrupted = report.isCutShort
            setupSeconds = (Double(report.setupNanoseconds) / 1e9).thousandths
            allocationMilliseconds = OrNull(Times(report.allocation))
            bestPacketsPerSecond = OrNull(isSearch ? report.leading?.rate.rounded() : nil)
            result = OrNull(report.leading.map { StepDocument($0, packetBytes: report.plan.packetBytes) })
            steps = report.steps.map { StepDocument($0, packetBytes: report.plan.packetBytes) }
            failures = report.failures
        }
    }

    private struct StepDocument: Encodable {
        let packetsPerSecondAsked: Double
        let seconds: Double
        let due: UInt64
        let sent: UInt64
        let received: UInt64
        let lost: UInt64
        let heldBack: UInt64
        let skipped: UInt64
        let outOfOrder: UInt64
        let duplicates: UInt64
        let packetsPerSecond: Double
        let bitsPerSecond: Double
        let limitedByThisMachine: Bool
        let roundTripMilliseconds: OrNull<Times>

        init(_ step: Step, packetBytes: Int) {
            packetsPerSecondAsked = step.rate.rounded()
            seconds = step.seconds.thousandths
            (due, sent, received, lost) = (step.due, step.sent, step.received, step.lost)
            (heldBack, skipped) = (step.held, step.skipped)
            (outOfOrder, duplicates) = (step.reordered, step.duplicates)
            let rate = step.seconds > 0 ? Double(step.received) / step.seconds : 0
            packetsPerSecond = rate.rounded()
            bitsPerSecond = (rate * Double(packetBytes) * 8).rounded()
            limitedByThisMachine = step.isGeneratorLimited
            roundTripMilliseconds = OrNull(Times(step.latency))
        }
    }

    private struct Times: Encodable {
        let min: Double
        let p50: Double
        let p90: Double
        let p99: Double
        let p999: Double
        let max: Double

        /// Nil where there are none.
        init?(_ latency: LatencyHistogram) {
            guard latency.count > 0 else { return nil }
            func milliseconds(_ time: UInt64?) -> Double { (Double(time ?? 0) / 1e6).thousandths }
            min = milliseconds(latency.shortestNanoseconds)
            p50 = milliseconds(latency.percentile(50))
            p90 = milliseconds(latency.percentile(90))
            p99 = milliseconds(latency.percentile(99))
            p999 = milliseconds(latency.percentile(99.9))
            max = milliseconds(latency.longestNanoseconds)
        }
    }
}
