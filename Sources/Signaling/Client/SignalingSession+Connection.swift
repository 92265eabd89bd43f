/// Connecting, saying hello, and coming back.
extension SignalingSession {
    mutating func connect(_ now: UInt64, _ actions: inout [SignalingAction]) {
        socket &+= 1
        counters.connects &+= 1
        phase = .connecting
        phaseEndsAt = later(now, seconds: SignalingClientLimits.connectSeconds)
        helloID = nil
        spareWelcome = nil
        lastFailure = nil
        ping = nil
        malformed = 0
        heardAt = now
        actions.append(
            .connect(
                socket: socket,
                authorization: configuration.credentialPlace == .upgrade ? credentials.authorization : nil
            )
        )
    }

    mutating func sendHello(_ actions: inout [SignalingAction]) {
        let id = nextID()
        helloID = id
        var writer = FrameWriter("hello", reserving: 256)
        writer.member("id", Int64(clamping: id))
        if configuration.credentialPlace == .hello {
            switch credentials {
            case .password(let username, let password):
                writer.member("username", username)
                writer.member("password", password)
            case .token(let token): writer.member("token", token)
            }
        }
        if let resume {
            writer.member("resume", resume.token)
            writer.member("received", Int64(clamping: resume.received))
        }
        counters.messagesSent &+= 1
        actions.append(.send(String(decoding: writer.finish(), as: UTF8.self)))
    }

    /// What comes before the session is open.
    mutating func greeted(_ message: ServerMessage?, _ now: UInt64, _ actions: inout [SignalingAction]) {
        counters.messagesReceived &+= 1
        guard let message else { return noteMalformed(now, &actions) }
        switch message.type {
        case "welcome":
            guard let token = message.string(.resumeToken), !token.isEmpty,
                token.utf8.count <= SignalingLimits.resumeTokenBytesMax
            else { return noteMalformed(now, &actions) }
            if helloID == nil, resume != nil {
                // It came at the upgrade, for a session of its own. The one before may still be had.
                spareWelcome = (message, token)
                sendHello(&actions)
            } else {
                open(message, resumeToken: token, received: 0, sent: 0, now, &actions)
            }
        case "error": helloFailed(message, now, &actions)
        case "server-shutdown": noteShutdown(message, now, &actions)
        default: counters.unknownTypes &+= 1
        }
    }

    private mutating func helloFailed(_ message: ServerMessage, _ now: UInt64, _ actions: inout [SignalingAction]) {
        let failure = message.failure
        lastFailure = failure
        guard let helloID, message.wholeNumber(.id) == helloID else { return }
        if let spare = spareWelcome {
            // There is nothing to resume; that session was sent one message, this refusal, and sent one, its hello.
            return open(spare.welcome, resumeToken: spare.resumeToken, received: 1, sent: 1, now, &actions)
        }
        if failure.reason == .unauthenticated, failure.retryAfterMilliseconds == nil, failure.text != Hub.lateText {
            actions.append(.close(code: 1000))
            refuse(.wrongCredentials, now, &actions)
        } else if failure.reason == .unauthenticated {
            actions.append(.close(code: 1000))
            disconnect(failure, pauseMilliseconds: failure.retryAfterMilliseconds ?? 0, now, &actions)
        }
        // After any other refusal the server closes the connection, or forgets it in time.
    }

    /// - Parameters:
    ///   - received: messages of this session since this `welcome`.
    ///   - sent: the same the other way.
    private mutating func open(
        _ message: ServerMessage,
        resumeToken: String,
        received: UInt64,
        sent: UInt64,
        _ now: UInt64,
        _ actions: inout [SignalingAction]
    ) {
        let isResumed = message.bool(.resumed)
        let welcome = SignalingWelcome(
            sessionID: message.string(.sessionId) ?? "",
            user: message.string(.user) ?? credentials.user ?? "",
            isResumed: isResumed,
            missed: message.wholeNumber(.missed) ?? 0,
            iceServers: message.iceServers ?? [],
            ttlSeconds: message.wholeNumber(.ttl) ?? 0,
            limits: message.limits
        )
        self.welcome = welcome
        self.received = received
        resume = Resume(token: resumeToken, user: welcome.user, received: 0)
        phase = .open
        phaseEndsAt = .max
        openedAt = now
        comeBackAt = 0
        helloID = nil
        spareWelcome = nil
        lastFailure = nil
        pace = Pace(welcome.limits)
        sentAt = now
        if isResumed { counters.sessionsResumed &+= 1 } else { counters.sessionsOpened &+= 1 }
        scheduleICE(welcome.ttlSeconds, now)
        if let time = message[.serverTime]?.value.number {
            clock.noteWelcome(serverMilliseconds: time, askedAt: heardAt, now: now)
            scheduleCredentialNotice(serverMilliseconds: time, now)
        }
        if configuration.synchronizesTime { sampleClockAt = now }
        actions.append(.deliver(.opened(welcome)))
        if isResumed {
            counters.resent &+= outbox.resume(serverReceived: message.wholeNumber(.received))
            restore(message.registrations, now)
        } else {
            startAnew(sent: sent, now, &actions)
        }
        keepUp(now)
    }

    /// The server says that it goes, and when to come back.
    mutating func noteShutdown(_ message: ServerMessage, _ now: UInt64, _ actions: inout [SignalingAction]) {
        let pause = min(
            message.wholeNumber(.reconnectAfterMs) ?? 0,
            SignalingClientLimits.pauseMillisecondsMax
        )
        comeBackAt = later(now, milliseconds: pause)
        lastFailure = Self.shutdown
        actions.append(.deliver(.shutdownAnnounced(reconnectAfterMilliseconds: pause)))
    }

    // MARK: Going and coming back

    /// Nothing more goes over this connection, and nothing that comes by it counts.
    mutating func leave(_ now: UInt64) {
        if case .open = phase {
            resume?.received = received
            if now >= openedAt, now &- openedAt >= SignalingClientLimits.stableSeconds &* 1_000_000_000 { attempts = 0 }
        }
        // Whatever that socket still tells is about another number.
        socket &+= 1
        ping = nil
        sampleClockAt = .max
        refreshICEAt = .max
    }

    /// The connection ended without this client's doing.
    mutating func lost(
        _ code: UInt16?,
        _ problem: SignalingError?,
        _ now: UInt64,
        _ actions: inout [SignalingAction]
    ) {
        let failure = lastFailure
        switch code {
        case 4403: return refuse(.revoked, now, &actions)
        case 4401:
            // A hello that came too late says nothing about what was in it.
            if failure?.text == Hub.lateText { break }
            if case .open = phase { return refuse(.credentialsExpired, now, &actions) }
            guard failure?.reason == .unauthenticated else { break }
            return refuse(.wrongCredentials, now, &actions)
        default: break
        }
        var error = problem ?? failure ?? Self.cut
        var pause = failure?.retryAfterMilliseconds ?? 0
        switch code {
        case 1001 where failure == nil || failure == Self.shutdown: error = Self.shutdown
        case 1008:
            pause = max(pause, SignalingClientLimits.policyPauseMilliseconds)
            error = failure ?? Self.policy
        case 1002, 1003, 1007:
            pause = max(pause, SignalingClientLimits.faultPauseMilliseconds)
            error = Self.protocolViolation
        default: break
        }
        disconnect(error, pauseMilliseconds: pause, now, &actions)
    }

    /// Goes away, and comes back after a pause.
    /// - Parameter pauseMilliseconds: the shortest.
    mutating func disconnect(
        _ error: SignalingError,
        pauseMilliseconds: UInt64,
        _ now: UInt64,
        _ actions: inout [SignalingAction]
    ) {
        leave(now)
        let backOff = min(
            SignalingClientLimits.backOffMilliseconds << min(attempts, 20),
            SignalingClientLimits.backOffMillisecondsMax
        )
        attempts &+= 1
        // A quarter more than the server asks for, at random, so that not all come at once whom it asks.
        let pause = max(jittered(backOff), pauseMilliseconds &+ draw(below: pauseMilliseconds / 4 &+ 1))
        wait(until: max(later(now, milliseconds: pause), comeBackAt))
        actions.append(.deliver(.disconnected(error, retryAfterMilliseconds: (phaseEndsAt &- now) / 1_000_000)))
    }

    /// Stays away until there are other credentials.
    mutating func refuse(_ error: SignalingError, _ now: UInt64, _ actions: inout [SignalingAction]) {
        leave(now)
        phase = .refused(error)
        phaseEndsAt = .max
        credentialNoticeAt = .max
        actions.append(.deliver(.disconnected(error, retryAfterMilliseconds: nil)))
        if error.reason == .credentialsExpired {
            actions.append(.deliver(.credentialsEnding(afterMilliseconds: 0)))
        }
    }

    mutating func wait(until time: UInt64) {
        phase = .waiting
        phaseEndsAt = time
    }

    /// What the server said was nothing that it says. A little is passed over, as what a newer one may say.
    mutating func noteMalformed(_ now: UInt64, _ actions: inout [SignalingAction]) {
        counters.malformed &+= 1
        malformed &+= 1
        guard malformed >= SignalingClientLimits.malformedPerConnectionMax else { return }
        actions.append(.close(code: 1002))
        disconnect(
            Self.protocolViolation,
            pauseMilliseconds: SignalingClientLimits.faultPauseMilliseconds,
            now,
            &actions
        )
    }

    // MARK: Credentials

    private mutating func scheduleCredentialNotice(serverMilliseconds: Double, _ now: UInt64) {
        credentialNoticeAt = .max
        guard let left = millisecondsUntilExpiry(serverMilliseconds) else { return }
        let margin = min(SignalingClientLimits.credentialNoticeSeconds &* 1_000, left / 2)
        credentialNoticeAt = later(now, milliseconds: left &- margin)
    }

    func credentialsLeftMilliseconds(_ now: UInt64) -> UInt64 {
        clock.milliseconds(atNanoseconds: now).flatMap(millisecondsUntilExpiry) ?? 0
    }

    private func millisecondsUntilExpiry(_ serverMilliseconds: Double) -> UInt64? {
        credentials.expirySeconds.map {
            UInt64(exactly: max(0, Double($0) * 1_000 - serverMilliseconds).rounded()) ?? .max
        }
    }

    // MARK: Small things

    mutating func nextID() -> UInt64 {
        lastID &+= 1
        return lastID
    }

    /// Saturating, so that nothing wraps into the past.
    func later(_ now: UInt64, milliseconds: UInt64) -> UInt64 {
        let (product, overflow) = milliseconds.multipliedReportingOverflow(by: 1_000_000)
        let (sum, carry) = now.addingReportingOverflow(product)
        return overflow || carry ? .max : sum
    }

    func later(_ now: UInt64, seconds: UInt64) -> UInt64 {
        let (product, overflow) = seconds.multipliedReportingOverflow(by: 1_000)
        return later(now, milliseconds: overflow ? .max : product)
    }

    /// From half of it to all of it.
    func jittered(_ milliseconds: UInt64) -> UInt64 {
        milliseconds &- milliseconds / 2 &+ draw(below: milliseconds / 2 &+ 1)
    }

    private func draw(below bound: UInt64) -> UInt64 { random().multipliedFullWidth(by: bound).high }

    private static let cut = SignalingError(
        .unreachable,
        "The connection to the signaling server was lost",
        mend: "check the network, and that the server runs"
    )
    static let shutdown = SignalingError(.shutdown, "The signaling server is stopping")
    private static let policy = SignalingError(
        .policy,
        "The signaling server closed the connection because it was a burden or is used elsewhere",
        mend: "send less, read faster, and use a session from one program only"
    )
    static let protocolViolation = SignalingError(
        .protocolViolation,
        "The client and the signaling server do not understand each other",
        mend: "use versions that belong together, and look for a proxy that changes messages"
    )
}
