/// What a user may, in place of the server's own limits.
package struct UserLimits: Hashable, Sendable {
    /// Seconds since 1970; `nil` for never.
    package var expiresAtSeconds: Int64?
    /// `nil` for the server's own limit.
    package var maxAllocations: Int?
    /// Of each allocation; 0 for no limit, `nil` for the server's own.
    package var maxBitsPerSecond: Int64?
    /// `nil` for no limit.
    package var monthlyBytes: Int64?

    package init(
        expiresAtSeconds: Int64? = nil,
        maxAllocations: Int? = nil,
        maxBitsPerSecond: Int64? = nil,
        monthlyBytes: Int64? = nil
    ) {
        self.expiresAtSeconds = expiresAtSeconds
        self.maxAllocations = maxAllocations
        self.maxBitsPerSecond = maxBitsPerSecond
        self.monthlyBytes = monthlyBytes
    }

    /// - Throws: `invalidValue`, saying which one and what it may be.
    func requireInRange() throws(AccountError) {
        if let expiresAtSeconds, !(0...AccountLimits.expirySecondsMax).contains(expiresAtSeconds) {
            throw AccountError(.invalidValue, "the expiry is out of range; give a date before the year 10000")
        }
        if let maxAllocations, !(1...AccountLimits.allocationsPerUserMax).contains(maxAllocations) {
            throw AccountError(
                .invalidValue,
                "\(maxAllocations) is no number of allocations; give one of 1 to \(AccountLimits.allocationsPerUserMax)"
            )
        }
        if let maxBitsPerSecond, !(0...AccountLimits.bitsPerSecondMax).contains(maxBitsPerSecond) {
            throw AccountError(
                .invalidValue,
                "\(maxBitsPerSecond) is no number of bits per second; "
                    + "give one of 0 to \(AccountLimits.bitsPerSecondMax)"
            )
        }
        if let monthlyBytes, !(1...AccountLimits.monthlyBytesMax).contains(monthlyBytes) {
            throw AccountError(
                .invalidValue,
                "\(monthlyBytes) is no number of bytes a month; give one of 1 to \(AccountLimits.monthlyBytesMax)"
            )
        }
    }
}
