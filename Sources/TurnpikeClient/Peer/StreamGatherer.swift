import Traversal

/// TCP ports on this machine's addresses, and their outside addresses: the candidates over TCP (RFC 6544 section 5.1).
/// A port listens and connects, so each of its addresses is told as one to connect to and as one that connects at the
/// same time.
final class StreamGatherer {
    private struct Port {
        let port: any StreamPort
        let base: ICEBase
        let streams: PeerStreams
        let preference: UInt16
        var query: StreamQuery?
        var askedAt: UInt64 = 0
        /// Of `servers`.
        var nextServer = 0
        var mapped: Endpoint?
        /// Who has told that.
        var server: Endpoint?
        /// No server has answered; when they are asked again, and after how long the last time.
        var retryAt: UInt64 = .max
        var pause = ClientLimits.streamQueryPause
    }

    private let network: any ClientNetwork
    private let router: PathRouter
    private unowned let gatherer: Gatherer
    private var ports: [IPAddress: Port] = [:]
    private var servers: [Endpoint] = []
    private var isStopped = false
    private lazy var alarm = network.alarm { [weak self] in self?.askAgain() }

    init(_ gatherer: Gatherer, _ network: any ClientNetwork, router: PathRouter) {
        (self.gatherer, self.network, self.router) = (gatherer, network, router)
    }

    /// No question is under way for the first time.
    var isSettled: Bool { !ports.values.contains { $0.mapped == nil && $0.query.map { !$0.isOver } ?? false } }

    /// A server that has answered by IPv4, and the address it was asked from.
    var answered: (server: Endpoint, address: IPAddress)? {
        ports.compactMap { address, port in port.server.map { (server: $0, address: address) } }
            .filter { $0.address.isIPv4 }
            .max { (ports[$0.address]?.preference ?? 0) < (ports[$1.address]?.preference ?? 0) }
    }

    /// An address that has a socket for UDP.
    /// - Parameter port: of that socket; with the same one, a rule of a firewall is easier to write.
    func open(_ address: IPAddress, port: UInt16, preference: UInt16) {
        guard !isStopped, ports[address] == nil, ports.count < ClientLimits.streamPorts,
            gatherer.candidates.count + 3 <= ClientLimits.candidatesWithStreams
        else { return }
        var receive: ((StreamPortEvent) -> Void)?
        func attempt(_ port: UInt16) throws(NetworkFailure) -> any StreamPort {
            try network.openStreams(at: address, port: port) { receive?($0) }
        }
        // One that is taken is no reason to go without.
        guard let opened = (try? attempt(port)) ?? (try? attempt(0)) else { return }
        var made: PeerStreams?
        let base = router.add { base in
            let streams = PeerStreams(opened, as: base, network, router: router)
            made = streams
            return streams
        }
        guard let streams = made else { return }
        receive = { [weak streams] event in
            switch event {
            case .accepted(let link, let source, let take): streams?.accept(link, from: source, take: take)
            case .failed: break
            }
        }
        ports[address] = Port(port: opened, base: base, streams: streams, preference: preference)
        for transport in [ICETransport.tcpSimultaneous, .tcpPassive, .tcpActive] {
            gatherer.add(
                ICELocalCandidate(
                    base: base,
                    type: .host,
                    endpoint: opened.local,
                    transport: transport,
                    localPreference: preference
                )
            )
        }
        ask(address)
    }

    func close(_ address: IPAddress) {
        guard let port = ports.removeValue(forKey: address) else { return }
        port.query?.close()
        port.streams.close()
        gatherer.remove(port.base)
    }

    /// Servers over UDP as well, since those that have both answer both.
    func use(_ servers: [Endpoint]) {
        self.servers = servers
        for (address, port) in ports where port.query == nil { ask(address) }
    }

    /// A connection is about to begin, or a path was lost: what the server saw before may have changed.
    func refresh() {
        let now = network.nowNanoseconds
        for (address, port) in ports where port.query?.isConnected != true {
            let isSoon = now &- port.askedAt < ClientLimits.streamQueryPause
            let isUnderWay = port.query.map { !$0.isOver } ?? false
            if !isUnderWay, !isSoon || port.mapped == nil { ask(address) }
        }
    }

    private func askAgain() {
        let now = network.nowNanoseconds
        for (address, port) in ports where now >= port.retryAt {
            ports[address]?.retryAt = .max
            ask(address)
        }
        setAlarm()
    }

    private func setAlarm() {
        let next = ports.values.map(\.retryAt).min() ?? .max
        alarm.set(at: next == .max ? nil : next)
    }

    func stop() {
        alarm.set(at: nil)
        isStopped = true
        for address in Array(ports.keys) { close(address) }
    }

    // MARK: Servers

    private func ask(_ address: IPAddress) {
        // A host's link reaches no server elsewhere.
        guard let port = ports[address], address.linkNumber == 0 else { return }
        let reachable = servers.filter { $0.family == address.family }
        guard !reachable.isEmpty else { return }
        let server = reachable[port.nextServer % reachable.count]
        ports[address]?.askedAt = network.nowNanoseconds
        port.query?.close()
        ports[address]?.query = StreamQuery(server, from: port.port, network) { [weak self] result in
            self?.take(result, address, server, of: reachable.count)
        }
    }

    private func take(
        _ result: Result<StreamQuery.Answer, NetworkFailure>,
        _ address: IPAddress,
        _ server: Endpoint,
        of count: Int
    ) {
        guard let port = ports[address] else { return }
        switch result {
        case .success(let answer):
            ports[address]?.pause = ClientLimits.streamQueryPause
            learn(answer.mapped, port, address, server)
        case .failure:
            // Some have no TCP; the next may.
            ports[address]?.nextServer = (port.nextServer + 1) % count
            if port.nextServer + 1 < count {
                ask(address)
            } else {
                ports[address]?.retryAt = network.nowNanoseconds &+ port.pause
                ports[address]?.pause = min(port.pause * 2, ClientLimits.longestRelayRetry)
                setAlarm()
            }
        }
        gatherer.noteStreams()
    }

    private func learn(_ mapped: Endpoint, _ port: Port, _ address: IPAddress, _ server: Endpoint) {
        ports[address]?.mapped = mapped
        ports[address]?.server = server
        // RFC 8445 section 5.1.3: one that equals its base says nothing new.
        guard mapped != port.port.local, port.mapped != mapped else { return }
        gatherer.forgetReflexive(of: port.base)
        for transport in [ICETransport.tcpSimultaneous, .tcpPassive] {
            gatherer.add(
                ICELocalCandidate(
                    base: port.base,
                    type: .serverReflexive,
                    endpoint: mapped,
                    baseEndpoint: port.port.local,
                    transport: transport,
                    server: server.address,
                    localPreference: port.preference,
                    related: port.port.local
                )
            )
        }
    }
}
