import TurnpikeClient

/// Runs one `BehaviourDiscovery` on a network: its sockets, its alarm, and its report.
final class NATSurvey {
    private let network: any ClientNetwork
    private let family: AddressFamily
    private let finish: (NATReport) -> Void
    private let waitsForLifetime: Bool
    private let servers: [Endpoint]
    private var discovery: BehaviourDiscovery
    private var ports: [Int: any DatagramPort] = [:]
    private var alarm: (any Alarm)?
    private var isOver = false

    /// - Parameter finish: called once, on the loop and not from within `start`.
    init(
        servers: [Endpoint],
        family: AddressFamily,
        measuresLifetime: Bool,
        on network: any ClientNetwork,
        _ finish: @escaping (NATReport) -> Void
    ) {
        (self.network, self.family, self.finish) = (network, family, finish)
        waitsForLifetime = measuresLifetime
        self.servers = servers
        discovery = BehaviourDiscovery(
            servers: servers.map { BehaviourDiscovery.Server($0) },
            measuresLifetime: measuresLifetime,
            with: network.cryptography
        )
    }

    func start() {
        alarm = network.alarm { [weak self] in
            self?.step { discovery, now, actions in discovery.advance(now: now, into: &actions) }
        }
        step { discovery, now, actions in discovery.start(now: now, into: &actions) }
    }

    /// Servers at these addresses have answered otherwise, so that silence by UDP is not theirs.
    func confirmRunning(at addresses: Set<IPAddress>) {
        let known = servers.filter { addresses.contains($0.address) }
        step { discovery, _, actions in
            for server in known { discovery.confirmRunning(server, into: &actions) }
        }
    }

    /// What is known so far; nothing follows.
    func stop() -> NATReport {
        close()
        return discovery.report
    }

    private func step(_ body: (inout BehaviourDiscovery, UInt64, inout [BehaviourDiscovery.Action]) -> Void) {
        guard !isOver else { return }
        var actions: [BehaviourDiscovery.Action] = []
        body(&discovery, network.nowNanoseconds, &actions)
        // Opening a socket has actions of its own.
        var index = 0
        while index < actions.count, !isOver {
            perform(actions[index], &actions)
            index += 1
        }
        if !isOver { alarm?.set(at: discovery.nextDeadline) }
    }

    private func perform(_ action: BehaviourDiscovery.Action, _ actions: inout [BehaviourDiscovery.Action]) {
        switch action {
        case .open(let number):
            let local = open(number)
            discovery.opened(number, at: local, now: network.nowNanoseconds, into: &actions)
        case .close(let number): ports.removeValue(forKey: number)?.close()
        case .send(let number, let destination, let bytes):
            bytes.withUnsafeBytes { ports[number]?.send($0, to: destination) }
        case .concluded(let report): if !waitsForLifetime { end(report) }
        case .refined(let report): if waitsForLifetime { end(report) }
        }
    }

    private func open(_ number: Int) -> Endpoint? {
        do throws(NetworkFailure) {
            let port = try network.openDatagrams(at: ownAddress, port: 0) { [weak self] event in
                guard case .datagram(let bytes, let source) = event else { return }
                self?.step { discovery, now, actions in
                    discovery.receive(bytes, on: number, from: source, now: now, into: &actions)
                }
            }
            ports[number] = port
            return port.local
        } catch {
            return nil
        }
    }

    /// The system chooses the address; for a server on this machine it would be another than it sends from.
    private var ownAddress: IPAddress {
        let areHere = servers.allSatisfy { $0.address.isOfThisMachine }
        return areHere && family == .ipv4 ? IPAddress(v4: 0x7F00_0001) : areHere ? IPAddress(high: 0, low: 1) : .any(family)
    }

    private func end(_ report: NATReport) {
        close()
        finish(report)
    }

    private func close() {
        guard !isOver else { return }
        isOver = true
        alarm?.set(at: nil)
        for port in ports.values { port.close() }
        ports = [:]
    }
}

extension IPAddress {
    /// A loopback address.
    fileprivate var isOfThisMachine: Bool { isIPv4 ? v4 >> 24 == 127 : high == 0 && low == 1 }
}
