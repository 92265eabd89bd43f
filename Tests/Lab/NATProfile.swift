/// NATs that the virtual laboratory and the one on real kernels both have, by the same names.
package enum NATProfile {
    package static let names = all.map(\.name)

    package static func behavior(_ name: some StringProtocol) -> NATBehavior? {
        all.first { $0.name == name }?.behavior
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
        // Forgets after 30 s, the shortest that is met (RFC 4787 REQ-5 asks for two minutes).
        ("short-lived", .portRestricted.with { $0.udpLifetimeSeconds = 30 }),
        // Answers what nobody asked for, with a reset or by ICMP.
        (
            "rejecting",
            .portRestricted.with { ($0.unsolicitedTCP, $0.unsolicitedUDP) = (.reject, .reject) }
        ),
        // Another public address for each mapping.
        (
            "many-addresses",
            .symmetric.with { ($0.pooling, $0.publicAddressCount) = (.arbitrary, 4) }
        ),
    ]
}
