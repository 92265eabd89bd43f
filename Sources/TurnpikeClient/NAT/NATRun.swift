import Traversal

/// One `BehaviourDiscovery` with its sockets.
final class NATRun {
    private let network: any ClientNetwork
    private var receive: ((NATReport) -> Void)?
    private var discovery: BehaviourDiscovery
    private let family: AddressFamily
    private let endpoints: [Endpoint]
    private var ports: [Int: any DatagramPort] = [:]
    private var alarm: (any Alarm)?
    private var waiting: [BehaviourDiscovery.Action] = []
    private var isPerforming = false

    /// - Parameters:
    ///   - endpoints: of one family, at least one.
    ///   - known: addresses of servers that have been reached some other way.
    ///   - receive: with the name, and again when more is known.
    init(
        _ endpoints: [Endpoint],
        known: Set<IPAddress>,
        lifetimes: NATLifetimeSearch,
        network: any ClientNetwork,
        _ receive: @escaping (NATReport) -> Void
    ) {
        self.network = network
        self.receive = receive
        self.endpoints = endpoints
        family = endpoints.first?.family ?? .ipv4
        discovery = BehaviourDiscovery(
            servers: endpoints.map { .init($0, isKnownToRun: known.contains($0.address)) },
            lifetimes: lifetimes,
            with: network.cryptography
        )
        alarm = network.alarm { [weak self] in self?.run { $0.advance(now: $1, into: &$2) } }
    }

    deinit { for port in ports.values { port.close() } }

    func begin() { run { $0.start(now: $1, into: &$2) } }

    func confirmRunning(_ address: IPAddress) {
        for endpoint in endpoints where endpoint.address == address {
            run { $0.confirmRunning(endpoint, into: &$2) }
        }
    }

    func close() {
        receive = nil
        alarm?.set(at: nil)
        alarm = nil
        for port in ports.values { port.close() }
        ports = [:]
    }

    private func run(_ body: (inout BehaviourDiscovery, UInt64, inout [BehaviourDiscovery.Action]) -> Void) {
        guard receive != nil else { return }
        body(&discovery, network.nowNanoseconds, &waiting)
        guard !isPerforming else { return }
        isPerforming = true
        var next = 0
        while next < waiting.count {
            let action = waiting[next]
            next += 1
            perform(action)
        }
        waiting.removeAll(keepingCapacity: true)
        isPerforming = false
        alarm?.set(at: discovery.nextDeadline)
    }

    private func perform(_ action: BehaviourDiscovery.Action) {
        switch action {
        case .open(let number): open(number)
        case .close(let number): ports.removeValue(forKey: number)?.close()
        case .send(let number, let destination, let bytes):
            bytes.withUnsafeBytes { ports[number]?.send($0, to: destination) }
        case .concluded(let report):
            // The connections have sockets of their own.
            ports.removeValue(forKey: 0)?.close()
            receive?(report)
        case .refined(let report): receive?(report)
        }
    }

    /// The system chooses it; but to servers of this machine it sends from another than to the world, and what is
    /// compared with their answers has to be the one.
    private var ownAddress: IPAddress {
        switch family {
        case .ipv4 where endpoints.allSatisfy { $0.address.v4 >> 24 == 127 }: IPAddress(v4: 0x7F00_0001)
        case .ipv6 where endpoints.allSatisfy { $0.address == Self.loopback }: Self.loopback
        default: .any(family)
        }
    }

    private static let loopback = IPAddress(high: 0, low: 1)

    private func open(_ number: Int) {
        let port = try? network.openDatagrams(at: ownAddress, port: 0) { [weak self] event in
            guard let self else { return }
            switch event {
            case .datagram(let bytes, let source):
                self.run { $0.receive(bytes, on: number, from: source, now: $1, into: &$2) }
            case .unreachable, .failed: break
            }
        }
        ports[number] = port
        run { $0.opened(number, at: port?.local, now: $1, into: &$2) }
    }
}
