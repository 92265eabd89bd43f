import DataChannels
import OpenSSLCrypto
import Signaling
import Traversal

/// A peer: signaling, the ways out, and the connections, as plain code on one loop. `P2PCoordinator` is its public
/// face.
final class PeerClient: SessionHost {
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
    private(set) var peerNATs: [PeerID: NATType] = [:]
    private(set) var startedAt: UInt64?

    private(set) var signaling: SignalingLink?
    private(set) lazy var gatherer = Gatherer(
        context.network,
        router: context.router,
        localPort: configuration.localPort,
        keepAliveNanoseconds: configuration.keepAliveInterval.clampedNanoseconds
    ) { [weak self] in self?.take($0) }
    private(set) lazy var servers = ServerDirectory(self)
    let serverURL: ServerURL?
    let trust: ServerTrust
    private let resume: (UInt64) -> @Sendable () -> Void
    private var nextNumber: UInt64 = 1
    private var nextTick: UInt64 = 0
    private var ticks: UInt64 = 0
    private lazy var ticker = context.network.alarm { [weak self] in self?.tick() }
    private lazy var startAlarm = context.network.alarm { [weak self] in self?.finishStart() }
    private lazy var closeAlarm = context.network.alarm { [weak self] in self?.finishClose() }
    private lazy var unplacedAlarm = context.network.alarm { [weak self] in self?.expireUnplaced() }
    /// Calls that wait for an id to connect from.
    private var unplaced: [UInt64: (waiter: PeerSession.Waiter, peer: PeerID)] = [:]
    private var starting: [() -> Void] = []
    private var closing: [() -> Void] = []
    private var defaultRegistration: [(Result<PeerID, ConnectionFailure>) -> Void] = []

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
    }

    var network: any ClientNetwork { context.network }
    var now: UInt64 { context.network.nowNanoseconds }
    var maxRetries: Int { max(0, configuration.maxRetries) }
    var problems: [String] { servers.problems + gatherer.problems + signalingProblems }

    private var signalingProblems: [String] {
        guard let signaling, let problem = signaling.problem else { return [] }
        return ["\(signaling.server): \(problem)"]
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
        startSignaling()
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

    // MARK: Registration

    func register(_ id: PeerID, metadata: JSONText, _ done: @escaping (Result<Void, SignalingError>) -> Void) {
        guard let signaling, phase == .running else { return done(.failure(noSignaling)) }
        signaling.register(id, metadata: metadata, done)
    }

    func unregister(_ id: PeerID, _ done: @escaping () -> Void) {
        registered.removeAll { $0 == id }
        for (key, session) in sessions where key.local == id { session.close() }
        guard let signaling, phase == .running else { return done() }
        signaling.unregister(id) { _ in done() }
    }

    var noSignaling: SignalingError {
        if phase != .running {
            return SignalingError(.closed, "The coordinator does not run", mend: "call initialize() first")
        }
        return SignalingError(
            .unreachable,
            "There is no signaling server",
            mend: "set SIGNALING_SERVER, TURN_USERNAME and TURN_PASSWORD, or healthCheck() says what is wrong with them"
        )
    }

    /// The id that connections are made from: the first one registered, or one that is registered for it.
    private func withLocalID(for peer: PeerID, _ done: @escaping (Result<PeerID, ConnectionFailure>) -> Void) {
        if let first = registered.first { return done(.success(first)) }
        defaultRegistration.append(done)
        guard defaultRegistration.count == 1 else { return }
        let user = Substring(configuration.username ?? "").split(separator: ":", maxSplits: 1).last.map(String.init)
        let suffix = String(network.cryptography.randomWord() >> 24, radix: 36)
        let id = configuration.peerID ?? PeerID("\(user ?? "peer")/\(suffix)")
        register(id, metadata: .emptyObject) { [weak self] result in
            guard let self else { return }
            let answer = result.map { id }.mapError { error in
                ConnectionFailure(
                    peerId: peer,
                    reason: .signaling,
                    error: error.description,
                    report: ConnectionReport(notes: self.problems)
                )
            }
            let waiting = defaultRegistration
            defaultRegistration = []
            for done in waiting { done(answer) }
        }
    }

    // MARK: Connections

    /// - Parameter done: called within the options' timeout.
    /// - Returns: what `cancel` wants.
    func connect(
        _ peer: PeerID,
        _ options: ConnectOptions,
        _ done: @escaping (Result<PeerSession, ConnectionFailure>) -> Void
    ) -> UInt64 {
        nextNumber &+= 1
        let waiter = PeerSession.Waiter(
            number: nextNumber,
            require: options.require,
            deadline: now.addingClamped((options.timeout ?? configuration.connectionTimeout).clampedNanoseconds),
            done: done
        )
        guard phase == .running, signaling != nil else {
            refuse(waiter, peer, .signaling, noSignaling.description)
            return waiter.number
        }
        unplaced[waiter.number] = (waiter, peer)
        setUnplacedAlarm()
        withLocalID(for: peer) { [weak self] result in
            // It may be too late, or cancelled.
            guard let self, unplaced.removeValue(forKey: waiter.number) != nil else { return }
            switch result {
            case .success(let local): connect(from: local, to: peer, waiter)
            case .failure(let failure): refuse(waiter, peer, failure.reason, failure.error)
            }
        }
        return waiter.number
    }

    private func setUnplacedAlarm() { unplacedAlarm.set(at: unplaced.values.map(\.waiter.deadline).min()) }

    private func expireUnplaced() {
        for (number, entry) in unplaced where now >= entry.waiter.deadline {
            unplaced[number] = nil
            refuse(entry.waiter, entry.peer, .signaling, "the signaling server did not answer in time")
        }
        setUnplacedAlarm()
    }

    private func connect(from local: PeerID, to peer: PeerID, _ waiter: PeerSession.Waiter) {
        if registered.contains(peer) {
            return refuse(waiter, peer, .peerNotFound, "\(peer) is an id of this coordinator itself")
        }
        if let session = sessions[SessionKey(local: local, remote: peer)], session.accepts(waiter) {
            return session.wait(waiter)
        }
        guard let session = makeSession(local, peer) else {
            return refuse(waiter, peer, .limit, "there are \(ClientLimits.sessions) connections: close some")
        }
        session.isRelayOnly = waiter.require == .relay
        session.wait(waiter)
        session.begin()
    }

    private func refuse(
        _ waiter: PeerSession.Waiter,
        _ peer: PeerID,
        _ reason: ConnectionFailure.Reason,
        _ text: String
    ) {
        let report = ConnectionReport(notes: problems)
        let failure = ConnectionFailure(peerId: peer, reason: reason, error: text, report: report)
        counts.failed += 1
        onEvent(.connectionFailed(failure))
        waiter.done(.failure(failure))
    }

    func cancel(_ number: UInt64) {
        if let (waiter, peer) = unplaced.removeValue(forKey: number) {
            return refuse(waiter, peer, .cancelled, "the call was cancelled")
        }
        for session in Array(sessions.values) { session.stopWaiting(number) }
    }

    func session(_ number: UInt64) -> PeerSession? { numbers[number] }

    private func makeSession(_ local: PeerID, _ remote: PeerID) -> PeerSession? {
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

    private func forget(_ session: PeerSession) {
        let key = SessionKey(local: session.local, remote: session.remote)
        if sessions[key] === session { sessions[key] = nil }
        numbers[session.number] = nil
        if phase == .closing, sessions.isEmpty { finishClose() }
    }

    // MARK: SessionHost

    func tell(
        _ kind: SignalingMessageKind,
        _ payload: JSONValue,
        from: PeerID,
        to: PeerID,
        failed: @escaping (SignalingError) -> Void
    ) {
        guard let signaling else { return failed(noSignaling) }
        var payload = payload
        if kind != .candidate, case .object(var members) = payload, servers.natType != .unknown {
            // Browsers pass it over; our peers recommend a strategy by it.
            members["nat"] = .string(servers.natType.rawValue)
            payload = .object(members)
        }
        signaling.send(kind, JSONText(payload), from: from, to: to, failed: failed)
    }

    func resumer(_ session: UInt64) -> @Sendable () -> Void { resume(session) }

    func opened(_ session: PeerSession) {
        onEvent(.opening(session))
        counts.succeeded += 1
        if session.isDirect {
            counts.punched += 1
            session.hasBeenDirect = true
        } else {
            counts.relayed += 1
        }
        onEvent(.connected(session))
    }

    func pathChanged(_ session: PeerSession, to path: ICEPath?) {
        guard let connection = session.connection else { return }
        connection.note(roundTripNanoseconds: session.link?.agent.roundTripNanoseconds)
        guard connection.note(path) else { return }
        if session.isDirect, !session.hasBeenDirect {
            session.hasBeenDirect = true
            counts.punched += 1
        }
        onEvent(.pathChanged(session))
    }

    func ended(_ session: PeerSession, _ end: PeerLink.End) {
        forget(session)
        if session.connection != nil { onEvent(.disconnected(session, reason: end.words)) }
    }

    func failed(_ session: PeerSession, _ failure: ConnectionFailure) {
        forget(session)
        counts.failed += 1
        onEvent(.connectionFailed(failure))
    }

    // MARK: What comes

    private func take(_ event: SignalingLink.Event) {
        switch event {
        case .up(let welcome):
            servers.use(welcome.iceServers)
            servers.noteSignaling()
        case .iceServers(let found): servers.use(found)
        case .down: servers.noteSignaling()
        case .closed: break
        case .registered(let id):
            if !registered.contains(id) { registered.append(id) }
            onEvent(.peerRegistered(id))
        case .registrationLost(let id, _): registered.removeAll { $0 == id }
        case .message(let message): take(message)
        }
        finishStartIfReady()
    }

    private func take(_ message: SignalingMessage) {
        guard phase == .running else { return }
        let key = SessionKey(local: PeerID(message.to), remote: PeerID(message.from))
        guard registered.contains(key.local) else { return }
        let payload = message.payload.value
        if let text = payload["nat"]?.string, let type = NATType(rawValue: text) {
            if peerNATs.count >= ClientLimits.peersRemembered { peerNATs.removeAll() }
            peerNATs[key.remote] = type
        }
        switch message.kind {
        case .offer: takeOffer(payload, key)
        case .answer: sessions[key]?.takeAnswer(payload)
        case .candidate: sessions[key]?.takeCandidate(payload)
        case .signal: break
        }
    }

    private func takeOffer(_ payload: JSONValue, _ key: SessionKey) {
        if let session = sessions[key], session.isReplaced(by: payload) {
            // The program at the other end has begun anew.
            session.end(.closedByPeer)
        }
        if let session = sessions[key] { return session.takeOffer(payload) }
        guard let session = makeSession(key.local, key.remote) else { return }
        session.deadline = now.addingClamped(configuration.connectionTimeout.clampedNanoseconds)
        session.takeOffer(payload)
        session.setAlarm()
    }

    /// A relay does not relay to that peer.
    func refuse(_ peer: IPAddress, on base: ICEBase) {
        for session in sessions.values {
            session.link?.ice { agent, now, actions in agent.refuse(peer, on: base, now: now, into: &actions) }
        }
    }

    private func take(_ change: Gatherer.Change) {
        for session in sessions.values {
            switch change {
            case .added(let candidate): session.link?.add(candidate)
            case .removed(let base): session.link?.remove(base)
            case .completed: session.link?.endCandidates()
            }
        }
        servers.noteGatherer(change)
        finishStartIfReady()
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
            }
        }
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
        for session in Array(sessions.values) { session.end(.closed) }
        phase = .closed
        for (waiter, peer) in unplaced.values { refuse(waiter, peer, .cancelled, "the coordinator is shut down") }
        unplaced = [:]
        for alarm in [closeAlarm, ticker, unplacedAlarm] { alarm.set(at: nil) }
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
