import Glibc

/// A UDP socket on loopback, with the first peer that says something or the one it was made for.
final class DatagramSocket {
    struct Failure: Error {
        let code = errno
    }

    private let descriptor: Int32
    private var isConnected = false
    private var buffer = [UInt8](repeating: 0, count: 65_536)

    /// - Parameter port: the peer's; without one the socket waits for a peer.
    init(port: UInt16? = nil) throws {
        descriptor = socket(AF_INET, Int32(SOCK_DGRAM.rawValue), 0)
        guard descriptor >= 0 else { throw Failure() }
        // As much as the kernel gives: bursts are longer than its usual 100 packets.
        var bytes: Int32 = 4_194_304
        setsockopt(descriptor, SOL_SOCKET, SO_RCVBUF, &bytes, socklen_t(MemoryLayout<Int32>.size))
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        address.sin_port = (port ?? 0).bigEndian
        let length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let result = withUnsafePointer(to: &address) { address in
            address.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                port == nil ? bind(descriptor, $0, length) : connect(descriptor, $0, length)
            }
        }
        guard result == 0 else { throw Failure() }
        isConnected = port != nil
    }

    deinit { close(descriptor) }

    /// The one of this end.
    var port: UInt16 {
        var address = sockaddr_in()
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let result = withUnsafeMutablePointer(to: &address) { address in
            address.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(descriptor, $0, &length) }
        }
        return result == 0 ? UInt16(bigEndian: address.sin_port) : 0
    }

    func wait(milliseconds: Int32) {
        var request = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        poll(&request, 1, milliseconds)
    }

    /// - Returns: whether there was a packet.
    func receive(_ body: (UnsafeRawBufferPointer) throws -> Void) rethrows -> Bool {
        var source = sockaddr_storage()
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        let count = withUnsafeMutablePointer(to: &source) { source in
            source.withMemoryRebound(to: sockaddr.self, capacity: 1) { source in
                let count = recvfrom(descriptor, &buffer, buffer.count, Int32(MSG_DONTWAIT), source, &length)
                if count > 0, !isConnected { isConnected = connect(descriptor, source, length) == 0 }
                return count
            }
        }
        guard count > 0 else { return false }
        try buffer.withUnsafeBytes { try body(UnsafeRawBufferPointer(rebasing: $0[..<count])) }
        return true
    }

    func send(_ packet: UnsafeRawBufferPointer) { Glibc.send(descriptor, packet.baseAddress, packet.count, 0) }
}

func monotonicNanoseconds(_ clock: clockid_t = CLOCK_MONOTONIC) -> UInt64 {
    var time = timespec()
    clock_gettime(clock, &time)
    return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
}
