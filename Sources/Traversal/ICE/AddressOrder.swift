import STUN

/// Local preferences of a host's addresses: both families take turns from the start, so that a broken one costs little
/// (RFC 8421 section 4).
package enum AddressOrder {
    /// One preference for each address, in the order given; equal addresses get different ones.
    /// - Parameter addresses: the caller's order counts within a family and a scope.
    package static func preferences(_ addresses: [IPAddress]) -> [UInt16] {
        let ranked = addresses.indices.sorted { rank(addresses[$0]) > rank(addresses[$1]) }
        var six = ranked.filter { !addresses[$0].isIPv4 }[...]
        var four = ranked.filter { addresses[$0].isIPv4 }[...]
        // RFC 8421 section 4: so many addresses of the preferred family come before the first of the other, and between
        // any two of them, which gives the rarer family a fair place whatever the counts.
        let stride = four.isEmpty ? 1 : max(1, (six.count + four.count) / four.count - 1)
        var preferences = Array(repeating: UInt16(0), count: addresses.count)
        var next = UInt16.max
        func give(_ index: Int) {
            preferences[index] = next
            next = next > 0 ? next - 1 : 0
        }
        while !six.isEmpty || !four.isEmpty {
            for index in six.prefix(stride) { give(index) }
            six = six.dropFirst(stride)
            if let index = four.popFirst() { give(index) }
        }
        return preferences
    }

    /// Global addresses first, those of a link last, loopback behind all (RFC 6724 section 2.1 in short).
    private static func rank(_ address: IPAddress) -> Int {
        if address.isIPv4 {
            switch address.v4 {
            case 0x7F00_0000...0x7FFF_FFFF: return 0
            case 0xA9FE_0000...0xA9FE_FFFF: return 1
            default: return 4
            }
        }
        if address.high == 0 && address.low == 1 { return 0 }
        switch address.high >> 48 {
        case 0xFE80...0xFEBF: return 1
        case 0x2002: return 2  // 6to4
        case 0x2001 where address.high >> 32 & 0xFFFF == 0: return 2  // Teredo
        case 0xFC00...0xFDFF: return 3
        default: return 4
        }
    }
}
