import Synchronization

/// A rate of relayed payload, both directions together, with the burst that may exceed it.
///
/// A bucket is one number, the time at which it will be full again; a packet moves that time on by what it takes at
/// this rate. So there is nothing to refill, and nothing is lost to rounding between two packets that come close
/// together.
struct Bandwidth: BitwiseCopyable, Sendable {
    /// 0: no limit.
    let bitsPerSecond: UInt64
    private let burstTicks: UInt64

    static let unlimited = Bandwidth(bitsPerSecond: 0)

    init(bitsPerSecond: UInt64) {
        let rate = min(bitsPerSecond, Limits.bitsPerSecondMaximum)
        self.bitsPerSecond = rate
        // A quarter of a second; at low rates longer, so that the longest datagram can pass at all.
        burstTicks =
            rate == 0 ? 0 : max(Self.ticksPerSecond / 4, Limits.burstBytesMinimum * 8 * Self.ticksPerSecond / rate)
    }

    /// What of a run passes now: all, its first packets, or none.
    /// - Parameter fullAtTicks: the bucket.
    func part(of run: PayloadRun, fullAtTicks: UInt64, now: UInt64) -> PayloadRun {
        let limit = Self.ticks(now) &+ burstTicks
        let level = max(fullAtTicks, Self.ticks(now))
        guard level <= limit else { return run.first(0) }
        let room = limit &- level
        if ticks(bytes: run.bytes) <= room { return run }
        guard run.packets > 1 else { return run.first(0) }
        return run.first(room / max(ticks(bytes: run.segmentBytes), 1))
    }

    /// How many bytes may pass now; `.max` where there is no limit.
    func bytesFree(fullAtTicks: UInt64, now: UInt64) -> UInt64 {
        guard bitsPerSecond != 0 else { return .max }
        let limit = Self.ticks(now) &+ burstTicks
        let level = max(fullAtTicks, Self.ticks(now))
        // Divided by what 1,024 bytes take, since one byte may take less than a tick.
        return level < limit ? ((limit &- level) / max(ticks(bytes: 1_024), 1)) &* 1_024 : 0
    }

    /// The bucket after these bytes have passed.
    func fullAtTicks(after bytes: UInt64, fullAtTicks: UInt64, now: UInt64) -> UInt64 {
        max(fullAtTicks, Self.ticks(now)) &+ ticks(bytes: bytes)
    }

    /// How long so many bytes take, rounded up, so that a limit is never exceeded.
    private func ticks(bytes: UInt64) -> UInt64 {
        // The clamp is far above any datagram; it keeps the product within 64 bits.
        let scaled = min(bytes, Self.bytesAtOnceMaximum) &* (8 &* Self.ticksPerSecond)
        return (scaled &+ (bitsPerSecond &- 1)) / max(bitsPerSecond, 1)
    }

    /// A sixteenth of a nanosecond: a short packet at the highest rate still takes some, and the count lasts for 36
    /// years.
    private static func ticks(_ nanoseconds: UInt64) -> UInt64 { nanoseconds &<< 4 }

    private static let ticksPerSecond: UInt64 = 16_000_000_000
    private static let bytesAtOnceMaximum: UInt64 = 1 << 26
}

/// Packets from one source that came together: all have `segmentBytes`, but the last may be shorter.
package struct PayloadRun: BitwiseCopyable, Sendable, Equatable {
    package let packets: UInt64
    /// Of all of them.
    package let bytes: UInt64
    package let segmentBytes: UInt64

    @inlinable
    package init(packets: UInt64, bytes: UInt64, segmentBytes: UInt64) {
        self.packets = packets
        self.bytes = bytes
        self.segmentBytes = segmentBytes
    }

    /// Its first packets; a run that is cut has lost its last one.
    func first(_ count: UInt64) -> PayloadRun {
        guard count < packets else { return self }
        return PayloadRun(packets: count, bytes: count &* segmentBytes, segmentBytes: segmentBytes)
    }
}

/// The bucket of `limits.bps_total`, which all workers draw from. One bucket and not a share for each worker: the
/// kernel keeps a client on one worker, so with shares a busy client would get a fraction of what the operator pays for
/// while other workers idle. A worker pays one compare-and-swap for it per packet or run, and only while the limit is
/// set.
package final class TotalBandwidth: Sendable {
    // Written once, here; what it points at is atomic. A pointer, since a checked reference would be counted per
    // packet.
    nonisolated(unsafe) let fullAtTicks: UnsafeMutablePointer<Atomic<UInt64>>

    init() {
        fullAtTicks = .allocate(capacity: 1)
        fullAtTicks.initialize(to: Atomic(0))
    }

    deinit {
        fullAtTicks.deinitialize(count: 1)
        fullAtTicks.deallocate()
    }

    /// A new rate begins with a full bucket: what was borrowed at a much lower one would hold it back for long.
    func reset() { fullAtTicks.pointee.store(0, ordering: .relaxed) }
}

extension Engine {
    /// Takes a run of payload from the buckets of its allocation and of the server. Only called while there is a limit.
    ///
    /// A run that does not fit is cut: its packets fare as if each had come alone, so how the kernel merges them
    /// decides nothing. (Case RE-13: the excess is dropped at once, never queued.)
    /// - Returns: what passes. The caller counts the rest as dropped.
    @inline(never)
    mutating func limited(_ run: PayloadRun, of index: UInt32, now: UInt64) -> PayloadRun {
        let slot = allocations[index]
        var passing = run
        let own = slot.pointee.bandwidth
        if own.bitsPerSecond != 0 { passing = own.part(of: run, fullAtTicks: slot.pointee.fullAtTicks, now: now) }
        if totalBandwidth.bitsPerSecond != 0, passing.packets > 0 { passing = takeFromTotal(passing, now: now) }
        if own.bitsPerSecond != 0, passing.packets > 0 {
            slot.pointee.fullAtTicks = own.fullAtTicks(
                after: passing.bytes,
                fullAtTicks: slot.pointee.fullAtTicks,
                now: now
            )
        }
        slot.pointee.traffic.packetsOverBandwidth &+= run.packets &- passing.packets
        return passing
    }

    /// Takes bytes that have passed already.
    func charge(_ bytes: UInt64, to slot: UnsafeMutablePointer<Allocation>, now: UInt64) {
        let own = slot.pointee.bandwidth
        if own.bitsPerSecond != 0 {
            let level = slot.pointee.fullAtTicks
            slot.pointee.fullAtTicks = own.fullAtTicks(after: bytes, fullAtTicks: level, now: now)
        }
        guard totalBandwidth.bitsPerSecond != 0 else { return }
        while true {
            let seen = totalFullAtTicks.pointee.load(ordering: .relaxed)
            let new = totalBandwidth.fullAtTicks(after: bytes, fullAtTicks: seen, now: now)
            let outcome = totalFullAtTicks.pointee.compareExchange(expected: seen, desired: new, ordering: .relaxed)
            if outcome.exchanged { return }
        }
    }

    private func takeFromTotal(_ run: PayloadRun, now: UInt64) -> PayloadRun {
        let bucket = totalFullAtTicks
        while true {
            let seen = bucket.pointee.load(ordering: .relaxed)
            let part = totalBandwidth.part(of: run, fullAtTicks: seen, now: now)
            guard part.packets > 0 else { return part }
            let new = totalBandwidth.fullAtTicks(after: part.bytes, fullAtTicks: seen, now: now)
            if bucket.pointee.compareExchange(expected: seen, desired: new, ordering: .relaxed).exchanged {
                return part
            }
        }
    }

    /// One datagram of a client.
    @inline(__always)
    mutating func mayPass(_ bytes: Int, of index: UInt32, now: UInt64) -> Bool {
        guard allocations[index].pointee.isLimited else { return true }
        let length = UInt64(truncatingIfNeeded: bytes)
        let run = PayloadRun(packets: 1, bytes: length, segmentBytes: length)
        return limited(run, of: index, now: now).packets != 0
    }

    /// Gives an allocation the limits in force: the user's own where he has one, else the server's.
    mutating func limitBandwidth(of index: UInt32) {
        let slot = allocations[index]
        let rate = slot.pointee.ownBitsPerSecond ?? configuration.bitsPerSecondPerAllocation
        let bandwidth = Bandwidth(bitsPerSecond: rate)
        if bandwidth.bitsPerSecond != slot.pointee.bandwidth.bitsPerSecond {
            slot.pointee.bandwidth = bandwidth
            slot.pointee.fullAtTicks = 0
        }
        slot.pointee.isLimited = bandwidth.bitsPerSecond != 0 || totalBandwidth.bitsPerSecond != 0
    }
}
