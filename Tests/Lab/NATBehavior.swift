/// How a NAT behaves, in the terms of RFC 4787 (UDP), RFC 5382 (TCP) and RFC 6888 (carriers).
package struct NATBehavior: Sendable {
    /// What of the other end's address makes a difference (RFC 4787 sections 4.1 and 5).
    package enum Dependence: Sendable, CaseIterable {
        case endpointIndependent, addressDependent, addressAndPortDependent
    }

    /// How the external port is chosen (RFC 4787 section 4.2).
    package enum Allocation: Sendable, Equatable {
        /// The internal one; at random where that is taken.
        case preserving
        /// The one behind the last, by this step, which may be negative.
        case sequential(step: Int)
        case random
        /// At random in a block of so many ports that belongs to the subscriber.
        case chunked(ports: Int)
    }

    /// What happens to a packet from inside to a public address of the NAT (RFC 4787 section 6).
    package enum Hairpinning: Sendable {
        case none
        /// REQ-9a: it comes from the sender's external endpoint.
        case externalSource
        /// It comes from the sender's internal endpoint.
        case internalSource
    }

    /// Whether an external port is given to a second mapping (RFC 4787 section 4.2.1).
    package enum Overloading: Sendable {
        case never
        /// Unless both have the same other end, by which they are told apart. Linux does so, and by its ports is
        /// endpoint-independent until two hosts behind it want the same port for one destination.
        case unlessSameDestination
        case always
    }

    /// What keeps a mapping alive (RFC 4787 section 4.3).
    package enum Refresh: Sendable {
        case outbound, both
    }

    /// What answers a packet that nobody asked for.
    package enum Unsolicited: Sendable {
        case drop
        /// A reset for TCP, ICMP's "port unreachable" for UDP.
        case reject
    }

    /// Which public address a host gets, where there are several (RFC 4787 section 4.1, REQ-2).
    package enum Pooling: Sendable {
        case paired, arbitrary
    }

    package var mapping: Dependence
    package var filtering: Dependence
    package var allocation: Allocation
    package var hairpinning = Hairpinning.none
    package var udpLifetimeSeconds: Double = 120
    package var refresh = Refresh.outbound
    package var overloading = Overloading.never
    /// Takes note of a datagram that nobody asked for as of a connection of its own, as Linux does where its own
    /// firewall lets it in. While that lasts, a host inside that sends to its sender gets another port than it has
    /// elsewhere, and a hole punched from that side too early is punched in vain.
    package var remembersUnsolicited = false
    /// Linux's `nf_conntrack_udp_timeout`.
    package var unsolicitedLifetimeSeconds: Double = 30
    package var pooling = Pooling.paired
    package var publicAddressCount = 1
    package var ports: ClosedRange<UInt16> = 1_024...65_535
    /// Mappings that hosts which are not in the lab make per second; they use up ports.
    package var backgroundFlowsPerSecond: Double = 0

    /// As for UDP where these are nil.
    package var tcpMapping: Dependence?
    package var tcpFiltering: Dependence?
    /// RFC 5382 REQ-5.
    package var tcpEstablishedSeconds: Double = 7_440
    package var tcpTransitorySeconds: Double = 240
    package var unsolicitedTCP = Unsolicited.drop
    package var unsolicitedUDP = Unsolicited.drop

    package init(mapping: Dependence, filtering: Dependence, allocation: Allocation = .preserving) {
        (self.mapping, self.filtering, self.allocation) = (mapping, filtering, allocation)
    }

    /// The same with something changed.
    package func with(_ change: (inout NATBehavior) -> Void) -> NATBehavior {
        var copy = self
        change(&copy)
        return copy
    }

    func mapping(_ transport: Transport) -> Dependence { transport == .tcp ? tcpMapping ?? mapping : mapping }

    func filtering(_ transport: Transport) -> Dependence { transport == .tcp ? tcpFiltering ?? filtering : filtering }

    package func unsolicited(_ transport: Transport) -> Unsolicited {
        transport == .tcp ? unsolicitedTCP : unsolicitedUDP
    }
}

/// The types of old, by the names that the client library prints.
extension NATBehavior {
    package static let fullCone = NATBehavior(mapping: .endpointIndependent, filtering: .endpointIndependent)
    package static let restricted = NATBehavior(mapping: .endpointIndependent, filtering: .addressDependent)
    package static let portRestricted = NATBehavior(mapping: .endpointIndependent, filtering: .addressAndPortDependent)
    /// With ports at random.
    package static let symmetric = NATBehavior(
        mapping: .addressAndPortDependent,
        filtering: .addressAndPortDependent,
        allocation: .random
    )
    package static let symmetricSequential = symmetric.with { $0.allocation = .sequential(step: 1) }
    /// A block of 512 ports for each subscriber, as carriers log them.
    package static let symmetricChunked = symmetric.with { $0.allocation = .chunked(ports: 512) }
    /// Linux: preserves ports, and has a mapping for each connection.
    package static let linux = NATBehavior(
        mapping: .addressAndPortDependent,
        filtering: .addressAndPortDependent
    )
    .with { $0.overloading = .unlessSameDestination }
    /// What RFC 6888 asks of a carrier's NAT.
    package static let carrierGrade = NATBehavior(
        mapping: .endpointIndependent,
        filtering: .endpointIndependent,
        allocation: .chunked(ports: 1_024)
    )
    .with { $0.hairpinning = .externalSource }
}

/// What a router lets pass, NAT or not.
package struct Firewall: Sendable {
    package var passesUDP = true
    /// Ports of the other side to which TCP connections may go; nil for all.
    package var tcpPorts: Set<UInt16>?
    /// What of the other end a packet from outside must match, to come in where addresses are not translated: IPv6, and
    /// IPv4 without NAT. Endpoint-independent means that all may come in.
    package var filtering = NATBehavior.Dependence.addressAndPortDependent
    package var udpLifetimeSeconds: Double = 120
    package var tcpEstablishedSeconds: Double = 7_440
    package var unsolicited = NATBehavior.Unsolicited.drop

    package init() {}

    /// Lets in what was asked for (RFC 6092), and everything out.
    package static let stateful = Firewall()
    /// Lets everything pass both ways.
    package static let open = Firewall().with { $0.filtering = .endpointIndependent }
    package static let noUDP = Firewall().with { $0.passesUDP = false }
    /// Nothing but TCP to port 443.
    package static let httpsOnly = Firewall.noUDP.with { $0.tcpPorts = [443] }

    package func with(_ change: (inout Firewall) -> Void) -> Firewall {
        var copy = self
        change(&copy)
        return copy
    }

    package func passes(_ transport: Transport?, remotePort: UInt16) -> Bool {
        switch transport {
        case .udp: passesUDP
        case .tcp: tcpPorts?.contains(remotePort) ?? true
        case nil: true
        }
    }

    /// The same as a translator's behaviour that changes no address.
    var behavior: NATBehavior {
        NATBehavior(mapping: .endpointIndependent, filtering: filtering).with {
            $0.udpLifetimeSeconds = udpLifetimeSeconds
            $0.tcpEstablishedSeconds = tcpEstablishedSeconds
            ($0.unsolicitedTCP, $0.unsolicitedUDP) = (unsolicited, unsolicited)
        }
    }
}
