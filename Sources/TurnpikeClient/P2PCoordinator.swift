import DataChannels
import NIOCore
import NIOPosix
import OpenSSLCrypto
import Signaling
import Synchronization
import Traversal

/// Connects this program with others: finds them by a signaling server, finds the best path to each, and keeps it.
///
///     let coordinator = P2PCoordinator()
///     try await coordinator.initialize()
///     try await coordinator.registerPeer("alice/laptop")
///     let connection = try await coordinator.connectToPeer("alice/desk")
///     try await connection.send("hello")
///     await coordinator.shutdown()
///
/// All data is encrypted from end to end, over relays too. A coordinator is used once: after `shutdown()` make another.
public actor P2PCoordinator {
    /// What the coordinator was made with.
    public nonisolated let configuration: Configuration

    private nonisolated let loop: any EventLoop
    private nonisolated let group: MultiThreadedEventLoopGroup
    private nonisolated let broadcast = EventBroadcast()
    private nonisolated let log: DetailedLog
    /// Of the loop, so that `deinit` can end it there.
    private nonisolated let place: NIOLoopBoundBox<PeerClient?>
    private var startedAt: ContinuousClock.Instant?
    private var isInitialized = false
    private var isOver = false
    private var startFailure: String?
    private var forwarding: Forwarding?

    /// Makes a coordinator; nothing is sent before `initialize()`.
    public init(_ configuration: Configuration = .fromEnvironment()) {
        self.configuration = configuration
        group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        loop = group.next()
        place = .makeEmptyBox(valueType: PeerClient.self, eventLoop: loop)
        log = DetailedLog(isEnabled: configuration.enableDetailedLogging)
    }

    // On the loop, as everything that touches the client. The group is not ended in `shutdown()`: the actor runs on the
    // loop as long as it lives. Sockets that are left are closed.
    deinit {
        loop.execute { [group, place] in
            guard let client = place.value else { return group.shutdownGracefully { _ in } }
            // A program may drop a coordinator without `shutdown()`. The client outlives it until all is given back.
            client.close { withExtendedLifetime(client) { group.shutdownGracefully { _ in } } }
        }
    }

    /// Everything of a coordinator happens on one event loop.
    public nonisolated var unownedExecutor: UnownedSerialExecutor { loop.executor.asUnownedSerialExecutor() }

    // MARK: Beginning

    /// Joins signaling, finds out about the NAT and opens relays. It returns when each of them is known to work or not,
    /// which takes `connectionTimeout` or eight seconds at most. Called again, it waits for the same.
    ///
    /// - Throws: `InitializationFailure` when nothing works: no peer could be found, or none reached.
    public func initialize() async throws {
        if startedAt == nil { startedAt = .now }
        let client = try makeClient()
        await withCheckedContinuation { continuation in client.start { continuation.resume() } }
        guard !isOver else { throw InitializationFailure(issues: ["the coordinator was shut down"]) }
        let health = healthCheck()
        if health.services.signaling.status != .healthy && health.services.holePunching.status != .healthy
            && health.services.relay.status != .healthy
        {
            throw InitializationFailure(issues: health.issues)
        }
        if !isInitialized { tell(.initialized) }
        isInitialized = true
    }

    /// Begins all that `initialize()` begins, and returns once the id is registered: a connection needs no more, and
    /// what is found out about the NAT comes to it later.
    ///
    /// - Throws: `InitializationFailure` and `RegistrationFailure`.
    package func join(as id: PeerID) async throws {
        if startedAt == nil { startedAt = .now }
        try makeClient().start {}
        try await registerPeer(id)
    }

    private func makeClient() throws -> PeerClient {
        if let client { return client }
        // The loop outlives `main`, as nobody waits for its end.
        OpenSSLLibrary.stayAtExit()
        guard !isOver else { throw InitializationFailure(issues: ["the coordinator was shut down; make another"]) }
        do {
            let network = NIONetwork(loop, cryptography: try OpenSSLCryptography())
            let resume = { [weak self] (session: UInt64) -> @Sendable () -> Void in
                { [weak self] in
                    guard let self else { return }
                    Task { await self.resumeReading(session) }
                }
            }
            let made = try PeerClient(configuration, network: network, resume: resume) { [weak self] event in
                // Safe: the client calls on the loop, which is this actor's executor, and keeps nothing of the event
                // that it would change elsewhere.
                nonisolated(unsafe) let event = event
                self?.assumeIsolated { $0.take(event) }
            }
            client = made
            return made
        } catch {
            let failure = "no certificate could be made: \(error)"
            startFailure = failure
            throw InitializationFailure(issues: [failure])
        }
    }

    // MARK: Peers

    /// Registers an id at the signaling server, so that others can connect to it. It stays registered over cuts. Called
    /// again for an id, it replaces the metadata.
    ///
    /// - Parameters:
    ///   - id: one of the user's: the name itself, or what begins with it and a slash.
    ///   - metadata: what those are told who look for the id, or share a room with it.
    /// - Throws: `RegistrationFailure`.
    public func registerPeer(_ id: PeerID, metadata: [String: String] = [:]) async throws {
        guard let client else { throw RegistrationFailure(id: id, error: notRunning) }
        let text = JSONText(.object(metadata.mapValues { .string($0) }))
        let result = await withCheckedContinuation { continuation in
            client.register(id, metadata: text) { continuation.resume(returning: $0) }
        }
        if case .failure(let error) = result { throw RegistrationFailure(id: id, error: error.description) }
    }

    /// Takes an id back, and closes the connections that were made under it.
    public func unregisterPeer(_ id: PeerID) async {
        guard let client else { return }
        await withCheckedContinuation { continuation in client.unregister(id) { continuation.resume() } }
    }

    /// Connects to a peer. It returns at the first path that is usable, mostly a relay's, and a better one takes over
    /// in the background. A connection that is open already is given again.
    ///
    /// - Throws: `ConnectionFailure`, within the timeout.
    public func connectToPeer(_ id: PeerID, options: ConnectOptions = .init()) async throws -> Connection {
        let call = WaitingCall()
        return try await withTaskCancellationHandler {
            try await connect(id, options, call)
        } onCancel: {
            if let waiter = call.cancel() { Task { await self.cancel(waiter) } }
        }
    }

    private func connect(_ id: PeerID, _ options: ConnectOptions, _ call: WaitingCall) async throws -> Connection {
        guard let client else {
            throw ConnectionFailure(
                peerId: id,
                reason: .signaling,
                error: notRunning,
                report: ConnectionReport()
            )
        }
        let result = await withCheckedContinuation { (continuation: CheckedContinuation<ConnectResult, Never>) in
            let waiter = client.connect(id, options) { result in
                continuation.resume(
                    returning: result.flatMap { session in
                        session.connection.map(Result.success)
                            ?? .failure(session.failure(.closedByPeer, "the connection was closed"))
                    }
                )
            }
            if call.note(waiter) { client.cancel(waiter) }
        }
        return try result.get()
    }

    private typealias ConnectResult = Result<Connection, ConnectionFailure>

    private var notRunning: String {
        isOver ? "the coordinator was shut down; make another" : "call initialize() first"
    }

    private var client: PeerClient? {
        get { place.value }
        set { place.value = newValue }
    }

    private func cancel(_ waiter: UInt64) { client?.cancel(waiter) }

    // MARK: State

    /// What is known of the NAT. Its type is `.unknown` until it is found out.
    public func getNATInfo() -> NATInfo {
        client?.servers.nat
            ?? NATInfo(unknownBecause: isOver ? "the coordinator was shut down" : "initialize() was not called")
    }

    /// What was done so far.
    public func getStats() -> Statistics {
        let uptime = startedAt.map { Int(clamping: $0.duration(to: .now).components.seconds) } ?? 0
        return (client?.counts ?? AttemptCounts()).statistics(
            registered: client?.registered.count ?? 0,
            active: client?.sessions.values.count { $0.connection != nil && $0.phase == .open } ?? 0,
            uptimeSeconds: uptime
        )
    }

    /// How peers can be reached from here, as far as the NAT tells: against one behind the usual home router.
    public func getRecommendedStrategy() -> Strategy {
        Strategy(for: NetworkFacts(getNATInfo()), guesses: guessesPorts)
    }

    /// The same for a given peer. Its NAT is known once it has sent an offer or an answer.
    public func recommendedStrategy(for peer: PeerID) -> Strategy {
        guard let remote = client?.networkFacts(of: peer) else { return getRecommendedStrategy() }
        return Strategy(for: NetworkFacts(getNATInfo()), and: remote, guesses: guessesPorts)
    }

    private var guessesPorts: Bool { configuration.symmetricPunching != .never }

    /// Why a connection is direct or is not, and what would help: from the NATs of both sides, as far as the peer has
    /// told of its own, and from what was tried.
    /// - Returns: nil for a connection that is over.
    public func explanation(of connection: Connection) -> Explanation? {
        client?.session(connection.id)?.explanation
    }

    /// What the signaling server remembers of paths between the two networks; nil where that is nothing.
    package func pathMemory(of connection: Connection) -> PathMemory? {
        client?.session(connection.id)?.pathMemory
    }

    /// How the services stand, and what is wrong, with the mend.
    public func healthCheck() -> Health {
        HealthCheck(configuration, client: client, startFailure: startFailure).health
    }

    /// What happens from here on. Each reader has its own stream, which ends with `.shutdown`; one that falls behind by
    /// a thousand events loses the oldest.
    public nonisolated var events: AsyncStream<Event> { broadcast.subscribe() }

    // MARK: The end

    /// Closes every connection, gives the relays back and leaves signaling, in that order. It takes some seconds at
    /// most. Called again, it does nothing.
    public func shutdown() async {
        guard !isOver else { return }
        isOver = true
        forwarding?.close()
        forwarding = nil
        if let client {
            await withCheckedContinuation { continuation in client.close { continuation.resume() } }
        }
        client = nil
        tell(.shutdown)
        broadcast.finish()
    }

    // MARK: What connections call

    func send(_ message: Message, on channel: Int, of session: UInt64) async throws {
        guard let session = client?.session(session) else { throw MessageChannelError.closed }
        let error = await withCheckedContinuation { continuation in
            session.send(message, on: channel) { continuation.resume(returning: $0) }
        }
        if let error { throw error }
    }

    func openChannel(_ configuration: DataChannelConfiguration, of session: UInt64) throws -> MessageChannel {
        guard let session = client?.session(session) else { throw MessageChannelError.closed }
        return try session.open(configuration).get()
    }

    func closeChannel(_ channel: Int, of session: UInt64) async {
        guard let session = client?.session(session) else { return }
        await withCheckedContinuation { continuation in
            session.closeChannel(channel) { continuation.resume() }
        }
    }

    func close(_ session: UInt64) async {
        guard let session = client?.session(session) else { return }
        await withCheckedContinuation { continuation in session.close { continuation.resume() } }
    }

    /// - Parameter tell: of the first call alone.
    /// - Returns: nil before `initialize()` and after `shutdown()`.
    func forwarding(_ tell: @escaping @Sendable (ForwardEvent) -> Void) -> Forwarding? {
        guard let client, !isOver else { return nil }
        let made = forwarding ?? Forwarding(client, on: loop, tell)
        forwarding = made
        return made
    }

    private func resumeReading(_ session: UInt64) { client?.session(session)?.resumeReading() }

    // MARK: Events

    private func take(_ event: ClientEvent) {
        switch event {
        case .peerRegistered(let id): tell(.peerRegistered(id))
        case .opening(let session):
            session.connection = Connection(
                session.number,
                to: session.remote,
                of: self,
                path: session.link?.path,
                queue: session.ownQueue
            )
        case .connected(let session): if let connection = session.connection { tell(.connected(connection)) }
        case .connectionFailed(let failure): tell(.connectionFailed(failure))
        case .pathChanged(let session):
            if let connection = session.connection { tell(.pathChanged(connection, connection.path)) }
        case .natChanged(let info): tell(.natChanged(info))
        case .disconnected(let session, let reason):
            if let connection = session.connection { tell(.disconnected(connection, reason: reason)) }
        }
    }

    private func tell(_ event: Event) {
        log.write(event)
        broadcast.send(event)
    }
}

/// Why nothing works.
public struct InitializationFailure: Error, Sendable, Hashable, CustomStringConvertible {
    /// Each with the mend.
    public var issues: [String]

    /// All of them.
    public var description: String { "P2P initialization failed: " + issues.joined(separator: "; ") }
}

/// Why an id is not registered.
public struct RegistrationFailure: Error, Sendable, Hashable, CustomStringConvertible {
    /// Which one.
    public var id: PeerID
    /// What is wrong, and the mend.
    public var error: String

    /// Both.
    public var description: String { "\(id) is not registered: \(error)" }
}

/// A call of `connectToPeer` that may be cancelled from any thread.
private final class WaitingCall: Sendable {
    private let state = Mutex<(waiter: UInt64?, isCancelled: Bool)>((nil, false))

    /// - Returns: whether it was cancelled before.
    func note(_ waiter: UInt64) -> Bool {
        state.withLock { state in
            state.waiter = waiter
            return state.isCancelled
        }
    }

    func cancel() -> UInt64? {
        state.withLock { state in
            state.isCancelled = true
            return state.waiter
        }
    }
}
