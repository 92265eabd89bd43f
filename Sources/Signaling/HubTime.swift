/// The two clocks a step of the hub needs. Lifetimes and budgets follow the first; timestamps and credentials the
/// second.
package struct HubTime: Hashable, Sendable {
    package var monotonicNanoseconds: UInt64
    /// Since the epoch, as clients see it.
    package var wallMilliseconds: Int64

    package init(monotonicNanoseconds: UInt64, wallMilliseconds: Int64) {
        self.monotonicNanoseconds = monotonicNanoseconds
        self.wallMilliseconds = wallMilliseconds
    }

    /// The monotonic time so much later; saturating, so nothing can wrap into the past.
    func after(nanoseconds: UInt64) -> UInt64 {
        let (sum, carry) = monotonicNanoseconds.addingReportingOverflow(nanoseconds)
        return carry ? .max : sum
    }

    func after(seconds: UInt64) -> UInt64 {
        let (product, overflow) = seconds.multipliedReportingOverflow(by: 1_000_000_000)
        return after(nanoseconds: overflow ? .max : product)
    }

    /// The monotonic time at which the wall clock, if nobody sets it, shows `milliseconds`.
    func monotonic(atWallMilliseconds milliseconds: Int64) -> UInt64 {
        let (distance, overflow) = milliseconds.subtractingReportingOverflow(wallMilliseconds)
        if overflow { return milliseconds < wallMilliseconds ? monotonicNanoseconds : .max }
        if distance <= 0 { return monotonicNanoseconds }
        let (product, carry) = UInt64(distance).multipliedReportingOverflow(by: 1_000_000)
        return after(nanoseconds: carry ? .max : product)
    }
}
