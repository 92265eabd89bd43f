import Accounts
import Foundation
import Gateway
import Logging
import OpenSSLCrypto
import Relay
import STUN
import ServiceLifecycle
import Settings
import Synchronization
import TURN
import UnixSignals

/// The whole server, from validated settings to the end of the process: it wires the parts and keeps their lives in order.
package final class TurnpikeServer: Sendable {
    private struct State {
        var settings: Settings
        var secrets: [SharedSecret]
        /// When a drain ends; nil while there is none.
        var drainEnd: ContinuousClock.Instant?
    }

    private let state: Mutex<State>
    private let nonceKeys: NonceKeys
    private let certificateNames: CertificateNames
    private let relay: RelayService
    private let gateway: GatewayService
    private let directory: AccountDirectory
    private let logger: Logger
    private let sink: LogSink
    private let reload: @Sendable () -> SettingsOutcome
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
    ) throws {
        // Clients are answered a moment before `run` listens to signals: one that comes then has nothing to change yet, and must
        // not end the process.
        for number in [SIGHUP, SIGUSR1, SIGUSR2] { signal(number, SIG_IGN) }
        self.reload = reload
        self.sink = sink
        logger = Self.logger(settings.log, sink)
        let logger = logger
        let store = try AccountStore(
            dataDirectory: settings.dataDirectory,
            mode: .readWrite,
            createIfMissing: true,
            actor: "server",
            report: { logger.error("a user's stored keys are damaged", metadata: ["reason": .string($0)]) }
        )
        // A database that is damaged inside is refused here, and not found out by a user who cannot log in.
        try store.integrityCheck()
        nonceKeys = try NonceKeyFile(dataDirectory: settings.dataDirectory).load()
        if settings.signaling.isEnabled, !settings.listen.https.isEmpty { try GatewayAccounts.prepare(store) }
        let secrets = try store.allSecrets()
        let setup = try RelaySetup(settings, nonceKeys: nonceKeys, secrets: secrets)
        for warning in setup.warnings { logger.warning("\(warning)") }

        var options = setup.options
        let names = CertificateNames(setup.options)
        if options.streamListeners.contains(where: \.isTLS) {
            options.certificate = try CertificateStore(settings).load(hosts: names.hosts, addresses: names.addresses)
        }
        certificateNames = names
        let httpsCertificate =
            try settings.listen.https.isEmpty
            ? nil
            : CertificateStore(settings).load(
                hosts: names.hosts,
                addresses: names.addresses,
                applicationProtocols: Self.httpsProtocols
            )
        // Workers may speak before all is made; what they say waits in the box until there is someone to hear it.
        let receiver = EventReceiver()
        do throws(RelayError) {
            relay = try RelayService(options, configuration: setup.configuration) { receiver.receive($0) }
        } catch {
            throw ServerError(
                error.listener.map { "cannot listen on \(SocketAddress($0)): \(error.reason)" } ?? error.reason
            )
        }
        state = Mutex(State(settings: settings, secrets: secrets))
        let secretsChanged = SecretsObserver()
        let box = GatewayBox()
        directory = try AccountDirectory(store, logger: logger, gateway: box) { secretsChanged.tell($0) }
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
        self.served = served
        receiver.connect { [weak self] in self?.handle($0) }
        secretsChanged.connect { [weak self] in self?.take(secrets: $0) }
        control.connect(
            listeners: { [weak self] in self?.places ?? [] },
            drain: { [weak self] in self?.drain(seconds: $0) },
            isDraining: { [weak self] in self?.isDraining ?? false },
            reload: { [weak self] in self?.reloadConfiguration() ?? ReloadView(isReloaded: false, messages: []) }
        )
    }

    /// RFC 7301: no h2, and what speaks TURN has come to the wrong door (case WS-22).
    private static let httpsProtocols = ["http/1.1"]

    /// What it listens on, with the ports the kernel chose.
    package var listeners: [SocketAddress] { relay.listeners.map(SocketAddress.init) }

    /// Serves until a signal ends it.
    package func run() async throws {
        announce()
        let signals = await UnixSignalsSequence(trapping: .sigterm, .sigint, .sighup, .sigusr1, .sigusr2)
        let group = ServiceGroup(
            configuration: ServiceGroupConfiguration(
                services: [
                    .init(service: AccountPolling(directory: directory, relay: relay)),
                    .init(service: UsageRecording(directory: directory, relay: relay)),
                    .init(service: InterfaceWatching(server: self)),
                    .init(service: CertificateWatching(server: self)),
                    .init(
                        service: SignalHandling(server: self, signals: signals),
                        successTerminationBehavior: .gracefullyShutdownGroup
                    ),
                ],
                logger: Self.quietLogger
            )
        )
        try await group.run()
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

    private var servesTLS: Bool { relay.streamListeners.contains(where: \.isTLS) || !gateway.listeners.isEmpty }

    /// Changes when the certificate's files do; nil where TLS is not served.
    var certificateStamp: [Int]? {
        guard servesTLS else { return nil }
        return CertificateStore(state.withLock { $0.settings }).stamp
    }

    /// Has new TLS sessions made from the certificate as it is now. One that does not hold leaves the old one in use.
    func renewCertificate() {
        guard servesTLS else { return }
        let store = CertificateStore(state.withLock { $0.settings })
        let names = certificateNames
        do {
            let context = try store.load(hosts: names.hosts, addresses: names.addresses)
            let httpsContext = try store.load(
                hosts: names.hosts,
                addresses: names.addresses,
                applicationProtocols: Self.httpsProtocols
            )
            relay.send(.renew(context))
            gateway.renew(httpsContext)
            logger.notice(
                "certificate loaded",
                metadata: [
                    "file": .string(store.certificatePath), "fingerprint": .string(Self.text(context.fingerprint)),
                ]
            )
        } catch {
            logger.error("the certificate was not reloaded; the old one stays in use", metadata: ["reason": "\(error)"])
        }
    }

    private static func text(_ fingerprint: [UInt8]) -> String {
        "sha256:" + fingerprint.map { String($0 >> 4, radix: 16) + String($0 & 15, radix: 16) }.joined()
    }

    /// Takes note of addresses that this machine has gained or lost: a peer on this very host is a relay of ours or nothing.
    func interfacesChanged() {
        do {
            try apply()
            logger.notice("this machine's addresses have changed; the peer policy follows")
        } catch {
            logger.error(
                "this machine's addresses have changed, and the peer policy could not follow",
                metadata: ["reason": "\(error)"]
            )
        }
    }

    /// Refuses new allocations from now on; those there live on, for that long at most. A shorter limit replaces a longer.
    func beginDraining(atMost limit: Duration) {
        let end = ContinuousClock.now + limit
        let isNew = state.withLock { state in
            defer { state.drainEnd = min(state.drainEnd ?? end, end) }
            return state.drainEnd == nil
        }
        // Whoever signals has most of the time to hear of it and to go, and nobody is cut off at the end.
        gateway.beginDraining(window: limit * 3 / 4)
        guard isNew else { return }
        do {
            try apply()
            logger.notice("draining: no new allocations are made")
        } catch {
            logger.error("cannot drain", metadata: ["reason": "\(error)"])
        }
    }

    /// Whether a drain that has begun is over: no allocation is left, or its time is up.
    func isDrained() async -> Bool {
        guard let end = state.withLock({ $0.drainEnd }) else { return false }
        let before = relay.snapshot().publications
        relay.send(.publish)
        while relay.snapshot().publications == before, ContinuousClock.now < end {
            try? await Task.sleep(for: .milliseconds(5))
        }
        if ContinuousClock.now >= end { return true }
        guard relay.snapshot().allocations == 0 else { return false }
        return await gateway.statistics().signalingConnections == 0
    }

    func note(_ message: Logger.Message) { logger.notice(message) }

    /// Ends the process without waiting for anything.
    func exitNow() -> Never {
        logger.notice("stopped at once, by a second signal")
        sink.flush()
        exit(0)
    }

    // MARK: Wiring

    private func apply() throws(ServerError) {
        let (settings, secrets, isDraining) = state.withLock { ($0.settings, $0.secrets, $0.drainEnd != nil) }
        var configuration = try RelaySetup(settings, nonceKeys: nonceKeys, secrets: secrets).configuration
        configuration.isDraining = isDraining
        relay.reconfigure(configuration)
        served.value = settings
        gateway.reconfigure(GatewaySetup.configuration(settings))
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
        case .missing(let address, let reason):
            logger.warning("not listening on \(SocketAddress(address.endpoint)): \(reason)")
        case .trouble(let text):
            logger.error("\(text)")
        case .allocation(.made(let summary)):
            guard logger.logLevel <= .debug else { return }
            logger.debug("allocation made", metadata: fields.summary(summary))
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
            + relay.streamListeners.map { "\($0.isTLS ? "tls" : "tcp") \(SocketAddress($0.endpoint))" }
            + gateway.listeners.map { "https \($0.description)" }
    }

    private func announce() {
        let settings = state.withLock { $0.settings }
        logger.notice(
            "turnpike \(Version.current) serves",
            metadata: [
                "listen": .array(places.map { .string($0) }), "realm": .string(settings.realm),
                "data_dir": .string(settings.dataDirectory), "workers": .stringConvertible(relay.workerCount),
                "openssl": .string(OpenSSLVersion.text), "admin_socket": .string(gateway.adminSocketPath ?? "none"),
            ]
        )
        logger.notice("to add a user, type: turnpike user add NAME --data-dir \(settings.dataDirectory) --format env")
    }

    private static func logger(_ log: Settings.Log, _ sink: LogSink) -> Logger {
        let level = Logger.Level(rawValue: log.level.rawValue) ?? .info
        let form: LineLogHandler.Form = log.format == .json ? .json : .text
        return Logger(label: "turnpike") { _ in LineLogHandler(form: form, level: level, sink: sink) }
    }

    /// The service group's own remarks are about its machinery, not about the server.
    private static let quietLogger = Logger(label: "lifecycle") { _ in SwiftLogNoOpLogHandler() }
}
