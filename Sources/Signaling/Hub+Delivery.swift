extension Hub {
    /// Sends a message to a session's client, or keeps it until the client is back.
    func deliver(
        _ bytes: [UInt8],
        to session: Session,
        origin: Origin? = nil,
        isLasting: Bool = true,
        _ actions: inout [Action]
    ) {
        guard !session.isEnded else { return }
        let entry = ReplayQueue.Entry(bytes: bytes, origin: origin, isLasting: isLasting)
        let isComplete = session.replay.append(entry, total: &replayBytes)
        guard let connection = session.connection else {
            // A client that is away for too much would come back to a gap. It is gone instead, and senders hear so.
            if !isComplete { doomed.append(session) }
            return
        }
        send(bytes, sequence: session.replay.sentThrough, to: connection, &actions)
        if session.replay.wantsProbe {
            session.replay.probedThrough = session.replay.sentThrough
            actions.append(.probe(connection.id, sequence: session.replay.sentThrough))
        }
    }

    /// Sends what is not counted: a `welcome`, or an error to a client that has no session.
    func send(_ bytes: [UInt8], sequence: UInt64 = 0, to connection: Connection, _ actions: inout [Action]) {
        counters.messagesSent &+= 1
        counters.bytesSent &+= UInt64(bytes.count)
        actions.append(.send(connection.id, Frame(bytes: bytes, sequence: sequence)))
    }

    /// Sends a copy to everyone who has a peer in the room other than `except`: one to each session.
    func fanOut(_ bytes: [UInt8], to room: Room, except: Peer, _ actions: inout [Action]) {
        lastFanOut &+= 1
        for member in room.members where member !== except && member.session.fanOut != lastFanOut {
            member.session.fanOut = lastFanOut
            deliver(bytes, to: member.session, &actions)
        }
    }

    /// Answers a message that has no effect; a client that goes on like that is closed.
    func refuse(
        _ refusal: Refusal,
        _ message: Message?,
        _ connection: Connection,
        _ now: HubTime,
        _ actions: inout [Action]
    ) {
        report(refusal, message, to: connection, &actions)
        guard connection.session != nil else {
            guard case .silent = connection.state else { return }
            // Nothing but a hello may come first, and a hello has its attempts.
            connection.attemptsLeft -= 1
            if refusal.code == .rateLimited {
                close(connection, .policy, "too many failed attempts", now, &actions)
            } else if message?.kind != .hello || connection.attemptsLeft <= 0 {
                close(connection, .unauthenticated, "not authenticated", now, &actions)
            }
            return
        }
        if connection.refusals.tryTake(of: rates.refusal, now: now.monotonicNanoseconds) > 0 {
            close(connection, .policy, "too many refused messages", now, &actions)
        }
    }

    /// Counts a refusal and sends its `error`.
    func report(_ refusal: Refusal, _ message: Message?, to connection: Connection, _ actions: inout [Action]) {
        counters.count(RejectionReason(refusal.code))
        var id: [UInt8] = []
        if let message, let raw = try? message.requestID() { id = Array(raw) }
        let bytes = Self.error(refusal, originalType: message.map(Self.echoedType) ?? [], id: id)
        if let session = connection.session {
            deliver(bytes, to: session, &actions)
        } else {
            send(bytes, to: connection, &actions)
        }
    }

    /// - Parameters:
    ///   - originalType: JSON; empty where there is none.
    ///   - id: likewise.
    static func error(_ refusal: Refusal, originalType: [UInt8], id: [UInt8]) -> [UInt8] {
        var writer = FrameWriter("error", reserving: 128 + refusal.text.utf8.count + originalType.count + id.count)
        writer.member("code", name: refusal.code.name)
        writer.member("error", refusal.text)
        if originalType.count > 0 { writer.member("originalType", raw: originalType) }
        if let wait = refusal.retryAfterNanoseconds {
            // Rounded up, so that who waits as told is not refused again.
            writer.member("retryAfterMs", Int64(clamping: wait / 1_000_000 &+ 1))
        }
        writer.echo(id)
        return writer.finish()
    }

    private static func echoedType(_ message: Message) -> [UInt8] {
        guard let span = message[.type], span.isString else { return [] }
        return span.count <= SignalingLimits.echoedTypeBytesMax ? Array(message.raw(.type)) : []
    }
}
