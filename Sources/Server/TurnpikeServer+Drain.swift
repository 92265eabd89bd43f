import Foundation
import Gateway
import Logging
import Relay
import Synchronization

/// How a running server comes to its end.
extension TurnpikeServer {
    /// Refuses new allocations from now on; those there live on, for that long at most. A shorter limit replaces a
    /// longer.
    func beginDraining(atMost limit: Duration) {
        let end = ContinuousClock.now + limit
        let isNew = state.withLock { state in
            defer { state.drainEnd = min(state.drainEnd ?? end, end) }
            return state.drainEnd == nil
        }
        // Whoever signals has most of the time to hear of it and to go, and nobody is cut off at the end.
        gateway.beginDraining(window: limit * 3 / 4)
        guard isNew else { return }
        do {
            try apply()
            logger.notice("draining: no new allocations are made")
        } catch {
            logger.error("cannot drain", metadata: ["reason": "\(error)"])
        }
    }

    /// Whether a drain that has begun is over: no allocation is left, or its time is up.
    func isDrained() async -> Bool {
        guard let end = state.withLock({ $0.drainEnd }) else { return false }
        // What every worker says now: one that has not spoken since an allocation was made would know of none.
        let snapshot = await relay.freshSnapshot(within: end - ContinuousClock.now)
        if ContinuousClock.now >= end { return true }
        guard snapshot.allocations == 0 else { return false }
        return await gateway.statistics().signalingConnections == 0
    }

    func note(_ message: Logger.Message) { logger.notice(message) }

    /// Ends the process without waiting for anything.
    func exitNow() -> Never {
        logger.notice("stopped at once, by a second signal")
        sink.flush()
        exit(0)
    }
}
