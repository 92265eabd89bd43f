/// Times in buckets that are 3 % wide at most, so that any number of them takes the same small memory.
package struct LatencyHistogram: Sendable {
    package private(set) var count: UInt64 = 0
    package private(set) var shortestNanoseconds = UInt64.max
    package private(set) var longestNanoseconds: UInt64 = 0
    private var buckets = [UInt64](repeating: 0, count: bucketCount)

    package init() {}

    package mutating func record(nanoseconds: UInt64) {
        count &+= 1
        shortestNanoseconds = min(shortestNanoseconds, nanoseconds)
        longestNanoseconds = max(longestNanoseconds, nanoseconds)
        buckets[Self.bucket(nanoseconds)] &+= 1
    }

    /// The time that so many of a hundred do not exceed; nil where nothing was recorded.
    package func percentile(_ percent: Double) -> UInt64? {
        guard count > 0 else { return nil }
        let wanted = UInt64((Double(count) * min(max(percent, 0), 100) / 100).rounded(.up))
        var seen: UInt64 = 0
        for (index, entries) in buckets.enumerated() where entries > 0 {
            seen &+= entries
            if seen >= max(wanted, 1) {
                return min(max(Self.upperEnd(index), shortestNanoseconds), longestNanoseconds)
            }
        }
        return longestNanoseconds
    }

    // Below 32 each number has a bucket; above, each doubling has 32 of them.
    private static let stepBits = 5
    private static let steps = 1 << stepBits
    private static let bucketCount = (64 - stepBits + 1) * steps

    private static func bucket(_ value: UInt64) -> Int {
        guard value >= UInt64(steps) else { return Int(value) }
        let magnitude = 63 - value.leadingZeroBitCount - stepBits
        return (magnitude + 1) * steps + Int(truncatingIfNeeded: value >> UInt64(magnitude)) - steps
    }

    private static func upperEnd(_ bucket: Int) -> UInt64 {
        guard bucket >= steps else { return UInt64(bucket) }
        let magnitude = UInt64(bucket / steps - 1)
        let start = UInt64(bucket % steps + steps) << magnitude
        return start &+ (1 << magnitude) &- 1
    }
}
