import TurnpikeClient

/// Tries whether the gateway maps a port, with sockets of its own, and takes the mapping back.
final class MappingProbe {
    private let network: any ClientNetwork
    private let onChange: () -> Void
    private var mappings: PortMappings?
    private var ports: [any DatagramPort] = []

    init(on network: any ClientNetwork, _ onChange: @escaping () -> Void) {
        (self.network, self.onChange) = (network, onChange)
    }

    func start() {
        let addresses = network.localAddresses().map(\.address).filter(\.isIPv4)
        ports = addresses.prefix(Self.sockets).compactMap { try? network.openDatagrams(at: $0, port: 0) { _ in } }
        let mappings = PortMappings(network) { [weak self] event in
            if case .changed = event { self?.onChange() }
        }
        self.mappings = mappings
        mappings.use(Set(ports.map { MappedSocket(.udp, at: $0.local) }))
    }

    var isSettled: Bool { mappings?.reports.allSatisfy(\.isSettled) ?? true }

    func result(publicIP: String?) -> PortMappingInfo? {
        let reports = mappings?.reports ?? []
        return (reports.first { !$0.mappings.isEmpty } ?? reports.first).map { PortMappingInfo($0, publicIP: publicIP) }
    }

    /// - Parameter done: called within a second.
    func stop(_ done: @escaping () -> Void) {
        let end = { [self] in
            for port in ports { port.close() }
            (ports, mappings) = ([], nil)
            done()
        }
        guard let mappings else { return end() }
        mappings.release(end)
    }

    /// One for each address, the best first.
    private static let sockets = 8
}
