import STUN

/// IP addresses as candidate lines write them, read without a library so that the module is the same on every platform.
package enum AddressText {
    /// - Returns: nil for anything but a dotted quad without leading zeros, or an IPv6 address of RFC 4291 section 2.2
    ///   without a zone.
    package static func address(_ text: some StringProtocol) -> IPAddress? {
        let bytes = Array(text.utf8)
        // The longest is an IPv6 address that ends in a dotted quad.
        guard !bytes.isEmpty, bytes.count <= 45 else { return nil }
        return bytes.contains(UInt8(ascii: ":")) ? ipv6(bytes) : ipv4(bytes[...]).map { IPAddress(v4: $0) }
    }

    /// The canonical text of RFC 5952.
    package static func text(_ address: IPAddress) -> String {
        if address.isIPv4 { return dotted(address.v4) }
        let plain = address.withoutLink
        let groups = (0..<8).map { index in
            UInt16(truncatingIfNeeded: (index < 4 ? plain.high : plain.low) >> UInt64(48 - 16 * (index & 3)))
        }
        let zeros = longestZeros(groups)
        guard zeros.count > 1 else { return groups.map { String($0, radix: 16) }.joined(separator: ":") }
        let head = groups[..<zeros.lowerBound].map { String($0, radix: 16) }.joined(separator: ":")
        let tail = groups[zeros.upperBound...].map { String($0, radix: 16) }.joined(separator: ":")
        return head + "::" + tail
    }

    /// The endpoint as people write it, with brackets around an IPv6 address.
    package static func text(_ endpoint: Endpoint) -> String {
        let address = text(endpoint.address)
        return endpoint.address.isIPv4 ? "\(address):\(endpoint.port)" : "[\(address)]:\(endpoint.port)"
    }

    private static func dotted(_ value: UInt32) -> String {
        (0..<4).map { String(value >> UInt32(24 - 8 * $0) & 0xFF) }.joined(separator: ".")
    }

    /// The first of the longest runs of zero groups (RFC 5952 section 4.2.3).
    private static func longestZeros(_ groups: [UInt16]) -> Range<Int> {
        var best = 0..<0
        var start = 0
        for index in 0...groups.count where index == groups.count || groups[index] != 0 {
            if index - start > best.count { best = start..<index }
            start = index + 1
        }
        return best
    }

    private static func ipv4(_ bytes: ArraySlice<UInt8>) -> UInt32? {
        let parts = bytes.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false)
        guard parts.count == 4 else { return nil }
        var value: UInt32 = 0
        for part in parts {
            guard (1...3).contains(part.count), part.count == 1 || part.first != UInt8(ascii: "0") else { return nil }
            var octet: UInt32 = 0
            for byte in part {
                guard (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) else { return nil }
                octet = octet * 10 + UInt32(byte - UInt8(ascii: "0"))
            }
            guard octet <= 255 else { return nil }
            value = value << 8 | octet
        }
        return value
    }

    private static func ipv6(_ bytes: [UInt8]) -> IPAddress? {
        var halves: [[UInt16]] = []
        var rest = bytes[...]
        // "::" stands at most once; each side of it is a list of groups that may be empty.
        while halves.count < 2 {
            let gap = rest.indices.first { index in
                index + 1 < rest.endIndex && rest[index] == UInt8(ascii: ":") && rest[index + 1] == UInt8(ascii: ":")
            }
            let isLast = gap == nil || !halves.isEmpty
            guard let groups = groups(isLast ? rest : rest[..<(gap ?? rest.endIndex)], allowsQuad: isLast) else {
                return nil
            }
            halves.append(groups)
            guard !isLast, let gap else { break }
            rest = rest[(gap + 2)...]
        }
        var all = halves[0]
        if halves.count == 2 {
            let missing = 8 - halves[0].count - halves[1].count
            guard missing >= 1 else { return nil }
            all += Array(repeating: 0, count: missing) + halves[1]
        }
        guard all.count == 8 else { return nil }
        return IPAddress(
            high: all[..<4].reduce(0) { $0 << 16 | UInt64($1) },
            low: all[4...].reduce(0) { $0 << 16 | UInt64($1) }
        )
    }

    private static func groups(_ bytes: ArraySlice<UInt8>, allowsQuad: Bool) -> [UInt16]? {
        if bytes.isEmpty { return [] }
        let parts = bytes.split(separator: UInt8(ascii: ":"), omittingEmptySubsequences: false)
        guard parts.count <= 8 else { return nil }
        var groups: [UInt16] = []
        for (index, part) in parts.enumerated() {
            if allowsQuad, index == parts.count - 1, part.contains(UInt8(ascii: ".")) {
                guard let quad = ipv4(part) else { return nil }
                groups += [UInt16(truncatingIfNeeded: quad >> 16), UInt16(truncatingIfNeeded: quad)]
                continue
            }
            guard (1...4).contains(part.count), part.allSatisfy(isHexDigit),
                let group = UInt16(String(decoding: part, as: UTF8.self), radix: 16)
            else { return nil }
            groups.append(group)
        }
        return groups
    }

    private static func isHexDigit(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "a")...UInt8(ascii: "f"),
            UInt8(ascii: "A")...UInt8(ascii: "F"):
            true
        default: false
        }
    }
}
