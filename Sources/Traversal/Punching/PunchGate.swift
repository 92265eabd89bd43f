import STUN
import Synchronization

/// How much may be sent toward an address by all searches of a process together.
package final class PunchGate: Sendable {
    package static let shared = PunchGate()

    private struct Bucket {
        /// When it is full again: each packet takes one interval from it.
        var fullAt: UInt64
    }

    private struct State {
        var buckets: [IPAddress: Bucket] = [:]
        /// When the next search toward an address may begin.
        var searches: [IPAddress: UInt64] = [:]
    }

    private let state = Mutex(State())

    package init() {}

    /// - Returns: nil when one packet may leave for the address at once, and is taken for sent; else when to ask again.
    func admit(_ address: IPAddress, now: UInt64) -> UInt64? {
        state.withLock { state in
            if state.buckets[address] == nil, state.buckets.count >= PunchLimits.addresses {
                state.buckets = state.buckets.filter { $0.value.fullAt > now }
                guard state.buckets.count < PunchLimits.addresses else { return now &+ Self.depth }
            }
            let fullAt = max(state.buckets[address]?.fullAt ?? now, now)
            guard fullAt &+ Self.interval <= now &+ Self.depth else { return fullAt &+ Self.interval &- Self.depth }
            state.buckets[address] = Bucket(fullAt: fullAt &+ Self.interval)
            return nil
        }
    }

    /// One search toward an address at a time, and a rest between two.
    /// - Returns: false where it is too early.
    func beginSearch(_ address: IPAddress, until end: UInt64, now: UInt64) -> Bool {
        state.withLock { state in
            if let next = state.searches[address], now < next { return false }
            if state.searches.count >= PunchLimits.addresses {
                state.searches = state.searches.filter { $0.value > now }
                guard state.searches.count < PunchLimits.addresses else { return false }
            }
            state.searches[address] = end &+ PunchLimits.searchRest
            return true
        }
    }

    func endSearch(_ address: IPAddress, now: UInt64) {
        state.withLock { $0.searches[address] = now &+ PunchLimits.searchRest }
    }

    private static let interval = 1_000_000_000 / PunchLimits.packetsPerSecond
    private static let depth = interval * PunchLimits.burstPackets
}
