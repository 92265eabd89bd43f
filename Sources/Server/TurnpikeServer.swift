import Accounts
import Foundation
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

/// The whole server, from validated settings to the end of the process: it wires the parts and keeps their lives in order.
package final class TurnpikeServer: Sendable {
    private struct State {
        var settings: Settings
        var secrets: [SharedSecret]
        var nonceKeys: NonceKeys
        var nonceTrouble: String?
        /// What the relay had carried when its limits were looked at last, and when that was.
        var surveyed: (bytes: UInt64, nanoseconds: UInt64) = (0, 0)
        /// When a drain ends; nil while there is none.
        var drainEnd: ContinuousClock.Instant?
    }

    private let state: Mutex<State>
    private let memory: MemoryPlan
    private let descriptorLimit: Int
    private let certificateNames: CertificateNames
    private let servesDTLS: Bool
    private let relay: RelayService
    private let directory: AccountDirectory
    private let logger: Logger
    private let sink: LogSink
    private let reload: @Sendable () -> SettingsOutcome
    private let signals: UnixSignalsSequence

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
        let secrets = try store.allSecrets()
        memory = MemoryPlan(configuredBytes: settings.limits.memoryBytes)
        descriptorLimit = (try? Host.raiseDescriptorLimit()) ?? 0
        let setup = try RelaySetup(settings, nonceKeys: nonceKeys, secrets: secrets, memory: memory)
        for warning in setup.warnings { logger.warning("\(warning)") }
        if let problem = setup.problems.first { throw ServerError(problem) }

        var options = setup.options
        let names = CertificateNames(setup.options)
        servesDTLS = !settings.listen.dtls.isEmpty
        if servesDTLS || options.streamListeners.contains(where: \.isTLS) {
            let contexts = try CertificateStore(settings).load(hosts: names.hosts, addresses: names.addresses)
            options.certificate = contexts.tls
            if servesDTLS { options.dtlsCertificate = contexts.dtls }
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
        state = Mutex(State(settings: settings, secrets: secrets, nonceKeys: nonceKeys))
        let secretsChanged = SecretsObserver()
        directory = try AccountDirectory(store, usageStore: openStore(), logger: logger) { secretsChanged.tell($0) }
        receiver.connect { [weak self] in self?.handle($0) }
        secretsChanged.connect { [weak self] in self?.take(secrets: $0) }
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
        let totals = relay.stop()
        // The workers' last words are in; from here on nobody relays.
        directory.recordUsage(relay)
        logger.notice("relay totals", metadata: LogFields(addresses: .full).totals(totals.counters))
        logger.notice("stopped")
        sink.flush()
    }

    // MARK: Signals

    /// Takes the configuration anew. One that does not hold leaves the old one in force, whole.
    func reloadConfiguration() {
        let outcome = reload()
        for diagnostic in outcome.diagnostics where diagnostic.severity == .warning {
            logger.warning("\(diagnostic)")
        }
        guard let new = outcome.settings else {
            for diagnostic in outcome.errors { logger.error("\(diagnostic)") }
            logger.error("the configuration was not reloaded; the old one stays in force")
            return
        }
        let old = state.withLock { $0.settings }
        let taken = Reload(from: old, to: new)
        for key in taken.refused { logger.warning("\(key) has changed, which takes a restart; it stays as it was") }
        state.withLock { $0.settings = taken.settings }
        do {
            try apply()
            directory.poll(relay)
            renewCertificate()
            logger.notice("configuration reloaded")
        } catch {
            state.withLock { $0.settings = old }
            logger.error(
                "the configuration was not reloaded; the old one stays in force",
                metadata: ["reason": "\(error)"]
            )
        }
    }

    /// Changes when the certificate's files do; nil where neither TLS nor DTLS is served.
    var certificateStamp: [Int]? {
        guard servesTLS || servesDTLS else { return nil }
        return CertificateStore(state.withLock { $0.settings }).stamp
    }

    /// Has new sessions made from the certificate as it is now. One that does not hold leaves the old one in use.
    func renewCertificate() {
        guard servesTLS || servesDTLS else { return }
        let store = CertificateStore(state.withLock { $0.settings })
        do {
            let contexts = try store.load(hosts: certificateNames.hosts, addresses: certificateNames.addresses)
            relay.send(.renew(contexts.tls))
            relay.send(.renew(contexts.dtls))
            logger.notice(
                "certificate loaded",
                metadata: [
                    "file": .string(store.certificatePath), "fingerprint": .string(Self.text(contexts.tls.fingerprint)),
                ]
            )
        } catch {
            logger.error("the certificate was not reloaded; the old one stays in use", metadata: ["reason": "\(error)"])
        }
    }

    /// Makes a new key for nonces where the present one is a day old. Nonces under that one stay good.
    func rotateNonceKeyIfDue() {
        let (directory, keys) = state.withLock { ($0.settings.dataDirectory, $0.nonceKeys) }
        let file = NonceKeyFile(dataDirectory: directory)
        guard file.isDue(atSeconds: Self.nowSeconds) else { return }
        do {
            let new = try file.rotate(keys)
            state.withLock { ($0.nonceKeys, $0.nonceTrouble) = (new, nil) }
            try apply()
            logger.notice("the key of nonces was renewed; nonces under the one before stay good")
        } catch {
            let reason = "\(error)"
            let isNew = state.withLock { state in
                defer { state.nonceTrouble = reason }
                return state.nonceTrouble != reason
            }
            if isNew { logger.error("the key of nonces was not renewed", metadata: ["reason": .string(reason)]) }
        }
    }

    private static var nowSeconds: Int64 { Int64(Date().timeIntervalSince1970) }

    /// Warns of limits that are nearly used up.
    func watchLimits(_ watch: inout LimitWatch) {
        let now = MonotonicClock.nanoseconds()
        let snapshot = relay.snapshot()
        let bytes = snapshot.counters.bytesToPeers &+ snapshot.counters.bytesToClients
        let (settings, before) = state.withLock { state in
            defer { state.surveyed = (bytes, now) }
            return (state.settings, state.surveyed)
        }
        let total = settings.limits.allocationsTotal
        let survey = LimitSurvey(
            relay: relay,
            settings: settings,
            memory: memory,
            allocationsTotal: total > 0 ? total : memory.allocations,
            descriptorLimit: descriptorLimit
        )
        // At the first look there is nothing to compare with.
        let seconds = before.nanoseconds == 0 ? 0 : Double(now &- before.nanoseconds) / 1e9
        let uses = survey.uses(snapshot, bits: (bytes &- before.bytes) &* 8, seconds: seconds)
        for use in watch.news(uses, atSeconds: now / 1_000_000_000) {
            var metadata: Logger.Metadata = [
                "limit": .string(use.name), "used": .stringConvertible(use.used), "of": .stringConvertible(use.limit),
            ]
            if let subject = use.subject { metadata["user"] = .string(subject) }
            logger.warning("a limit is four fifths used", metadata: metadata)
        }
    }
    private var servesTLS: Bool { relay.streamListeners.contains(where: \.isTLS) }

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
        return relay.snapshot().allocations == 0 || ContinuousClock.now >= end
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

    private func announce() {
        let settings = state.withLock { $0.settings }
        let places =
            relay.listeners.map { "udp \(SocketAddress($0))" }
            + relay.streamListeners.map { "\($0.isTLS ? "tls" : "tcp") \(SocketAddress($0.endpoint))" }
            + dtlsPlaces.map { "dtls \($0)" }
        var metadata: Logger.Metadata = [
            "listen": .array(places.map { .string($0) }), "realm": .string(settings.realm),
            "data_dir": .string(settings.dataDirectory), "workers": .stringConvertible(relay.workerCount),
            "openssl": .string(OpenSSLVersion.text),
        ]
        if !settings.listen.alternate.isEmpty {
            metadata["alternate"] = .array(settings.listen.alternate.map { .string("\($0)") })
        }
        logger.notice("turnpike \(Version.current) serves", metadata: metadata)
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
