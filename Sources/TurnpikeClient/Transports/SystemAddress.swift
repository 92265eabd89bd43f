import Glibc
import NIOCore
import Traversal

/// Endpoints as the system writes them.
enum SystemAddress {
    /// Calls `body` with the address of a socket call.
    @inline(__always)
    static func with<Result>(_ endpoint: Endpoint, _ body: (UnsafePointer<sockaddr>, socklen_t) -> Result) -> Result {
        if endpoint.address.isIPv4 {
            var address = sockaddr_in()
            address.sin_family = sa_family_t(AF_INET)
            address.sin_port = endpoint.port.bigEndian
            address.sin_addr.s_addr = endpoint.address.v4.bigEndian
            return withUnsafePointer(to: &address) { pointer in
                pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    body($0, socklen_t(MemoryLayout<sockaddr_in>.size))
                }
            }
        }
        var address = sockaddr_in6()
        address.sin6_family = sa_family_t(AF_INET6)
        address.sin6_port = endpoint.port.bigEndian
        address.sin6_scope_id = endpoint.address.linkNumber
        let plain = endpoint.address.withoutLink
        withUnsafeMutableBytes(of: &address.sin6_addr) {
            $0.storeBytes(of: plain.high.bigEndian, as: UInt64.self)
            $0.storeBytes(of: plain.low.bigEndian, toByteOffset: 8, as: UInt64.self)
        }
        return withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                body($0, socklen_t(MemoryLayout<sockaddr_in6>.size))
            }
        }
    }

    static func endpoint(_ address: sockaddr_in) -> Endpoint {
        Endpoint(
            address: IPAddress(v4: UInt32(bigEndian: address.sin_addr.s_addr)),
            port: UInt16(bigEndian: address.sin_port)
        )
    }

    /// A link-local address takes its link's number in.
    static func endpoint(_ address: sockaddr_in6) -> Endpoint {
        var (high, low) = withUnsafeBytes(of: address.sin6_addr) {
            (
                UInt64(bigEndian: $0.loadUnaligned(as: UInt64.self)),
                UInt64(bigEndian: $0.loadUnaligned(fromByteOffset: 8, as: UInt64.self))
            )
        }
        if high == 0xFE80_0000_0000_0000 { high |= UInt64(address.sin6_scope_id) }
        return Endpoint(address: IPAddress(high: high, low: low), port: UInt16(bigEndian: address.sin6_port))
    }

    /// Nil for what is neither IPv4 nor IPv6.
    static func endpoint(_ address: UnsafePointer<sockaddr>) -> Endpoint? {
        switch CInt(address.pointee.sa_family) {
        case AF_INET:
            UnsafeRawPointer(address).withMemoryRebound(to: sockaddr_in.self, capacity: 1) { endpoint($0.pointee) }
        case AF_INET6:
            UnsafeRawPointer(address).withMemoryRebound(to: sockaddr_in6.self, capacity: 1) { endpoint($0.pointee) }
        default: nil
        }
    }

    static func endpoint(_ address: SocketAddress) -> Endpoint? {
        switch address {
        case .v4(let address): endpoint(address.address)
        case .v6(let address): endpoint(address.address)
        case .unixDomainSocket: nil
        }
    }

    static func socketAddress(_ endpoint: Endpoint) -> SocketAddress {
        if endpoint.address.isIPv4 {
            var address = sockaddr_in()
            address.sin_family = sa_family_t(AF_INET)
            address.sin_port = endpoint.port.bigEndian
            address.sin_addr.s_addr = endpoint.address.v4.bigEndian
            return SocketAddress(address)
        }
        return with(endpoint) { pointer, _ in
            UnsafeRawPointer(pointer).withMemoryRebound(to: sockaddr_in6.self, capacity: 1) {
                SocketAddress($0.pointee)
            }
        }
    }

    /// Where a socket is bound.
    static func local(_ descriptor: CInt) -> Endpoint? {
        var storage = sockaddr_storage()
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        return withUnsafeMutablePointer(to: &storage) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                getsockname(descriptor, $0, &length) == 0 ? endpoint($0) : nil
            }
        }
    }

    /// The address that the system would send from to the world. Connecting a UDP socket sends nothing, and makes the
    /// system choose; the destinations are of the blocks for documentation, and go the default way.
    static func sendingAddress(_ family: AddressFamily) -> IPAddress? {
        let descriptor = socket(family == .ipv4 ? AF_INET : AF_INET6, datagrams, 0)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        let world = family == .ipv4 ? IPAddress(v4: 0xC000_0201) : IPAddress(high: 0x2001_0DB8_0000_0000, low: 1)
        guard with(Endpoint(address: world, port: 9), { connect(descriptor, $0, $1) }) == 0 else { return nil }
        return local(descriptor).map(\.address)
    }

    static let socketFlags = CInt(SOCK_CLOEXEC.rawValue) | CInt(SOCK_NONBLOCK.rawValue)
    static let streams = CInt(SOCK_STREAM.rawValue) | socketFlags
    static let datagrams = CInt(SOCK_DGRAM.rawValue) | socketFlags
}

extension NetworkFailure {
    /// What an `errno` means.
    init(errno code: CInt, _ subject: String) {
        let reason: Reason =
            switch code {
            case ENETUNREACH, EHOSTUNREACH, ENETDOWN, EAFNOSUPPORT: .unreachable
            case ECONNREFUSED: .refused
            case ETIMEDOUT: .timedOut
            case ECONNRESET, EPIPE, ECONNABORTED: .reset
            case EADDRINUSE: .addressInUse
            case EADDRNOTAVAIL: .addressUnavailable
            case EACCES, EPERM: .notPermitted
            case EMFILE, ENFILE: .tooManyFiles
            default: .other
            }
        self.init(reason, subject, detail: String(cString: strerror(code)))
    }

    init(_ error: any Error, _ subject: String) {
        switch error {
        case let error as IOError: self.init(errno: error.errnoCode, subject)
        case ChannelError.connectTimeout: self.init(.timedOut, subject)
        case let error as NetworkFailure: self = error
        default: self.init(.other, subject, detail: "\(error)")
        }
    }
}
