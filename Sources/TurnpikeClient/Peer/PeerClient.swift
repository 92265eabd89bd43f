import DataChannels
import OpenSSLCrypto
import Signaling
import Traversal

/// A peer: signaling, the ways out, and the connections, as plain code on one loop. `P2PCoordinator` is its public
/// face.
final class PeerClient {
    struct SessionKey: Hashable {
        let local: PeerID
        let remote: PeerID
    }

    enum Phase {
        case idle, running, closing, closed
    }

    let configuration: Configuration
    let context: PeerContext
    let onEvent: (ClientEvent) -> Void
    var phase = Phase.idle
    private(set) var sessions: [SessionKey: PeerSession] = [:]
    private var numbers: [UInt64: PeerSession] = [:]
    var counts = AttemptCounts()
    /// Ids that are registered, in the order in which they came.
    var registered: [PeerID] = []
    /// What peers have said of their NATs.
    var peerNATs: [PeerID: NATType] = [:]
    /// The same with all else that they have said of their networks.
    var peerNetworks: [PeerID: NetworkFacts] = [:]
    /// What the server remembers of the ways to peers.
    var pathMemories: [SessionKey: PathMemory] = [:]
    /// The server keeps such a memory.
    var takesReports = true
    private(set) var startedAt: UInt64?

    private(set) var signaling: SignalingLink?
    private(set) lazy var gatherer = Gatherer(
        context.network,
        router: context.router,
        localPort: configuration.localPort,
        keepAliveNanoseconds: context.keepAliveNanoseconds
    ) { [weak self] in self?.take($0) }
    private(set) lazy var servers = ServerDirectory(self)
    var portMappings: PortMappings?
    private(set) lazy var mappingAlarm = context.network.alarm { [weak self] in
        self?.gatherer.awaitsMappings = false
    }

    private lazy var uplinks = UplinkWatch(context.network) { [weak self] in self?.take($0) }
    /// A path is silent, and when mappings are looked at again if it stays so.
    var isInDoubt = false
    var nextCheck: UInt64 = 0
    /// A relay may be gone: since when, and what is done next about it.
    struct RelayDoubt {
        let since: UInt64
        var hurryAt: UInt64
    }

    var relayDoubt: RelayDoubt?
    /// Before that a new doubt does not have the servers asked.
    var nextRelayCheck: UInt64 = 0
    let serverURL: ServerURL?
    let trust: ServerTrust
    let resume: (UInt64) -> @Sendable () -> Void
    /// Gives a user to channels that peers open and the program does not read.
    var channelTaker: ((DataChannel, PeerSession) -> (any ChannelUser)?)?
    var nextNumber: UInt64 = 1
    private var nextTick: UInt64 = 0
    private var ticks: UInt64 = 0
    private lazy var ticker = context.network.alarm { [weak self] in self?.tick() }
    private lazy var startAlarm = context.network.alarm { [weak self] in self?.finishStart() }
    private lazy var closeAlarm = context.network.alarm { [weak self] in self?.finishClose() }
    private(set) lazy var unplacedAlarm = context.network.alarm { [weak self] in self?.expireUnplaced() }
    /// Calls that wait for an id to connect from.
    var unplaced: [UInt64: (waiter: PeerSession.Waiter, peer: PeerID)] = [:]
    private var starting: [() -> Void] = []
    private var closing: [() -> Void] = []
    private var releasesMappings = false
    var defaultRegistration: [(Result<PeerID, ConnectionFailure>) -> Void] = []

    /// - Parameters:
    ///   - resume: gives what a full message queue of a session calls, on any thread, when it has room; it leads to
    ///     `resumeReading`.
    ///   - onEvent: called on the loop.
    init(
        _ configuration: Configuration,
        network: any ClientNetwork,
        resume: @escaping (UInt64) -> @Sendable () -> Void,
        onEvent: @escaping (ClientEvent) -> Void
    ) throws(TLSError) {
        self.configuration = configuration
        self.resume = resume
        self.onEvent = onEvent
        serverURL = configuration.signalingServer.flatMap { try? ServerURL($0, usual: .wss) }
        trust = ServerTrust(configuration.trust)
        context = PeerContext(network, router: PathRouter(), identity: try PeerIdentity())
        context.keepAliveNanoseconds = KeepAlive.interval(configuration.keepAliveInterval.clampedNanoseconds, .init())
    }

    var network: any ClientNetwork { context.network }
    var now: UInt64 { context.network.nowNanoseconds }
    var maxRetries: Int { max(0, configuration.maxRetries) }
    var problems: [String] { servers.problems + gatherer.problems + signalingProblems }

    var signalingProblems: [String] {
        guard let signaling else { return [] }
        if let problem = signaling.problem {
            let text = problem.description
            return [text.hasPrefix("ws") ? text : "\(signaling.server): \(text)"]
        }
        guard !signaling.isUp, phase == .running, starting.isEmpty else { return [] }
        return ["\(signaling.server): there is no answer yet; check the address, and the firewalls between"]
    }

    // MARK: Start

    /// - Parameter done: called when signaling and the NAT are known to work or not, within a bound.
    func start(_ done: @escaping () -> Void) {
        guard phase == .idle || phase == .running else { return done() }
        starting.append(done)
        guard phase == .idle else { return finishStartIfReady() }
        phase = .running
        startedAt = now
        startAlarm.set(at: now &+ min(ClientLimits.startTime, configuration.connectionTimeout.clampedNanoseconds))
        uplinks.start()
        startSignaling()
        startPortMapping()
        gatherer.start()
        servers.start()
        finishStartIfReady()
    }

    private func startSignaling() {
        guard let serverURL, let credentials = configuration.signalingCredentials else { return }
        let link = SignalingLink(
            network,
            server: serverURL,
            credentials: credentials,
            trust: trust,
            keepAliveSeconds: max(1, configuration.keepAliveInterval.clampedNanoseconds / ClientLimits.second)
        ) { [weak self] in self?.take($0) }
        signaling = link
        link.start()
    }

    func finishStartIfReady() {
        guard !starting.isEmpty else { return }
        if awaitsSignaling || !servers.isReady { return }
        finishStart()
    }

    /// The first attempt to reach the signaling server is under way, or has not begun.
    var awaitsSignaling: Bool {
        guard let signaling else { return canSignal && startedAt == nil }
        return !signaling.isUp && signaling.problem == nil
    }

    private var canSignal: Bool { serverURL != nil && configuration.signalingCredentials != nil }

    private func finishStart() {
        startAlarm.set(at: nil)
        let waiting = starting
        starting = []
        for done in waiting { done() }
    }

    // MARK: Sessions

    func session(_ number: UInt64) -> PeerSession? { numbers[number] }

    func makeSession(_ local: PeerID, _ remote: PeerID) -> PeerSession? {
        let key = SessionKey(local: local, remote: remote)
        sessions[key]?.end(.closed)
        guard sessions.count < ClientLimits.sessions else { return nil }
        nextNumber &+= 1
        let session = PeerSession(nextNumber, local: local, remote: remote, host: self)
        sessions[key] = session
        numbers[session.number] = session
        if nextTick == 0 { scheduleTick() }
        return session
    }

    func forget(_ session: PeerSession) {
        let key = SessionKey(local: session.local, remote: session.remote)
        if sessions[key]?.number == session.number { sessions[key] = nil }
        numbers[session.number] = nil
        if phase == .closing, sessions.isEmpty { finishClose() }
    }

    // MARK: Time

    private func scheduleTick() {
        nextTick = now &+ ClientLimits.tick
        ticker.set(at: nextTick)
    }

    /// SCTP's timers are told about every 10 ms that time passes.
    private func tick() {
        guard !sessions.isEmpty else {
            nextTick = 0
            return
        }
        SCTPStack.shared.advance(to: Int64(clamping: now))
        ticks &+= 1
        for session in sessions.values {
            session.link?.tick()
            if ticks % ClientLimits.ticksPerMeasurement == 0 {
                session.connection?.note(roundTripNanoseconds: session.link?.agent.roundTripNanoseconds)
                session.reportRelay(now: now)
            }
        }
        if ticks % ClientLimits.ticksPerPathWatch == 0 { watchPaths() }
        scheduleTick()
    }

    // MARK: The end

    /// Ends everything in order: channels, connections, relays, sockets, signaling.
    func close(_ done: @escaping () -> Void) {
        guard phase != .closed else { return done() }
        closing.append(done)
        guard phase != .closing else { return }
        let wasRunning = phase == .running
        phase = .closing
        finishStart()
        closeAlarm.set(at: now &+ ClientLimits.farewellTime &+ ClientLimits.second)
        for session in Array(sessions.values) { session.close() }
        if sessions.isEmpty || !wasRunning { finishClose() }
    }

    private func finishClose() {
        guard phase == .closing else { return }
        // Sessions are over by now, or have had their time.
        closeAlarm.set(at: nil)
        guard !releasesMappings else { return }
        releasesMappings = true
        releasePortMappings { [weak self] in self?.closeAll() }
    }

    private func closeAll() {
        guard phase == .closing else { return }
        for session in Array(sessions.values) { session.end(.closed) }
        phase = .closed
        for (waiter, peer) in unplaced.values { refuse(waiter, peer, .cancelled, "the coordinator is shut down") }
        unplaced = [:]
        for alarm in [closeAlarm, mappingAlarm, ticker, unplacedAlarm] { alarm.set(at: nil) }
        uplinks.close()
        servers.close()
        gatherer.stop()
        signaling?.close()
        registered = []
        let waiting = closing
        closing = []
        for done in waiting { done() }
    }
}

/// What a client tells its public face.
enum ClientEvent {
    case peerRegistered(PeerID)
    /// The session needs its public face; `connected` follows.
    case opening(PeerSession)
    case connected(PeerSession)
    case connectionFailed(ConnectionFailure)
    case pathChanged(PeerSession)
    case natChanged(NATInfo)
    case disconnected(PeerSession, reason: String)
}
