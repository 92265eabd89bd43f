import Synchronization

/// Who has failed to log in too often. It forgets: a guesser is slowed to a few tries a minute, and a household with
/// one forgotten password is not locked out for long. Success costs nothing, so a herd that comes back after a restart
/// passes.
final class LoginThrottle: Sendable {
    private let buckets: Mutex<BucketTable>

    init() {
        buckets = Mutex(
            BucketTable(
                capacity: GatewayLimits.loginSources,
                burst: GatewayLimits.loginFailureBurst,
                perMinute: GatewayLimits.loginFailuresPerMinute
            )
        )
    }

    /// - Returns: how many milliseconds to wait; nil where a login may be tried.
    func wait(_ source: ClientSource, at nanoseconds: UInt64) -> UInt64? {
        buckets.withLock { $0.wait(source.network, at: nanoseconds) }
    }

    func failed(_ source: ClientSource, at nanoseconds: UInt64) {
        buckets.withLock { $0.charge(source.network, at: nanoseconds) }
    }
}

/// Token buckets by key, in a table that does not grow past its capacity: full buckets are as good as none.
struct BucketTable {
    private struct Bucket {
        /// When the bucket will be full again. Each token taken moves it away by its price.
        var fullAtNanoseconds: UInt64
    }

    private let capacity: Int
    private let burst: UInt64
    private let priceNanoseconds: UInt64
    private var buckets: [UInt64: Bucket] = [:]

    init(capacity: Int, burst: Int, perMinute: Int) {
        self.capacity = capacity
        self.burst = UInt64(clamping: burst)
        priceNanoseconds = 60_000_000_000 / UInt64(clamping: max(perMinute, 1))
    }

    /// - Returns: how many milliseconds until there is a token; nil where there is one.
    func wait(_ key: UInt64, at now: UInt64) -> UInt64? {
        guard let bucket = buckets[key], bucket.fullAtNanoseconds > now else { return nil }
        let missing = bucket.fullAtNanoseconds - now
        let most = (burst - 1) * priceNanoseconds
        guard missing > most else { return nil }
        return (missing - most) / 1_000_000 + 1
    }

    /// Takes a token, where there is one.
    /// - Returns: how many milliseconds until there is one; nil where it was taken.
    mutating func take(_ key: UInt64, at now: UInt64) -> UInt64? {
        if let milliseconds = wait(key, at: now) { return milliseconds }
        charge(key, at: now)
        return nil
    }

    /// Takes a token whether there is one or not. What was begun while there was one may come to its end by the hundred
    /// at once, and all of it counts.
    mutating func charge(_ key: UInt64, at now: UInt64) {
        if buckets[key] == nil, buckets.count >= capacity { makeRoom(now) }
        let full = max(buckets[key]?.fullAtNanoseconds ?? now, now)
        let most = now &+ burst &* priceNanoseconds &+ GatewayLimits.bucketDebtNanoseconds
        buckets[key] = Bucket(fullAtNanoseconds: min(full &+ priceNanoseconds, most))
    }

    /// Forgets full buckets, and where there are none, the fuller half: it has the least to tell.
    private mutating func makeRoom(_ now: UInt64) {
        buckets = buckets.filter { $0.value.fullAtNanoseconds > now }
        guard buckets.count >= capacity else { return }
        let middle = buckets.values.map(\.fullAtNanoseconds).sorted()[buckets.count / 2]
        buckets = buckets.filter { $0.value.fullAtNanoseconds > middle }
    }
}
