import OpenSSLCrypto
import Signaling
import Traversal

/// The signaling session over WebSockets of the network: it comes back by itself after every cut. Answers are given to
/// who asked, and everything else to `onEvent`.
final class SignalingLink {
    enum Event {
        /// The server has let this client in.
        case up(SignalingWelcome)
        /// There is no connection; another attempt follows unless it is the credentials' fault.
        case down(SignalingError)
        case iceServers([SignalingICEServer])
        case registered(PeerID)
        case registrationLost(PeerID, SignalingError)
        case message(SignalingMessage)
        case closed
    }

    private enum Pending {
        case probe((Result<SignalingProbe, SignalingError>) -> Void)
        case answer((Result<Void, SignalingError>) -> Void)
        /// A message has no answer but a failure.
        case message((SignalingError) -> Void)

        func fail(_ error: SignalingError) {
            switch self {
            case .probe(let done): done(.failure(error))
            case .answer(let done): done(.failure(error))
            case .message(let failed): failed(error)
            }
        }
    }

    let server: ServerURL
    /// Why there is no connection; nil while there is one, or the first is under way.
    private(set) var problem: SignalingError?
    private(set) var isUp = false
    /// How the connection goes to the server, or the last one did.
    var way: WebSocketWay? { link?.way ?? lastWay }
    /// What of the network or the server ended the last connection.
    private(set) var failure: NetworkFailure?
    private var lastWay: WebSocketWay?

    private let network: any ClientNetwork
    private let trust: ServerTrust
    private let onEvent: (Event) -> Void
    private var session: SignalingSession
    private var link: (any WebSocketLink)?
    private var pending: [SignalingRequestID: Pending] = [:]
    private(set) var hasBeenUp = false
    private var isTurning = false
    private var waiting: [(inout SignalingSession, UInt64, inout [SignalingAction]) -> Void] = []
    private lazy var alarm = network.alarm { [weak self] in
        self?.turn { session, now, actions in session.advance(now: now, into: &actions) }
    }

    init(
        _ network: any ClientNetwork,
        server: ServerURL,
        credentials: SignalingCredentials,
        trust: ServerTrust,
        keepAliveSeconds: UInt64,
        onEvent: @escaping (Event) -> Void
    ) {
        self.network = network
        self.server = server
        self.trust = trust
        self.onEvent = onEvent
        var configuration = SignalingConfiguration(credentials: credentials)
        configuration.keepAliveSeconds = keepAliveSeconds
        let cryptography = network.cryptography
        session = SignalingSession(configuration) { cryptography.randomWord() }
    }

    var clock: ServerClock { session.clock }

    func start() { turn { session, now, actions in session.start(now: now, into: &actions) } }

    /// This machine's addresses are others. What goes from one that is there still is left alone.
    func move(to addresses: [LocalAddress]) {
        if isUp, let own = link?.localAddress, addresses.contains(where: { $0.address.withoutLink == own }) { return }
        reconnect()
    }

    /// A connection from this address went through a NAT that has another address now, which the server answers with a
    /// reset at best.
    func noteRenumbered(_ address: IPAddress) { if isUp, link?.localAddress == address.withoutLink { reconnect() } }

    /// What failed may work.
    func retry() { if case .waiting = session.state { reconnect() } }

    /// A connection waits for signaling: a server that could not be reached is tried again.
    func hurry() {
        if case .waiting = session.state, problem?.reason == .unreachable { reconnect() }
    }

    /// Gives up what there is of a connection, and begins another one at once.
    func reconnect() {
        isUp = false
        turn { session, now, actions in session.reconnect(now: now, into: &actions) }
    }

    func close() { turn { session, now, actions in session.close(now: now, into: &actions) } }

    // MARK: Requests

    func register(_ id: PeerID, metadata: JSONText, _ done: @escaping (Result<Void, SignalingError>) -> Void) {
        request(.answer(done)) { session, now, actions throws(SignalingError) in
            try session.register(id.rawValue, metadata: metadata, now: now, into: &actions)
        }
    }

    func unregister(_ id: PeerID, _ done: @escaping (Result<Void, SignalingError>) -> Void) {
        request(.answer(done)) { session, now, actions throws(SignalingError) in
            try session.unregister(id.rawValue, now: now, into: &actions)
        }
    }

    /// Has the server connect to a port of this host's address.
    func probe(port: UInt16, _ done: @escaping (Result<SignalingProbe, SignalingError>) -> Void) {
        request(.probe(done)) { session, now, actions throws(SignalingError) in
            try session.probe(port: port, now: now, into: &actions)
        }
    }

    func send(
        _ kind: SignalingMessageKind,
        _ payload: JSONText,
        from: PeerID,
        to: PeerID,
        failed: @escaping (SignalingError) -> Void
    ) {
        // Those that went well are never heard of again.
        forgetOldMessages()
        request(.message(failed)) { session, now, actions throws(SignalingError) in
            try session.send(
                kind,
                payload,
                from: from.rawValue,
                to: to.rawValue,
                now: now,
                into: &actions
            )
        }
    }

    /// - Parameter failed: called where the server does not take it.
    func report(
        _ method: PathMethod,
        worked: Bool,
        milliseconds: UInt64,
        from: PeerID,
        to: PeerID,
        failed: @escaping (SignalingError) -> Void
    ) {
        forgetOldMessages()
        request(.message(failed)) { session, now, actions throws(SignalingError) in
            try session.report(
                method,
                worked: worked,
                milliseconds: milliseconds,
                from: from.rawValue,
                to: to.rawValue,
                now: now,
                into: &actions
            )
        }
    }

    private func forgetOldMessages() {
        guard pending.count >= ClientLimits.pendingMessages else { return }
        let messages = pending.keys.filter { key in
            if case .message = pending[key] { return true }
            return false
        }
        for id in messages.sorted(by: { $0.rawValue < $1.rawValue }).prefix(messages.count / 2) { pending[id] = nil }
    }

    private func request(
        _ entry: Pending,
        _ body:
            @escaping (inout SignalingSession, UInt64, inout [SignalingAction]) throws(SignalingError)
            -> SignalingRequestID
    ) {
        turn { [weak self] session, now, actions in
            // Nothing changes before there are other credentials.
            if case .refused(let error) = session.state { return entry.fail(error) }
            do throws(SignalingError) {
                let id = try body(&session, now, &actions)
                self?.pending[id] = entry
            } catch {
                entry.fail(error)
            }
        }
    }

    // MARK: Turns

    private func turn(_ body: @escaping (inout SignalingSession, UInt64, inout [SignalingAction]) -> Void) {
        waiting.append(body)
        guard !isTurning else { return }
        isTurning = true
        while !waiting.isEmpty {
            let body = waiting.removeFirst()
            var actions: [SignalingAction] = []
            body(&session, network.nowNanoseconds, &actions)
            for action in actions { perform(action) }
        }
        isTurning = false
        alarm.set(at: session.nextDeadline)
    }

    private func perform(_ action: SignalingAction) {
        switch action {
        case .connect(let socket, let authorization): connect(socket, authorization)
        case .send(let text): link?.send(text)
        case .close(let code):
            lastWay = link?.way
            link?.close(code: code)
            link = nil
        case .deliver(let event): deliver(event)
        }
    }

    private func connect(_ socket: UInt64, _ authorization: String?) {
        link?.close(code: 1_001)
        (lastWay, failure) = (nil, nil)
        let request = WebSocketRequest(
            host: server.host,
            port: server.port,
            path: server.path,
            isSecure: server.scheme == .wss,
            trust: trust,
            headers: authorization.map { [(name: "Authorization", value: $0)] } ?? [],
            subprotocol: SignalingSession.subprotocol
        )
        link = network.openWebSocket(request) { [weak self] event in
            if let self, case .closed(_, let failure) = event { (lastWay, self.failure) = (link?.way, failure) }
            self?.turn { session, now, actions in
                switch event {
                case .opened:
                    let seconds = self?.link?.serverSeconds
                    session.opened(socket: socket, serverSeconds: seconds, now: now, into: &actions)
                case .text(let text): session.received(text, socket: socket, now: now, into: &actions)
                case .closed(let code, let failure):
                    Self.tell(&session, socket, code, failure, now, &actions)
                }
            }
        }
    }

    private static func tell(
        _ session: inout SignalingSession,
        _ socket: UInt64,
        _ code: UInt16,
        _ failure: NetworkFailure?,
        _ now: UInt64,
        _ actions: inout [SignalingAction]
    ) {
        if let status = failure?.httpStatus {
            return session.rejected(socket: socket, status: status, retryAfterSeconds: nil, now: now, into: &actions)
        }
        let problem = failure.map { SignalingError(.unreachable, $0.description) }
        // RFC 6455 section 7.1.5: 1006 stands for no close frame at all.
        let said = code == 1_006 ? nil : code
        session.closed(socket: socket, code: said, problem: problem, now: now, into: &actions)
    }

    // MARK: Events

    private func deliver(_ event: SignalingEvent) {
        switch event {
        case .opened(let welcome):
            (isUp, problem, hasBeenUp) = (true, nil, true)
            onEvent(.up(welcome))
        case .disconnected(let error, let pause):
            (isUp, problem) = (false, error)
            if pause == nil { failAll(error) }
            onEvent(.down(error))
        case .registered(let id, let request):
            answer(request, .success(()))
            onEvent(.registered(PeerID(id)))
        case .registrationLost(let id, let error, _): onEvent(.registrationLost(PeerID(id), error))
        case .unregistered(_, let request): answer(request, .success(()))
        case .iceServers(let servers, _, let request):
            answer(request, .success(()))
            onEvent(.iceServers(servers))
        case .probed(let probe, let request):
            if case .probe(let done) = pending.removeValue(forKey: request) { done(.success(probe)) }
        case .failed(let request, let error): pending.removeValue(forKey: request)?.fail(error)
        case .message(let message): onEvent(.message(message))
        case .closed:
            isUp = false
            alarm.set(at: nil)
            failAll(SignalingError(.closed, "The signaling session is closed"))
            onEvent(.closed)
        default: break
        }
    }

    private func failAll(_ error: SignalingError) {
        let failed = pending
        pending = [:]
        for entry in failed.values { entry.fail(error) }
    }

    private func answer(_ request: SignalingRequestID?, _ result: Result<Void, SignalingError>) {
        guard let request, case .answer(let done) = pending.removeValue(forKey: request) else { return }
        done(result)
    }
}
