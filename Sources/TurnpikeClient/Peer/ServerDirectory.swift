import OpenSSLCrypto
import Signaling
import Traversal

/// The STUN and TURN servers: those of the configuration, and those that the signaling server names. It asks the ones
/// about the NAT, keeps relays on the others, and tells the gatherer of both.
final class ServerDirectory {
    private unowned let client: PeerClient
    private let contexts = SecureContexts()
    private var fromSignaling: [SignalingICEServer] = []
    private(set) var relays: RelayPool?
    private var monitor: NATMonitor?
    private var streamCheck: StreamNATCheck?
    private var streamNAT: TCPNATInfo?
    private var resolved: [NATServer: [Endpoint]] = [:]
    private var isResolving = 0
    private var bases: [UInt32: RelayWayToPool] = [:]
    private var hasRelaysSettled = false
    private var asked: [NATServer] = []
    /// Those that are asked over TCP.
    private var askedByStream: [NATServer] = []
    /// Of IPv4's NATs; nil while nothing is known.
    private(set) var natReport: NATReport?
    private(set) var nat = NATInfo(unknownBecause: "nothing was asked yet")
    private var isNATKnown = false
    private var unresolved: [String] = []

    init(_ client: PeerClient) { self.client = client }

    var natType: NATType { nat.type }

    /// What peers are told, and what is recommended by.
    var natTypeForPeers: NATType { nat.typeForPeers }

    /// How many relays can be used at once.
    var relayCount: Int { relays?.up.count ?? 0 }

    var hasRelayServers: Bool { !relayServers().isEmpty }

    /// Relays and the NAT are known to work or not.
    var isReady: Bool { isNATKnown && (hasRelaysSettled || relayCount > 0) }

    var problems: [String] { unresolved + (relays?.failures.map(\.description) ?? []) }

    func start() {
        client.gatherer.awaitsRelays = true
        relays = RelayPool(
            firstID: ClientLimits.firstRelayBase,
            network: client.network,
            contexts: contexts
        ) { [weak self] in self?.take($0) }
        relays?.keepAliveNanoseconds = min(Limits.keepAlive, client.context.keepAliveNanoseconds)
        monitor = NATMonitor(lifetimes: .forKeepAlives, network: client.network) { [weak self] in self?.take($0) }
        update()
    }

    /// What the signaling server has named, in place of what it has named before.
    func use(_ servers: [SignalingICEServer]) {
        guard client.configuration.usesServersFromSignaling, servers != fromSignaling else { return }
        fromSignaling = servers
        update()
    }

    func close() {
        for base in bases.values { client.context.router.remove(base.base) }
        bases = [:]
        relays?.close()
        monitor?.close()
        streamCheck?.close()
        (relays, monitor, streamCheck) = (nil, nil, nil)
    }

    /// This machine's addresses are others.
    func move(to addresses: [LocalAddress]) {
        relays?.move(to: addresses.map(\.address))
        monitor?.look()
        // Of a family that was of no use before.
        for server in allAsked { resolve(server) }
    }

    private var allAsked: [NATServer] { asked + askedByStream.filter { !asked.contains($0) } }

    func keepAlive(_ interval: UInt64) { relays?.keepAliveNanoseconds = min(Limits.keepAlive, interval) }

    /// What failed may work.
    func retry() { relays?.retry() }

    /// A path waits for a relay.
    func hurry() { relays?.hurry() }

    /// Whether the relays are there still.
    func check() { relays?.check() }

    private func update() {
        guard let relays, let monitor else { return }
        hasRelaysSettled = false
        relays.use(relayServers())
        let (servers, streamServers) = (stunServers(), streamServers())
        // Having nobody to ask is an answer as well.
        let isOther = servers != asked || asked.isEmpty
        guard isOther || streamServers != askedByStream else { return }
        (asked, askedByStream) = (servers, streamServers)
        if isOther {
            isNATKnown = false
            monitor.use(servers)
        }
        for server in allAsked where resolved[server] == nil { resolve(server) }
        askGatherer()
    }

    // MARK: Lists

    /// A TURN server by UDP answers Binding requests as well (RFC 8656 section 7).
    private func stunServers() -> [NATServer] {
        let named = client.configuration.stunServers + fromSignaling.flatMap(\.urls).filter { $0.hasPrefix("stun:") }
        let urls = named.compactMap { try? ServerURL($0, usual: .stun) }
        return Self.distinct(urls + plainTURNServers().filter { $0.transport != .tcp })
    }

    /// The same and those that are named for TCP alone, which come first: of the others nobody has said that they have
    /// it.
    private func streamServers() -> [NATServer] {
        let forTCP = Self.distinct(plainTURNServers().filter { $0.transport == .tcp })
        return forTCP + stunServers().filter { !forTCP.contains($0) }
    }

    private func plainTURNServers() -> [ServerURL] {
        let named = fromSignaling.flatMap(\.urls).filter { $0.hasPrefix("turn:") }
        return (client.configuration.turnServers.map(\.url) + named)
            .compactMap { try? ServerURL($0, usual: .turn) }
            .filter { $0.scheme == .turn }
    }

    private static func distinct(_ urls: [ServerURL]) -> [NATServer] {
        var servers: [NATServer] = []
        for url in urls {
            let server = NATServer(host: url.host, port: url.port)
            if !servers.contains(server) { servers.append(server) }
        }
        return servers
    }

    private func relayServers() -> [RelayServer] {
        var servers = client.configuration.turnServers.flatMap { server in
            relayServers(server.url, TURNCredential(username: server.username, password: server.password))
        }
        for server in fromSignaling {
            guard let username = server.username, let password = server.credential else { continue }
            for url in server.urls where url.hasPrefix("turn") {
                servers += relayServers(url, TURNCredential(username: username, password: password))
            }
        }
        return servers
    }

    private func relayServers(_ text: String, _ credential: TURNCredential) -> [RelayServer] {
        guard let url = try? ServerURL(text, usual: .turn) else { return [] }
        let transports: [TURNConfiguration.Transport] =
            switch (url.scheme, url.transport) {
            case (.turns, .udp): [.dtls]
            case (.turns, .tcp): [.tls]
            case (.turns, nil): [.tls, .dtls]
            case (_, .udp): [.udp]
            case (_, .tcp): [.tcp]
            case (_, nil): [.udp, .tcp]
            }
        return transports.map {
            RelayServer(
                host: url.host,
                port: url.port,
                transport: $0,
                credential: credential,
                trust: client.trust
            )
        }
    }

    // MARK: STUN

    private func resolve(_ server: NATServer) {
        isResolving += 1
        client.network.resolve(server.host) { [weak self] answer in
            guard let self else { return }
            isResolving -= 1
            switch answer {
            case .success(let addresses):
                resolved[server] = addresses.prefix(ClientLimits.addressesPerServer).map {
                    Endpoint(address: $0, port: server.port)
                }
            case .failure(let failure):
                if !unresolved.contains(failure.description), unresolved.count < ClientLimits.problems {
                    unresolved.append(failure.description)
                }
            }
            askGatherer()
        }
    }

    private func askGatherer() {
        client.gatherer.ask(
            asked.flatMap { resolved[$0] ?? [] },
            byStream: askedByStream.flatMap { resolved[$0] ?? [] },
            areAll: isResolving == 0
        )
        checkStreams()
    }

    /// Once there is a signaling server to connect back, and servers to ask; and again in another network.
    private func checkStreams() {
        guard streamCheck == nil, monitor != nil, isResolving == 0, let signaling = client.signaling, signaling.isUp
        else { return }
        // NATs are IPv4's, and what connects back does so to the address that signaling comes from.
        let endpoints = askedByStream.flatMap { resolved[$0] ?? [] }.filter { $0.family == .ipv4 }
        guard !endpoints.isEmpty else { return }
        let check = StreamNATCheck(
            endpoints,
            prober: { [weak signaling] port, done in signaling?.probe(port: port, done) },
            network: client.network
        ) { [weak self] report in
            guard let self else { return }
            streamNAT = TCPNATInfo(report)
            setNAT(nat)
        }
        streamCheck = check
        check.begin()
    }

    private func take(_ event: NATMonitor.Event) {
        guard case .changed(let findings) = event else {
            streamCheck?.close()
            (streamCheck, streamNAT) = (nil, nil)
            return checkStreams()
        }
        isNATKnown = isNATKnown || findings.isComplete
        natReport = findings.ipv4
        for session in client.sessions.values { session.punch?.update() }
        let found = findings.primary.map { NATInfo($0) } ?? NATInfo(unknownBecause: "no STUN server has answered")
        client.keepAlive(KeepAlive.interval(client.configuration.keepAliveInterval.clampedNanoseconds, findings))
        setNAT(found)
        client.finishStartIfReady()
    }

    /// The gateway has told more, or STUN servers have.
    func notePortMapping() { setNAT(nat) }

    private func setNAT(_ found: NATInfo) {
        var found = found
        found.tcp = streamNAT
        found.portMapping = client.portMappingInfo(publicIP: found.publicIP)
        var (new, old) = (found, nat)
        nat = found
        if new.portMapping?.usableEndpoint == old.portMapping?.usableEndpoint {
            // What else is known of gateways by and by is no change that anybody waits for.
            (new.portMapping, old.portMapping) = (nil, nil)
        }
        guard new != old, !new.differsInLifetimeAlone(from: old), found.type != .unknown else { return }
        client.onEvent(.natChanged(found))
        for session in client.sessions.values where session.phase == .open { client.tellNetwork(in: session) }
    }

    // MARK: Relays

    private func take(_ event: RelayPoolEvent) {
        switch event {
        case .up(let relay): add(relay)
        case .down(let relay, _):
            guard let way = bases.removeValue(forKey: relay.id) else { return }
            client.gatherer.remove(way.base)
        case .received(let base, let bytes, let peer):
            client.context.router.receive(bytes, on: ICEBase(rawValue: base), from: peer)
        case .peerError(let base, let peer, _, _):
            client.context.router.noteUnreachable(peer, from: ICEBase(rawValue: base))
        case .settled:
            hasRelaysSettled = true
            endWait()
        case .refused(let base, let peer, _): client.refuse(peer, on: ICEBase(rawValue: base))
        case .permitted, .failed, .renewalRefused: break
        }
        client.finishStartIfReady()
    }

    private func add(_ relay: RelayBase) {
        guard let relays else { return }
        let way = RelayWayToPool(relays, relay)
        bases[relay.id] = way
        client.context.router.add(way, as: way.base)
        // The peer's relay is by the same server as a rule: what it sends is let in before its candidates are known.
        relays.permit(relay.relayed.address, at: relay.id)
        // It was reached, so silence over UDP is not its own.
        monitor?.confirmRunning(relay.serverEndpoint)
        client.gatherer.addRelay(
            way.base,
            relayed: relay.relayed,
            mapped: relay.mapped,
            server: relay.serverEndpoint.address,
            preference: Self.preference(relay.server.transport)
        )
        // More of the same kind may follow, and nobody need wait for them.
        client.gatherer.awaitsRelays = false
    }

    /// The signaling server has named its servers, or cannot be reached.
    func noteSignaling() {
        if hasRelaysSettled { endWait() }
        checkStreams()
    }

    private func endWait() {
        if !client.awaitsSignaling { client.gatherer.awaitsRelays = false }
    }

    /// UDP all the way before what has a queue in which a lost packet holds up others.
    private static func preference(_ transport: TURNConfiguration.Transport) -> UInt16 {
        switch transport {
        case .udp: 40_000
        case .dtls: 30_000
        case .tcp: 20_000
        case .tls: 10_000
        }
    }
}

/// One relayed address of the pool's.
private final class RelayWayToPool: RelayWay {
    let base: ICEBase
    private let pool: RelayPool

    init(_ pool: RelayPool, _ relay: RelayBase) {
        self.pool = pool
        base = ICEBase(rawValue: relay.id)
    }

    func send(_ bytes: UnsafeRawBufferPointer, to peer: Endpoint) {
        pool.send(bytes, from: base.rawValue, to: peer)
    }

    func permit(_ peer: IPAddress) { pool.permit(peer, at: base.rawValue) }

    func prefer(_ peer: Endpoint) { pool.bindChannel(from: base.rawValue, to: peer) }

    func release(_ peer: IPAddress) { pool.release(peer, at: base.rawValue) }
}
