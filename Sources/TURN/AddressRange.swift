import STUN

/// Addresses from one to another, inclusive, in numeric order. IPv4 lives where it is v4-mapped.
package struct AddressRange: Hashable, Sendable {
    package var lowerHigh: UInt64
    package var lowerLow: UInt64
    package var upperHigh: UInt64
    package var upperLow: UInt64

    package init(lowerHigh: UInt64, lowerLow: UInt64, upperHigh: UInt64, upperLow: UInt64) {
        self.lowerHigh = lowerHigh
        self.lowerLow = lowerLow
        self.upperHigh = upperHigh
        self.upperLow = upperLow
    }

    /// An IPv4 prefix: `v4(0x0A00_0000, 8)` is 10.0.0.0/8.
    package static func v4(_ network: UInt32, _ prefixLength: UInt32) -> AddressRange {
        let host: UInt32 = prefixLength == 0 ? .max : (1 << (32 - prefixLength)) - 1
        let lower = IPAddress(v4: network)
        let upper = IPAddress(v4: network | host)
        return AddressRange(
            lowerHigh: lower.high,
            lowerLow: lower.low,
            upperHigh: upper.high,
            upperLow: upper.low
        )
    }

    /// An IPv6 prefix: `v6(0xFE80_0000_0000_0000, 0, 10)` is fe80::/10.
    package static func v6(_ high: UInt64, _ low: UInt64, _ prefixLength: UInt64) -> AddressRange {
        let hostHigh: UInt64 = prefixLength >= 64 ? 0 : .max >> prefixLength
        let hostLow: UInt64 = prefixLength <= 64 ? .max : prefixLength >= 128 ? 0 : .max >> (prefixLength - 64)
        return AddressRange(lowerHigh: high, lowerLow: low, upperHigh: high | hostHigh, upperLow: low | hostLow)
    }

    /// A range holds addresses of its own family alone: `::/0` says nothing of IPv4, though IPv4 lives numerically
    /// inside.
    package func contains(_ address: IPAddress) -> Bool {
        guard !address.isIPv4 || isIPv4 else { return false }
        return (lowerHigh, lowerLow) <= (address.high, address.low)
            && (address.high, address.low) <= (upperHigh, upperLow)
    }

    private var isIPv4: Bool {
        lowerHigh == 0 && upperHigh == 0 && lowerLow >> 32 == 0xFFFF && upperLow >> 32 == 0xFFFF
    }
}
