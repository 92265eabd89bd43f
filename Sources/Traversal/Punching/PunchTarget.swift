import STUN

/// Where guesses may go: to addresses of the internet alone. A peer says where its NAT is, and could otherwise have
/// this host send into networks that it is not reached by.
package enum PunchTarget {
    /// Documentation ranges are allowed, since laboratories use them.
    package static func isAllowed(_ address: IPAddress) -> Bool {
        // Ports are guessed for IPv4's NATs; IPv6 has none to speak of.
        guard address.isIPv4 else { return false }
        return !reserved.contains { address.v4 >> (32 - $0.bits) == $0.network >> (32 - $0.bits) }
    }

    /// Of RFC 6890 and the registry that it has made.
    private static let reserved: [(network: UInt32, bits: UInt32)] = [
        // This network, private use, shared by carriers, loopback, link-local.
        (0x0000_0000, 8), (0x0A00_0000, 8), (0x6440_0000, 10), (0x7F00_0000, 8), (0xA9FE_0000, 16),
        (0xAC10_0000, 12), (0xC000_0000, 24), (0xC058_6300, 24), (0xC0A8_0000, 16),
        // Benchmarks, multicast, reserved and broadcast.
        (0xC612_0000, 15), (0xE000_0000, 4), (0xF000_0000, 4),
    ]
}
