import Traversal

extension PeerClient {
    /// Gateways are asked beside everything else, and nobody waits for them longer than `mappingPatience`.
    func startPortMapping() {
        guard configuration.portMapping else { return }
        portMappings = PortMappings(network) { [weak self] in self?.take($0) }
        guard !network.gateways().isEmpty else { return }
        gatherer.awaitsMappings = true
        mappingAlarm.set(at: now &+ ClientLimits.mappingPatience)
    }

    /// What the program's end gives back; the rest ends by itself.
    func releasePortMappings(_ done: @escaping () -> Void) {
        guard let portMappings else { return done() }
        portMappings.release { [weak self] in
            self?.portMappings = nil
            done()
        }
    }

    func portMappingInfo(publicIP: String?) -> PortMappingInfo? {
        let reports = portMappings?.reports ?? []
        let report = reports.first { !$0.mappings.isEmpty } ?? reports.first
        return report.map { PortMappingInfo($0, publicIP: publicIP) }
    }

    /// Sockets came or went.
    func mapPorts(after change: Gatherer.Change) {
        switch change {
        case .added(let candidate) where candidate.type == .host: break
        case .removed(let base) where base.rawValue < ClientLimits.firstRelayBase: break
        default: return
        }
        guard phase == .running else { return }
        portMappings?.use(Set(gatherer.hosts.filter { $0.address.isIPv4 }.map { MappedSocket(.udp, at: $0) }))
    }

    private func take(_ event: PortMappings.Event) {
        guard phase == .running || phase == .closing else { return }
        switch event {
        case .mapped(let socket, let external, let gateway):
            // A peer's TCP candidates are their owner's to map.
            guard socket.transport == .udp, phase == .running else { return }
            gatherer.addMapping(external, to: socket.local, by: gateway)
            gatherer.awaitsMappings = false
        case .unmapped(let socket, let gateway):
            if socket.transport == .udp { gatherer.removeMapping(of: socket.local, by: gateway) }
        case .changed: servers.notePortMapping()
        }
    }
}
