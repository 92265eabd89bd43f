import Foundation
import Gateway
import Relay
import Synchronization

/// The page that Prometheus reads.
extension TurnpikeServer {
    /// Asks all for what they have counted. A worker that does not answer at once is shown as it was a second ago at
    /// most.
    func metricsPage() async -> String {
        let workers = await relay.freshSnapshots(within: Self.patience)
        let statistics = await gateway.statistics()
        let now = state.withLock { $0 }
        let total = workers.reduce(into: RelaySnapshot()) { $0.add($1) }
        let limits = survey(now.settings).uses(total, bitsPerSecond: now.bitsPerSecond)
        return MetricsReport(
            workers: workers,
            gateway: statistics,
            limits: limits + [
                LimitUse("https connections", used: statistics.connections, limit: statistics.connectionLimit)
            ],
            relayPorts: relay.relayPorts(),
            usersNearLimit: now.usersNearLimit,
            memory: memory,
            certificateNotAfterSeconds: now.certificateNotAfterSeconds,
            isDraining: now.drainEnd != nil,
            process: ProcessFacts(startedSeconds: startedSeconds, descriptorLimit: descriptorLimit)
        ).text
    }

    private static let patience = Duration.milliseconds(250)
}
