/// The rendezvous: who is connected, under which peer ids, in which rooms, and what goes from whom to whom.
///
/// A pure machine. What happened goes in with the time, and what is to be done comes out as actions, in order. It reads
/// no clock and no socket, draws no random number of its own, never waits, and does the same for the same input. It is
/// owned by one task or event loop.
///
/// What holds at any time:
/// - A connection that has not authenticated has no session, and is sent nothing but errors.
/// - `from` is written here, from the peer ids that the session registered, which are its user's own.
/// - Every table is bounded, and what one client can put into them is bounded further.
package final class Hub {
    package var configuration: HubConfiguration { didSet { rates = Rates(configuration) } }
    var rates: Rates
    /// A number from a cryptographic source: session ids and resume tokens are made of it.
    let random: () -> UInt64

    var connections: [ConnectionID: Connection] = [:]
    var sessions: [String: Session] = [:]
    var users: [String: UserRecord] = [:]
    var addresses: [AddressKey: AddressRecord] = [:]
    var peers: [String: Peer] = [:]
    var rooms: [String: Room] = [:]
    var tickets: [UInt64: OpenRequest] = [:]
    /// When users were revoked, and up to when everyone was whose entry had to make room.
    var revocations: [String: UInt64] = [:]
    /// When the time of a user ends that was cut short, and when that was: a check may have begun before.
    var limitations: [String: (untilWallMilliseconds: Int64, notedAtNanoseconds: UInt64)] = [:]
    var revokedEveryoneAt: UInt64?
    var revocationSweep = Alarmed()

    var alarms = AlarmQueue()
    /// Which methods have led to paths between which networks.
    var memory = PathMemoryTable()
    var replayBytes = 0
    var unauthenticatedConnections = 0
    var lastTicket: UInt64 = 0
    var probes: [UInt64: OpenProbe] = [:]
    var lastFanOut: UInt64 = 0
    /// Sessions that end when the step is done: it may be walking over their rooms.
    var doomed: [Session] = []
    var scratch: [JSONKey] = []
    package internal(set) var isDraining = false
    package internal(set) var counters = HubCounters()

    /// - Parameter random: draws 64 bits that nobody can guess. Tests give a seeded one.
    package init(configuration: HubConfiguration, random: @escaping () -> UInt64) {
        self.configuration = configuration
        self.random = random
        rates = Rates(configuration)
    }

    /// A client's text message. It is read here and not kept.
    package func receive(
        _ frame: UnsafeBufferPointer<UInt8>,
        from id: ConnectionID,
        now: HubTime,
        into actions: inout [Action]
    ) {
        guard let connection = connections[id] else { return }
        connection.lastHeardAt = now.monotonicNanoseconds
        counters.messagesReceived &+= 1
        counters.bytesReceived &+= UInt64(frame.count)
        handle(frame, connection, now, &actions)
        settle(now, &actions)
    }

    /// A message whose header announces more than `maxMessageBytes`. Its payload need not be read (case WS-07).
    package func receiveTooLarge(from id: ConnectionID, now: HubTime, into actions: inout [Action]) {
        guard let connection = connections[id] else { return }
        counters.messagesReceived &+= 1
        refuseTooLarge(connection, now, &actions)
        settle(now, &actions)
    }

    /// Monotonic nanoseconds at which `expire` has something to do; `nil` where nothing waits.
    package var nextDeadline: UInt64? {
        guard let next = alarms.earliest else { return memory.earliest }
        return min(next, memory.earliest ?? .max)
    }

    func handle(
        _ frame: UnsafeBufferPointer<UInt8>,
        _ connection: Connection,
        _ now: HubTime,
        _ actions: inout [Action]
    ) {
        guard frame.count <= configuration.maxMessageBytes else { return refuseTooLarge(connection, now, &actions) }
        if case .checking = connection.state { return hold(frame, connection, now, &actions) }
        if let session = connection.session {
            session.received &+= 1
            session.replaced = nil
        }
        do throws(JSONFault) {
            let message = try Message.decode(frame, scratch: &scratch)
            handle(message, connection, now, &actions)
        } catch {
            // What cannot be read is charged all the same.
            charge(connection, now)
            refuse(Refusal(.badMessage, error.description), nil, connection, now, &actions)
        }
    }

    private func refuseTooLarge(_ connection: Connection, _ now: HubTime, _ actions: inout [Action]) {
        let bytes = configuration.maxMessageBytes
        report(Refusal(.tooLarge, "A message has at most \(bytes) bytes"), nil, to: connection, &actions)
        close(connection, .tooLarge, "message too large", now, &actions)
    }

    private func handle(_ message: Message, _ connection: Connection, _ now: HubTime, _ actions: inout [Action]) {
        let kind = message.kind
        if let kind { counters.count(kind) }
        do throws(Refusal) {
            guard let session = connection.session else {
                guard kind == .hello else { throw Refusal(.unauthenticated, "Say hello first") }
                return try hello(message, connection, now, &actions)
            }
            try takeTokens(connection, session, now)
            guard let kind else { throw Refusal(.badType, "Unknown message type") }
            let requestID = try message.requestID()
            if kind != .hello { connection.unusedGrant = nil }
            let request = Request(
                kind: kind,
                message: message,
                id: requestID,
                connection: connection,
                session: session,
                now: now
            )
            try perform(request, &actions)
        } catch {
            refuse(error, message, connection, now, &actions)
        }
    }

    private func perform(_ request: Request, _ actions: inout [Action]) throws(Refusal) {
        switch request.kind {
        case .hello: try helloAgain(request, &actions)
        case .register: try register(request, &actions)
        case .unregister: try unregister(request, &actions)
        case .joinRoom: try joinRoom(request, &actions)
        case .leaveRoom: try leaveRoom(request, &actions)
        case .offer: try forward(request, .offer, &actions)
        case .answer: try forward(request, .answer, &actions)
        case .iceCandidate: try forward(request, .candidate, &actions)
        case .signal: try forward(request, .signal, &actions)
        case .broadcast: try broadcast(request, &actions)
        case .lookup: try lookup(request, &actions)
        case .iceServers: try requestCredentials(request, &actions)
        case .time: try tellTime(request, &actions)
        case .ping: pong(request, &actions)
        case .report: try takeReport(request, &actions)
        case .probeTCP: try probeTCP(request, &actions)
        }
    }

    private func charge(_ connection: Connection, _ now: HubTime) {
        connection.messages.take(of: rates.message, now: now.monotonicNanoseconds)
    }

    /// A message costs a token of its connection, its user and its address; none is taken where one is missing.
    private func takeTokens(_ connection: Connection, _ session: Session, _ now: HubTime) throws(Refusal) {
        let time = now.monotonicNanoseconds
        let user = session.user
        let address = connection.address
        let wait = max(
            connection.messages.waitNanoseconds(of: rates.message, now: time),
            user.messages.waitNanoseconds(of: rates.user, now: time),
            address.messages.waitNanoseconds(of: rates.address, now: time)
        )
        if wait > 0 {
            // Who waits for one token is refused at the next message but one. A quarter of a burst is worth waiting
            // for, and refusals stay rare for a client that does as it is told.
            let share = min(rates.message.nanoseconds(of: rates.message.burst / 4), 1_000_000_000)
            throw .rateLimited("Too many messages", wait: wait &+ share)
        }
        connection.messages.take(of: rates.message, now: time)
        user.messages.take(of: rates.user, now: time)
        address.messages.take(of: rates.address, now: time)
    }
}

/// A message of an authenticated client, on its way through the hub.
struct Request {
    let kind: MessageKind
    let message: Message
    /// Its `id` as JSON; empty where it has none.
    let id: UnsafeBufferPointer<UInt8>
    let connection: Connection
    let session: Session
    let now: HubTime
}
