import STUN

/// Which peers a relay may talk to. One function decides, for every path and in both directions; it looks through the
/// encodings that hide an IPv4 address in an IPv6 one first.
///
/// Operator's deny, then what can never be opened, then operator's allow, then what is denied by default.
package struct PeerPolicy: Sendable {
    package var allow: [AddressRange]
    package var deny: [AddressRange]
    /// Of translators in the operator's network, which the well-known one's rules hold for too.
    package var nat64Prefixes: [NAT64Prefix]
    /// For tests: opens loopback, which nothing else does.
    package var allowsLoopback: Bool
    /// This host's addresses, inside and outside. A peer there is another relay of ours or nothing.
    package var ownAddresses: Set<IPAddress>
    /// Directed broadcast addresses of this host's networks.
    package var broadcastAddresses: Set<IPAddress>
    package var listeners: Set<Endpoint>

    package init(
        allow: [AddressRange] = [],
        deny: [AddressRange] = [],
        nat64Prefixes: [NAT64Prefix] = [],
        allowsLoopback: Bool = false,
        ownAddresses: Set<IPAddress> = [],
        broadcastAddresses: Set<IPAddress> = [],
        listeners: Set<Endpoint> = []
    ) {
        self.allow = allow
        self.deny = deny
        self.nat64Prefixes = nat64Prefixes
        self.allowsLoopback = allowsLoopback
        self.ownAddresses = ownAddresses
        self.broadcastAddresses = broadcastAddresses
        self.listeners = listeners
    }

    package enum Decision: Sendable {
        case allowed
        case denied
        /// This host: allowed toward a live relay port, and toward nothing else.
        case ownHost
    }

    /// Decides on an address as it came off the wire.
    package func decide(_ address: IPAddress) -> Decision {
        if address.isIPv4 { return decideV4(address) }
        if contains(deny, address) || contains(Self.neverV6, address) {
            return allowsLoopback && address == IPAddress(high: 0, low: 1) && !contains(deny, address)
                ? .allowed : .denied
        }
        if let embedded = embeddedV4(address) {
            // What is hidden inside decides too: no encoding opens what its plain form does not.
            guard decideV4(embedded.address) == .allowed else { return .denied }
            return embedded.isOpen || contains(allow, address) ? .allowed : .denied
        }
        if ownAddresses.contains(address) { return .ownHost }
        if contains(allow, address) { return .allowed }
        return contains(Self.deniedV6, address) ? .denied : .allowed
    }

    private func decideV4(_ address: IPAddress) -> Decision {
        if contains(deny, address) { return .denied }
        if contains(Self.neverV4, address) {
            return allowsLoopback && address.v4 >> 24 == 127 ? .allowed : .denied
        }
        if broadcastAddresses.contains(address) { return .denied }
        if ownAddresses.contains(address) { return .ownHost }
        if contains(allow, address) { return .allowed }
        return contains(Self.deniedV4, address) ? .denied : .allowed
    }

    /// Whether a client may speak from there: 6to4 and Teredo sources must not be accepted (RFC 8656 section 21.4).
    package static func acceptsClient(at address: IPAddress) -> Bool {
        address.isIPv4 || !(teredo.contains(address) || sixToFour.contains(address))
    }

    /// Whether a datagram's source can be a host at all (case AM-12).
    package static func isHost(_ address: IPAddress) -> Bool {
        guard address.isIPv4 else { return address.high >> 56 != 0xFF && (address.high, address.low) != (0, 0) }
        return address.v4 >> 24 != 0 && address.v4 >> 28 != 0xE && address.v4 != .max
    }

    private func contains(_ ranges: [AddressRange], _ address: IPAddress) -> Bool {
        ranges.contains { $0.contains(address) }
    }
}

// The rows of the peer address table, PA-01 to PA-39.
extension PeerPolicy {
    private static let teredo = AddressRange.v6(0x2001_0000_0000_0000, 0, 32)
    private static let sixToFour = AddressRange.v6(0x2002_0000_0000_0000, 0, 16)

    /// Opened by no setting.
    static let neverV4: [AddressRange] = [
        .v4(0x0000_0000, 8),  // "this network"; 0.0.0.0 reaches loopback on Linux
        .v4(0x7F00_0000, 8),  // loopback
        .v4(0xA9FE_0000, 16),  // link-local, and the metadata services of clouds
        .v4(0xE000_0000, 4),  // multicast
        .v4(0xF000_0000, 4),  // reserved, and limited broadcast
        .v4(0xA83F_8110, 32),  // 168.63.129.16, a cloud's host in public space
    ]

    /// Opened by an operator's allow alone.
    static let deniedV4: [AddressRange] = [
        .v4(0x0A00_0000, 8), .v4(0xAC10_0000, 12), .v4(0xC0A8_0000, 16),  // RFC 1918
        .v4(0x6440_0000, 10),  // carrier NAT
        .v4(0xC000_0000, 24),  // IETF protocol assignments
        .v4(0xC000_0200, 24), .v4(0xC633_6400, 24), .v4(0xCB00_7100, 24),  // documentation
        .v4(0xC01F_C400, 24), .v4(0xC034_C100, 24), .v4(0xC0AF_3000, 24),  // AS112 and AMT
        .v4(0xC058_6300, 24),  // 6to4 relay anycast
        .v4(0xC612_0000, 15),  // benchmarking
    ]

    static let neverV6: [AddressRange] = [
        .v6(0, 0, 96),  // unspecified, loopback, and the v4-compatible block
        .v6(0, 0x0000_FFFF_0000_0000, 96),  // v4-mapped: an IPv4 peer has a family of its own on the wire
        teredo, sixToFour,
        .v6(0xFE80_0000_0000_0000, 0, 10),  // link-local
        .v6(0xFEC0_0000_0000_0000, 0, 10),  // site-local
        .v6(0xFF00_0000_0000_0000, 0, 8),  // multicast
        .v6(0xFD00_0EC2_0000_0000, 0x254, 128), .v6(0xFD20_00CE_0000_0000, 0x254, 128),  // metadata services
    ]

    static let deniedV6: [AddressRange] = [
        .v6(0x0064_FF9B_0001_0000, 0, 48),  // local NAT64
        .v6(0x0100_0000_0000_0000, 0, 64), .v6(0x0100_0000_0000_0001, 0, 64),  // discard and dummy
        .v6(0x2001_0000_0000_0000, 0, 23),  // IETF protocol assignments, with all that stands inside
        .v6(0x2001_0DB8_0000_0000, 0, 32), .v6(0x3FFF_0000_0000_0000, 0, 20),  // documentation
        .v6(0x2620_004F_8000_0000, 0, 48),  // AS112
        .v6(0x5F00_0000_0000_0000, 0, 16),  // SRv6 segment identifiers
        .v6(0xFC00_0000_0000_0000, 0, 7),  // unique local
    ]

    /// The IPv4 address that an IPv6 one carries, and whether the encoding itself is open to the public.
    private func embeddedV4(_ address: IPAddress) -> (address: IPAddress, isOpen: Bool)? {
        let low32 = UInt32(truncatingIfNeeded: address.low)
        if address.high == 0x0064_FF9B_0000_0000, address.low >> 32 == 0 {
            return (IPAddress(v4: low32), true)  // the well-known NAT64 prefix, RFC 6052
        }
        for prefix in nat64Prefixes {
            if let embedded = prefix.embedded(in: address) { return (embedded, true) }
        }
        if address.high == 0, address.low >> 32 == 0xFFFF_0000 {
            return (IPAddress(v4: low32), false)  // v4-translated, RFC 2765: ::ffff:0:a.b.c.d
        }
        if address.low >> 32 & 0xFDFF_FFFF == 0x0000_5EFE {
            return (IPAddress(v4: low32), false)  // ISATAP, RFC 5214, with the universal bit either way
        }
        return nil
    }
}
