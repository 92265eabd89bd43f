import STUN

/// The retransmission timeout for each server, from the round trips of transactions before (RFC 8489 section 6.2.1,
/// which takes RFC 6298 without its rounding to seconds).
package struct RoundTripEstimates: Sendable {
    private struct Estimate {
        var smoothed: UInt64
        var variation: UInt64
        var usedAt: UInt64
    }

    private var estimates: [IPAddress: Estimate] = [:]

    package init() {}

    package var count: Int { estimates.count }

    /// The timeout to begin with.
    package mutating func retransmissionNanoseconds(to server: IPAddress, now: UInt64) -> UInt64 {
        guard var estimate = estimates[server] else { return Limits.initialRetransmission }
        guard now &- estimate.usedAt < Limits.estimateLifetime else {
            estimates[server] = nil
            return Limits.initialRetransmission
        }
        estimate.usedAt = now
        estimates[server] = estimate
        let timeout = estimate.smoothed &+ max(Limits.millisecond, estimate.variation &* 4)
        return min(max(timeout, Limits.shortestRetransmission), Limits.longestRetransmission)
    }

    /// Takes a round trip into account.
    /// - Parameter nanoseconds: of a request that was sent once: of one sent again nobody knows which was answered
    ///   (Karn).
    package mutating func learn(roundTripNanoseconds nanoseconds: UInt64, to server: IPAddress, now: UInt64) {
        let sample = min(nanoseconds, Limits.streamWait)
        guard let old = estimates[server], now &- old.usedAt < Limits.estimateLifetime else {
            makeRoom()
            estimates[server] = Estimate(smoothed: sample, variation: sample / 2, usedAt: now)
            return
        }
        let distance = old.smoothed > sample ? old.smoothed - sample : sample - old.smoothed
        // RFC 6298 section 2.3, with its weights of a quarter and an eighth.
        estimates[server] = Estimate(
            smoothed: (old.smoothed * 7 + sample) / 8,
            variation: (old.variation * 3 + distance) / 4,
            usedAt: now
        )
    }

    private mutating func makeRoom() {
        guard estimates.count >= Limits.estimates,
            let oldest = estimates.min(by: { $0.value.usedAt < $1.value.usedAt })
        else { return }
        estimates[oldest.key] = nil
    }
}
