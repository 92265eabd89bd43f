import OpenSSLCrypto
import Traversal

/// One address of a TURN server by one transport: the way there, and the `TURNClient` on it. It lives until it has
/// ended, whoever holds it.
final class RelayAttempt {
    enum Event {
        /// The server, or the way to it, has shown itself.
        case promising
        case allocated(TURNAllocation)
        case turn(TURNAction)
        /// Neither the way there is nor another one from here is answered.
        case silent
        case ended(RelayFailure?)
    }

    let server: RelayServer
    private(set) var local: Endpoint?
    /// What the way did not take.
    private(set) var droppedDatagrams: UInt64 = 0
    /// The shortest time in which a request was answered that had been sent once.
    private(set) var roundTripNanoseconds: UInt64?
    /// The transaction of the last message sent, which is none where that was data.
    private var timedTransaction: [UInt8] = []
    /// Nil where its answer tells nothing of the time, for it may be the answer to either of two copies.
    private var timedFrom: UInt64?

    private let network: any ClientNetwork
    private let contexts: SecureContexts
    private var tell: ((Event) -> Void)?
    private var client: TURNClient
    private var carrier: (any StreamLink)?
    /// The way that an allocation is leaving.
    private var previous: (any StreamLink)?
    private var farewell: (any Alarm)?
    /// Events of a way that was given up have the number of an older one.
    private var carrierNumber = 0
    private var alarm: (any Alarm)?
    private var certificateName: String
    /// The allocation is to move to the way that is coming up.
    private var isMoving = false
    /// This machine has no way to anywhere, and the allocation waits for one.
    private(set) var isResting = false
    /// It moves to this other address of the server.
    private var target: Endpoint?
    /// When the server was asked whether it is there, and when it was heard last.
    private var askedAt: UInt64?
    private var heardAt: UInt64 = 0
    private var patience: (any Alarm)?
    private var waiting: [TURNAction] = []
    private var isPerforming = false
    /// It was heard since it has moved last.
    private var hasStayed = true
    private var keptUntilTheEnd: RelayAttempt?

    init(
        _ server: RelayServer,
        at endpoint: Endpoint,
        families: TURNConfiguration.Families,
        network: any ClientNetwork,
        contexts: SecureContexts,
        _ tell: @escaping (Event) -> Void
    ) {
        self.server = server
        self.network = network
        self.contexts = contexts
        self.tell = tell
        certificateName = server.host
        var configuration = TURNConfiguration(
            server: endpoint,
            transport: server.transport,
            credential: server.credential
        )
        configuration.families = families
        configuration.wantsMobility = true
        configuration.software = "Turnpike \(ClientVersion.current)"
        client = TURNClient(configuration, with: network.cryptography)
        alarm = network.alarm { [weak self] in self?.run { $0.advance(now: $1, into: &$2) } }
        patience = network.alarm { [weak self] in self?.losePatience() }
    }

    var endpoint: Endpoint { target ?? client.server }

    var isLive: Bool { client.isLive }

    /// The server lets the allocation move.
    var isMobile: Bool { client.allocation?.isMobile ?? false }

    /// As `TURNClient` has it.
    var keepAliveNanoseconds: UInt64 {
        get { client.keepAliveNanoseconds }
        set { run { client, _, _ in client.keepAliveNanoseconds = newValue } }
    }

    /// What waits on a stream.
    var queuedBytes: Int { carrier?.queuedBytes ?? 0 }

    func begin() {
        keptUntilTheEnd = self
        open()
    }

    func send(_ data: UnsafeRawBufferPointer, to peer: Endpoint) -> TURNClient.SendOutcome {
        // A way that is slower than its traffic loses some of it, as any other would.
        guard carrier?.queuedBytes ?? 0 <= ClientLimits.relayQueueBytes else {
            droppedDatagrams &+= 1
            return .sent
        }
        var outcome = TURNClient.SendOutcome.noAllocation
        run { outcome = $0.send(data, to: peer, now: $1, into: &$2) }
        return outcome
    }

    /// Any wish to the client, which gets the time and the list of actions.
    func run(_ body: (inout TURNClient, UInt64, inout [TURNAction]) -> Void) {
        guard keptUntilTheEnd != nil else { return }
        body(&client, network.nowNanoseconds, &waiting)
        perform()
    }

    /// Asks the server whether the allocation is there. If it does not answer, the allocation is moved to a way of its
    /// own; if it does not answer that either, `.silent` is told.
    func check() {
        guard client.isLive, !isMoving, !isResting, askedAt == nil else { return }
        askedAt = network.nowNanoseconds
        patience?.set(at: network.nowNanoseconds &+ ClientLimits.relayAnswerTime)
        run { $0.check(now: $1, into: &$2) }
    }

    /// Sends again what is not answered yet, without waiting for its time.
    func hurry() { if !isResting { run { $0.repeatRequests(now: $1, into: &$2) } } }

    /// Waits for `move`.
    func rest() {
        (isResting, isMoving, askedAt) = (true, false, nil)
        patience?.set(at: nil)
    }

    private func losePatience() {
        guard let asked = askedAt, heardAt < asked else { return askedAt = nil }
        askedAt = nil
        if !isMoving, client.allocation?.isMobile == true, hasStayed { return move() }
        // Its address of before leads nowhere from here, and this one not to the allocation.
        if target != nil { return run { $0.connectionLost(into: &$2) } }
        tell?(.silent)
    }

    /// The machine's addresses have changed: takes the allocation along where the server lets it.
    /// - Parameter endpoint: where the server is reached from here, if that is another address than before.
    func move(to endpoint: Endpoint? = nil) {
        guard client.isLive else { return }
        guard isMobile else { return run { $0.connectionLost(into: &$2) } }
        (isMoving, isResting) = (true, false)
        target = endpoint ?? target
        hasStayed = false
        askedAt = network.nowNanoseconds
        patience?.set(at: network.nowNanoseconds &+ ClientLimits.relayMoveTime)
        // A server gives up what came by a connection when that ends, unless it has moved away by then.
        previous?.close()
        previous = carrier
        carrier = nil
        farewell = network.alarm { [weak self] in
            self?.previous?.close()
            self?.previous = nil
        }
        farewell?.set(at: network.nowNanoseconds &+ ClientLimits.moveTime)
        open()
    }

    /// Gives the allocation back; nothing is told any more.
    func close() {
        tell = nil
        run { $0.close(now: $1, into: &$2) }
    }

    // MARK: The way

    private func open() {
        carrier?.close()
        carrierNumber += 1
        let number = carrierNumber
        let receive: (StreamEvent) -> Void = { [weak self] event in
            guard let self, self.carrierNumber == number else { return }
            self.take(event)
        }
        do throws(NetworkFailure) {
            carrier = try makeCarrier(receive)
        } catch {
            lost(error)
        }
    }

    private func makeCarrier(_ receive: @escaping (StreamEvent) -> Void) throws(NetworkFailure) -> any StreamLink {
        switch server.transport {
        // An allocation outlives the restart of a way to it.
        case .udp:
            return try PlainDatagrams(
                to: endpoint,
                endsIfRefused: !client.isLive || target != nil,
                network: network,
                receive
            )
        case .tcp: return network.connect(to: endpoint, receive)
        case .tls:
            return try SecureStream(
                to: endpoint,
                serverName: certificateName,
                trust: server.trust,
                protocols: Self.protocols,
                contexts: contexts,
                network: network,
                receive
            )
        case .dtls:
            return try SecureDatagrams(
                to: endpoint,
                serverName: certificateName,
                trust: server.trust,
                protocols: Self.protocols,
                contexts: contexts,
                network: network,
                receive
            )
        }
    }

    /// RFC 7443 section 3.
    private static let protocols = ["stun.turn"]

    private func take(_ event: StreamEvent) {
        switch event {
        case .opened(let local):
            self.local = local
            if server.transport != .udp { tell?(.promising) }
            if isMoving {
                isMoving = false
                let target = target
                run { if !$0.moved(to: target, now: $1, into: &$2) { $0.connectionLost(into: &$2) } }
            } else {
                run { $0.start(now: $1, into: &$2) }
            }
        case .bytes(let bytes):
            (heardAt, hasStayed, target) = (network.nowNanoseconds, true, nil)
            noteArrival(bytes)
            if server.transport == .udp, !client.isLive { tell?(.promising) }
            run { $0.receive(bytes, now: $1, into: &$2) }
        case .writable: break
        case .closed where isResting: carrier = nil
        case .closed(let failure):
            // An allocation that can move outlives its connection.
            if client.isLive, client.allocation?.isMobile == true, !isMoving { return move() }
            lost(failure)
        }
    }

    private func noteSend(_ bytes: [UInt8]) {
        let transaction = Self.transaction(bytes)
        timedFrom = transaction.isEmpty || transaction == timedTransaction ? nil : network.nowNanoseconds
        timedTransaction = transaction
    }

    private func noteArrival(_ bytes: UnsafeRawBufferPointer) {
        guard let from = timedFrom, Self.transaction(bytes) == timedTransaction else { return }
        timedFrom = nil
        roundTripNanoseconds = min(roundTripNanoseconds ?? .max, network.nowNanoseconds &- from)
    }

    /// RFC 8489 section 5: behind the type, the length and the cookie. Empty for what is no STUN message.
    private static func transaction(_ bytes: some RandomAccessCollection<UInt8>) -> [UInt8] {
        guard bytes.count >= 20, let first = bytes.first, first < 0x40 else { return [] }
        return Array(bytes.dropFirst(8).prefix(12))
    }

    private func lost(_ failure: NetworkFailure?) {
        if let failure, !client.hasEnded { return end(RelayFailure(server: server, cause: .network(failure))) }
        var actions: [TURNAction] = []
        // One that never began has nothing to tell by itself.
        client.connectionLost(into: &actions)
        waiting += actions
        perform()
    }

    // MARK: What the client wants

    private func perform() {
        // What an action sets off comes behind those that are there.
        guard !isPerforming else { return }
        isPerforming = true
        var next = 0
        while next < waiting.count {
            let action = waiting[next]
            next += 1
            perform(action)
        }
        waiting.removeAll(keepingCapacity: true)
        isPerforming = false
        if keptUntilTheEnd != nil { alarm?.set(at: client.nextDeadline) }
    }

    private func perform(_ action: TURNAction) {
        switch action {
        case .send(let bytes):
            noteSend(bytes)
            bytes.withUnsafeBytes { carrier?.send($0) }
        case .reconnect(_, let name):
            if let name { certificateName = name }
            open()
        case .allocated(let allocation): tell?(.allocated(allocation))
        case .ended(let failure): end(failure.map { RelayFailure(server: server, cause: .turn($0)) })
        default: tell?(.turn(action))
        }
    }

    private func end(_ failure: RelayFailure?) {
        guard keptUntilTheEnd != nil else { return }
        carrierNumber += 1
        carrier?.close()
        carrier = nil
        previous?.close()
        previous = nil
        farewell?.set(at: nil)
        farewell = nil
        for alarm in [alarm, patience] { alarm?.set(at: nil) }
        (alarm, patience) = (nil, nil)
        let tell = tell
        self.tell = nil
        // The caller may hold the last other reference.
        withExtendedLifetime(self) {
            keptUntilTheEnd = nil
            tell?(.ended(failure))
        }
    }
}
