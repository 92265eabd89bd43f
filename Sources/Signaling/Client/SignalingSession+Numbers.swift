/// Ids, times and draws.
extension SignalingSession {
    mutating func nextID() -> UInt64 {
        lastID &+= 1
        return lastID
    }

    /// Saturating, so that nothing wraps into the past.
    func later(_ now: UInt64, milliseconds: UInt64) -> UInt64 {
        let (product, overflow) = milliseconds.multipliedReportingOverflow(by: 1_000_000)
        let (sum, carry) = now.addingReportingOverflow(product)
        return overflow || carry ? .max : sum
    }

    func later(_ now: UInt64, seconds: UInt64) -> UInt64 {
        let (product, overflow) = seconds.multipliedReportingOverflow(by: 1_000)
        return later(now, milliseconds: overflow ? .max : product)
    }

    /// From half of it to all of it.
    func jittered(_ milliseconds: UInt64) -> UInt64 {
        milliseconds &- milliseconds / 2 &+ draw(below: milliseconds / 2 &+ 1)
    }

    func draw(below bound: UInt64) -> UInt64 { random().multipliedFullWidth(by: bound).high }
}
