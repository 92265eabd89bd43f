/// A request for TURN credentials that the account store has not answered.
struct OpenRequest {
    let session: Session
    /// JSON; empty where the request had none.
    let id: [UInt8]
    /// Whether the client asked. Otherwise its old ones are about to end.
    let isAsked: Bool
}

extension Hub {
    /// The account store minted credentials.
    /// - Parameter iceServers: a JSON array.
    package func issued(
        _ ticket: CredentialTicket,
        iceServers: [UInt8],
        ttlSeconds: UInt64,
        now: HubTime,
        into actions: inout [Action]
    ) {
        guard let request = close(ticket), !request.session.isEnded else { return }
        let session = request.session
        var writer = FrameWriter("ice-servers", reserving: 96 + iceServers.count + request.id.count)
        writer.member("iceServers", raw: iceServers)
        writer.member("ttl", Int64(clamping: ttlSeconds))
        writer.member("timestamp", now.wallMilliseconds)
        writer.echo(request.id)
        // A client that comes back gets newer ones in its `welcome`.
        deliver(writer.finish(), to: session, isLasting: request.isAsked, &actions)
        scheduleRefresh(session, ttlSeconds: ttlSeconds, now)
        arm(session)
        settle(now, &actions)
    }

    /// The account store minted none.
    package func issueFailed(_ ticket: CredentialTicket, now: HubTime, into actions: inout [Action]) {
        guard let request = close(ticket), request.isAsked else { return }
        counters.count(.unauthenticated)
        let refusal = Refusal(
            .unauthenticated,
            "Credentials cannot be issued at the moment",
            retryAfterNanoseconds: 1_000_000_000
        )
        let type = Array("\"ice-servers\"".utf8)
        deliver(Self.error(refusal, originalType: type, id: request.id), to: request.session, &actions)
        settle(now, &actions)
    }

    func requestCredentials(_ request: Request, _ actions: inout [Action]) throws(Refusal) {
        let session = request.session
        let wanted = try request.message.wholeNumber(.ttl)
        if wanted == 0 { throw Refusal(.badMessage, "ttl must be 1 or more, in seconds") }
        let now = request.now
        guard session.openCredentialRequests < SignalingLimits.credentialRequestsPerSession else {
            throw .rateLimited("Too many requests for credentials", wait: 1_000_000_000)
        }
        let wait = session.user.credentialRequests.tryTake(
            of: SignalingLimits.credentialRequests,
            now: now.monotonicNanoseconds
        )
        if wait > 0 { throw .rateLimited("Too many requests for credentials", wait: wait) }
        issue(session, id: Array(request.id), isAsked: true, ttlSeconds: wanted, now, &actions)
    }

    /// The old ones are about to end.
    func refreshCredentials(_ session: Session, _ now: HubTime, _ actions: inout [Action]) {
        session.refreshAt = now.after(seconds: SignalingLimits.refreshRetrySeconds)
        guard session.openCredentialRequests < SignalingLimits.credentialRequestsPerSession else { return }
        issue(session, id: [], isAsked: false, ttlSeconds: nil, now, &actions)
    }

    func scheduleRefresh(_ session: Session, ttlSeconds: UInt64, _ now: HubTime) {
        let margin = min(SignalingLimits.refreshMarginSeconds, ttlSeconds / 2)
        session.refreshAt = now.after(seconds: max(1, ttlSeconds &- margin))
    }

    private func issue(
        _ session: Session,
        id: [UInt8],
        isAsked: Bool,
        ttlSeconds wanted: UInt64?,
        _ now: HubTime,
        _ actions: inout [Action]
    ) {
        var ttl = max(wanted ?? configuration.credentialTTLSeconds, SignalingLimits.credentialSecondsMin)
        ttl = min(ttl, configuration.maxCredentialTTLSeconds)
        if let expiresAt = session.expiresAt {
            // What was lent for a time is not lent on for longer.
            let left = expiresAt > now.monotonicNanoseconds ? expiresAt &- now.monotonicNanoseconds : 0
            ttl = min(ttl, max(1, left / 1_000_000_000))
        }
        lastTicket &+= 1
        session.openCredentialRequests += 1
        tickets[lastTicket] = OpenRequest(session: session, id: id, isAsked: isAsked)
        let ticket = CredentialTicket(rawValue: lastTicket)
        actions.append(.issueCredentials(ticket, user: session.user.name, ttlSeconds: ttl))
    }

    private func close(_ ticket: CredentialTicket) -> OpenRequest? {
        guard let request = tickets.removeValue(forKey: ticket.rawValue) else { return nil }
        request.session.openCredentialRequests -= 1
        return request
    }
}
