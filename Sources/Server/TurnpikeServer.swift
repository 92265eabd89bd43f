import Accounts
import Foundation
import Gateway
import LinuxIO
import Logging
import OpenSSLCrypto
import Relay
import STUN
import ServiceLifecycle
import Settings
import Synchronization
import TURN
import UnixSignals

/// The whole server, from validated settings to the end of the process: it wires the parts and keeps their lives in
/// order.
package final class TurnpikeServer: Sendable {
    struct State {
        var settings: Settings
        var secrets: [SharedSecret]
        var nonceKeys: NonceKeys
        var nonceTrouble: String?
        /// What the relay had carried when its limits were looked at last, and when that was.
        var surveyed: (bytes: UInt64, nanoseconds: UInt64) = (0, 0)
        /// At that look: bits relayed a second, and users close to their limit of allocations.
        var bitsPerSecond = 0
        var usersNearLimit = 0
        /// The end of the certificate in use; nil where nothing needs one.
        var certificateNotAfterSeconds: Int64?
        /// When a drain ends; nil while there is none.
        var drainEnd: ContinuousClock.Instant?
    }

    let state: Mutex<State>
    let memory: MemoryPlan
    let descriptorLimit: Int
    let certificateNames: CertificateNames
    let servesDTLS: Bool
    let relay: RelayService
    let gateway: GatewayService
    /// Seconds since 1970.
    let startedSeconds = Date().timeIntervalSince1970
    private let metrics: MetricsService
    private let directory: AccountDirectory
    let logger: Logger
    let sink: LogSink
    private let reload: @Sendable () -> SettingsOutcome
    private let signals: UnixSignalsSequence
    private let served: ServedSettings
    /// Wakes who waits for a drain that was asked for over the API.
    private let drains = AsyncStream<Int>.makeStream()

    /// Opens everything; nothing is served when this throws.
    ///
    /// - Parameters:
    ///   - reload: reads the settings again, for HUP.
    ///   - sink: where log lines go.
    package init(
        _ settings: Settings,
        sink: LogSink = LogSink(),
        reload: @escaping @Sendable () -> SettingsOutcome
    ) async throws {
        try HashSeeding.requireRandom(ProcessInfo.processInfo.environment)
        // Before anything answers: whoever sees that the server serves may send a signal, which would end the process.
        signals = await UnixSignalsSequence(trapping: .sigterm, .sigint, .sighup, .sigusr1, .sigusr2)
        self.reload = reload
        self.sink = sink
        logger = Self.logger(settings.log, sink)
        let logger = logger
        func openStore() throws(AccountError) -> AccountStore {
            try AccountStore(
                dataDirectory: settings.dataDirectory,
                mode: .readWrite,
                createIfMissing: true,
                actor: "server",
                report: { logger.error("a user's stored keys are damaged", metadata: ["reason": .string($0)]) }
            )
        }
        let store = try openStore()
        // A database that is damaged inside is refused here, and not found out by a user who cannot log in.
        try store.integrityCheck()
        let nonceKeys = try NonceKeyFile(dataDirectory: settings.dataDirectory).load()
        if settings.servesSignaling { try GatewayAccounts.prepare(store) }
        let secrets = try store.allSecrets()
        memory = MemoryPlan(configuredBytes: settings.limits.memoryBytes)
        descriptorLimit = (try? Host.raiseDescriptorLimit()) ?? 0
        let setup = try RelaySetup(settings, nonceKeys: nonceKeys, secrets: secrets, memory: memory)
        for warning in setup.warnings { logger.warning("\(warning)") }
        if let problem = setup.problems.first { throw ServerError(problem) }

        var options = setup.options
        let names = CertificateNames(setup.options, hostName: settings.hostName)
        servesDTLS = !settings.listen.dtls.isEmpty
        var httpsCertificate: TLSContext?
        if servesDTLS || options.streamListeners.contains(where: \.isTLS) || !settings.listen.https.isEmpty {
            let certificates = try CertificateStore(settings).load(hosts: names.hosts, addresses: names.addresses)
            options.certificate = certificates.tls
            options.sharedCertificate = certificates.shared
            httpsCertificate = certificates.https
            if let warning = CertificateStore(settings).warning(settings.hostName) { logger.warning("\(warning)") }
            if servesDTLS { options.dtlsCertificate = certificates.dtls }
        }
        certificateNames = names
        // Workers may speak before all is made; what they say waits in the box until there is someone to hear it.
        let receiver = EventReceiver()
        do throws(RelayError) {
            relay = try RelayService(options, configuration: setup.configuration) { receiver.receive($0) }
        } catch {
            throw ServerError(
                error.listener.map { "cannot listen on \(SocketAddress($0)): \(error.reason)" } ?? error.reason
            )
        }
        var initial = State(settings: settings, secrets: secrets, nonceKeys: nonceKeys)
        initial.certificateNotAfterSeconds = httpsCertificate?.notAfterSeconds
        state = Mutex(initial)
        let secretsChanged = SecretsObserver()
        let box = GatewayBox()
        directory = try AccountDirectory(store, usageStore: openStore(), logger: logger, gateway: box) {
            secretsChanged.tell($0)
        }
        let served = ServedSettings(settings, relay)
        let accounts = GatewayAccounts(directory, settings: { served.value }) { secretsChanged.tell($0) }
        let control = AdminControl(directory, relay, settings: { served.value })
        gateway = try GatewayService(
            GatewaySetup.options(settings, certificate: httpsCertificate),
            directory: accounts,
            control: control,
            logger: logger
        )
        box.connect(gateway)
        let metricsSource = MetricsSource()
        metrics = try MetricsService(GatewaySetup.metrics(settings), logger: logger) { await metricsSource.page() }
        self.served = served
        metricsSource.connect { [weak self] in await self?.metricsPage() ?? "" }
        receiver.connect { [weak self] in self?.handle($0) }
        secretsChanged.connect { [weak self] in self?.take(secrets: $0) }
        control.connect(
            listeners: { [weak self] in self?.places ?? [] },
            drain: { [weak self] in self?.drain(seconds: $0) },
            isDraining: { [weak self] in self?.isDraining ?? false },
            reload: { [weak self] in self?.reloadConfiguration() ?? ReloadView(isReloaded: false, messages: []) }
        )
    }

    /// What it listens on, with the ports the kernel chose.
    package var listeners: [SocketAddress] { relay.listeners.map(SocketAddress.init) }

    /// Serves until a signal ends it.
    package func run() async throws {
        announce()
        let group = ServiceGroup(
            configuration: ServiceGroupConfiguration(
                services: [
                    .init(service: AccountPolling(directory: directory, relay: relay)),
                    .init(service: UsageRecording(directory: directory, relay: relay)),
                    .init(service: InterfaceWatching(server: self)),
                    .init(service: CertificateWatching(server: self)),
                    .init(service: NonceRotation(server: self)),
                    .init(service: LimitWatching(server: self)),
                    .init(
                        service: SignalHandling(server: self, signals: signals),
                        successTerminationBehavior: .gracefullyShutdownGroup
                    ),
                ],
                logger: Self.quietLogger
            )
        )
        try await group.run()
        await metrics.stop()
        await gateway.stop()
        let totals = relay.stop()
        // The workers' last words are in; from here on nobody relays.
        directory.recordUsage(relay)
        logger.notice("relay totals", metadata: LogFields(addresses: .full).totals(totals.counters))
        logger.notice("stopped")
        sink.flush()
    }

    // MARK: Signals

    /// Takes the configuration anew. One that does not hold leaves the old one in force, whole.
    @discardableResult
    func reloadConfiguration() -> ReloadView {
        let outcome = reload()
        for diagnostic in outcome.diagnostics where diagnostic.severity == .warning {
            logger.warning("\(diagnostic)")
        }
        guard let new = outcome.settings else {
            for diagnostic in outcome.errors { logger.error("\(diagnostic)") }
            logger.error("the configuration was not reloaded; the old one stays in force")
            return ReloadView(isReloaded: false, messages: outcome.errors.map { "\($0)" })
        }
        let old = state.withLock { $0.settings }
        let taken = Reload(from: old, to: new)
        let refusals = taken.refused.map { "\($0) has changed, which takes a restart; it stays as it was" }
        for refusal in refusals { logger.warning("\(refusal)") }
        state.withLock { $0.settings = taken.settings }
        do {
            try apply()
            directory.poll(relay)
            renewCertificate()
            logger.notice("configuration reloaded")
            return ReloadView(isReloaded: true, messages: refusals)
        } catch {
            state.withLock { $0.settings = old }
            logger.error(
                "the configuration was not reloaded; the old one stays in force",
                metadata: ["reason": "\(error)"]
            )
            return ReloadView(isReloaded: false, messages: ["\(error)"])
        }
    }

    // MARK: Wiring

    func apply() throws(ServerError) {
        let now = state.withLock { $0 }
        let setup = try RelaySetup(
            now.settings,
            nonceKeys: now.nonceKeys,
            secrets: now.secrets,
            memory: memory
        )
        for problem in setup.problems { logger.warning("\(problem)") }
        var configuration = setup.configuration
        configuration.isDraining = now.drainEnd != nil
        relay.reconfigure(configuration)
        served.value = now.settings
        gateway.reconfigure(GatewaySetup.configuration(now.settings))
    }

    private func take(secrets: [SharedSecret]) {
        state.withLock { $0.secrets = secrets }
        do {
            try apply()
        } catch {
            logger.error("changed secrets were not taken", metadata: ["reason": "\(error)"])
        }
    }

    private func handle(_ event: RelayEvent) {
        switch event {
        case .query(let query, let worker):
            directory.answer(query, worker: worker, relay: relay)
        case .activeUsers(let names):
            directory.refresh(names, relay)
        case .web(let connection):
            guard let (descriptor, session) = connection.take() else { return }
            gateway.adopt(descriptor, session)
        case .missing(let address, let reason):
            logger.warning("not listening on \(SocketAddress(address)): \(reason)")
        case .trouble(let text):
            logger.error("\(text)")
        case .allocation(.made(let summary)):
            guard logger.logLevel <= .debug else { return }
            logger.debug("allocation made", metadata: fields.summary(summary))
        case .allocation(.moved(let summary)):
            guard logger.logLevel <= .debug else { return }
            logger.debug("allocation moved", metadata: fields.summary(summary))
        case .allocation(.ended(let summary, let end)):
            guard logger.logLevel <= .info else { return }
            var metadata = fields.summary(summary).merging(fields.traffic(summary)) { first, _ in first }
            metadata["reason"] = "\(end.rawValue)"
            logger.info("allocation ended", metadata: metadata)
        }
    }

    private var fields: LogFields { LogFields(addresses: state.withLock { $0.settings.log.addresses }) }

    /// Asks for a drain that ends the server, as USR1 does.
    private func drain(seconds: Int) {
        beginDraining(atMost: .seconds(seconds))
        drains.continuation.yield(seconds)
    }

    /// One element for each drain that was asked for otherwise than by a signal.
    var drainRequests: AsyncStream<Int> { drains.stream }

    private var isDraining: Bool { state.withLock { $0.drainEnd != nil } }

    /// Where it listens, in words.
    private var places: [String] {
        relay.listeners.map { "udp \(SocketAddress($0))" }
            + relay.streamListeners.map { "\($0.kind) \(SocketAddress($0.endpoint))" }
            + dtlsPlaces.map { "dtls \($0)" }
            + gateway.listeners.map { "https \($0.description)" }
            + metrics.listeners.map { "metrics \($0.description)" }
    }

    private func announce() {
        let settings = state.withLock { $0.settings }
        var metadata: Logger.Metadata = [
            "listen": .array(places.map { .string($0) }), "realm": .string(settings.realm),
            "data_dir": .string(settings.dataDirectory), "workers": .stringConvertible(relay.workerCount),
            "openssl": .string(OpenSSLVersion.text), "admin_socket": .string(gateway.adminSocketPath ?? "none"),
        ]
        if !settings.listen.alternate.isEmpty {
            metadata["alternate"] = .array(settings.listen.alternate.map { .string("\($0)") })
        }
        logger.notice("turnpike \(Version.current) serves", metadata: metadata)
        for open in settings.listen.metrics where !open.host.isLoopback {
            logger.warning(
                """
                metrics are served on \(open) to whoever reaches it, without a password; \
                let only Prometheus through the firewall
                """
            )
        }
        logger.notice(
            "memory is planned for",
            metadata: [
                "memory_bytes": .stringConvertible(memory.bytes), "from": .string(memory.origin),
                "allocations": .stringConvertible(memory.allocations),
                "connections": .stringConvertible(memory.connections),
            ]
        )
        logger.notice("to add a user, type: turnpike user add NAME --data-dir \(settings.dataDirectory) --format env")
    }

    /// The sockets that take DTLS alone, and those of `listen.udp` that `listen.dtls` names too.
    private var dtlsPlaces: [SocketAddress] {
        let named = state.withLock { $0.settings.listen.dtls }
        return relay.dtlsListeners.map { SocketAddress($0.endpoint) } + listeners.filter { named.contains($0) }
    }

    private static func logger(_ log: Settings.Log, _ sink: LogSink) -> Logger {
        let level = Logger.Level(rawValue: log.level.rawValue) ?? .info
        let form: LineLogHandler.Form = log.format == .json ? .json : .text
        return Logger(label: "turnpike") { _ in LineLogHandler(form: form, level: level, sink: sink) }
    }

    /// The service group's own remarks are about its machinery, not about the server.
    private static let quietLogger = Logger(label: "lifecycle") { _ in SwiftLogNoOpLogHandler() }
}
