import NIOCore

/// Where a connection comes from, as far as limits and logs care.
package struct ClientSource: Hashable, Sendable {
    /// What limits count by: an IPv4 address, or the first 64 bits of an IPv6 one, as a household has those to itself.
    package let network: UInt64
    /// The address as text, without the port; `local` for the admin socket.
    package let address: String
    /// Whether it came over the admin socket, whose permissions are the authentication.
    package let isLocal: Bool
    /// Whether nobody between here and there could listen.
    package let isLoopback: Bool
    /// Whether it has come over our own TLS.
    var isSecure = false

    /// Whether it is of a network that is not routed on the internet (RFC 1918, RFC 4193), where a proxy stands.
    var isPrivate: Bool {
        if isLoopback { return true }
        guard network >> 32 == 0xFFFF else { return network >> 57 == 0xFC >> 1 }
        let v4 = network & 0xFFFF_FFFF
        return v4 >> 24 == 10 || v4 >> 20 == 0xAC1 || v4 >> 16 == 0xC0A8
    }

    package static let local = ClientSource(network: 0, address: "local", isLocal: true, isLoopback: true)

    init(network: UInt64, address: String, isLocal: Bool, isLoopback: Bool) {
        self.network = network
        self.address = address
        self.isLocal = isLocal
        self.isLoopback = isLoopback
    }

    package init(_ address: SocketAddress?) {
        let text = address?.ipAddress ?? "unknown"
        // Where the address lies in sockaddr_in and sockaddr_in6: behind the family, the port, and in IPv6 the flow.
        let words = address?.withSockAddr { pointer, count -> (UInt64, UInt64)? in
            let bytes = UnsafeRawBufferPointer(start: pointer, count: count)
            switch address {
            case .v4 where count >= 8:
                return (
                    0, 0xFFFF << 32 | UInt64(UInt32(bigEndian: bytes.loadUnaligned(fromByteOffset: 4, as: UInt32.self)))
                )
            case .v6 where count >= 24:
                return (
                    UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: 8, as: UInt64.self)),
                    UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: 16, as: UInt64.self))
                )
            default:
                return nil
            }
        }
        switch (address, words ?? nil) {
        case (.v4, .some((_, let low))):
            self.init(network: low, address: text, isLocal: false, isLoopback: low >> 24 & 0xFF == 127)
        case (.v6, .some((let high, let low))):
            // `::1` has the high half of many that are not: it counts by itself.
            self.init(network: high, address: text, isLocal: false, isLoopback: high == 0 && low == 1)
        default:
            self.init(network: 0, address: text, isLocal: false, isLoopback: false)
        }
    }
}
