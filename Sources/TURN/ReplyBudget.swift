import STUN
import Synchronization

/// How many answers, or failed proofs, a source that has proved nothing may have in a second. One table serves all
/// workers, since the kernel spreads a source's ports over them; it is fixed, so a flood from many sources costs no
/// memory: sources that fall into one bucket share its budget, which can only lower what goes out.
package final class ReplyBudget: Sendable {
    // The pointer is written once, here; what it points at is atomic.
    private nonisolated(unsafe) let buckets: UnsafeMutablePointer<Atomic<UInt64>>
    private let seed: UInt64

    /// - Parameter seed: random, so that nobody can aim at another's bucket.
    package init(seed: UInt64) {
        self.seed = seed
        buckets = .allocate(capacity: Limits.replyBuckets)
        for index in 0..<Limits.replyBuckets { (buckets + index).initialize(to: Atomic(0)) }
    }

    deinit {
        buckets.deinitialize(count: Limits.replyBuckets)
        buckets.deallocate()
    }

    /// Takes one answer from the budget of `source`: its address for IPv4, its /64 for IPv6. Ports do not count.
    /// - Parameter limit: answers in one second; 0 means no limit.
    package func take(_ source: IPAddress, limit: UInt32, at moment: Moment) -> Bool {
        guard limit != 0 else { return true }
        let bucket = bucket(of: source)
        let window = Self.window(moment)
        while true {
            let seen = bucket.pointee.load(ordering: .relaxed)
            // A worker whose clock reading is a little older shares the newer window, or two would reset each other's.
            let current = seen >= window ? seen : window
            guard UInt32(truncatingIfNeeded: current) < limit else { return false }
            if bucket.pointee.compareExchange(expected: seen, desired: current + 1, ordering: .relaxed).exchanged {
                return true
            }
        }
    }

    /// Whether `take` would grant one more.
    package func hasRoom(_ source: IPAddress, limit: UInt32, at moment: Moment) -> Bool {
        guard limit != 0 else { return true }
        let seen = bucket(of: source).pointee.load(ordering: .relaxed)
        return UInt32(truncatingIfNeeded: max(seen, Self.window(moment))) < limit
    }

    private func bucket(of source: IPAddress) -> UnsafeMutablePointer<Atomic<UInt64>> {
        let key = source.isIPv4 ? source.low : source.high
        let product = (key ^ seed).multipliedFullWidth(by: 0x9E37_79B9_7F4A_7C15)
        return buckets + Int((product.high ^ product.low) >> 20) & (Limits.replyBuckets - 1)
    }

    /// The second in the upper half of a word, whose lower half counts.
    private static func window(_ moment: Moment) -> UInt64 { (moment.monotonicNanoseconds / 1_000_000_000 + 1) << 32 }
}
