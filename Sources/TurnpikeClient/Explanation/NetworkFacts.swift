import Traversal

/// What is known of the network of one end of a connection, as far as it decides which paths there are.
package struct NetworkFacts: Hashable, Sendable {
    /// How a NAT chooses the outside port of a socket that sends to another destination.
    package enum Ports: String, Hashable, Sendable {
        case preserving, sequential, chunked, random
    }

    /// What lies between this host and the internet.
    package enum Layers: String, Hashable, Sendable {
        /// The provider has a NAT of its own behind the router's, shared by many customers (RFC 6598).
        case carrier
        /// There is one router behind the other.
        case double
    }

    package var type: NATType
    package var ports: Ports?
    package var hairpin: Bool?
    package var layers: Layers?
    /// Nothing is translated, and what was not asked for is kept out all the same.
    package var isFirewalled = false
    /// The router has opened a port for this host, so the type is one that lets anybody in.
    package var isMapped = false
    /// The server is reached by TCP on port 443 alone.
    package var hasOnlyPort443 = false
    /// Families in which an address was found that reaches beyond the local network; empty where nothing is known.
    package var families: Set<AddressFamily> = []
    /// IPv4 addresses as servers see them.
    package var publicAddresses: Set<IPAddress> = []
    /// The host's own.
    package var hostAddresses: Set<IPAddress> = []

    package init(type: NATType = .unknown, ports: Ports? = nil) {
        (self.type, self.ports) = (type, ports)
    }

    /// A UDP path begins with the address and port that the peer sees: whether those can be told beforehand.
    var isPredictable: Bool { type != .symmetric || ports == .sequential || ports == .preserving }

    /// The kind as far as it decides who is let in: a firewall without a NAT does as a port-restricted one.
    var filteringType: NATType { type == .open && isFirewalled ? .portRestricted : type }

    /// Everybody may send to it.
    var isReachable: Bool { type == .open && !isFirewalled && !isSeenFromInsideOnly }

    /// The server is in the same private network, so what a NAT does to others was not seen.
    package var isSeenFromInsideOnly: Bool {
        let known = publicAddresses.union(hostAddresses)
        return type == .open && !known.isEmpty && known.allSatisfy { !$0.isPublic }
    }

    var hasIPv6: Bool { families.contains(.ipv6) }
}

extension NetworkFacts {
    package init(_ report: NATReport) {
        self.init(NATInfo(report))
        if let local = report.local { note(host: local.address) }
        if let mapped = report.mapped { note(outside: mapped.address) }
    }

    /// A peer of which only the kind of its NAT is known, its ports at random where that matters.
    package init(peer name: NATName) { self.init(type: NATType(name), ports: name == .symmetric ? .random : nil) }

    init(_ nat: NATInfo) {
        self.init(type: nat.typeForPeers, ports: nat.portAllocation.flatMap(Ports.init))
        isMapped = nat.portMapping?.isUsable ?? false
        hairpin = nat.hairpin
        isFirewalled = nat.firewalled ?? false
        if let address = nat.publicIP.flatMap(AddressText.address), address.isIPv4 { publicAddresses = [address] }
        if let router = nat.portMapping?.externalIP.flatMap(AddressText.address) { note(router: router) }
    }

    /// An address of the host's own.
    package mutating func note(host address: IPAddress) {
        let address = address.withoutLink
        hostAddresses.insert(address)
        if address.isCarrierGrade { layers = .carrier }
        if address.isGlobalIPv6 { families.insert(.ipv6) }
        if address.isIPv4, !address.isLinkLocalOrLoopback { families.insert(.ipv4) }
    }

    /// An address as the other side, or a server, sees it.
    package mutating func note(outside address: IPAddress) {
        if address.isIPv4 { publicAddresses.insert(address) }
        if address.isIPv4 || address.isGlobalIPv6 { families.insert(address.family) }
    }

    /// What a router says its outside address is (RFC 6887 section 11.4, RFC 6886 section 3.2).
    package mutating func note(router address: IPAddress) {
        if address.isCarrierGrade {
            layers = .carrier
        } else if address.isPrivate || (!publicAddresses.isEmpty && !publicAddresses.contains(address)) {
            layers = .double
        }
    }
}

extension IPAddress {
    /// RFC 6598: 100.64.0.0/10.
    var isCarrierGrade: Bool { isIPv4 && v4 >> 22 == 0x6440_0000 >> 22 }

    /// RFC 1918.
    var isPrivate: Bool {
        isIPv4 && (v4 >> 24 == 10 || v4 >> 20 == 0xAC1 || v4 >> 16 == 0xC0A8)
    }

    /// RFC 4291 section 2.4 without what is of the site, and without the tunnels that answer nobody.
    var isGlobalIPv6: Bool { !isIPv4 && high >> 61 == 1 && high >> 48 != 0x2002 && high >> 32 != 0x2001_0000 }

    fileprivate var isPublic: Bool {
        isIPv4 ? !isPrivate && !isCarrierGrade && !isLinkLocalOrLoopback : isGlobalIPv6
    }

    fileprivate var isLinkLocalOrLoopback: Bool { isIPv4 && (isLoopback || isLinkLocal) }

    var isLoopback: Bool { isIPv4 ? v4 >> 24 == 127 : high == 0 && low == 1 }

    /// RFC 3927, RFC 4291 section 2.5.6.
    var isLinkLocal: Bool { isIPv4 ? v4 >> 16 == 0xA9FE : high >> 54 == 0x3FA }

    /// Whether two hosts may be on one link: the same 256 addresses, or the same IPv6 network.
    func isNear(_ other: IPAddress) -> Bool {
        guard isIPv4 == other.isIPv4 else { return false }
        return isIPv4 ? v4 >> 8 == other.v4 >> 8 : high == other.high
    }
}
