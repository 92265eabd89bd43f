import Traversal

/// One `PortMapper` with its sockets.
final class PortMappingRun {
    var onReleased: () -> Void = {}

    private(set) var asked: Set<MappedSocket> = []

    private let network: any ClientNetwork
    private let local: IPAddress
    private var receive: ((PortMappings.Event) -> Void)?
    private var mapper: PortMapper
    private var port: (any DatagramPort)?
    private var links: [Int: any StreamLink] = [:]
    private var alarm: (any Alarm)?
    private var waiting: [PortMappingAction] = []
    private var isPerforming = false
    private var told: PortMappingReport?
    private var external: Set<InternalPort> = []

    /// - Parameter local: this machine's address on the gateway's link.
    init(
        _ network: any ClientNetwork,
        gateway: IPAddress,
        local: IPAddress,
        _ receive: @escaping (PortMappings.Event) -> Void
    ) {
        (self.network, self.local, self.receive) = (network, local, receive)
        mapper = PortMapper(gateway: gateway, client: local, with: network.cryptography)
        alarm = network.alarm { [weak self] in self?.run { $0.advance(now: $1, into: &$2) } }
        port = try? network.openDatagrams(at: local, port: 0) { [weak self] event in self?.take(event) }
    }

    var report: PortMappingReport { mapper.report }

    /// The sockets that have a mapping.
    var mapped: [MappedSocket] { external.map(socket) }

    func map(_ socket: MappedSocket) {
        guard asked.insert(socket).inserted else { return }
        run { $0.map(InternalPort(socket.transport, socket.local.port), now: $1, into: &$2) }
    }

    func announced(_ bytes: [UInt8], from source: Endpoint) {
        run { $0.announced(bytes, from: source, now: $1, into: &$2) }
    }

    func verify() { run { $0.verify(now: $1, into: &$2) } }

    func release() { run { $0.release(now: $1, into: &$2) } }

    func close() {
        receive = nil
        alarm?.set(at: nil)
        alarm = nil
        port?.close()
        port = nil
        for link in links.values { link.close() }
        links = [:]
    }

    private func take(_ event: DatagramEvent) {
        guard case .datagram(let bytes, let source) = event else { return }
        run { $0.receive(Array(bytes), from: source, now: $1, into: &$2) }
    }

    private func run(_ body: (inout PortMapper, UInt64, inout [PortMappingAction]) -> Void) {
        guard receive != nil else { return }
        body(&mapper, network.nowNanoseconds, &waiting)
        guard !isPerforming else { return }
        isPerforming = true
        var next = 0
        while next < waiting.count, receive != nil {
            let action = waiting[next]
            next += 1
            perform(action)
        }
        waiting.removeAll(keepingCapacity: true)
        isPerforming = false
        guard let receive else { return }
        alarm?.set(at: mapper.nextDeadline)
        let report = mapper.report
        guard report != told else { return }
        told = report
        receive(.changed)
    }

    private func perform(_ action: PortMappingAction) {
        switch action {
        case .send(let bytes, let destination): bytes.withUnsafeBytes { port?.send($0, to: destination) }
        case .exchange(let number, let endpoint, let request): open(number, endpoint, request)
        case .abandon(let number): links.removeValue(forKey: number)?.close()
        case .granted(let mapping):
            external.insert(mapping.port)
            receive?(.mapped(socket(mapping.port), external: mapping.external, gateway: mapper.gateway))
        case .lost(let port):
            external.remove(port)
            receive?(.unmapped(socket(port), gateway: mapper.gateway))
        case .released: onReleased()
        }
    }

    private func socket(_ port: InternalPort) -> MappedSocket {
        MappedSocket(port.transport, at: Endpoint(address: local, port: port.port))
    }

    private func open(_ number: Int, _ endpoint: Endpoint, _ request: [UInt8]) {
        links[number] = network.connect(to: endpoint) { [weak self] event in
            guard let self else { return }
            switch event {
            case .opened: request.withUnsafeBytes { self.links[number]?.send($0) }
            case .bytes(let bytes): run { $0.answered(number, bytes, now: $1, into: &$2) }
            case .closed:
                links[number] = nil
                run { $0.closed(number, now: $1, into: &$2) }
            case .writable: break
            }
        }
    }
}
