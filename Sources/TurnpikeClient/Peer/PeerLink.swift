import DataChannels
import OpenSSLCrypto
import Traversal

/// One way to a peer, made from one offer and one answer: ICE finds the path, DTLS makes it private, and data channels
/// run inside. It knows nothing of signaling; what the peer has to be told comes out.
///
/// What happens is given to `output` behind each call, never inside of one.
final class PeerLink {
    enum Output {
        /// To be told to the peer, unless a description has it.
        case candidate(ICECandidate)
        case candidatesEnded
        case path(ICEPath?)
        case state(ICEState)
        /// The longest datagram that the path takes now.
        case datagramBytes(Int)
        /// Nothing but new credentials moves the peer to a path that works.
        case restartWanted
        /// To be told to the peer by signaling: there is no path yet, or none that is known to work.
        case flight(HandshakeFlight)
        /// The peer was recognised by its certificate.
        case secured
        case channels(DataChannelEvent)
        /// Nothing follows.
        case ended(End)
    }

    enum End: Equatable {
        /// `close` is through.
        case closed
        case closedByPeer
        case failed(ConnectionFailure.Reason, String)

        /// As the end of a sentence about the connection.
        var words: String {
            switch self {
            case .closed: "the connection was closed"
            case .closedByPeer: "the peer closed the connection"
            case .failed(_, let words): words
            }
        }
    }

    enum Phase {
        case open, closing, ended
    }

    let context: PeerContext
    let agent: ICEAgent
    let isOfferer: Bool
    /// Relays alone are told to the peer and used.
    let isRelayOnly: Bool
    private(set) var phase = Phase.open
    var dtls: DTLSSession?
    /// Whoever is going to call it has told SCTP the time.
    var association: DataChannelAssociation? {
        get {
            if establishedAssociation != nil { context.tellTime() }
            return establishedAssociation
        }
        set { establishedAssociation = newValue }
    }
    private var establishedAssociation: DataChannelAssociation?
    /// What the peer's description says of the data channels.
    var remoteData: DataSection?
    /// The program reads more slowly than the peer sends.
    var isReadingHeld = false {
        didSet { if !isReadingHeld { settle() } }
    }
    /// What goes by signaling, and ahead of the path.
    var carried = CarriedHandshake()
    /// Records that wait for the first path.
    var waitingRecords: [[UInt8]] = []
    var hasHadPath = false
    var hasToldSecured = false
    var unanswered = UnansweredRecords()
    /// Some of them had no path to go by.
    var isUnsent = false
    /// Of the next record that goes in pieces.
    var nextPieces: UInt32 = 0
    var fittedBytes = ClientLimits.datagramBytes
    let wake = WakeFlag()

    private let output: (Output) -> Void
    private var outputs: [Output] = []
    private var actions: [ICEAction] = []
    private var isSettling = false
    private var isUnsettled = false
    /// The alarm has to be set anew.
    private var isDeadlineStale = true
    private var closeBy: UInt64?
    private var locals: [ICELocalCandidate] = []
    /// Of the session before a restart: the old path is checked by it.
    private var lastFragment: String?
    private var hasEndedCandidates = false
    private lazy var alarm = context.network.alarm { [weak self] in self?.advance() }

    init(_ context: PeerContext, isOfferer: Bool, isRelayOnly: Bool, output: @escaping (Output) -> Void) {
        self.context = context
        self.isOfferer = isOfferer
        self.isRelayOnly = isRelayOnly
        self.output = output
        var configuration = ICEConfiguration()
        configuration.pacing = UInt64(ClientLimits.pacingMilliseconds) * ClientLimits.millisecond
        agent = ICEAgent(
            role: isOfferer ? .controlling : .controlled,
            configuration: configuration,
            cryptography: context.network.cryptography
        )
        agent.keepWarm(context.keepAliveNanoseconds)
        context.router.attach(self)
    }

    var now: UInt64 { context.network.nowNanoseconds }

    /// The peer has told that it is a program of this library.
    var isTurnpikePeer: Bool { remoteData?.transport.iceOptions.contains(HandshakeEnvelope.option) ?? false }

    // MARK: Candidates of this side

    func add(_ candidate: ICELocalCandidate) {
        guard phase == .open, !isRelayOnly || candidate.type == .relayed else { return }
        var told = candidate
        if isRelayOnly { told.related = nil }
        if told.type == .serverReflexive {
            // The NAT has rebound: the address before leads nowhere.
            locals.removeAll {
                $0.type == .serverReflexive && $0.base == told.base && $0.server == told.server
                    && $0.transport == told.transport
            }
        }
        locals.append(told)
        ice { agent, now, actions in
            if let signaled = agent.addLocalCandidate(told, now: now, into: &actions) {
                outputs.append(.candidate(signaled))
            }
        }
    }

    func remove(_ base: ICEBase) {
        locals.removeAll { $0.base == base }
        ice { agent, now, actions in agent.remove(base, now: now, into: &actions) }
    }

    func endCandidates() {
        guard !hasEndedCandidates, phase == .open else { return }
        hasEndedCandidates = true
        ice { agent, now, actions in
            agent.endLocalCandidates(now: now, into: &actions)
            outputs.append(.candidatesEnded)
        }
    }

    /// This side, as an offer or answer has it. Candidates that come later are to be told one by one.
    func describe(isOffer: Bool) -> TransportDescription {
        var description = TransportDescription(
            iceUfrag: agent.localCredentials.usernameFragment,
            icePassword: agent.localCredentials.password,
            iceOptions: [
                "trickle", "ice2", ICERemoteParameters.renomination, HandshakeEnvelope.option,
                ICERemoteParameters.padding,
            ],
            setup: isOffer ? .either : dtlsRole == .client ? .active : .passive,
            fingerprints: [
                DataChannels.CertificateFingerprint(
                    hashFunction: context.identity.fingerprint.algorithm,
                    digest: context.identity.fingerprint.bytes
                )
            ]
        )
        description.pacingMilliseconds = ClientLimits.pacingMilliseconds
        description.candidates = locals.map { CandidateLine.text(agent.signaled($0)) }
        description.hasAllCandidates = hasEndedCandidates
        return description
    }

    func answers(to fragment: Substring) -> Bool {
        fragment == agent.localCredentials.usernameFragment || fragment == lastFragment ?? ""
    }

    // MARK: The peer

    /// - Parameter flight: what came beside the description.
    /// - Throws: why the description is of no use.
    func setRemote(_ data: DataSection, with flight: HandshakeFlight = .init()) throws(LinkProblem) {
        let transport = data.transport
        let credentials: ICECredentials
        do throws(ICEError) {
            credentials = try ICECredentials(
                usernameFragment: transport.iceUfrag,
                password: transport.icePassword
            )
        } catch { throw LinkProblem("its ICE credentials are not of the form that RFC 8839 wants") }
        let isFirst = dtls == nil
        if isFirst { try makeSession(data, flight) }
        remoteData = data
        if isFirst { takeAnswered(flight) }
        let parameters = ICERemoteParameters(
            credentials: credentials,
            isLite: transport.isICELite,
            options: transport.iceOptions,
            pacingMilliseconds: transport.pacingMilliseconds
        )
        let candidates = transport.candidates.compactMap { try? CandidateLine.parse($0) }
        var isRestartNeeded = false
        ice { agent, now, actions in
            do throws(ICEError) {
                try agent.setRemote(parameters, candidates: candidates, now: now, into: &actions)
            } catch { isRestartNeeded = true }
        }
        if isRestartNeeded { throw LinkProblem("it changed its ICE credentials without a restart") }
        if transport.hasAllCandidates { endRemoteCandidates() }
    }

    /// - Returns: whether it could be read.
    @discardableResult
    func addRemote(_ line: String) -> Bool {
        guard let candidate = try? CandidateLine.parse(line) else { return false }
        ice { agent, now, actions in agent.addRemoteCandidate(candidate, now: now, into: &actions) }
        return true
    }

    func endRemoteCandidates() { ice { agent, now, actions in agent.endRemoteCandidates(now: now, into: &actions) } }

    /// New ICE credentials, which the peer has to be told; the path stays as long as it lives.
    func restart() {
        lastFragment = agent.localCredentials.usernameFragment
        ice { agent, now, actions in agent.restart(now: now, into: &actions) }
    }

    private func makeSession(_ data: DataSection, _ flight: HandshakeFlight) throws(LinkProblem) {
        // RFC 8842 section 5: an offer leaves it open, and the answer decides.
        let isClient: Bool
        switch data.transport.setup {
        case .either: isClient = !isOfferer
        case .passive: isClient = true
        case .active: isClient = false
        case .held: throw LinkProblem("it holds the connection (a=setup:holdconn)")
        }
        let prepared = carried.prepared
        carried.prepared = nil
        let expected = data.transport.fingerprints.compactMap {
            OpenSSLCrypto.CertificateFingerprint(attribute: $0.text)
        }
        guard !expected.isEmpty else { throw LinkProblem("it shows no fingerprint by a hash function in use") }
        if isClient, let prepared { return try take(prepared, expected, data, flight) }
        if data.transport.setup == .either, !isOfferer, answer(flight, expected, data) { return }
        do throws(TLSError) {
            let session = try DTLSSession(
                peer: isClient ? .client : .server,
                identity: context.identity,
                expecting: expected,
                packetLimitBytes: ClientLimits.handshakeBytes,
                firstTimeoutMicroseconds: ClientLimits.handshakeTimeoutMicroseconds
            )
            dtls = session
        } catch { throw LinkProblem("\(error)") }
        dtlsRole = isClient ? .client : .server
    }

    var dtlsRole = DataChannelAssociation.Role.client

    // MARK: The end

    /// Says goodbye on every layer, and ends within `ClientLimits.farewellTime`.
    func close() {
        guard phase == .open else { return }
        phase = .closing
        closeBy = now &+ ClientLimits.farewellTime
        isDeadlineStale = true
        if let association, agent.path != nil {
            isReadingHeld = false
            association.shutdown()
        } else {
            finish(.closed)
        }
        settle()
    }

    /// Ends at once.
    func finish(_ end: End) {
        guard phase != .ended else { return }
        phase = .ended
        carried.prepared = nil
        association?.abort()
        sendPackets()
        dtls?.shutdown()
        sendRecords()
        agent.close(into: &actions)
        perform()
        context.router.detach(self)
        alarm.set(at: nil)
        outputs.append(.ended(end))
        settle()
    }

    // MARK: Turns

    func ice(_ body: (ICEAgent, UInt64, inout [ICEAction]) -> Void) {
        guard phase != .ended else { return }
        body(agent, now, &actions)
        isDeadlineStale = true
        settle()
    }

    func emit(_ event: Output) { outputs.append(event) }

    func noteDeadlineMoved() { isDeadlineStale = true }

    /// There is more to do once what was told is dealt with.
    func goOn() { isUnsettled = true }

    /// Does all that is to be done, and then tells what happened.
    func settle() {
        isUnsettled = true
        guard !isSettling else { return }
        isSettling = true
        // A machine that has slept may get to send before it gets to its alarms, by a path that died meanwhile.
        if let due = agent.nextDeadline, now > due, now - due > ClientLimits.oversleep {
            agent.advance(now: now, into: &actions)
        }
        while isUnsettled || !outputs.isEmpty {
            isUnsettled = false
            perform()
            if phase != .ended { pump() }
            let events = outputs
            outputs = []
            for event in events { output(event) }
        }
        isSettling = false
    }

    /// About every 10 ms.
    func tick() {
        if wake.take() {
            association?.update()
            settle()
        }
        if isDeadlineStale { setAlarm() }
    }

    private func perform() {
        let due = actions
        actions = []
        for action in due {
            switch action {
            case .send(let base, let peer, let bytes):
                bytes.withUnsafeBytes { context.router.send($0, to: peer, on: base, for: self) }
            case .connect(let base, let peer): context.router.connect(to: peer, on: base, for: self)
            case .permit(let base, let peer): context.router.permit(peer.address, on: base, for: self)
            case .release(let base, let peer): context.router.release(peer, on: base, for: self)
            case .bindChannel(let base, let peer): context.router.prefer(peer, on: base)
            case .restartWanted: outputs.append(.restartWanted)
            case .resolve(let name): resolve(name)
            case .path(let path):
                outputs.append(.path(path))
                beginHandshake()
                if path != nil { sendUnanswered() }
            case .state(let state): outputs.append(.state(state))
            case .datagramBytes(let bytes): fit(bytes)
            case .role, .failed: break
            }
        }
        if !due.isEmpty, phase != .ended { setAlarm() }
    }

    private func resolve(_ name: String) {
        context.network.resolve(name) { [weak self] answer in
            let address = (try? answer.get())?.first
            self?.ice { agent, now, actions in
                agent.resolve(name: name, to: address, now: now, into: &actions)
            }
        }
    }

    private func advance() {
        guard phase != .ended else { return }
        if let closeBy, now >= closeBy { return finish(.closed) }
        // Without a path nothing that is sent again arrives either.
        if hasHadPath, let dtls, let timeout = dtls.nextTimeoutNanoseconds, timeout <= 0 {
            dtls.handleTimeout()
        }
        isDeadlineStale = true
        ice { agent, now, actions in agent.advance(now: now, into: &actions) }
        if isDeadlineStale { setAlarm() }
    }

    private func setAlarm() {
        guard phase != .ended else { return }
        isDeadlineStale = false
        var next = min(agent.nextDeadline ?? .max, closeBy ?? .max)
        if hasHadPath, let timeout = dtls?.nextTimeoutNanoseconds {
            // Rounded up: OpenSSL finds no timeout a moment before its time.
            next = min(next, now &+ UInt64(max(0, timeout)) &+ ClientLimits.millisecond)
        }
        alarm.set(at: next == .max ? nil : next)
    }
}
