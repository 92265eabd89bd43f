extension Hub {
    /// The account store knows the client.
    package func authenticated(_ id: ConnectionID, _ grant: Grant, now: HubTime, into actions: inout [Action]) {
        guard let connection = connections[id], case .checking = connection.state else { return }
        open(connection, grant, now, &actions)
        settle(now, &actions)
    }

    /// The account store does not know the client, or could not look.
    package func denied(_ id: ConnectionID, _ denial: Denial, now: HubTime, into actions: inout [Action]) {
        guard let connection = connections[id], case .checking = connection.state else { return }
        let refusal: Refusal
        switch denial {
        case .wrongCredentials:
            connection.address.failures.take(of: SignalingLimits.failures, now: now.monotonicNanoseconds)
            refusal = Refusal(.unauthenticated, "Wrong username, password or token")
        case .unavailable:
            refusal = Refusal(
                .unauthenticated,
                "Credentials cannot be checked at the moment",
                retryAfterNanoseconds: 1_000_000_000
            )
        }
        answerHello(refusal, connection, &actions)
        connection.state = .silent
        connection.resume = nil
        connection.showedOnlyToken = false
        connection.held = []
        connection.attemptsLeft -= 1
        if connection.attemptsLeft <= 0 {
            close(connection, .unauthenticated, "not authenticated", now, &actions)
        } else {
            connection.deadline = now.after(seconds: SignalingLimits.helloSeconds)
            arm(connection)
        }
        settle(now, &actions)
    }

    /// The first message of a connection that has not authenticated at its upgrade.
    func hello(
        _ message: Message,
        _ connection: Connection,
        _ now: HubTime,
        _ actions: inout [Action]
    ) throws(Refusal) {
        let wait = connection.address.failures.waitNanoseconds(
            of: SignalingLimits.failures,
            now: now.monotonicNanoseconds
        )
        if wait > 0 { throw .rateLimited("Too many failed attempts from your address", wait: wait) }
        let helloID = try message.requestID()
        let resume = try resumption(message)
        let credentials: Credentials
        let username = try message.string(.username, bytesMax: SignalingLimits.usernameBytesMax)
        let password = try message.string(.password, bytesMax: SignalingLimits.passwordBytesMax)
        if let token = try message.string(.token, bytesMax: SignalingLimits.tokenBytesMax) {
            credentials = .token(token)
        } else if let username, let password {
            credentials = .password(username: username, password: password)
        } else if username != nil || password != nil {
            throw Refusal(.badMessage, "username and password are required")
        } else if let resume {
            guard let session = session(ofResumeToken: resume.token) else {
                connection.address.failures.take(of: SignalingLimits.failures, now: now.monotonicNanoseconds)
                throw Self.resumeRefused
            }
            credentials = .session(user: session.user.name)
        } else {
            throw Refusal(.badMessage, "username and password, token, or resume are required")
        }
        connection.state = .checking
        connection.helloID = Array(helloID)
        connection.resume = resume
        if case .session = credentials { connection.showedOnlyToken = true }
        connection.deadline = now.after(seconds: SignalingLimits.checkSeconds)
        arm(connection)
        actions.append(.authenticate(connection.id, credentials))
    }

    /// A `hello` of a client that is known already: it authenticated at its upgrade, and wants its old session.
    func helloAgain(_ request: Request, _ actions: inout [Action]) throws(Refusal) {
        guard let asked = try resumption(request.message), let grant = request.connection.unusedGrant else {
            throw Refusal(.badMessage, "This connection is authenticated already")
        }
        guard let resume = resumption(asked, mayRepeat: true), resume.session.user === request.session.user,
            resume.session !== request.session
        else { throw Self.resumeRefused }
        let old = resume.session
        guard resume.received ?? 0 <= old.replay.sentThrough else { throw Self.countRefused }
        request.connection.unusedGrant = nil
        request.connection.helloID = Array(request.id)
        // Nothing was done in the new session: it has no peer id and no message but errors.
        request.session.connection = nil
        end(request.session, request.now, &actions)
        if resume.received == nil, old.connection != nil {
            request.connection.state = .checking
            request.connection.resume = asked
            request.connection.deadline = request.now.after(seconds: SignalingLimits.checkSeconds)
            unauthenticatedConnections += 1
            arm(request.connection)
            return open(request.connection, grant, request.now, &actions)
        }
        attach(request.connection, resume, grant, request.now, &actions)
    }

    /// Keeps what a client sends behind its `hello`, until the account store has answered.
    func hold(
        _ frame: UnsafeBufferPointer<UInt8>,
        _ connection: Connection,
        _ now: HubTime,
        _ actions: inout [Action]
    ) {
        let bytes = connection.held.reduce(frame.count) { $0 + $1.count }
        if connection.held.count < SignalingLimits.heldMessagesMax, bytes <= SignalingLimits.heldBytesMax {
            connection.held.append(Array(frame))
        } else {
            report(Refusal(.unauthenticated, "Wait for the welcome"), nil, to: connection, &actions)
            close(connection, .unauthenticated, "not authenticated", now, &actions)
        }
    }

    /// Gives an authenticated connection its session: a new one, or the one that it resumes.
    func open(_ connection: Connection, _ given: Grant, _ now: HubTime, _ actions: inout [Action]) {
        let grant = limited(given)
        guard !isRevoked(grant) else {
            counters.count(.revoked)
            answerHello(Refusal(.unauthenticated, "The user is not allowed in any more"), connection, &actions)
            return close(connection, .revoked, "revoked", now, &actions)
        }
        let asked = connection.resume
        connection.resume = nil
        let resume = asked.flatMap { resumption($0, mayRepeat: !connection.showedOnlyToken) }
        if let resume, resume.session.user.name == grant.user,
            resume.received ?? 0 <= resume.session.replay.sentThrough
        {
            if resume.received == nil, let before = resume.session.connection, connection.measured != before.id {
                // The cut has not been seen here, and the client does not say what came before it: its TCP may.
                connection.measured = before.id
                connection.resume = asked
                connection.unusedGrant = grant
                return actions.append(.measure(before.id, for: connection.id))
            }
            leaveAnteroom(connection)
            attach(connection, resume, grant, now, &actions)
        } else if connection.showedOnlyToken {
            // Another connection was faster, or the count is impossible.
            answerHello(Self.resumeRefused, connection, &actions)
            return close(connection, .unauthenticated, "not authenticated", now, &actions)
        } else if admit(connection, user: grant.user, now, &actions) {
            leaveAnteroom(connection)
            begin(connection, grant, now, &actions)
        } else {
            return
        }
        let held = connection.held
        connection.held = []
        for frame in held where connections[connection.id] === connection {
            frame.withUnsafeBufferPointer { handle($0, connection, now, &actions) }
        }
    }

    /// The answer to `measure`: the connection before this one has come so far.
    /// - Parameter deliveredThrough: as `Ending.lost` has it.
    package func measured(
        _ before: ConnectionID,
        deliveredThrough: UInt64?,
        for id: ConnectionID,
        now: HubTime,
        into actions: inout [Action]
    ) {
        guard let connection = connections[id], case .checking = connection.state, connection.measured == before,
            let grant = connection.unusedGrant
        else { return }
        connection.unusedGrant = nil
        let session = connection.resume.flatMap { self.session(ofResumeToken: $0.token) }
        if let deliveredThrough, let session, session.connection?.id == before {
            session.replay.noteDelivered(through: deliveredThrough)
        }
        open(connection, grant, now, &actions)
        settle(now, &actions)
    }

    /// Whether the user may have one more session. Absent ones make room.
    private func admit(
        _ connection: Connection,
        user name: String,
        _ now: HubTime,
        _ actions: inout [Action]
    ) -> Bool {
        guard let user = users[name], user.sessions.count >= configuration.connectionsPerUser else { return true }
        if let absent = user.sessions.first(where: { $0.connection == nil }) {
            end(absent, now, &actions, returning: true)
            return true
        }
        let count = configuration.connectionsPerUser
        answerHello(Refusal(.tooManyConnections, "A user has at most \(count) connections"), connection, &actions)
        close(connection, .policy, "too many connections", now, &actions)
        return false
    }

    /// Sends an `error` for the `hello` that was checked, or for an upgrade, which had no message.
    private func answerHello(_ refusal: Refusal, _ connection: Connection, _ actions: inout [Action]) {
        counters.count(RejectionReason(refusal.code))
        var type: [UInt8] = []
        if case .checking = connection.state { type = Self.helloType }
        send(Self.error(refusal, originalType: type, id: connection.helloID), to: connection, &actions)
    }

    private func leaveAnteroom(_ connection: Connection) {
        unauthenticatedConnections -= 1
        connection.deadline = nil
    }

    /// The grant, with an end that was set while its credentials were checked.
    private func limited(_ grant: Grant) -> Grant {
        guard let limitation = limitations[grant.user], limitation.notedAtNanoseconds >= grant.checkedAtNanoseconds
        else { return grant }
        return Grant(
            user: grant.user,
            expiresAtWallMilliseconds: min(
                grant.expiresAtWallMilliseconds ?? .max,
                limitation.untilWallMilliseconds
            ),
            iceServers: grant.iceServers,
            ttlSeconds: grant.ttlSeconds,
            checkedAtNanoseconds: grant.checkedAtNanoseconds
        )
    }

    private func isRevoked(_ grant: Grant) -> Bool {
        let revokedAt = max(revocations[grant.user] ?? 0, revokedEveryoneAt ?? 0)
        let wasRevoked = revocations[grant.user] != nil || revokedEveryoneAt != nil
        return wasRevoked && revokedAt >= grant.checkedAtNanoseconds
    }

    private static let helloType = Array("\"hello\"".utf8)
    static let resumeRefused = Refusal(.forbidden, "The session cannot be resumed")
    private static let countRefused = Refusal(.badMessage, "received is more than was sent")
}
