extension Hub {
    /// A new session for a connection that has none.
    func begin(_ connection: Connection, _ grant: Grant, _ now: HubTime, _ actions: inout [Action]) {
        let user = users[grant.user] ?? UserRecord(grant.user)
        users[grant.user] = user
        alarms.remove(user)
        let session = Session(id: randomText(words: 2), user: user, resumeSecret: randomBytes(words: 4), now: now)
        sessions[session.id] = session
        user.sessions.append(session)
        welcome(connection, session, grant, resumed: nil, now, &actions)
    }

    /// Gives an old session its new connection, and the client what it missed.
    func attach(
        _ connection: Connection,
        _ resume: Resumption,
        _ grant: Grant,
        _ now: HubTime,
        _ actions: inout [Action]
    ) {
        let session = resume.session
        if let before = session.connection {
            // The client knows of a cut that the server has not noticed.
            session.connection = nil
            actions.append(.close(before.id, .policy, reason: "resumed on another connection"))
            forget(before, now)
        }
        // Single use: the token that came is worth nothing by itself from here on (case SG-12).
        let told = resume.isRepeated ? session.replaced : nil
        let spent = session.resumeSecret
        session.resumeSecret = randomBytes(words: 4)
        let start = resume.received ?? session.replay.deliveredThrough
        let (gone, entries) = session.replay.restart(after: start, total: &replayBytes)
        let missed = gone &+ (told?.missed ?? 0)
        session.replaced = (told?.secret ?? spent, told?.received ?? session.received, missed)
        session.received = 0
        counters.sessionsResumed &+= 1
        counters.messagesMissed &+= gone
        welcome(connection, session, grant, resumed: missed, now, &actions)
        for entry in entries where entry.isLasting {
            counters.messagesReplayed &+= 1
            deliver(entry.bytes, to: session, origin: entry.origin, &actions)
        }
    }

    /// The client is away. Its peer ids and rooms wait for it.
    func detach(_ session: Session, _ now: HubTime, _ actions: inout [Action]) {
        session.connection = nil
        let window = configuration.resumeWindowSeconds
        guard !isDraining, window > 0, sessions.count <= 2 * configuration.connectionsMax else {
            return end(session, now, &actions, returning: true)
        }
        session.resumeEndsAt = now.after(seconds: window)
        arm(session)
    }

    /// Takes a session out of all tables, and tells who shared a room with it.
    /// - Parameter returning: whether the senders of what has not arrived are told.
    func end(_ session: Session, _ now: HubTime, _ actions: inout [Action], returning: Bool = false) {
        guard !session.isEnded else { return }
        session.isEnded = true
        session.connection = nil
        sessions.removeValue(forKey: session.id)
        alarms.remove(session)
        let lost = returning ? session.replay.undelivered : []
        session.replay.clear(&replayBytes)
        for peer in session.peers { remove(peer, now, &actions) }
        session.peers = []
        for origin in lost where !origin.session.isEnded {
            counters.messagesReturned &+= 1
            var type: [UInt8] = []
            origin.kind.name.withUTF8Buffer { type = [UInt8(ascii: "\"")] + $0 + [UInt8(ascii: "\"")] }
            let refusal = Refusal(.notFound, "Peer \(origin.recipient) not found")
            deliver(Self.error(refusal, originalType: type, id: origin.requestID), to: origin.session, &actions)
        }
        let user = session.user
        user.sessions.removeAll { $0 === session }
        if user.sessions.isEmpty { release(user, now) }
    }

    /// Ends what `deliver` found no room for. Ending one may doom another.
    func settle(_ now: HubTime, _ actions: inout [Action]) {
        while let session = doomed.popLast() {
            if session.connection == nil { end(session, now, &actions, returning: true) }
        }
    }

    /// When there is something to do about a session.
    func arm(_ session: Session) {
        let refreshAt = session.connection == nil ? nil : session.refreshAt
        let next = min(session.expiresAt ?? .max, session.resumeEndsAt ?? .max, refreshAt ?? .max)
        alarms.set(session, at: next)
    }

    // MARK: Resume tokens

    /// What a `hello` says about resuming; `nil` where it says nothing.
    func resumption(_ message: Message) throws(Refusal) -> (token: String, received: UInt64?)? {
        let received = try message.wholeNumber(.received)
        let token = try message.string(.resume, bytesMax: SignalingLimits.resumeTokenBytesMax)
        return token.map { ($0, received) }
    }

    /// The session that a `hello` wants back.
    /// - Parameter mayRepeat: whether the client has shown more than the token. It may then come with the one before
    ///   the newest, as long as it has said nothing since: the `welcome` with the newest was lost, and all behind it.
    func resumption(_ asked: (token: String, received: UInt64?), mayRepeat: Bool) -> Resumption? {
        if let session = session(ofResumeToken: asked.token) {
            return Resumption(session: session, received: asked.received, isRepeated: false)
        }
        guard mayRepeat, let session = session(ofResumeToken: asked.token, { $0.replaced?.secret }) else { return nil }
        return Resumption(session: session, received: 0, isRepeated: true)
    }

    /// The session that a resume token belongs to. The token is the session's id, which is looked up, and a secret,
    /// which is compared in constant time.
    func session(ofResumeToken token: String, _ secret: (Session) -> [UInt8]? = { $0.resumeSecret })
        -> Session?
    {
        let parts = token.utf8.split(separator: UInt8(ascii: "."), maxSplits: 1, omittingEmptySubsequences: false)
        guard parts.count == 2, let session = sessions[String(Substring(parts[0]))], let secret = secret(session)
        else { return nil }
        let given = Array(parts[1])
        let own = Self.hexadecimal(secret)
        guard given.count == own.count else { return nil }
        var difference: UInt8 = 0
        for index in own.indices { difference |= own[index] ^ given[index] }
        return difference == 0 ? session : nil
    }

    func resumeToken(of session: Session) -> String {
        session.id + "." + String(decoding: Self.hexadecimal(session.resumeSecret), as: UTF8.self)
    }

    private func randomBytes(words: Int) -> [UInt8] {
        (0..<words).flatMap { _ in
            let word = random()
            return (0..<8).map { UInt8(truncatingIfNeeded: word >> (8 * UInt64($0))) }
        }
    }

    private func randomText(words: Int) -> String {
        String(decoding: Self.hexadecimal(randomBytes(words: words)), as: UTF8.self)
    }

    private static func hexadecimal(_ bytes: [UInt8]) -> [UInt8] {
        bytes.flatMap { byte in [byte >> 4, byte & 0xF].map { $0 < 10 ? 0x30 &+ $0 : 0x57 &+ $0 } }
    }

    // MARK: Welcome

    private func welcome(
        _ connection: Connection,
        _ session: Session,
        _ grant: Grant,
        resumed missed: UInt64?,
        _ now: HubTime,
        _ actions: inout [Action]
    ) {
        connection.state = .open(session)
        session.connection = connection
        session.resumeEndsAt = nil
        let expiresAt = grant.expiresAtWallMilliseconds.map(now.monotonic(atWallMilliseconds:))
        // A resume token carries a session on, and not beyond the credentials that opened it.
        session.expiresAt =
            connection.showedOnlyToken ? [session.expiresAt, expiresAt].compactMap(\.self).min() : expiresAt
        connection.showedOnlyToken = false
        scheduleRefresh(session, ttlSeconds: grant.ttlSeconds, now)
        arm(connection)
        arm(session)
        var writer = FrameWriter("welcome", reserving: 1_024 + grant.iceServers.count)
        writer.member("sessionId", session.id)
        writer.member("resumeToken", resumeToken(of: session))
        writer.member("user", session.user.name)
        writer.member("resumed", missed != nil)
        if let missed {
            writer.member("missed", Int64(clamping: missed))
            writer.member("received", Int64(clamping: session.replaced?.received ?? 0))
            writer.list("peers", session.peers) { writer, peer in
                writer.element {
                    $0.member("peerId", raw: peer.encodedID)
                    $0.list("rooms", peer.rooms) { $0.element(raw: $1.encodedID) }
                }
            }
        }
        writer.member("iceServers", raw: grant.iceServers)
        writer.member("ttl", Int64(clamping: grant.ttlSeconds))
        writer.member("serverTime", now.wallMilliseconds)
        writer.object("limits") { limits in
            limits.member("messagesPerSecond", Int64(clamping: configuration.messagesPerSecond))
            limits.member("burst", Int64(clamping: configuration.burst))
            limits.member("maxMessageBytes", Int64(configuration.maxMessageBytes))
            limits.member("metadataBytes", Int64(SignalingLimits.metadataBytesMax))
            limits.member("peersPerConnection", Int64(SignalingLimits.peersPerSession))
            limits.member("roomsPerPeer", Int64(SignalingLimits.roomsPerPeer))
            limits.member("peersPerRoom", Int64(SignalingLimits.membersPerRoom))
            limits.member("peerTimeoutMs", Int64(clamping: configuration.peerTimeoutSeconds &* 1_000))
            limits.member("resumeWindowMs", Int64(clamping: configuration.resumeWindowSeconds &* 1_000))
        }
        writer.member("message", "Connected to signaling server")
        writer.member("timestamp", now.wallMilliseconds)
        writer.echo(connection.helloID)
        send(writer.finish(), to: connection, &actions)
    }

    /// A user without sessions stays until its budgets are whole, unless too many do.
    private func release(_ user: UserRecord, _ now: HubTime) {
        if user.wholeAt > now.monotonicNanoseconds, users.count <= SignalingLimits.recordsRemembered {
            alarms.set(user, at: user.wholeAt)
        } else {
            users.removeValue(forKey: user.name)
        }
    }
}

/// A session that is to go on.
struct Resumption {
    let session: Session
    /// How many messages the client counted since the last `welcome`.
    let received: UInt64?
    /// Whether the client was told so before, and did not hear it.
    let isRepeated: Bool
}
