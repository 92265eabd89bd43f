/// An IP address of either family as 128 bits in network order; IPv4 lives in the v4-mapped block `::ffff:0:0/96`.
package struct HostAddress: Sendable, Hashable {
    /// The first eight bytes in network order, as a number.
    package var high: UInt64
    /// The last eight bytes in network order, as a number.
    package var low: UInt64
    package var isIPv4: Bool

    package init(high: UInt64, low: UInt64, isIPv4: Bool = false) {
        self.high = high
        self.low = low
        self.isIPv4 = isIPv4
    }

    /// - Parameter v4: the four bytes in network order, as a number: 127.0.0.1 is 0x7F000001.
    package init(v4: UInt32) {
        self.init(high: 0, low: 0x0000_FFFF_0000_0000 | UInt64(v4), isIPv4: true)
    }

    /// Reads `192.0.2.1` or `2001:db8::1`, and nothing looser: no leading zeros, no octal or hexadecimal IPv4, no scope
    /// id, no brackets. Nil when the text is something else.
    package init?(_ text: some StringProtocol) {
        if let v4 = AddressText.ipv4(text) {
            self.init(v4: v4)
        } else if let (high, low) = AddressText.ipv6(text) {
            self.init(high: high, low: low)
        } else {
            return nil
        }
    }

    package static let unspecifiedIPv4 = HostAddress(v4: 0)
    package static let unspecifiedIPv6 = HostAddress(high: 0, low: 0)

    /// All 128 bits as one number, by which ranges compare.
    package var number: UInt128 { UInt128(high) << 64 | UInt128(low) }

    /// The address as a number; meaningful only where `isIPv4`.
    package var v4: UInt32 { UInt32(truncatingIfNeeded: low) }

    /// 127.0.0.0/8 or ::1.
    package var isLoopback: Bool { isIPv4 ? v4 >> 24 == 127 : high == 0 && low == 1 }
    package var isUnspecified: Bool { isIPv4 ? v4 == 0 : high == 0 && low == 0 }
    /// 224.0.0.0/4 or ff00::/8.
    package var isMulticast: Bool { isIPv4 ? v4 >> 28 == 0xE : high >> 56 == 0xFF }
    /// An IPv6 address of the v4-mapped block, `::ffff:192.0.2.1`: no host has it, and it means the IPv4 one.
    package var isMappedIPv6: Bool { !isIPv4 && high == 0 && low >> 32 == 0xFFFF }
    /// fe80::/10, which means nothing without a scope id.
    package var isLinkLocalIPv6: Bool { !isIPv4 && high >> 54 == 0x3FA }
}

extension HostAddress: CustomStringConvertible {
    /// IPv4 dotted, IPv6 as RFC 5952 wants it.
    package var description: String { isIPv4 ? AddressText.dotted(v4) : AddressText.colons(high: high, low: low) }
}

/// A transport address: a host and a port.
package struct SocketAddress: Sendable, Hashable, CustomStringConvertible {
    package var host: HostAddress
    package var port: UInt16

    package init(host: HostAddress, port: UInt16) {
        self.host = host
        self.port = port
    }

    package var high: UInt64 { host.high }
    package var low: UInt64 { host.low }
    package var isIPv4: Bool { host.isIPv4 }

    /// Whether a listener here and one there would be for the same clients, or for some of them.
    package func overlaps(_ other: SocketAddress) -> Bool {
        port == other.port && isIPv4 == other.isIPv4
            && (host == other.host || host.isUnspecified || other.host.isUnspecified)
    }

    /// `192.0.2.1:3478` or `[2001:db8::1]:3478`.
    package var description: String { isIPv4 ? "\(host):\(port)" : "[\(host)]:\(port)" }
}

/// Addresses as text, both ways.
enum AddressText {
    static func ipv4(_ text: some StringProtocol) -> UInt32? {
        guard text.utf8.count <= 15 else { return nil }
        let parts = text.split(separator: ".", omittingEmptySubsequences: false)
        guard parts.count == 4 else { return nil }
        var value: UInt32 = 0
        for part in parts {
            // A leading zero is octal to some readers and decimal to others, so it is refused.
            guard let byte = decimal(part, atMost: 255) else { return nil }
            value = value << 8 | UInt32(byte)
        }
        return value
    }

    static func ipv6(_ text: some StringProtocol) -> (high: UInt64, low: UInt64)? {
        guard text.utf8.count <= 45, text.utf8.allSatisfy({ $0 < 0x80 }) else { return nil }
        let bytes = Array(text.utf8)
        let gap = bytes.indices.dropLast().first {
            bytes[$0] == UInt8(ascii: ":") && bytes[$0 + 1] == UInt8(ascii: ":")
        }
        var groups: [UInt64]
        if let gap {
            guard let front = ipv6Groups(bytes[..<gap], mayEndDotted: false),
                let back = ipv6Groups(bytes[(gap + 2)...], mayEndDotted: true), front.count + back.count < 8
            else { return nil }
            groups = front + Array(repeating: 0, count: 8 - front.count - back.count) + back
        } else {
            guard let all = ipv6Groups(bytes[...], mayEndDotted: true) else { return nil }
            groups = all
        }
        guard groups.count == 8 else { return nil }
        return (groups[..<4].reduce(0) { $0 << 16 | $1 }, groups[4...].reduce(0) { $0 << 16 | $1 })
    }

    private static func ipv6Groups(_ bytes: ArraySlice<UInt8>, mayEndDotted: Bool) -> [UInt64]? {
        guard !bytes.isEmpty else { return [] }
        let parts = bytes.split(separator: UInt8(ascii: ":"), omittingEmptySubsequences: false)
        var groups: [UInt64] = []
        for (index, part) in parts.enumerated() {
            let text = String(decoding: part, as: UTF8.self)
            if mayEndDotted, index == parts.count - 1, let v4 = ipv4(text) {
                groups += [UInt64(v4 >> 16), UInt64(v4 & 0xFFFF)]
            } else if (1...4).contains(part.count), !text.hasPrefix("+"), let group = UInt64(text, radix: 16) {
                groups.append(group)
            } else {
                return nil
            }
        }
        return groups
    }

    /// Digits only, no sign, no leading zero; nil for anything else or above `atMost`.
    static func decimal(_ text: some StringProtocol, atMost: Int) -> Int? {
        guard !text.isEmpty, text.utf8.allSatisfy({ (0x30...0x39).contains($0) }),
            text.utf8.count == 1 || !text.hasPrefix("0"), let value = Int(text), value <= atMost
        else { return nil }
        return value
    }

    static func dotted(_ v4: UInt32) -> String {
        "\(v4 >> 24).\(v4 >> 16 & 255).\(v4 >> 8 & 255).\(v4 & 255)"
    }

    static func colons(high: UInt64, low: UInt64) -> String {
        if high == 0, low >> 32 == 0xFFFF {
            return "::ffff:" + dotted(UInt32(truncatingIfNeeded: low))
        }
        let groups = (0..<8).map { ($0 < 4 ? high >> (48 - 16 * $0) : low >> (112 - 16 * $0)) & 0xFFFF }
        // RFC 5952 section 4.2: the first longest run of two or more zero groups becomes "::".
        var best = 0..<0
        var start = 0
        while start < 8 {
            let end = groups[start...].firstIndex { $0 != 0 } ?? 8
            if end - start > max(best.count, 1) { best = start..<end }
            start = max(end, start + 1)
        }
        let hex = groups.map { String($0, radix: 16) }
        guard !best.isEmpty else { return hex.joined(separator: ":") }
        return hex[..<best.lowerBound].joined(separator: ":") + "::" + hex[best.upperBound...].joined(separator: ":")
    }
}
