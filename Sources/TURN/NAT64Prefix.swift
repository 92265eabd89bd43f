import STUN

/// An IPv6 prefix behind which a translator of the operator's network speaks IPv4 (RFC 6052).
package struct NAT64Prefix: Hashable, Sendable {
    private let high: UInt64
    private let low: UInt64
    private let length: UInt8

    /// RFC 6052 section 2.2.
    package static let lengths: [UInt8] = [32, 40, 48, 56, 64, 96]

    /// - Parameters:
    ///   - network: an IPv6 address; what stands behind the prefix does not count.
    ///   - length: in bits.
    /// - Returns: nil where the length is none of `lengths`, or the address is of IPv4.
    package init?(_ network: IPAddress, length: Int) {
        guard let length = UInt8(exactly: length), Self.lengths.contains(length), !network.isIPv4 else { return nil }
        high = length >= 64 ? network.high : network.high & ~(UInt64.max >> UInt64(length))
        low = length == 96 ? network.low & ~0xFFFF_FFFF : 0
        self.length = length
    }

    /// The IPv4 address that `address` carries; nil for one that is not behind the prefix.
    ///
    /// Bits 64 to 71 of the whole address are no part of it (RFC 6052 section 2.2). They have to be zero, but an
    /// address in which they are not is taken for the same: what a translator makes of it is its affair, and no way
    /// round the policy.
    package func embedded(in address: IPAddress) -> IPAddress? {
        guard !address.isIPv4 else { return nil }
        if length == 96 {
            guard address.high == high, address.low & ~0xFFFF_FFFF == low else { return nil }
            return IPAddress(v4: UInt32(truncatingIfNeeded: address.low))
        }
        guard length == 64 ? address.high == high : address.high & ~(UInt64.max >> UInt64(length)) == high else {
            return nil
        }
        // The 64 bits on either side of the gap, without it: the IPv4 address begins at the prefix's end.
        let before = UInt64(64 - length)
        let behind = 32 - before
        let head = before == 0 ? 0 : address.high & (1 << before - 1)
        let tail = behind == 0 ? 0 : (address.low << 8) >> (64 - behind)
        return IPAddress(v4: UInt32(truncatingIfNeeded: head << behind | tail))
    }
}
