import Traversal

/// A socket that peers are to reach by its gateway.
package struct MappedSocket: Hashable, Sendable {
    package var transport: InternalPort.Transport
    package var local: Endpoint

    package init(_ transport: InternalPort.Transport, at local: Endpoint) {
        (self.transport, self.local) = (transport, local)
    }
}

/// Has the gateways of this machine map ports of its sockets, as long as it runs, and takes the mappings back.
package final class PortMappings {
    package enum Event {
        /// What is sent to `external` comes to the socket.
        case mapped(MappedSocket, external: Endpoint, gateway: IPAddress)
        case unmapped(MappedSocket, gateway: IPAddress)
        /// More is known: `reports`.
        case changed
    }

    private struct Uplink: Hashable {
        let gateway: Gateway
        let local: IPAddress
    }

    private let network: any ClientNetwork
    private let receive: (Event) -> Void
    private var wanted: Set<MappedSocket> = []
    private var runs: [Uplink: PortMappingRun] = [:]
    /// They give back what they have, and are forgotten then.
    private var leaving: [PortMappingRun] = []
    private var announcements: (any DatagramPort)?
    private var alarm: (any Alarm)?
    private var released: (() -> Void)?
    private var unreleased = 0

    package init(_ network: any ClientNetwork, _ receive: @escaping (Event) -> Void) {
        self.network = network
        self.receive = receive
        alarm = network.alarm { [weak self] in self?.look() }
    }

    deinit { close() }

    /// One for each gateway, the best first.
    package var reports: [PortMappingReport] {
        let order = network.gateways().map(\.address)
        return runs.values.map(\.report).sorted {
            (order.firstIndex(of: $0.gateway) ?? order.count) < (order.firstIndex(of: $1.gateway) ?? order.count)
        }
    }

    /// Sockets of this machine, which are mapped where a gateway is on their link and their address is none that
    /// the world reaches.
    package func use(_ sockets: Set<MappedSocket>) {
        guard released == nil else { return }
        wanted = sockets
        look()
    }

    /// A way was lost, maybe with a gateway's memory.
    package func verify() {
        for run in runs.values { run.verify() }
    }

    /// Takes everything back.
    /// - Parameter done: called within a second.
    package func release(_ done: @escaping () -> Void) {
        guard released == nil else { return done() }
        alarm?.set(at: nil)
        unreleased = runs.count
        guard unreleased > 0 else { return done() }
        released = done
        for run in runs.values { run.release() }
    }

    package func close() {
        alarm?.set(at: nil)
        for run in runs.values { run.close() }
        for run in leaving { run.close() }
        (runs, leaving) = ([:], [])
        announcements?.close()
        announcements = nil
    }

    // MARK: Gateways

    private func look() {
        guard released == nil else { return }
        defer { alarm?.set(at: network.nowNanoseconds &+ ClientLimits.gatewayCheck) }
        let present = uplinks()
        for (uplink, run) in runs {
            let sockets = present[uplink] ?? []
            guard !run.asked.isSubset(of: sockets) else { continue }
            // With the way to the gateway whoever could take the mappings back is gone; a socket alone gives its back.
            runs[uplink] = nil
            for socket in run.mapped { receive(.unmapped(socket, gateway: uplink.gateway.address)) }
            if sockets.isEmpty { run.close() } else { dismiss(run) }
            receive(.changed)
        }
        for (uplink, sockets) in present {
            if runs[uplink] == nil { begin(uplink) }
            for socket in sockets { runs[uplink]?.map(socket) }
        }
    }

    /// The default routes by which sockets are reached, each with its own.
    private func uplinks() -> [Uplink: Set<MappedSocket>] {
        guard !wanted.isEmpty else { return [:] }
        let addresses = network.localAddresses()
        var found: [Uplink: Set<MappedSocket>] = [:]
        for gateway in network.gateways().prefix(ClientLimits.gateways) {
            // The first is the one that the system sends from; others of the link would lead to the same place.
            for local in addresses where local.interface == gateway.interface && local.address.isIPv4 {
                let sockets = wanted.filter { $0.local.address == local.address }
                guard !sockets.isEmpty, !local.address.isReachedFromTheWorld else { continue }
                found[Uplink(gateway: gateway, local: local.address)] = sockets
                break
            }
        }
        return found
    }

    private func dismiss(_ run: PortMappingRun) {
        leaving.append(run)
        run.onReleased = { [weak self, weak run] in
            run?.close()
            self?.leaving.removeAll { $0 === run }
        }
        run.release()
    }

    private func begin(_ uplink: Uplink) {
        listen()
        let run = PortMappingRun(network, gateway: uplink.gateway.address, local: uplink.local) { [weak self] event in
            self?.receive(event)
        }
        run.onReleased = { [weak self] in self?.noteReleased() }
        runs[uplink] = run
    }

    private func noteReleased() {
        unreleased -= 1
        guard unreleased == 0, let done = released else { return }
        close()
        done()
    }

    /// Gateways that start anew tell all hosts of their link (RFC 6887 section 14.1, RFC 6886 section 3.2.1). Where the
    /// port is not to be had their epochs tell the same, later.
    private func listen() {
        guard announcements == nil else { return }
        announcements = try? network.openShared(port: PortMappingLimits.announcementPort) { [weak self] event in
            guard let self, case .datagram(let bytes, let source) = event else { return }
            for run in runs.values { run.announced(Array(bytes), from: source) }
        }
    }
}
