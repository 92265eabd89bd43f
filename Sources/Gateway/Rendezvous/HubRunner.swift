import Foundation
import NIOCore
import OpenSSLCrypto
import Signaling

/// The hub and what it needs of the world, on one loop: the clocks, the connections, the account store's answers, one
/// timer.
final class HubRunner {
    private let hub: Hub
    private let loop: any EventLoop
    private let directory: any GatewayDirectory
    private let probeSources: [String]
    private var sockets: [ConnectionID: Socket] = [:]
    private var actions: [Action] = []
    /// Connections of this loop that have something to send.
    private var unflushed: [WebSocketHandler] = []
    /// What goes to connections of other loops, until the end of the turn.
    private var outboxes: [ObjectIdentifier: Outbox] = [:]
    private var timer: (deadline: UInt64, task: Scheduled<Void>)?
    /// Which user a token has logged in, so that its end ends his sessions.
    private var tokenUsers: [String: String] = [:]
    /// Tokens that were revoked a moment ago, and when: a check may have begun before.
    private var revokedTokens: [String: UInt64] = [:]
    private static let checkNanosecondsMax: UInt64 = 60_000_000_000

    private struct Socket: Sendable {
        let source: ClientSource
        let home: any EventLoop
        let handler: NIOLoopBound<WebSocketHandler>
        let isLocal: Bool
    }

    private struct Outbox {
        let home: any EventLoop
        var mail: [(NIOLoopBound<WebSocketHandler>, Outgoing)] = []
    }

    private enum Outgoing: Sendable {
        case text(Frame)
        case probe(UInt64)
        case close(UInt16, String)
        /// The client has said who it is.
        case admitted
    }

    /// - Parameter probeSources: where connections to clients come from, which they have not spoken with.
    init(
        _ configuration: HubConfiguration,
        loop: any EventLoop,
        directory: any GatewayDirectory,
        probeSources: [String] = []
    ) {
        self.probeSources = probeSources
        hub = Hub(configuration: configuration) {
            var number: UInt64 = 0
            withUnsafeMutableBytes(of: &number) { SecureRandom.fill($0) }
            return number
        }
        self.loop = loop
        self.directory = directory
    }

    // MARK: Connections

    func opened(_ opening: SignalingConnection.Opening, _ handler: NIOLoopBound<WebSocketHandler>, home: any EventLoop)
    {
        sockets[opening.id] = Socket(source: opening.source, home: home, handler: handler, isLocal: home === loop)
        turn { hub, now, actions in
            hub.connect(opening.id, address: opening.source.key, grant: opening.grant, now: now, into: &actions)
        }
    }

    /// One message. The caller calls `flush` when it has no more.
    func receive(_ text: ByteBuffer, from id: ConnectionID) {
        text.withUnsafeReadableBytes { bytes in
            hub.receive(bytes.assumingMemoryBound(to: UInt8.self), from: id, now: .current, into: &actions)
        }
        perform()
    }

    func acknowledged(_ id: ConnectionID, through sequence: UInt64) {
        hub.acknowledged(id, through: sequence, now: .current)
    }

    func sequence(of id: ConnectionID) -> UInt64 { hub.sequence(of: id) }

    func isTooSlow(_ id: ConnectionID, _ delivered: UInt64?) {
        turn { hub, now, actions in
            hub.slowConsumer(id, deliveredThrough: delivered, now: now, into: &actions)
        }
    }

    func closed(_ id: ConnectionID, _ ending: Ending) {
        guard sockets.removeValue(forKey: id) != nil else { return }
        turn { hub, now, actions in hub.closed(id, ending, now: now, into: &actions) }
    }

    func flush() {
        let local = unflushed
        unflushed.removeAll(keepingCapacity: true)
        for socket in local { socket.flush() }
        setTimer()
        guard !outboxes.isEmpty else { return }
        let remote = outboxes
        outboxes = [:]
        for outbox in remote.values {
            let mail = outbox.mail
            outbox.home.execute {
                for (handler, outgoing) in mail { Self.hand(outgoing, to: handler.value) }
                for (handler, _) in mail { handler.value.flush() }
            }
        }
    }

    // MARK: The operator

    func reconfigure(_ configuration: HubConfiguration) { hub.configuration = configuration }

    func revoke(_ user: String) { turn { hub, now, actions in hub.revoke(user: user, now: now, into: &actions) } }

    func limit(_ user: String, untilSeconds: Int64) {
        let milliseconds = untilSeconds.multipliedReportingOverflow(by: 1_000)
        hub.limit(
            user: user,
            untilWallMilliseconds: milliseconds.overflow ? .max : milliseconds.partialValue,
            now: .current
        )
        setTimer()
    }

    /// - Parameter checkedAt: when its check began, as `NIODeadline.uptimeNanoseconds`.
    /// - Returns: false where the token was revoked while it was checked.
    func note(token: String, of user: String, checkedAt: UInt64) -> Bool {
        if let revokedAt = revokedTokens[token], revokedAt >= checkedAt { return false }
        tokenUsers[token] = user
        return true
    }

    /// Ends all sessions of the user whom the token logged in: a session does not say by what it was begun, and he may
    /// come back with what still holds.
    func revoke(token: String) {
        let now = NIODeadline.now().uptimeNanoseconds
        revokedTokens = revokedTokens.filter { now &- $0.value < Self.checkNanosecondsMax }
        revokedTokens[token] = now
        guard let user = tokenUsers.removeValue(forKey: token) else { return }
        revoke(user)
    }

    func keep(tokens: Set<String>) {
        for token in Set(tokenUsers.keys).subtracting(tokens) { revoke(token: token) }
    }

    func drain(over window: Duration) {
        let seconds = UInt64(clamping: window.components.seconds)
        let comeBack = 500...max(5_000, seconds &* 1_000)
        turn { hub, now, actions in
            hub.drain(windowSeconds: seconds, reconnectAfterMilliseconds: comeBack, now: now, into: &actions)
            if seconds == 0 { hub.expire(now: now, into: &actions) }
        }
    }

    func kick(_ session: String) -> Bool {
        var isThere = false
        turn { hub, now, actions in isThere = hub.kick(sessionID: session, now: now, into: &actions) }
        return isThere
    }

    var socketCount: Int { sockets.count }
    var statistics: HubStatistics { hub.statistics }
    var counters: HubCounters { hub.counters }
    var users: Set<String> { Set(hub.sessions(after: nil, limit: .max).map(\.user)) }

    func rooms(visibleTo user: String?) -> [RoomEntry] {
        let rooms = user.map(hub.rooms(visibleTo:)) ?? hub.rooms(after: nil, limit: GatewayLimits.roomsListed)
        return rooms.map { RoomEntry(roomId: $0.roomID, peerCount: $0.peerIDs.count, peers: $0.peerIDs) }
    }

    func peers(in room: String, visibleTo user: String?) -> [PeerEntry]? {
        let peers = user.map { hub.peers(inRoom: room, visibleTo: $0) } ?? hub.peers(inRoom: room)
        return peers?.map {
            PeerEntry(peerId: $0.peerID, metadata: $0.metadata, joinedAt: $0.joinedAtWallMilliseconds)
        }
    }

    /// - Parameter user: nil for all.
    func sessions(of user: String?, limit: Int) -> [SocketEntry] {
        let now = HubTime.current.wallMilliseconds
        let limit = min(limit, GatewayLimits.sessionsListed)
        let found = user.map { hub.sessions(of: $0).prefix(limit) } ?? hub.sessions(after: nil, limit: limit)[...]
        return found.map { session in
            SocketEntry(
                id: session.id,
                user: session.user,
                client: session.connection.flatMap { sockets[$0]?.source.address },
                peers: session.peerIDs,
                rooms: session.roomIDs,
                ageSeconds: UInt64(clamping: (now &- session.openedAtWallMilliseconds) / 1_000)
            )
        }
    }

    // MARK: The hub's wishes

    private func turn(_ body: (Hub, HubTime, inout [Action]) -> Void) {
        body(hub, .current, &actions)
        perform()
        flush()
    }

    private func perform() {
        guard !actions.isEmpty else { return }
        var wanted: [Action] = []
        swap(&wanted, &actions)
        for action in wanted { perform(action) }
        wanted.removeAll(keepingCapacity: true)
        // The array's room serves the next turn, unless a wish has been granted at once and made another.
        if actions.isEmpty { swap(&wanted, &actions) }
    }

    private func perform(_ action: Action) {
        switch action {
        case .send(let id, let frame): send(.text(frame), to: id)
        case .probe(let id, let sequence): send(.probe(sequence), to: id)
        case .close(let id, let code, let reason):
            send(.close(code.rawValue, "\(reason)"), to: id)
            sockets[id] = nil
        case .measure(let old, let id): measure(old, for: id)
        case .authenticate(let id, let credentials): authenticate(id, credentials)
        case .issueCredentials(let ticket, let user, let seconds): issue(ticket, user, seconds)
        case .probeTCP(let ticket, let id, let port): probe(ticket, id, port)
        }
    }

    private func send(_ outgoing: Outgoing, to id: ConnectionID) {
        guard let socket = sockets[id] else { return }
        if socket.isLocal {
            let handler = socket.handler.value
            if !handler.hasUnflushed { unflushed.append(handler) }
            Self.hand(outgoing, to: handler)
        } else {
            outboxes[ObjectIdentifier(socket.home), default: Outbox(home: socket.home)].mail
                .append((socket.handler, outgoing))
        }
    }

    private static func hand(_ outgoing: Outgoing, to handler: WebSocketHandler) {
        switch outgoing {
        case .text(let frame): handler.send(text: frame.bytes, sequence: frame.sequence)
        case .probe(let sequence): handler.ping(ByteBuffer(integer: sequence))
        case .close(let code, let reason): handler.close(code, reason)
        case .admitted: handler.admit()
        }
    }

    /// Finds out how far a connection has come that another takes the place of, and tells in the same step of the loop
    /// where it can.
    private func measure(_ old: ConnectionID, for id: ConnectionID) {
        let (socket, loop) = (sockets[old], loop)
        let bound = NIOLoopBound(self, eventLoop: loop)
        (socket?.home ?? loop).execute {
            let delivered = socket?.handler.value.deliveredThrough
            let tell: @Sendable () -> Void = {
                bound.value.turn { hub, now, actions in
                    hub.measured(old, deliveredThrough: delivered, for: id, now: now, into: &actions)
                }
            }
            if loop.inEventLoop { tell() } else { loop.execute(tell) }
        }
    }

    private func authenticate(_ id: ConnectionID, _ credentials: Credentials) {
        let login: GatewayLogin =
            switch credentials {
            case .password(let username, let password): .password(username: username, password: password)
            case .token(let token): .token(token)
            case .session(let user): .session(user: user)
            }
        let (directory, most) = (directory, hub.configuration.credentialTTLSeconds)
        let checkedAt = NIODeadline.now().uptimeNanoseconds
        let seconds = Int(clamping: min(most, hub.configuration.maxCredentialTTLSeconds))
        answer(
            { () async -> Checked in
                let outcome = await directory.login(login)
                guard case .accepted(let identity) = outcome, let user = identity.user else {
                    return Checked(outcome: outcome, grant: nil)
                }
                let grant = await Grant(user: user, identity, directory, seconds: seconds, checkedAt)
                return Checked(outcome: outcome, grant: grant)
            },
            { runner, checked in runner.take(checked, for: id) }
        )
    }

    private struct Checked: Sendable {
        let outcome: LoginOutcome
        let grant: Grant?
    }

    private func take(_ checked: Checked, for id: ConnectionID) {
        if case .accepted(let identity) = checked.outcome, let grant = checked.grant,
            identity.token.map({ note(token: $0, of: grant.user, checkedAt: grant.checkedAtNanoseconds) }) ?? true
        {
            send(.admitted, to: id)
            turn { hub, now, actions in hub.authenticated(id, grant, now: now, into: &actions) }
        } else {
            let denial: Denial = checked.outcome == .unavailable ? .unavailable : .wrongCredentials
            turn { hub, now, actions in hub.denied(id, denial, now: now, into: &actions) }
        }
    }

    private func issue(_ ticket: CredentialTicket, _ user: String, _ seconds: UInt64) {
        let directory = directory
        answer({ await directory.iceServers(user: user, seconds: Int(clamping: seconds)) }) { runner, servers in
            runner.turn { hub, now, actions in
                if let servers {
                    hub.issued(
                        ticket,
                        iceServers: JSONText.bytes(servers.iceServers),
                        ttlSeconds: UInt64(clamping: servers.ttl),
                        now: now,
                        into: &actions
                    )
                } else {
                    hub.issueFailed(ticket, now: now, into: &actions)
                }
            }
        }
    }

    private func probe(_ ticket: ProbeTicket, _ id: ConnectionID, _ port: UInt16) {
        let bound = NIOLoopBound(self, eventLoop: loop)
        let answer: @Sendable (ProbeReport) -> Void = { [loop] report in
            // Not from within the turn that has asked.
            loop.execute {
                bound.value.turn { hub, now, actions in hub.probed(ticket, report, now: now, into: &actions) }
            }
        }
        guard let source = sockets[id]?.source else { return answer(ProbeReport(.impossible)) }
        ConnectBack.report(on: loop, to: source, port: port, from: probeSources, answer)
    }

    /// Asks on a task, and takes the answer on the loop.
    private func answer<Value: Sendable>(
        _ question: @escaping @Sendable () async -> Value,
        _ take: @escaping @Sendable (HubRunner, Value) -> Void
    ) {
        let bound = NIOLoopBound(self, eventLoop: loop)
        let loop = loop
        Task {
            let value = await question()
            loop.execute { take(bound.value, value) }
        }
    }

    private func setTimer() {
        guard let deadline = hub.nextDeadline else { return }
        if let timer, timer.deadline <= deadline { return }
        timer?.task.cancel()
        let bound = NIOLoopBound(self, eventLoop: loop)
        let task = loop.scheduleTask(deadline: .uptimeNanoseconds(deadline)) {
            let runner = bound.value
            runner.timer = nil
            runner.turn { hub, now, actions in hub.expire(now: now, into: &actions) }
        }
        timer = (deadline, task)
    }
}

extension HubTime {
    static var current: HubTime {
        HubTime(
            monotonicNanoseconds: NIODeadline.now().uptimeNanoseconds,
            wallMilliseconds: Int64(Date().timeIntervalSince1970 * 1_000)
        )
    }
}

extension ClientSource {
    var key: AddressKey {
        network >> 32 == 0xFFFF
            ? AddressKey(ipv4: UInt32(truncatingIfNeeded: network)) : AddressKey(ipv6: network, 0)
    }
}
