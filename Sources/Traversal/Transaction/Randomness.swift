import STUN

extension Cryptography {
    func randomNumber() -> UInt64 {
        var value: UInt64 = 0
        withUnsafeMutableBytes(of: &value) { random($0) }
        return value
    }

    /// 96 bits that nobody can guess (RFC 8489 section 5).
    package func randomTransaction() -> TransactionID {
        let high = randomNumber()
        return TransactionID(high: high, low: UInt32(truncatingIfNeeded: randomNumber()))
    }
}

extension UInt64 {
    /// The sum, or the greatest number: no time can wrap into the past.
    func addingSaturated(_ other: UInt64) -> UInt64 {
        let (sum, overflow) = addingReportingOverflow(other)
        return overflow ? .max : sum
    }
}
