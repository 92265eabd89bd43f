import Traversal

/// What ports a NAT that counts gives to the connections that begin at one moment: a server is asked over TCP from a
/// fresh port a little before that moment and from another one a little later, and what lies between the two answers is
/// theirs.
final class StreamAim {
    /// Whom to ask, and how the NAT counts.
    struct Facts {
        var server: Endpoint
        /// Ports are opened there.
        var address: IPAddress
        /// Nil where what the NAT does with TCP is not known yet: ports that come close together were counted.
        var step: Int?
    }

    private let facts: Facts
    private let network: any ClientNetwork
    private let moment: UInt64
    private let isWanted: () -> Bool
    private var finish: ((IPAddress, [UInt16]) -> Void)?
    private var ports: [any StreamPort] = []
    private var queries: [StreamQuery] = []
    private var seen: [Endpoint?] = [nil, nil]
    private var unanswered = 2
    private lazy var alarm = network.alarm { [weak self] in self?.advance() }

    /// - Parameters:
    ///   - moment: when the connections begin.
    ///   - isWanted: asked shortly before it.
    ///   - finish: called once at most, with the likeliest ports first.
    init(
        _ facts: Facts,
        around moment: UInt64,
        _ network: any ClientNetwork,
        isWanted: @escaping () -> Bool,
        _ finish: @escaping (IPAddress, [UInt16]) -> Void
    ) {
        (self.facts, self.moment, self.network) = (facts, moment, network)
        (self.isWanted, self.finish) = (isWanted, finish)
        alarm.set(at: moment &- min(moment, ClientLimits.aimMargin))
    }

    deinit { close() }

    func close() {
        finish = nil
        alarm.set(at: nil)
        for query in queries { query.close() }
        for port in ports { port.close() }
        (queries, ports) = ([], [])
    }

    private func advance() {
        guard finish != nil, queries.count < seen.count, isWanted() else { return }
        ask(queries.count)
        if queries.count < seen.count { alarm.set(at: moment &+ ClientLimits.aimMargin) }
    }

    private func ask(_ index: Int) {
        guard let port = try? network.openStreams(at: facts.address, port: 0, { _ in }) else { return close() }
        ports.append(port)
        queries.append(
            StreamQuery(facts.server, from: port, network) { [weak self] result in
                guard let self else { return }
                seen[index] = (try? result.get())?.mapped
                unanswered -= 1
                if unanswered == 0 { conclude() }
            }
        )
    }

    private func conclude() {
        let step = facts.step ?? StreamNATReport.step(from: seen[0]?.port, to: seen[1]?.port)
        let ports = StreamNATReport.ports(between: seen[0]?.port, seen[1]?.port, step: step)
        if let address = (seen[0] ?? seen[1])?.address, !ports.isEmpty {
            finish?(address, Array(ports.prefix(ClientLimits.aimedPorts)))
        }
        close()
    }
}
