import STUN

/// Has one gateway map ports of this host by whatever it speaks: PCP, NAT-PMP or UPnP. It asks by all of them at once,
/// maps by the first that does, and finds out about the others.
///
/// The caller has a socket at `client`, from which `send` goes and to which answers come, opens TCP connections for
/// `exchange`, and hands over what comes. Mappings are granted and lost as time goes on; `report` says what is known.
package struct PortMapper {
    package let gateway: IPAddress
    /// This host's address on the gateway's link. Both are of IPv4: IPv6 has no NAT to map at.
    package let client: IPAddress

    private var datagrams: GatewayMapper
    private var upnp: UPnPMapper
    private var mappings: [InternalPort: PortMapping] = [:]
    private var startedAt: UInt64?
    private var unreleased = 0

    package init(gateway: IPAddress, client: IPAddress, with cryptography: any Cryptography) {
        (self.gateway, self.client) = (gateway, client)
        datagrams = GatewayMapper(gateway: gateway, client: client, with: cryptography)
        upnp = UPnPMapper(gateway: gateway, client: client, with: cryptography)
    }

    package var report: PortMappingReport {
        var report = PortMappingReport(gateway: gateway)
        datagrams.fill(&report)
        report.upnp = upnp.availability
        report.externalAddress = report.externalAddress ?? upnp.external
        report.mappings = mappings.values.sorted {
            ($0.port.port, $0.port.transport.rawValue) < ($1.port.port, $1.port.transport.rawValue)
        }
        return report
    }

    package var nextDeadline: UInt64? {
        var next = min(datagrams.nextDeadline ?? .max, upnp.nextDeadline ?? .max)
        if let startedAt, !upnp.isWanted, !upnp.isReleasing, mappings.isEmpty {
            for patience in [PortMappingLimits.datagramPatience, PortMappingLimits.answeredPatience] {
                let time = startedAt.addingSaturated(patience)
                if time > lastAt { next = min(next, time) }
            }
        }
        return next == .max ? nil : next
    }

    /// When it was called last.
    private var lastAt: UInt64 = 0

    package mutating func map(_ port: InternalPort, now: UInt64, into actions: inout [PortMappingAction]) {
        if startedAt == nil { startedAt = now }
        datagrams.map(port, now: now)
        upnp.map(port, now: now)
        advance(now: now, into: &actions)
    }

    package mutating func advance(now: UInt64, into actions: inout [PortMappingAction]) {
        run(now, &actions) { datagrams, upnp, now, made in
            datagrams.advance(now: now, into: &made)
            upnp.advance(now: now, into: &made)
        }
    }

    /// Takes a datagram that came to the socket.
    package mutating func receive(
        _ bytes: [UInt8],
        from source: Endpoint,
        now: UInt64,
        into actions: inout [PortMappingAction]
    ) {
        let server = Endpoint(address: gateway, port: PortMappingLimits.serverPort)
        run(now, &actions) { datagrams, upnp, now, made in
            if source == server {
                datagrams.receive(bytes, isAnnouncement: false, now: now, into: &made)
            } else {
                upnp.receive(bytes, from: source.address, now: now, into: &made)
            }
        }
    }

    /// Takes a datagram that came to `PortMappingLimits.announcementPort`.
    package mutating func announced(
        _ bytes: [UInt8],
        from source: Endpoint,
        now: UInt64,
        into actions: inout [PortMappingAction]
    ) {
        guard source == Endpoint(address: gateway, port: PortMappingLimits.serverPort) else { return }
        run(now, &actions) { datagrams, _, now, made in
            datagrams.receive(bytes, isAnnouncement: true, now: now, into: &made)
        }
    }

    package mutating func answered(
        _ exchange: Int,
        _ bytes: UnsafeRawBufferPointer,
        now: UInt64,
        into actions: inout [PortMappingAction]
    ) {
        run(now, &actions) { _, upnp, now, made in upnp.answered(exchange, bytes, now: now, into: &made) }
    }

    package mutating func closed(_ exchange: Int, now: UInt64, into actions: inout [PortMappingAction]) {
        run(now, &actions) { _, upnp, now, made in upnp.closed(exchange, now: now, into: &made) }
    }

    /// Something is amiss: what is mapped is asked for again, if the gateway has forgotten it.
    package mutating func verify(now: UInt64, into actions: inout [PortMappingAction]) {
        run(now, &actions) { datagrams, upnp, now, made in
            datagrams.verify(now: now)
            upnp.verify(now: now)
            datagrams.advance(now: now, into: &made)
            upnp.advance(now: now, into: &made)
        }
    }

    /// Gives everything back; `released` follows within a second.
    package mutating func release(now: UInt64, into actions: inout [PortMappingAction]) {
        guard unreleased == 0 else { return }
        unreleased = 2
        run(now, &actions) { datagrams, upnp, now, made in
            datagrams.release(now: now, into: &made)
            upnp.release(now: now, into: &made)
        }
    }

    private mutating func run(
        _ now: UInt64,
        _ actions: inout [PortMappingAction],
        _ body: (inout GatewayMapper, inout UPnPMapper, UInt64, inout [PortMappingAction]) -> Void
    ) {
        lastAt = now
        var made: [PortMappingAction] = []
        body(&datagrams, &upnp, now, &made)
        take(made, &actions)
        decide(now, &actions)
    }

    /// UPnP maps where the others have not: it is the slowest, and mostly has no lease that ends by itself.
    private mutating func decide(_ now: UInt64, _ actions: inout [PortMappingAction]) {
        guard let startedAt, unreleased == 0 else { return }
        let others = mappings.filter { $0.value.by != .upnp }.mapValues(\.external.port)
        // Who has answered is about to map.
        let patience =
            datagrams.isAnswering ? PortMappingLimits.answeredPatience : PortMappingLimits.datagramPatience
        let isTime = now >= startedAt.addingSaturated(patience) || datagrams.hasFailed
        let isWanted = isTime && others.isEmpty
        let isNew = upnp.isWanted != isWanted
        upnp.want(isWanted, besides: others)
        guard isNew else { return }
        var made: [PortMappingAction] = []
        upnp.advance(now: now, into: &made)
        take(made, &actions)
    }

    private mutating func take(_ made: [PortMappingAction], _ actions: inout [PortMappingAction]) {
        for action in made {
            switch action {
            case .granted(let mapping):
                // What both have mapped stays with the first protocol until UPnP's is taken back.
                if mapping.by == .upnp, let known = mappings[mapping.port], known.by != .upnp { continue }
                mappings[mapping.port] = mapping
            case .lost(let port): mappings[port] = nil
            case .released:
                unreleased -= 1
                if unreleased > 0 { continue }
                mappings = [:]
            case .send, .exchange, .abandon: break
            }
            actions.append(action)
        }
    }
}
