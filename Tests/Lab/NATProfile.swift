/// NATs that the virtual laboratory and the one on real kernels both have, by the same names.
package enum NATProfile {
    package static let names = all.map(\.name)

    package static func behavior(_ name: some StringProtocol) -> NATBehavior? {
        all.first { $0.name == name }?.behavior
    }

    /// What such a NAT's router lets pass besides.
    package static func firewall(_ name: some StringProtocol) -> Firewall {
        switch name {
        case "no-udp": .open.with { $0.passesUDP = false }
        case "https-only": .open.with { ($0.passesUDP, $0.tcpPorts) = (false, [443]) }
        default: .open
        }
    }

    private static let all: [(name: String, behavior: NATBehavior)] = [
        ("full-cone", .fullCone),
        ("address-restricted", .restricted),
        ("port-restricted", .portRestricted),
        // The same with ports of its own choice.
        ("remapping", .portRestricted.with { $0.allocation = .random }),
        ("counting", .portRestricted.with { $0.allocation = .sequential(step: 2) }),
        ("address-dependent", .symmetric.with { $0.mapping = .addressDependent }),
        ("symmetric", .symmetric),
        ("random", .symmetric),
        ("sequential", .symmetricSequential),
        ("sequential-down", .symmetric.with { $0.allocation = .sequential(step: -2) }),
        ("chunked", .symmetricChunked),
        ("carrier-grade", .carrierGrade),
        // Packets to its own public address come back in.
        ("hairpin", .portRestricted.with { $0.hairpinning = .externalSource }),
        ("turning-round", .fullCone.with { $0.hairpinning = .externalSource }),
        // Forgets after 30 s, the shortest that is met (RFC 4787 REQ-5 asks for two minutes).
        ("short-lived", .portRestricted.with { $0.udpLifetimeSeconds = 30 }),
        // Answers what nobody asked for, with a reset or by ICMP.
        (
            "rejecting",
            .portRestricted.with { ($0.unsolicitedTCP, $0.unsolicitedUDP) = (.reject, .reject) }
        ),
        // Takes note of what nobody asked for, and then has another port for whoever sent it.
        (
            "remembering",
            .portRestricted.with { ($0.remembersUnsolicited, $0.overloading) = (true, .unlessSameDestination) }
        ),
        // No datagram gets out; nothing but TCP to port 443.
        ("no-udp", .portRestricted),
        ("https-only", .portRestricted),
        // Another public address for each mapping.
        (
            "many-addresses",
            .symmetric.with { ($0.pooling, $0.publicAddressCount) = (.arbitrary, 4) }
        ),
    ]
}
