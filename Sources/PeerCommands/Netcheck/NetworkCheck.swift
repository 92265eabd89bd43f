import TurnpikeClient

/// Asks every server of a configuration by every transport at the same time, and makes a report of what comes back.
final class NetworkCheck {
    private let configuration: Configuration
    private let measuresLifetime: Bool
    private let network: any ClientNetwork
    private let finish: (NetworkReport) -> Void
    private let startedAt: UInt64
    private var deadline: (any Alarm)?
    private var silenceDeadline: (any Alarm)?
    private var streamDeadline: (any Alarm)?
    private var relays: [RelayProbe] = []
    private var monitor: NATMonitor?
    private var mapping: MappingProbe?
    private var survey: StreamNATSurvey?
    private var streamNAT: StreamNATReport?
    private var isOver = false
    private var isSurveyLate = false
    private var isSignalingOver: Bool { signalingServer == nil || survey?.signalingOutcome != .underWay }

    /// - Parameter finish: called once, on the loop.
    init(
        _ configuration: Configuration,
        measuresLifetime: Bool,
        on network: any ClientNetwork,
        _ finish: @escaping (NetworkReport) -> Void
    ) {
        (self.configuration, self.measuresLifetime) = (configuration, measuresLifetime)
        (self.network, self.finish) = (network, finish)
        startedAt = network.nowNanoseconds
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

    func start() {
        let patience = min(configuration.connectionTimeout.nanoseconds, Self.patience)
        deadline = network.alarm { [weak self] in self?.conclude() }
        deadline?.set(at: startedAt + (measuresLifetime ? Self.lifetimePatience : patience))
        silenceDeadline = network.alarm { [weak self] in self?.giveUpOnTheSilent() }
        silenceDeadline?.set(at: startedAt + Self.silence)
        let contexts = SecureContexts()
        for server in configuration.turnServers {
            guard let url = try? ServerURL(server.url, usual: .turn) else { continue }
            for transport in url.transports {
                let way = RelayServer(
                    host: url.host,
                    port: url.port,
                    transport: transport,
                    credential: TURNCredential(username: server.username, password: server.password),
                    trust: configuration.serverTrust
                )
                relays.append(
                    RelayProbe(server.url, way, on: network, contexts: contexts) { [weak self] in self?.advance() }
                )
            }
        }
        monitor = NATMonitor(lifetimes: measuresLifetime ? .thorough : .none, network: network) { [weak self] event in
            if case .changed = event { self?.advance() }
        }
        monitor?.use(natServers)
        if configuration.portMapping {
            mapping = MappingProbe(on: network) { [weak self] in self?.advance() }
            mapping?.start()
        }
        survey = StreamNATSurvey(network: network) { [weak self] report in
            self?.streamNAT = report
            self?.advance()
        }
        survey?.begin(streamServers, configuration)
        streamDeadline = network.alarm { [weak self] in
            self?.survey?.conclude()
            self?.advance()
        }
        streamDeadline?.set(at: startedAt + ClientLimits.streamSurveyTime)
        // Before all is over, so that what was not answered in time can be told.
        for relay in relays { relay.start(patienceNanoseconds: patience / 10 * 9) }
    }

    private var signalingServer: ServerURL? {
        configuration.signalingServer.flatMap { try? ServerURL($0, usual: .wss) }
    }

    private var signalingResult: NetworkReport.Signaling? {
        guard let url = signalingServer, let survey else { return nil }
        let problem: Problem? =
            switch survey.signalingOutcome {
            case .welcome: nil
            case .failed(let failure): Problem(failure)
            case .underWay:
                Problem(
                    .silent,
                    "it has not answered in time",
                    mend: "check the address in SIGNALING_SERVER, and that no firewall is between"
                )
            }
        return NetworkReport.Signaling(
            url: url,
            way: survey.signalingWay,
            trust: configuration.serverTrust,
            problem: problem
        )
    }

    private var stunServers: [(text: String, url: ServerURL)] {
        configuration.stunServers.compactMap { text in (try? ServerURL(text, usual: .stun)).map { (text, $0) } }
    }

    /// A TURN server by UDP answers as a STUN server does (RFC 8656 section 5).
    private var natServers: [NATServer] {
        stunServers.map { NATServer(host: $0.url.host, port: $0.url.port) }
            + relays.map(\.server).filter { $0.transport == .udp }.map { NATServer(host: $0.host, port: $0.port) }
    }

    /// Nothing follows where nothing came: a person waits for the report.
    private func giveUpOnTheSilent() {
        for relay in relays where relay.isSilent { relay.stop() }
        survey?.giveUpOnTheSilent()
        isSurveyLate = true
        advance()
    }

    /// The same by TCP.
    private var streamServers: [NATServer] {
        let relays = relays.map(\.server).filter { $0.transport == .udp || $0.transport == .tcp }
        var servers = stunServers.map { NATServer(host: $0.url.host, port: $0.url.port) }
        for relay in relays.map({ NATServer(host: $0.host, port: $0.port) }) where !servers.contains(relay) {
            servers.append(relay)
        }
        return servers
    }

    private func advance() {
        guard !isOver else { return }
        for relay in relays where relay.server.transport.isStream {
            if let server = relay.answeringServer { monitor?.confirmRunning(server) }
        }
        let isLate = network.nowNanoseconds >= startedAt + ClientLimits.streamSurveyTime
        let hasStreams = streamNAT != nil && isSignalingOver || isLate
        guard relays.allSatisfy(\.isOver), hasSurveyed, hasStreams, mapping?.isSettled ?? true else { return }
        conclude()
    }

    private var hasSurveyed: Bool {
        guard let findings = monitor?.findings else { return false }
        // A name service that does not answer is no server that is slow.
        if isSurveyLate, findings.asked.isEmpty { return true }
        let reports = [findings.ipv4, findings.ipv6].compactMap { $0 }
        return findings.isComplete && (!measuresLifetime || reports.allSatisfy(Self.hasLifetime))
    }

    /// That it is so and so long at least is told as time goes by, and is not the end.
    private static func hasLifetime(_ report: NATReport) -> Bool {
        report.lifetime.value?.isFinal ?? (report.lifetime != NATReport().lifetime)
    }

    private func conclude() {
        guard !isOver else { return }
        isOver = true
        deadline?.set(at: nil)
        silenceDeadline?.set(at: nil)
        streamDeadline?.set(at: nil)
        monitor?.close()
        let signaling = signalingResult
        survey?.close()
        for relay in relays { relay.stop() }
        let seconds = network.wallMilliseconds / 1_000
        let publicIP = (monitor?.findings.ipv4?.mapped).map { AddressText.text($0.address) }
        let report = NetworkReport(
            ipv4: family(.ipv4, monitor?.findings.ipv4),
            ipv6: family(.ipv6, monitor?.findings.ipv6),
            relays: relays.map { $0.result(nowSeconds: seconds) },
            tcp: streamNAT,
            signaling: signaling,
            unasked: unasked,
            issues: configuration.issues.map(\.description),
            portMapping: mapping?.result(publicIP: publicIP),
            tookNanoseconds: network.nowNanoseconds - startedAt
        )
        // What was mapped for the test is taken back before the program ends.
        guard let mapping else { return finish(report) }
        mapping.stop { [finish] in finish(report) }
    }

    private func family(_ family: AddressFamily, _ report: NATReport?) -> NetworkReport.Family {
        if let report { return NetworkReport.Family(nat: report) }
        let name = family == .ipv4 ? "IPv4" : "IPv6"
        guard network.localAddresses().contains(where: { $0.address.family == family }) else {
            return NetworkReport.Family(absence: "this machine has no \(name) address")
        }
        let findings = monitor?.findings
        let absence =
            findings?.asked.contains(family) == true
            ? "no STUN server has answered in time"
            : findings?.isComplete == true || findings?.asked.isEmpty == false
                ? "no STUN server has an \(name) address" : "the names of the servers were not resolved in time"
        return NetworkReport.Family(absence: absence)
    }

    /// STUN servers without an address; TURN servers tell of theirs by themselves.
    private var unasked: [NetworkReport.Unasked] {
        stunServers.compactMap { text, url in
            monitor?.findings.unresolved.first { $0.subject.hasSuffix(" \(url.host)") }.map {
                NetworkReport.Unasked(url: text, problem: Problem($0))
            }
        }
    }

    private static let second: UInt64 = 1_000_000_000
    /// Nothing of a server was heard by then: three round trips to the other side of the world, with one lost.
    private static let silence = 2 * second + second / 2
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
