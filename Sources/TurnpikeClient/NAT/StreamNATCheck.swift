import Signaling
import Traversal

/// Finds out what the NATs on the way do with TCP: from one port it asks a server at both its addresses, and on another
/// one it listens while the server connects to it. Some seconds, and four connections. Where each destination sees
/// another port, five more show how those are given out.
package final class StreamNATCheck {
    /// Asks the signaling server to connect to a port of ours.
    package typealias Prober = (
        _ port: UInt16, _ done: @escaping (Result<SignalingProbe, SignalingError>) -> Void
    ) -> Void

    private let network: any ClientNetwork
    private let servers: [Endpoint]
    private let prober: Prober?
    private var finish: ((StreamNATReport) -> Void)?
    private var report = StreamNATReport()
    /// One to be asked from, and one to be connected to.
    private var ports: [any StreamPort] = []
    private var queries: [StreamQuery] = []
    private var seen: [Endpoint?] = [nil, nil, nil]
    private var samples: [(local: UInt16, mapped: UInt16)] = []
    private var unanswered = 0
    private var isMappingOver = false
    private var isProbeOver = false

    /// - Parameters:
    ///   - servers: for STUN over TCP, of one family; the first that answers is the one.
    ///   - prober: nil where there is no signaling server.
    ///   - finish: called once.
    package init(
        _ servers: [Endpoint],
        prober: Prober?,
        network: any ClientNetwork,
        _ finish: @escaping (StreamNATReport) -> Void
    ) {
        (self.servers, self.prober, self.network, self.finish) = (servers, prober, network, finish)
    }

    deinit { close() }

    package func begin() {
        guard let server = servers.first, let own = ownAddress(server.family) else {
            return endAll("there is no server to ask over TCP, or no address to ask from")
        }
        for _ in 0..<2 {
            // Who connects learns that the connection stands, and is sent nothing.
            if let port = try? network.openStreams(at: own, port: 0, { _ in }) { ports.append(port) }
        }
        guard ports.count == 2 else { return endAll("no TCP port could be opened") }
        ask(0)
    }

    /// Tells what is known, and of the rest that it took too long.
    func conclude(because reason: String) {
        if !isMappingOver { report.mapping = .undetermined(reason) }
        if !isProbeOver { report.unsolicited = .undetermined(reason) }
        (isMappingOver, isProbeOver) = (true, true)
        conclude()
    }

    /// Ends it where nothing was heard yet.
    func giveUpOnTheSilent() {
        if report.mapped == nil { conclude(because: Self.silence) }
    }

    package func close() {
        finish = nil
        for query in queries { query.close() }
        for port in ports { port.close() }
        (queries, ports) = ([], [])
    }

    private func ownAddress(_ family: AddressFamily) -> IPAddress? {
        let loopback = family == .ipv4 ? IPAddress(v4: 0x7F00_0001) : IPAddress(high: 0, low: 1)
        let isHere = servers.first.map { $0.address == loopback || $0.address.isIPv4 && $0.address.v4 >> 24 == 127 }
        if isHere == true { return loopback }
        return network.localAddresses().map(\.address).first { $0.family == family && $0.linkNumber == 0 }
    }

    // MARK: Mapping

    private func ask(_ index: Int) {
        guard index < servers.count, index < ClientLimits.streamServersAsked else {
            return endAll(Self.silence)
        }
        let server = servers[index]
        query(server, from: 0) { [weak self] result in
            guard let self else { return }
            guard case .success(let answer) = result else { return ask(index + 1) }
            report.local = ports.first?.local
            report.mapped = answer.mapped
            seen[0] = answer.mapped
            probe(server)
            askElsewhere(server, answer.other)
        }
    }

    private func query(
        _ server: Endpoint,
        from port: Int,
        _ done: @escaping (Result<StreamQuery.Answer, NetworkFailure>) -> Void
    ) {
        guard ports.indices.contains(port) else { return }
        queries.append(StreamQuery(server, from: ports[port], network, done))
    }

    private func askElsewhere(_ server: Endpoint, _ other: Endpoint?) {
        guard let other, other.address != server.address else {
            report.mapping = .undetermined("it takes a server with two addresses")
            return endMapping()
        }
        unanswered = 2
        for (index, target) in [Endpoint(address: other.address, port: server.port), other].enumerated() {
            query(target, from: 0) { [weak self] result in
                guard let self else { return }
                if case .success(let answer) = result { seen[index + 1] = answer.mapped }
                unanswered -= 1
                if unanswered == 0 { compare(server) }
            }
        }
    }

    private func compare(_ server: Endpoint) {
        if let first = seen[0], let second = seen[1], let third = seen[2] {
            report.mapping = .determined(StreamNATReport.mapping(first, second, third))
        } else if let first = seen[0], let other = seen[1] ?? seen[2], first != other {
            report.mapping = .determined(.endpointDependent)
        } else {
            report.mapping = .undetermined("the server does not answer over TCP at its second address")
        }
        if report.mapping.value?.isIndependent == false { sample(server) } else { endMapping() }
    }

    /// From one fresh port after the other.
    private func sample(_ server: Endpoint) {
        guard samples.count < StreamNATReport.allocationSamples, let own = ports.first?.local.address,
            let port = try? network.openStreams(at: own, port: 0, { _ in })
        else { return endMapping() }
        ports.append(port)
        query(server, from: ports.count - 1) { [weak self] result in
            guard let self else { return }
            guard case .success(let answer) = result else { return endMapping() }
            samples.append((port.local.port, answer.mapped.port))
            sample(server)
        }
    }

    private func endMapping() {
        report.allocation = StreamNATReport.allocation(samples, others: seen.compactMap { $0?.port })
        isMappingOver = true
        conclude()
    }

    // MARK: Unsolicited connections

    /// From a port of its own, so that the NAT has seen nothing go to where the connection comes from.
    private func probe(_ server: Endpoint) {
        guard let prober else { return endProbe(.undetermined("there is no signaling server to connect from")) }
        query(server, from: 1) { [weak self] result in
            guard let self else { return }
            guard case .success(let answer) = result else {
                return endProbe(.undetermined("the server did not answer twice over TCP"))
            }
            prober(answer.mapped.port) { [weak self] result in
                self?.endProbe(Self.verdict(result, mapped: answer.mapped, server: server))
            }
        }
    }

    private static func verdict(
        _ result: Result<SignalingProbe, SignalingError>,
        mapped: Endpoint,
        server: Endpoint
    ) -> Determination<UnsolicitedStream> {
        switch result {
        case .failure(let error): return .undetermined("the signaling server did not connect: \(error.description)")
        case .success(let probe):
            guard probe.outcome != .impossible, let address = probe.address else {
                return .undetermined("the signaling server does not know this host's address, or has no way to it")
            }
            guard AddressText.address(address) == mapped.address else {
                return .undetermined("the signaling server knows this host by another address, \(address)")
            }
            if probe.outcome == .accepted, probe.from.flatMap({ AddressText.address($0) }) == server.address {
                return .undetermined("the server connected from an address that was spoken with; it has no second one")
            }
            return UnsolicitedStream(rawValue: probe.outcome.rawValue).map { .determined($0) }
                ?? .undetermined("the signaling server's answer is not known")
        }
    }

    private func endProbe(_ verdict: Determination<UnsolicitedStream>) {
        report.unsolicited = verdict
        isProbeOver = true
        conclude()
    }

    // MARK: The end

    private static let silence = "no STUN server has answered over TCP"

    private func endAll(_ reason: String) {
        (report.mapping, report.unsolicited) = (.undetermined(reason), .undetermined(reason))
        (isMappingOver, isProbeOver) = (true, true)
        conclude()
    }

    private func conclude() {
        guard isMappingOver, isProbeOver, let finish else { return }
        let report = report
        close()
        finish(report)
    }
}
