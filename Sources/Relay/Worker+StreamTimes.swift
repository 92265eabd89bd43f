import LinuxIO
import STUN
import TURN

/// When connections come to an end by themselves.
extension Worker {
    /// Once a second: connections without an allocation, with half a frame, or whose client does not read, come to an
    /// end.
    mutating func closeOverdueStreams() {
        var number: UInt32 = 0
        while number < streams.everUsed {
            if streams.isUsed(number), isOverdue(number) || hasOverstayed(number) { close(number) }
            number &+= 1
        }
    }

    /// Whether it has been there without an allocation for as long as one may (case RE-05). What waits for the account
    /// store or is leaving has deadlines of its own.
    private func hasOverstayed(_ number: UInt32) -> Bool {
        let moment = now.monotonicNanoseconds
        guard
            UInt64(number % StreamLimits.allocationLookParts)
                == moment / 1_000_000_000 % UInt64(StreamLimits.allocationLookParts)
        else { return false }
        let stream = streams[number]
        if hasAllocation(stream.pointee.tuple) {
            stream.pointee.allocatedNanoseconds = moment
            return false
        }
        return moment &- stream.pointee.allocatedNanoseconds > StreamLimits.withoutAllocationNanoseconds
            && !stream.pointee.isParked && !stream.pointee.isFinishing
    }

    private func isOverdue(_ number: UInt32) -> Bool {
        let stream = streams[number]
        let moment = now.monotonicNanoseconds
        let blocked = stream.pointee.blockedSinceNanoseconds
        if blocked != .max, moment &- blocked > StreamLimits.blockedNanoseconds { return true }
        guard moment >= stream.pointee.deadlineNanoseconds, !stream.pointee.isParked else { return false }
        // An allocation may be silent as long as it lives, but half a frame may not lie there for ever.
        return stream.pointee.isFinishing || stream.pointee.input.count > 0
            || !hasAllocation(stream.pointee.tuple)
    }

    /// One that is on its way from another worker counts.
    func hasAllocation(_ tuple: FiveTuple) -> Bool {
        engine.allocation(of: tuple) != noIndex || engine.isArriving(tuple)
    }
}
