import Traversal

/// Finds the addresses that peers may reach this host by, and keeps them: sockets on its own addresses, and the outside
/// addresses that STUN servers see of those. Relays are added by their owner. All connections share them, so a new one
/// begins with what is known.
final class Gatherer {
    enum Change {
        case added(ICELocalCandidate)
        /// The socket or relay is gone, with all its candidates.
        case removed(ICEBase)
        /// The NAT that the socket at this address is behind has another address than before: what stood through it is
        /// over.
        case renumbered(IPAddress)
        /// Whatever is found from here on was not to be expected.
        case completed
    }

    private struct Socket {
        let port: any DatagramPort
        let base: ICEBase
        let address: IPAddress
        let preference: UInt16
        var reflexive: Endpoint?
        /// What the gateway maps to it.
        var mapping: (external: Endpoint, gateway: IPAddress)?
    }

    private(set) var candidates: [ICELocalCandidate] = []
    private(set) var isComplete = false
    /// What could not be had, for a person.
    private(set) var problems: [String] = []
    /// Relays are under way: the search is not over before they are.
    var awaitsRelays = false {
        didSet { if !awaitsRelays { completeIfDone() } }
    }

    /// Gateways are asked for mappings: the search waits a moment for them.
    var awaitsMappings = false {
        didSet { if !awaitsMappings { completeIfDone() } }
    }

    private let network: any ClientNetwork
    private let router: PathRouter
    private let localPort: UInt16
    /// Until a mapping is used again.
    var keepAlive: UInt64 {
        didSet { if keepAlive < oldValue { keepSooner() } }
    }
    private let onChange: (Change) -> Void
    private var sockets: [IPAddress: Socket] = [:]
    private var servers: [Endpoint] = []
    private var streamServers: [Endpoint] = []
    private var awaitsServers = true
    private var queries: [ReflexiveQuery] = []
    private var completeBy: UInt64 = .max
    private var nextAskAgain: UInt64 = 0
    private lazy var streams = StreamGatherer(self, network, router: router)
    private lazy var alarm = network.alarm { [weak self] in self?.advance() }

    init(
        _ network: any ClientNetwork,
        router: PathRouter,
        localPort: UInt16,
        keepAliveNanoseconds: UInt64,
        onChange: @escaping (Change) -> Void
    ) {
        self.network = network
        self.router = router
        self.localPort = localPort
        keepAlive = keepAliveNanoseconds
        self.onChange = onChange
    }

    func start() {
        completeBy = network.nowNanoseconds &+ ClientLimits.gatheringTime
        openSockets()
        setAlarm()
    }

    /// The STUN servers' addresses. They may come again, with more of them.
    /// - Parameter byStream: those that are asked over TCP.
    func ask(_ found: [Endpoint], byStream: [Endpoint], areAll: Bool) {
        let fresh = found.filter { !servers.contains($0) }.prefix(ClientLimits.stunServers - servers.count)
        servers += fresh
        for socket in sockets.values {
            for server in fresh { query(socket, server) }
        }
        let others = byStream.filter { !streamServers.contains($0) }
            .prefix(ClientLimits.stunServers - streamServers.count)
        streamServers += others
        if !others.isEmpty { streams.use(streamServers) }
        if areAll { awaitsServers = false }
        completeIfDone()
        setAlarm()
    }

    /// This machine's addresses may be others: sockets of those that are gone go too, and new ones get theirs.
    func look() {
        guard completeBy < .max else { return }
        openSockets()
        setAlarm()
    }

    /// A path was lost, maybe because a NAT has forgotten its mappings: what the servers see is asked for at once.
    func askAgain() {
        let now = network.nowNanoseconds
        guard now >= nextAskAgain else { return }
        nextAskAgain = now &+ ClientLimits.askAgainPause
        for index in queries.indices { queries[index].hurry(now: now) }
        setAlarm()
    }

    func addRelay(_ base: ICEBase, relayed: Endpoint, mapped: Endpoint, server: IPAddress, preference: UInt16) {
        add(
            ICELocalCandidate(
                base: base,
                type: .relayed,
                endpoint: relayed,
                server: server,
                localPreference: preference,
                related: mapped
            )
        )
    }

    /// The sockets that peers reach, each by its own address.
    var hosts: [Endpoint] { sockets.values.map(\.port.local) }

    /// The gateway gives what is sent to `external` to the socket at `local` (RFC 6887). For ICE that is one more
    /// address which a server has told. Where STUN servers see this host at another address the gateway is behind a NAT
    /// itself, and what it maps leads nowhere.
    func addMapping(_ external: Endpoint, to local: Endpoint, by gateway: IPAddress) {
        removeMapping(of: local, by: gateway)
        guard let socket = sockets.values.first(where: { $0.port.local == local }) else { return }
        sockets[socket.address]?.mapping = (external, gateway)
        guard external.address.isReachedFromTheWorld, socket.reflexive.map({ $0.address == external.address }) ?? true,
            // The NAT may keep the port, and have told it by STUN.
            !candidates.contains(where: { $0.base == socket.base && $0.endpoint == external })
        else { return }
        add(
            ICELocalCandidate(
                base: socket.base,
                type: .serverReflexive,
                endpoint: external,
                baseEndpoint: local,
                server: gateway,
                localPreference: socket.preference,
                related: local
            )
        )
    }

    /// Connections from here on are not told of it.
    func removeMapping(of local: Endpoint, by gateway: IPAddress) {
        // What STUN servers have told as well is still so.
        let reflexive = sockets.values.first { $0.port.local == local }?.reflexive
        candidates.removeAll {
            $0.type == .serverReflexive && $0.server == gateway && $0.baseEndpoint == local && $0.endpoint != reflexive
        }
    }

    func remove(_ base: ICEBase) {
        router.remove(base)
        candidates.removeAll { $0.base == base }
        onChange(.removed(base))
    }

    func stop() {
        alarm.set(at: nil)
        for socket in sockets.values {
            router.remove(socket.base)
            socket.port.close()
        }
        streams.stop()
        (sockets, queries, candidates) = ([:], [], [])
        completeBy = .max
    }

    private func keepSooner() {
        for index in queries.indices { queries[index].keepSooner(now: network.nowNanoseconds, keepAlive) }
        setAlarm()
    }

    // MARK: Sockets

    private func openSockets() {
        let addresses = Array(network.localAddresses().map(\.address).prefix(ClientLimits.hostSockets))
        for (address, socket) in sockets where !addresses.contains(address) {
            sockets[address] = nil
            streams.close(address)
            queries.removeAll { $0.base == socket.base }
            socket.port.close()
            remove(socket.base)
        }
        let preferences = AddressOrder.preferences(addresses)
        for (address, preference) in zip(addresses, preferences) where sockets[address] == nil {
            open(address, preference)
        }
    }

    private func open(_ address: IPAddress, _ preference: UInt16) {
        var receive: ((DatagramEvent) -> Void)?
        let port: any DatagramPort
        do throws(NetworkFailure) {
            port = try network.openDatagrams(at: address, port: localPort) { receive?($0) }
        } catch {
            // It has gone, or is not there yet: IPv6 looks for others that have it (RFC 4862 section 5.4).
            if error.reason != .addressUnavailable { note(error.description) }
            return
        }
        let base = router.add(port)
        receive = { [weak self] event in self?.take(event, base, address) }
        let socket = Socket(port: port, base: base, address: address, preference: preference)
        sockets[address] = socket
        add(ICELocalCandidate(base: base, type: .host, endpoint: port.local, localPreference: preference))
        for server in servers { query(socket, server) }
        streams.open(address, port: port.local.port, preference: preference)
    }

    private func take(_ event: DatagramEvent, _ base: ICEBase, _ address: IPAddress) {
        switch event {
        case .datagram(let bytes, let source):
            if !takeAnswer(bytes, base, source) { router.receive(bytes, on: base, from: source) }
        case .unreachable(let peer): router.noteUnreachable(peer, from: base)
        case .failed(let failure):
            note(failure.description)
            guard let socket = sockets.removeValue(forKey: address) else { return }
            queries.removeAll { $0.base == base }
            socket.port.close()
            streams.close(address)
            remove(base)
        }
    }

    private func note(_ problem: String) {
        if !problems.contains(problem), problems.count < ClientLimits.problems { problems.append(problem) }
    }

    // MARK: Servers

    private func query(_ socket: Socket, _ server: Endpoint) {
        guard socket.address.family == server.family else { return }
        // A host's link reaches no server elsewhere.
        if socket.address.linkNumber != 0 { return }
        queries.append(ReflexiveQuery(base: socket.base, server: server, now: network.nowNanoseconds))
        send(queries.count - 1)
    }

    private func send(_ index: Int) {
        let bytes = queries[index].request(now: network.nowNanoseconds, network.cryptography)
        guard let socket = sockets.values.first(where: { $0.base == queries[index].base }) else { return }
        bytes.withUnsafeBytes { socket.port.send($0, to: queries[index].server) }
    }

    private func takeAnswer(_ bytes: UnsafeRawBufferPointer, _ base: ICEBase, _ source: Endpoint) -> Bool {
        guard Demultiplexer.kind(bytes) == .stun else { return false }
        let plain = Endpoint(address: source.address.withoutLink, port: source.port)
        for index in queries.indices where queries[index].base == base && queries[index].server == plain {
            guard let answer = queries[index].take(bytes, now: network.nowNanoseconds, keepAlive) else { continue }
            if case .mapped(let mapped) = answer { learn(mapped, base, plain) }
            completeIfDone()
            setAlarm()
            return true
        }
        return false
    }

    private func learn(_ mapped: Endpoint, _ base: ICEBase, _ server: Endpoint) {
        guard let socket = sockets.values.first(where: { $0.base == base }) else { return }
        sockets[socket.address]?.reflexive = mapped
        if let mapping = socket.mapping, mapping.external.address != mapped.address {
            removeMapping(of: socket.port.local, by: mapping.gateway)
        }
        let isKnown = candidates.contains { $0.base == base && $0.endpoint == mapped }
        // RFC 8445 section 5.1.3: one that equals its base says nothing new.
        guard mapped != socket.port.local, !isKnown else { return }
        // The NAT has rebound: the address before leads nowhere.
        func isBefore(_ candidate: ICELocalCandidate) -> Bool {
            candidate.type == .serverReflexive && candidate.base == base && candidate.server == server.address
        }
        let wasElsewhere = candidates.contains { isBefore($0) && $0.endpoint.address != mapped.address }
        candidates.removeAll(where: isBefore)
        // First, so that peers are told by a connection that works.
        if wasElsewhere { onChange(.renumbered(socket.address)) }
        add(
            ICELocalCandidate(
                base: base,
                type: .serverReflexive,
                endpoint: mapped,
                baseEndpoint: socket.port.local,
                server: server.address,
                localPreference: socket.preference,
                related: socket.port.local
            )
        )
    }

    func add(_ candidate: ICELocalCandidate) {
        guard candidates.count < ICELimits.localCandidates else { return }
        candidates.append(candidate)
        onChange(.added(candidate))
    }

    // MARK: TCP

    /// A connection begins: what is known of the ports for TCP may be old.
    func refreshStreams() { streams.refresh() }

    func noteStreams() { completeIfDone() }

    /// A server that has answered over TCP by IPv4, and where it was asked from.
    var streamServer: (server: Endpoint, address: IPAddress)? { streams.answered }

    /// The NAT has rebound.
    func forgetReflexive(of base: ICEBase) {
        candidates.removeAll { $0.type == .serverReflexive && $0.base == base }
    }

    // MARK: Time

    private func advance() {
        let now = network.nowNanoseconds
        for index in queries.indices where now >= queries[index].due {
            if queries[index].isExhausted {
                note(
                    "the STUN server \(AddressText.text(queries[index].server)) does not answer over UDP; check its "
                        + "address, and that no firewall drops UDP"
                )
            }
            send(index)
        }
        completeIfDone()
        setAlarm()
    }

    private func completeIfDone() {
        guard !isComplete, completeBy < .max else { return }
        let isWaiting =
            awaitsServers || awaitsRelays || awaitsMappings || queries.contains { $0.isFresh } || !streams.isSettled
        guard !isWaiting || network.nowNanoseconds >= completeBy else { return }
        isComplete = true
        onChange(.completed)
    }

    private func setAlarm() {
        var next = UInt64.max
        for query in queries { next = min(next, query.due) }
        if !isComplete { next = min(next, completeBy) }
        alarm.set(at: next == .max ? nil : next)
    }
}
