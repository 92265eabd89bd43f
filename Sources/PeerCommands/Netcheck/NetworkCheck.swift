import TurnpikeClient

/// Asks every server of a configuration by every transport at the same time, and makes a report of what comes back.
final class NetworkCheck {
    private let configuration: Configuration
    private let measuresLifetime: Bool
    private let surroundings: TURNConnection.Surroundings
    private let finish: (NetworkReport) -> Void
    private var network: any ClientNetwork { surroundings.network }
    private let startedAt: UInt64
    private var deadline: (any Alarm)?
    private var names: NameTable
    private var relays: [RelayProbe] = []
    private var stunServers: [StunServer] = []
    private var surveys: [AddressFamily: NATSurvey] = [:]
    private var reports: [AddressFamily: NetworkReport.Family] = [:]
    private var hasSurveyed = false
    private var isOver = false

    private struct StunServer {
        let text: String
        let url: ServerURL
    }

    /// - Parameter finish: called once, on the loop.
    init(
        _ configuration: Configuration,
        measuresLifetime: Bool,
        on network: any ClientNetwork,
        _ finish: @escaping (NetworkReport) -> Void
    ) {
        (self.configuration, self.measuresLifetime, self.finish) = (configuration, measuresLifetime, finish)
        surroundings = TURNConnection.Surroundings(
            network: network,
            contexts: SecureContexts(),
            trust: configuration.serverTrust
        )
        startedAt = network.nowNanoseconds
        names = NameTable(network)
    }

    /// The whole check on the machine's own network.
    /// - Throws: status 78 where there is nothing to ask.
    static func report(on configuration: Configuration, measuresLifetime: Bool) async throws -> NetworkReport {
        guard !configuration.stunServers.isEmpty || !configuration.turnServers.isEmpty else {
            throw CommandError.environment(
                configuration.issues.map(\.description) + [
                    "there is no server to ask; set STUN_SERVERS, or TURN_SERVERS with TURN_USERNAME and TURN_PASSWORD "
                        + "(on the server, turnpike user add NAME --format env prints them)"
                ]
            )
        }
        return try await NIONetwork.job { network, finish in
            let check = NetworkCheck(configuration, measuresLifetime: measuresLifetime, on: network, finish)
            check.start()
            return check
        }
    }

    private func start() {
        deadline = network.alarm { [weak self] in self?.conclude() }
        let patience = min(configuration.connectionTimeout.nanoseconds, Self.patience)
        deadline?.set(at: startedAt + (measuresLifetime ? Self.lifetimePatience : patience))
        stunServers = configuration.stunServers.compactMap { text in
            (try? ServerURL(text, usual: .stun)).map { StunServer(text: text, url: $0) }
        }
        for server in configuration.turnServers {
            guard let url = try? ServerURL(server.url, usual: .turn) else { continue }
            for transport in url.transports {
                let probe = RelayProbe(server, transport, in: surroundings) { [weak self] in self?.advance() }
                relays.append(probe)
                names.resolve(url.host) { [weak self] result in
                    self?.begin(probe, url, result)
                }
            }
        }
        for server in stunServers { names.resolve(server.url.host) { [weak self] _ in self?.advance() } }
        advance()
    }

    private func begin(_ probe: RelayProbe, _ url: ServerURL, _ result: Result<[IPAddress], NetworkFailure>) {
        let patience = min(configuration.connectionTimeout.nanoseconds, Self.patience)
        switch result {
        case .success(let addresses):
            let best = addresses.first { families.contains($0.family) } ?? addresses.first
            probe.start(best.map { Endpoint(address: $0, port: url.port) }, url.host, patienceNanoseconds: patience)
        case .failure(let failure): probe.fail(Problem(failure))
        }
        advance()
    }

    /// Families that this machine has an address of.
    private var families: Set<AddressFamily> { Set(network.localAddresses().map(\.address.family)) }

    /// Does what has become possible.
    private func advance() {
        guard !isOver else { return }
        if !hasSurveyed, names.isComplete {
            hasSurveyed = true
            for family in [AddressFamily.ipv4, .ipv6] { survey(family) }
        }
        let running = relays.filter(\.hasAnswered).compactMap(\.address)
        if !running.isEmpty {
            for survey in surveys.values { survey.confirmRunning(at: Set(running.map(\.address))) }
        }
        if hasSurveyed, surveys.isEmpty, relays.allSatisfy(\.isOver) { conclude() }
    }

    // MARK: The NAT

    private func survey(_ family: AddressFamily) {
        let own = network.localAddresses().filter { $0.address.family == family }
        let stun = stunServers.flatMap { server in
            names.addresses(server.url.host).map { Endpoint(address: $0, port: server.url.port) }
        }
        // A TURN server by UDP answers as a STUN server does (RFC 8656 section 5).
        let turn = relays.filter { $0.transport == .udp }.compactMap(\.address)
        var servers: [Endpoint] = []
        for endpoint in stun + turn where endpoint.family == family && !servers.contains(endpoint) {
            servers.append(endpoint)
        }
        let name = family == .ipv4 ? "IPv4" : "IPv6"
        guard !own.isEmpty else {
            reports[family] = NetworkReport.Family(absence: "this machine has no \(name) address")
            return
        }
        guard !servers.isEmpty else {
            reports[family] = NetworkReport.Family(absence: "no STUN server has an \(name) address")
            return
        }
        let survey = NATSurvey(
            servers: servers,
            family: family,
            measuresLifetime: measuresLifetime,
            on: network
        ) { [weak self] report in
            guard let self else { return }
            self.surveys[family] = nil
            self.reports[family] = NetworkReport.Family(nat: report)
            self.advance()
        }
        surveys[family] = survey
        survey.start()
    }

    // MARK: The end

    private func conclude() {
        guard !isOver else { return }
        isOver = true
        deadline?.set(at: nil)
        for (family, survey) in surveys { reports[family] = NetworkReport.Family(nat: survey.stop()) }
        surveys = [:]
        for probe in relays { probe.stop() }
        let unresolved = stunServers.compactMap { server in
            names.problem(server.url.host).map { NetworkReport.Unasked(url: server.text, problem: $0) }
        }
        let absence = NetworkReport.Family(absence: "the names of the servers were not resolved in time")
        finish(
            NetworkReport(
                ipv4: reports[.ipv4] ?? absence,
                ipv6: reports[.ipv6] ?? absence,
                relays: relays.map(\.result),
                unasked: unresolved,
                issues: configuration.issues.map(\.description),
                tookNanoseconds: network.nowNanoseconds - startedAt
            )
        )
    }

    private static let second: UInt64 = 1_000_000_000
    /// Whoever has not answered in ten seconds is of no use to a connection that waits for it.
    private static let patience = 10 * second
    /// The longest lifetime that is tested, and the tests around it.
    private static let lifetimePatience = 340 * second
}

extension Configuration {
    var serverTrust: ServerTrust {
        switch trust {
        case .system: .system
        case .authorities(let file): .authorities(file: file)
        case .fingerprints(let digests): .fingerprints(digests)
        }
    }
}

extension Duration {
    var nanoseconds: UInt64 {
        let seconds = UInt64(clamping: min(max(components.seconds, 0), 86_400))
        return seconds * 1_000_000_000 + UInt64(clamping: max(components.attoseconds, 0) / 1_000_000_000)
    }
}

extension ServerURL {
    /// Without `?transport=` both are meant (RFC 7065 section 3.1).
    var transports: [TURNConfiguration.Transport] {
        switch (scheme, transport) {
        case (.turns, nil): [.dtls, .tls]
        case (_, nil): [.udp, .tcp]
        default: [usualTransport]
        }
    }
}
