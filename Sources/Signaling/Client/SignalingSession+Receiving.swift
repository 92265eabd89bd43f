/// What comes from the server in an open session.
extension SignalingSession {
    mutating func take(_ message: ServerMessage?, _ now: UInt64, _ actions: inout [SignalingAction]) {
        // Counted whatever it is, as the server does: `received` says how far it has come.
        received &+= 1
        counters.messagesReceived &+= 1
        guard let message else { return noteMalformed(now, &actions) }
        if message.type != "error" { lastFailure = nil }
        let isUnderstood: Bool
        switch message.type {
        case "registered", "unregistered", "room-joined", "room-left", "peer", "time", "probe-tcp":
            isUnderstood = answered(message, now, &actions)
        case "ice-servers": isUnderstood = takeICEServers(message, now, &actions)
        case "pong": isUnderstood = takePong(message)
        case "error":
            refused(message, now, &actions)
            isUnderstood = true
        case "offer": isUnderstood = deliver(message, .offer, &actions)
        case "answer": isUnderstood = deliver(message, .answer, &actions)
        case "ice-candidate": isUnderstood = deliver(message, .candidate, &actions)
        case "signal": isUnderstood = deliver(message, .signal, &actions)
        case "broadcast": isUnderstood = deliverBroadcast(message, &actions)
        case "peer-joined", "peer-left": isUnderstood = deliverPresence(message, &actions)
        case "server-shutdown":
            noteShutdown(message, now, &actions)
            isUnderstood = true
        case "welcome": isUnderstood = false
        default:
            counters.unknownTypes &+= 1
            isUnderstood = true
        }
        if !isUnderstood { noteMalformed(now, &actions) }
    }

    // MARK: Answers

    private mutating func answered(
        _ message: ServerMessage,
        _ now: UInt64,
        _ actions: inout [SignalingAction]
    ) -> Bool {
        guard let id = message.wholeNumber(.id) else { return false }
        guard let question = outbox.takeAnswered(id) else {
            counters.unmatched &+= 1
            return true
        }
        let request = SignalingRequestID(rawValue: id)
        let shown = question.isInternal ? nil : request
        switch (question.purpose, message.type) {
        case (.register(let peerID), "registered"):
            noteRegistered(peerID)
            if shown != nil || isWanted(peerID) {
                actions.append(.deliver(.registered(peerID: peerID, request: shown)))
            }
        case (.unregister(let peerID), "unregistered"):
            actions.append(.deliver(.unregistered(peerID: peerID, request: request)))
        case (.join(let roomID, let peerID), "room-joined"):
            guard let peers = message.peers else {
                drop(question, Self.protocolViolation, &actions)
                return false
            }
            let event = SignalingEvent.roomJoined(roomID: roomID, peerID: peerID, peers: peers, request: shown)
            actions.append(.deliver(event))
        case (.leave(let roomID, let peerID), "room-left"):
            actions.append(.deliver(.roomLeft(roomID: roomID, peerID: peerID, request: request)))
        case (.lookup(let peerID), "peer"):
            let peer = message.bool(.online) ? SignalingPeer(peerID: peerID, metadata: message.metadata) : nil
            actions.append(.deliver(.found(peerID: peerID, peer, request: request)))
        case (.time, "time"):
            guard let time = message[.serverTime]?.value.number else { return false }
            clock.note(serverMilliseconds: time, askedAt: question.sentAt, now: now)
            if !clock.isSettled {
                sampleClockAt = later(now, milliseconds: SignalingClientLimits.clockSampleMilliseconds)
            }
        case (.probe, "probe-tcp"):
            guard let outcome = message.string(.outcome).flatMap({ SignalingProbe.Outcome(rawValue: $0) }) else {
                drop(question, Self.protocolViolation, &actions)
                return false
            }
            let probe = SignalingProbe(
                outcome: outcome,
                address: message.string(.address),
                from: message.string(.from)
            )
            actions.append(.deliver(.probed(probe, request: request)))
        default:
            drop(question, Self.protocolViolation, &actions)
            return false
        }
        return true
    }

    private mutating func takeICEServers(
        _ message: ServerMessage,
        _ now: UInt64,
        _ actions: inout [SignalingAction]
    ) -> Bool {
        let question = message.wholeNumber(.id).flatMap { outbox.takeAnswered($0) }
        guard let servers = message.iceServers, let ttl = message.wholeNumber(.ttl) else {
            if let question { drop(question, Self.protocolViolation, &actions) }
            return false
        }
        welcome?.iceServers = servers
        welcome?.ttlSeconds = ttl
        scheduleICE(ttl, now)
        let request = question.flatMap { $0.isInternal ? nil : SignalingRequestID(rawValue: $0.id) }
        actions.append(.deliver(.iceServers(servers, ttlSeconds: ttl, request: request)))
        return true
    }

    private mutating func takePong(_ message: ServerMessage) -> Bool {
        guard let ping, message.wholeNumber(.id) == ping.id else {
            counters.unmatched &+= 1
            return true
        }
        outbox.confirm(through: ping.sequence)
        self.ping = nil
        return true
    }

    // MARK: Refusals

    private mutating func refused(_ message: ServerMessage, _ now: UInt64, _ actions: inout [SignalingAction]) {
        let error = message.failure
        guard let id = message.wholeNumber(.id) else {
            // It is about the connection, and a close may follow.
            lastFailure = error
            return
        }
        if let ping, ping.id == id {
            self.ping = nil
            outbox.confirm(through: ping.sequence)
            return pause(error, now)
        }
        guard let question = outbox.takeAnswered(id) else {
            // A message that was on its way for long, to a peer that did not come back.
            guard id <= lastID else { return counters.unmatched &+= 1 }
            return actions.append(.deliver(.failed(SignalingRequestID(rawValue: id), error)))
        }
        if error.reason == .rateLimited, question.isWorthRepeating {
            pause(error, now)
            if question.attempts < SignalingClientLimits.attemptsMax { return outbox.putBack(question) }
        }
        switch question.purpose {
        case .register(let peerID) where question.isInternal: noteLost(peerID, error, now, &actions)
        case .register(let peerID):
            noteRefused(peerID)
            drop(question, error, &actions)
        case .join(let roomID, let peerID) where question.isInternal:
            joinRefused(roomID, peerID, error, now, &actions)
        case .join(let roomID, let peerID):
            forgetRoom(roomID, of: peerID)
            drop(question, error, &actions)
        case .iceServers where question.isInternal:
            let pause = max(error.retryAfterMilliseconds ?? 0, SignalingClientLimits.iceRetrySeconds &* 1_000)
            refreshICEAt = later(now, milliseconds: pause)
        case .unregister, .leave, .lookup, .iceServers, .time, .probe, .message: drop(question, error, &actions)
        }
    }

    private mutating func joinRefused(
        _ roomID: String,
        _ peerID: String,
        _ error: SignalingError,
        _ now: UInt64,
        _ actions: inout [SignalingAction]
    ) {
        guard let place = registrations.firstIndex(where: { $0.peerID == peerID }) else { return }
        // It is entered when the peer id is there.
        if registrations[place].retakeAt < .max { return }
        if error.reason == .rateLimited {
            registrations[place].retakeAt = later(now, milliseconds: jittered(SignalingClientLimits.retakeMilliseconds))
            return
        }
        forgetRoom(roomID, of: peerID)
        actions.append(.deliver(.roomLost(roomID: roomID, peerID: peerID, error)))
    }

    // MARK: What others say

    private func deliver(
        _ message: ServerMessage,
        _ kind: SignalingMessageKind,
        _ actions: inout [SignalingAction]
    ) -> Bool {
        guard let from = message.peerID(.from), let to = message.peerID(.to), let payload = message[.payload] else {
            return false
        }
        actions.append(
            .deliver(
                .message(
                    SignalingMessage(
                        kind: kind,
                        from: from,
                        to: to,
                        payload: payload,
                        timestampMilliseconds: message.timestamp
                    )
                )
            )
        )
        return true
    }

    private func deliverBroadcast(_ message: ServerMessage, _ actions: inout [SignalingAction]) -> Bool {
        guard let from = message.peerID(.from), let roomID = message.roomID, let data = message[.data] else {
            return false
        }
        let time = message.timestamp
        actions.append(.deliver(.broadcast(from: from, roomID: roomID, data: data, timestampMilliseconds: time)))
        return true
    }

    private func deliverPresence(_ message: ServerMessage, _ actions: inout [SignalingAction]) -> Bool {
        guard let peerID = message.peerID(.peerId), let roomID = message.roomID else { return false }
        let isHere = message.type == "peer-joined"
        let peer = SignalingPeer(peerID: peerID, metadata: message.metadata)
        actions.append(
            .deliver(isHere ? .peerJoined(peer, roomID: roomID) : .peerLeft(peerID: peerID, roomID: roomID))
        )
        return true
    }
}
