import Lab
import LinuxIO

/// A cable between two devices, as slow, as lossy and as narrow as a link of the internet: what goes in at one comes
/// out at the other, later or never. Address resolution passes at once, for real links have none.
package struct LinkEmulator: ~Copyable {
    package enum Direction: String, Sendable, CaseIterable {
        /// From the first device to the second.
        case up
        case down
    }

    private let one: Tunnel
    private let other: Tunnel
    private var up: LinkPath
    private var down: LinkPath
    private var isUp = true

    /// - Parameters:
    ///   - one: the first device, as `Tunnel` takes it.
    ///   - seed: of what happens by chance.
    package init(_ one: String, _ other: String, seed: UInt64) throws(SystemCallError) {
        let first = try Tunnel(one, .ethernet)
        let second = try Tunnel(other, .ethernet)
        self.one = first
        self.other = second
        up = LinkPath(Dice(seed: seed, for: "up"))
        down = LinkPath(Dice(seed: seed, for: "down"))
    }

    /// To be waited for.
    package var descriptors: [Int32] { [one.raw, other.raw] }

    /// When there is something to do, though nothing comes.
    package var nextArrival: UInt64? {
        switch (up.queue.nextArrival, down.queue.nextArrival) {
        case (let first?, let second?): min(first, second)
        case (let only?, nil), (nil, let only?): only
        case (nil, nil): nil
        }
    }

    package mutating func change(_ direction: Direction, _ change: (inout LinkQuality) throws -> Void) rethrows {
        switch direction {
        case .up: try change(&up.quality)
        case .down: try change(&down.quality)
        }
    }

    /// Loses what is under way, and all that comes until `repair`.
    package mutating func cut() {
        isUp = false
        up.counters.dropped += up.queue.count
        down.counters.dropped += down.queue.count
        up.queue.removeAll()
        down.queue.removeAll()
    }

    package mutating func repair() { isUp = true }

    package func counters(_ direction: Direction) -> LinkCounters { direction == .up ? up.counters : down.counters }

    /// Takes in what has come, and delivers what is due.
    package mutating func work() {
        up.takeIn(from: one, isUp)
        down.deliver(to: one)
        down.takeIn(from: other, isUp)
        up.deliver(to: other)
    }
}

package struct LinkCounters: Sendable {
    package var received = 0
    package var delivered = 0
    package var dropped = 0
    /// Of the emulator's own making.
    package var lateNanosecondsMax: UInt64 = 0
    package var lateNanosecondsSum: UInt64 = 0
    /// By more than a millisecond.
    package var lateCount = 0
}

/// One direction.
private struct LinkPath: ~Copyable {
    var quality = LinkQuality(delayMilliseconds: 0)
    var queue = DelayQueue()
    var counters = LinkCounters()
    private var model: LinkModel

    init(_ dice: Dice) { model = LinkModel(dice: dice) }

    /// So many at a time, so that neither direction waits long for the other.
    private static var batch: Int { 64 }

    mutating func takeIn(from tunnel: borrowing Tunnel, _ isUp: Bool) {
        for _ in 0..<Self.batch {
            guard let room = queue.room, let count = tunnel.read(into: room, capacity: DelayQueue.slotBytes) else {
                return
            }
            counters.received += 1
            let now = MonotonicClock.nanoseconds()
            let frame = UnsafeRawBufferPointer(start: room, count: count)
            guard isUp, count <= quality.mtuBytes + EthernetFrame.headerBytes else {
                counters.dropped += 1
                continue
            }
            if EthernetFrame.resolvesAddresses(frame) {
                queue.push(count: count, arrival: now)
                continue
            }
            switch model.send(byteCount: count - EthernetFrame.headerBytes, quality, now: now) {
            case .dropped: counters.dropped += 1
            case .arrives(let arrival, let copy):
                queue.push(count: count, arrival: arrival)
                if let copy { queue.pushCopy(of: room, count: count, arrival: copy) }
            }
        }
    }

    mutating func deliver(to tunnel: borrowing Tunnel) {
        var now = MonotonicClock.nanoseconds()
        while let packet = queue.pop(now: now) {
            let late = now - packet.arrival
            counters.lateNanosecondsMax = max(counters.lateNanosecondsMax, late)
            counters.lateNanosecondsSum &+= late
            if late > 1_000_000 { counters.lateCount += 1 }
            if tunnel.write(packet.bytes, count: packet.count) {
                counters.delivered += 1
            } else {
                counters.dropped += 1
            }
            now = MonotonicClock.nanoseconds()
        }
    }
}

enum EthernetFrame {
    static let headerBytes = 14

    /// Whether it is of ARP, or of IPv6's neighbour discovery (RFC 4861 section 4).
    static func resolvesAddresses(_ frame: UnsafeRawBufferPointer) -> Bool {
        guard frame.count > 54 || frame.count >= headerBytes else { return true }
        switch (frame[12], frame[13]) {
        case (0x08, 0x06): return true
        case (0x86, 0xDD): return frame.count > 54 && frame[20] == 58 && (133...137).contains(frame[54])
        default: return false
        }
    }
}
