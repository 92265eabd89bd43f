/// Addresses from `lower` to `upper`, both included, compared as 128-bit numbers. A range of IPv6 never covers the
/// v4-mapped block, so that `::/0` says nothing about IPv4.
package struct AddressRange: Sendable, Hashable {
    package var lower: HostAddress
    package var upper: HostAddress

    package init(lower: HostAddress, upper: HostAddress) {
        self.lower = lower
        self.upper = upper
    }

    package func contains(_ address: HostAddress) -> Bool {
        lower.number <= address.number && address.number <= upper.number
    }

    /// Reads `10.0.0.0/8`, `192.0.2.1` or `2001:db8:1::ff-2001:db8:2::1` exactly as written, v4-mapped block included.
    init(text: String) throws(ValueProblem) {
        let sides = text.split(separator: "-", maxSplits: 1, omittingEmptySubsequences: false).map(Self.trimmed)
        if sides.count == 2 {
            guard let lower = HostAddress(sides[0]), let upper = HostAddress(sides[1]) else {
                throw Self.unreadable(text)
            }
            guard lower.isIPv4 == upper.isIPv4 else {
                throw ValueProblem("\(shown(text)) goes from one address family to the other; write one range for each")
            }
            guard lower.number <= upper.number else {
                throw ValueProblem("\(shown(text)) is reversed; write \(upper)-\(lower)")
            }
            self.init(lower: lower, upper: upper)
            return
        }
        let parts = text.split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false)
        guard let first = parts.first, let host = HostAddress(first) else { throw Self.unreadable(text) }
        guard parts.count == 2 else {
            self.init(lower: host, upper: host)
            return
        }
        let widthBits = host.isIPv4 ? 32 : 128
        guard let prefixBits = AddressText.decimal(parts[1], atMost: widthBits) else {
            let family = host.isIPv4 ? "IPv4" : "IPv6"
            throw ValueProblem("\(shown(text)) has no valid prefix length; \(family) takes /0 to /\(widthBits)")
        }
        let hostBits = widthBits - prefixBits
        // Shifting by all 128 bits gives 0, which makes the mask all ones, as ::/0 needs.
        let mask = (UInt128(1) << UInt128(hostBits)) &- 1
        guard host.number & mask == 0 else {
            let network = HostAddress(number: host.number & ~mask, isIPv4: host.isIPv4)
            throw ValueProblem(
                "\(shown(text)) has bits set behind its prefix; write \(network)/\(prefixBits), or \(host) alone"
            )
        }
        self.init(lower: host, upper: HostAddress(number: host.number | mask, isIPv4: host.isIPv4))
    }

    /// The range without the v4-mapped block: itself, or what is left on either side.
    /// Throws when nothing is left, because IPv4 is to be written as IPv4.
    func withoutMappedBlock() throws(ValueProblem) -> [AddressRange] {
        guard !lower.isIPv4, lower.number <= Self.mapped.upper.number, upper.number >= Self.mapped.lower.number else {
            return [self]
        }
        var pieces: [AddressRange] = []
        if lower.number < Self.mapped.lower.number {
            pieces.append(
                AddressRange(lower: lower, upper: HostAddress(number: Self.mapped.lower.number - 1, isIPv4: false))
            )
        }
        if upper.number > Self.mapped.upper.number {
            pieces.append(
                AddressRange(lower: HostAddress(number: Self.mapped.upper.number + 1, isIPv4: false), upper: upper)
            )
        }
        if pieces.isEmpty {
            let plain = AddressRange(lower: HostAddress(v4: lower.v4), upper: HostAddress(v4: upper.v4))
            throw ValueProblem("\(shown(description)) is v4-mapped; write it as IPv4: \(plain)")
        }
        return pieces
    }

    /// The ranges as an operator writes them: what `withoutMappedBlock` parted is whole again.
    static func texts(_ ranges: [AddressRange]) -> [String] {
        var whole: [AddressRange] = []
        for range in ranges {
            if let last = whole.last, !last.lower.isIPv4, !range.lower.isIPv4,
                last.upper.number == mapped.lower.number - 1, range.lower.number == mapped.upper.number + 1
            {
                whole[whole.count - 1].upper = range.upper
            } else {
                whole.append(range)
            }
        }
        return whole.map(\.description)
    }

    private static let mapped = AddressRange(
        lower: HostAddress(high: 0, low: 0x0000_FFFF_0000_0000),
        upper: HostAddress(high: 0, low: 0x0000_FFFF_FFFF_FFFF)
    )

    private static func trimmed(_ text: Substring) -> Substring {
        let front = text.drop { $0 == " " }
        return front.lastIndex { $0 != " " }.map { front[...$0] } ?? front
    }

    private static func unreadable(_ text: String) -> ValueProblem {
        ValueProblem(
            "\(shown(text)) is no address range; write 10.0.0.0/8, fd00::/8, a single address, or FIRST-LAST"
        )
    }
}

extension AddressRange: CustomStringConvertible {
    /// `10.0.0.0/8` where a prefix says it, a bare address where there is one, else `FIRST-LAST`.
    package var description: String {
        guard lower != upper else { return lower.description }
        let difference = lower.number ^ upper.number
        let hostBits = 128 - difference.leadingZeroBitCount
        let isPrefix = difference.nonzeroBitCount == hostBits && lower.number & difference == 0
        guard isPrefix, !lower.isIPv4 || hostBits <= 32 else { return "\(lower)-\(upper)" }
        return "\(lower)/\((lower.isIPv4 ? 32 : 128) - hostBits)"
    }
}

extension HostAddress {
    init(number: UInt128, isIPv4: Bool) {
        self.init(
            high: UInt64(truncatingIfNeeded: number >> 64),
            low: UInt64(truncatingIfNeeded: number),
            isIPv4: isIPv4
        )
    }
}
