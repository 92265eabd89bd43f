/// An IP address of either family, held as 128 bits: IPv4 lives in the v4-mapped block `::ffff:0:0/96`, with
/// `isIPv4` telling it apart from a v4-mapped IPv6 address that came off the wire as family 0x02.
package struct IPAddress: Hashable, Sendable, BitwiseCopyable {
    /// The first eight bytes in network order, as a number. An address of one of this host's links has the link's
    /// number in the lower half (`linkNumber`).
    package var high: UInt64
    /// The last eight bytes in network order, as a number.
    package var low: UInt64
    package var isIPv4: Bool

    @inlinable
    package init(high: UInt64, low: UInt64, isIPv4: Bool = false) {
        self.high = high
        self.low = low
        self.isIPv4 = isIPv4
    }

    /// - Parameter v4: the four bytes in network order, as a number: 127.0.0.1 is 0x7F000001.
    @inlinable
    package init(v4: UInt32) {
        self.init(high: 0, low: 0x0000_FFFF_0000_0000 | UInt64(v4), isIPv4: true)
    }

    /// The IPv4 address as a number; meaningful only where `isIPv4`.
    @inlinable
    package var v4: UInt32 { UInt32(truncatingIfNeeded: low) }

    @inlinable
    package var family: AddressFamily { isIPv4 ? .ipv4 : .ipv6 }

    /// Which link a link-local address is of, on this host; 0 where that is not known or means nothing. It stands where
    /// the address has zeros (RFC 4291 section 2.5.6), so the same address on two links is two.
    @inlinable
    package var linkNumber: UInt32 {
        !isIPv4 && high >> 32 == 0xFE80_0000 ? UInt32(truncatingIfNeeded: high) : 0
    }

    /// The address alone, as others may hear of it.
    @inlinable
    package var withoutLink: IPAddress {
        linkNumber == 0 ? self : IPAddress(high: 0xFE80_0000_0000_0000, low: low)
    }
}

/// Address families as STUN writes them (RFC 8489 section 14.1).
package enum AddressFamily: UInt8, Hashable, Sendable {
    case ipv4 = 0x01
    case ipv6 = 0x02
}

/// A transport address: an IP address and a port.
package struct Endpoint: Hashable, Sendable, BitwiseCopyable {
    package var address: IPAddress
    package var port: UInt16

    @inlinable
    package init(address: IPAddress, port: UInt16) {
        self.address = address
        self.port = port
    }

    @inlinable
    package var family: AddressFamily { address.family }
}
