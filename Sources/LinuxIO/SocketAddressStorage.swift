import CLinux

/// A `sockaddr_in` or `sockaddr_in6` with its length, 32 bytes.
@usableFromInline
package typealias SocketAddressStorage = turnpike_address

extension SocketAddressStorage {
    /// - Parameters:
    ///   - high: The first eight address bytes in network order, as a number; 0 for IPv4.
    ///   - low: The last eight; IPv4 is held v4-mapped, and only the lower 32 bits count then.
    ///   - port: In host order.
    @inlinable
    package init(high: UInt64, low: UInt64, isIPv4: Bool, port: UInt16) {
        self.init()
        turnpike_address_set(&self, high, low, isIPv4, port)
    }

    package init(_ parts: AddressParts) {
        self.init(high: parts.high, low: parts.low, isIPv4: parts.isIPv4, port: parts.port)
    }

    /// The address in parts.
    package var parts: AddressParts {
        withUnsafePointer(to: self) { AddressParts(decoding: $0) }
    }
}

/// A transport address as plain numbers, in the form that the STUN layer uses.
///
/// `@usableFromInline` is on the type because its inlinable members are otherwise not inlined into other modules: the
/// compiler then takes `package` for a limit that their bodies may not pass, and says nothing.
@usableFromInline
package struct AddressParts: Hashable, Sendable, BitwiseCopyable {
    /// The first eight address bytes in network order, as a number; 0 for IPv4. A link-local address has its
    /// interface's index in the lower half, where the address itself has zeros.
    @usableFromInline package var high: UInt64
    /// The last eight; IPv4 is held v4-mapped.
    @usableFromInline package var low: UInt64
    /// In host order.
    @usableFromInline package var port: UInt16
    @usableFromInline package var isIPv4: Bool

    @inlinable
    package init(high: UInt64, low: UInt64, isIPv4: Bool, port: UInt16) {
        self.high = high
        self.low = low
        self.port = port
        self.isIPv4 = isIPv4
    }

    /// Inlined into the caller because it runs for every packet.
    @inlinable @inline(always)
    package init(decoding address: UnsafePointer<SocketAddressStorage>) {
        self.init(
            high: turnpike_address_high(address),
            low: turnpike_address_low(address),
            isIPv4: turnpike_address_is_v4(address),
            port: turnpike_address_port(address)
        )
    }
}

/// The local address that a datagram came to or shall leave from, on a socket bound to the wildcard address.
@usableFromInline
package struct LocalAddress: Hashable, Sendable, BitwiseCopyable {
    @usableFromInline package var high: UInt64
    @usableFromInline package var low: UInt64
    /// Where the datagram came in. For sending it counts with link-local IPv6 addresses only.
    @usableFromInline package var interfaceIndex: UInt32
    @usableFromInline package var isIPv4: Bool
    /// False when the address is not known, or is left to the kernel.
    @usableFromInline package var isPresent: Bool

    @inlinable
    package init(high: UInt64, low: UInt64, isIPv4: Bool, interfaceIndex: UInt32 = 0) {
        self.high = high
        self.low = low
        self.interfaceIndex = interfaceIndex
        self.isIPv4 = isIPv4
        self.isPresent = true
    }

    /// No address: the kernel chooses by its routing table.
    @inlinable
    package static var unspecified: LocalAddress {
        var none = LocalAddress(high: 0, low: 0, isIPv4: false)
        none.isPresent = false
        return none
    }
}
