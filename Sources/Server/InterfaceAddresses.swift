import Foundation
import Settings

/// The addresses of this machine's interfaces that are up.
package enum InterfaceAddresses {
    /// In the kernel's order, loopback included; empty where the kernel does not say.
    package static func current() -> [HostAddress] {
        var list: UnsafeMutablePointer<ifaddrs>?
        guard getifaddrs(&list) == 0 else { return [] }
        defer { freeifaddrs(list) }
        var addresses: [HostAddress] = []
        var next = list
        while let entry = next {
            next = entry.pointee.ifa_next
            guard entry.pointee.ifa_flags & UInt32(IFF_UP) != 0, let name = entry.pointee.ifa_addr else {
                continue
            }
            if let address = HostAddress(name), !addresses.contains(address) { addresses.append(address) }
        }
        return addresses
    }
}

extension HostAddress {
    fileprivate init?(_ name: UnsafePointer<sockaddr>) {
        switch Int32(name.pointee.sa_family) {
        case AF_INET:
            let bytes = UnsafeRawPointer(name).loadUnaligned(as: sockaddr_in.self).sin_addr.s_addr
            self.init(v4: UInt32(bigEndian: bytes))
        case AF_INET6:
            let address = UnsafeRawPointer(name).loadUnaligned(as: sockaddr_in6.self).sin6_addr
            let (high, low) = withUnsafeBytes(of: address) {
                ($0.loadUnaligned(as: UInt64.self), $0.loadUnaligned(fromByteOffset: 8, as: UInt64.self))
            }
            self.init(high: UInt64(bigEndian: high), low: UInt64(bigEndian: low))
        default:
            return nil
        }
    }
}
