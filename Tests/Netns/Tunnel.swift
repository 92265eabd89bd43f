import CTunnel
import LinuxIO

/// A network device whose other side is this process: what the kernel sends by it is read here, and what is written
/// here the kernel receives by it.
package struct Tunnel: ~Copyable {
    package enum Kind: Sendable {
        /// TAP: whole Ethernet frames.
        case ethernet
        /// TUN: IP packets.
        case ip
    }

    private let descriptor: FileDescriptor

    /// Makes the device. It is down and without an address.
    /// - Parameter place: its name, or `NAMESPACE:NAME` with the name of a network namespace as `ip netns` lists it.
    package init(_ place: String, _ kind: Kind) throws(SystemCallError) {
        let parts = place.split(separator: ":", maxSplits: 1)
        let namespace = parts.count == 2 ? "/run/netns/\(parts[0])" : nil
        let result = tunnel_open(namespace, String(parts.last ?? ""), kind == .ethernet)
        guard result >= 0 else { throw SystemCallError(number: -result, call: "making the device \(place)") }
        descriptor = FileDescriptor(owning: result)
    }

    package var raw: Int32 { descriptor.raw }

    /// - Returns: its length; nil where there is none.
    package borrowing func read(into bytes: UnsafeMutableRawPointer, capacity: Int) -> Int? {
        let count = tunnel_read(raw, bytes, capacity)
        return count > 0 ? Int(count) : nil
    }

    /// Whether the kernel has taken it. It does not where the device is down.
    package borrowing func write(_ bytes: UnsafeRawPointer, count: Int) -> Bool { tunnel_write(raw, bytes, count) >= 0 }
}

/// Waits for several descriptors at a time.
package struct Waiter {
    private var list: [pollfd]

    package init(_ descriptors: [Int32]) {
        list = descriptors.map { pollfd(fd: $0, events: Int16(POLLIN), revents: 0) }
    }

    /// - Parameter deadline: in nanoseconds of the monotonic clock; nil waits for ever.
    package mutating func wait(until deadline: UInt64?) {
        let now = MonotonicClock.nanoseconds()
        let time = deadline.map { Int64(clamping: $0 > now ? $0 - now : 0) } ?? -1
        _ = tunnel_wait(&list, Int32(list.count), time)
    }

    /// Whether the descriptor with this number in the list can be read, or has ended.
    package func isReady(_ index: Int) -> Bool { list[index].revents != 0 }

    /// Has this thread woken up at the time it asked for.
    package static func bePunctual() { tunnel_be_punctual() }
}
