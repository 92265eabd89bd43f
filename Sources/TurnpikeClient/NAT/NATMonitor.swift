import Traversal

/// A STUN server to ask about NATs.
package struct NATServer: Hashable, Sendable {
    /// A name, or an address without brackets.
    package var host: String
    package var port: UInt16

    package init(host: String, port: UInt16) {
        self.host = host
        self.port = port
    }
}

/// What is known of the NATs between here and the world.
package struct NATFindings: Equatable, Sendable {
    /// Nil where this machine has no address of the family, or no server.
    package var ipv4: NATReport?
    package var ipv6: NATReport?
    /// Names of servers that could not be looked up, each with the reason.
    package var unresolved: [NetworkFailure] = []
    /// Families whose servers were asked, answered or not.
    package var asked: Set<AddressFamily> = []
    /// Every family has its name, or will not get one.
    package var isComplete = false

    /// What to go by: NATs are IPv4's, and where there is no IPv4, IPv6.
    package var primary: NATReport? { ipv4 ?? ipv6 }
}

/// Finds out what NATs do, for both families and in the background, and anew whenever this machine's addresses change.
package final class NATMonitor {
    package enum Event {
        /// More is known than before.
        case changed(NATFindings)
        /// The machine's addresses are others than before. What was found out for the old ones is void, and is found
        /// out anew.
        case moved([LocalAddress])
    }

    package private(set) var findings = NATFindings()

    private let network: any ClientNetwork
    private let lifetimes: NATLifetimeSearch
    private var receive: ((Event) -> Void)?
    private var alarm: (any Alarm)?
    private var servers: [NATServer] = []
    private var addresses: [LocalAddress] = []
    private var runs: [AddressFamily: NATRun] = [:]
    private var known: Set<IPAddress> = []
    /// Answers of names, of this round; others are of an older one.
    private var round = 0
    private var unanswered = 0
    private var found: [[IPAddress]] = []
    private var beginsAt: UInt64?

    /// - Parameter lifetimes: what is found out of how long mappings live.
    package init(
        lifetimes: NATLifetimeSearch,
        network: any ClientNetwork,
        _ receive: @escaping (Event) -> Void
    ) {
        self.network = network
        self.lifetimes = lifetimes
        self.receive = receive
        alarm = network.alarm { [weak self] in self?.wake() }
    }

    deinit { for run in runs.values { run.close() } }

    /// Begins, or begins anew with other servers. The first of the list are preferred.
    package func use(_ servers: [NATServer]) {
        var distinct: [NATServer] = []
        for server in servers where !distinct.contains(server) && distinct.count < ClientLimits.natServers {
            distinct.append(server)
        }
        self.servers = distinct
        addresses = network.localAddresses()
        begin()
        setAlarm()
    }

    /// A server was reached some other way, so that silence over UDP says something about the way.
    package func confirmRunning(_ server: Endpoint) {
        guard known.insert(server.address).inserted, known.count <= ClientLimits.natServers * 4 else { return }
        for run in runs.values { run.confirmRunning(server.address) }
    }

    package func close() {
        receive = nil
        alarm?.set(at: nil)
        alarm = nil
        stop()
    }

    // MARK: Rounds

    private func begin() {
        stop()
        beginsAt = nil
        round += 1
        findings = NATFindings()
        guard !servers.isEmpty else {
            findings.isComplete = true
            return tell()
        }
        let round = round
        unanswered = servers.count
        found = Array(repeating: [], count: servers.count)
        for (index, server) in servers.enumerated() {
            network.resolve(server.host) { [weak self] answer in
                guard let self, self.round == round, self.receive != nil else { return }
                self.unanswered -= 1
                switch answer {
                case .success(let addresses): self.found[index] = addresses
                case .failure(let failure): self.findings.unresolved.append(failure)
                }
                if self.unanswered == 0 { self.ask() }
            }
        }
    }

    private func ask() {
        let local = addresses.map(\.address)
        for family in [AddressFamily.ipv4, .ipv6] {
            // One address of each server: another may lead to another machine, but often is the same one.
            let endpoints = zip(servers, found).compactMap { server, addresses in
                AddressRace.order(addresses.filter { $0.family == family }, local: local).first
                    .map { Endpoint(address: $0, port: server.port) }
            }
            guard !endpoints.isEmpty else { continue }
            runs[family] = NATRun(
                endpoints,
                known: known,
                lifetimes: lifetimes,
                network: network
            ) { [weak self] report in self?.take(report, family) }
        }
        findings.asked = Set(runs.keys)
        for run in runs.values { run.begin() }
        if runs.isEmpty {
            findings.isComplete = true
            tell()
        }
    }

    private func take(_ report: NATReport, _ family: AddressFamily) {
        switch family {
        case .ipv4: findings.ipv4 = report
        case .ipv6: findings.ipv6 = report
        }
        findings.isComplete = runs.keys.allSatisfy { $0 == .ipv4 ? findings.ipv4 != nil : findings.ipv6 != nil }
        tell()
    }

    private func tell() { receive?(.changed(findings)) }

    private func stop() {
        for run in runs.values { run.close() }
        runs = [:]
    }

    // MARK: Addresses

    /// The addresses may be others.
    package func look() {
        guard receive != nil, !servers.isEmpty else { return }
        compare()
        setAlarm()
    }

    private func wake() {
        let now = network.nowNanoseconds
        if let beginsAt, now >= beginsAt { begin() }
        compare()
        setAlarm()
    }

    private func compare() {
        let present = network.localAddresses()
        if present.map(\.address) != addresses.map(\.address) {
            let isOther = Set(present.map(\.address)) != Set(addresses.map(\.address))
            addresses = present
            // Interfaces come up in several steps; what is found out in between would be void at once.
            if isOther {
                beginsAt = network.nowNanoseconds &+ ClientLimits.discoveryRest
                receive?(.moved(present))
            }
        }
    }

    private func setAlarm() {
        let check = network.nowNanoseconds &+ ClientLimits.addressCheck
        alarm?.set(at: min(check, beginsAt ?? .max))
    }
}
