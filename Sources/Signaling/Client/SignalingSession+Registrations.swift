/// A peer id that is to be registered, and the rooms that it is to be in.
struct Registration {
    let peerID: String
    var metadata: JSONText
    /// What the server has, as far as it has said so.
    var confirmedMetadata: JSONText?
    var rooms: [String] = []
    /// When it is tried again, because another connection had it.
    var retakeAt = UInt64.max
    var retakes: UInt64 = 0

    init(peerID: String, metadata: JSONText) {
        self.peerID = peerID
        self.metadata = metadata
    }
}

/// What is kept up in every session.
extension SignalingSession {
    /// A new session knows nothing of the one before. What waits for an answer is asked again, behind the peer ids and
    /// the rooms; what was sent to others and may have arrived is not sent twice.
    /// - Parameter sent: messages that the new session was sent already.
    mutating func startAnew(sent: UInt64, _ now: UInt64, _ actions: inout [SignalingAction]) {
        let old = outbox.takeAll(sequence: sent)
        for index in registrations.indices {
            registrations[index].retakeAt = .max
            registrations[index].retakes = 0
        }
        var registers: [OutgoingMessage] = []
        var joins: [OutgoingMessage] = []
        var rest: [OutgoingMessage] = []
        for message in old {
            switch message.purpose {
            case .register(let peerID):
                if isWanted(peerID) { registers.append(message) } else { drop(message, .superseded, &actions) }
            case .join(let roomID, let peerID):
                if isWanted(roomID, of: peerID) { joins.append(message) } else { drop(message, .superseded, &actions) }
            // The end of the session did it.
            case .unregister(let peerID):
                actions.append(.deliver(.unregistered(peerID: peerID, request: .init(rawValue: message.id))))
            case .leave(let roomID, let peerID):
                let request = SignalingRequestID(rawValue: message.id)
                actions.append(.deliver(.roomLeft(roomID: roomID, peerID: peerID, request: request)))
            case .time: break
            // It was about an address that this client may not have any more.
            case .probe: drop(message, .superseded, &actions)
            case .message where message.sequence > 0: drop(message, .unconfirmed, &actions)
            case .lookup, .iceServers, .message: rest.append(message)
            }
        }
        for registration in registrations {
            if !registers.contains(where: { $0.purpose.isRegister(of: registration.peerID) }) {
                enqueueRegister(registration)
            }
        }
        for message in registers { outbox.append(message.unsent) }
        for registration in registrations {
            for roomID in registration.rooms
            where !joins.contains(where: { $0.purpose.isJoin(of: registration.peerID, roomID) }) {
                enqueueJoin(roomID, registration.peerID)
            }
        }
        for message in joins + rest { outbox.append(message.unsent) }
    }

    /// A session goes on. What is wanted, not there and not on its way is asked for.
    mutating func restore(_ there: [String: Set<String>], _ now: UInt64) {
        for registration in registrations {
            let rooms = there[registration.peerID]
            let isComing = outbox.contains { $0.isRegister(of: registration.peerID) }
            if rooms == nil, !isComing, registration.retakeAt == .max { enqueueRegister(registration) }
            for roomID in registration.rooms where rooms?.contains(roomID) != true {
                if !outbox.contains(where: { $0.isJoin(of: registration.peerID, roomID) }) {
                    enqueueJoin(roomID, registration.peerID)
                }
            }
        }
    }

    /// Does what its time has come for while the session is open.
    mutating func keepUp(_ now: UInt64) {
        for index in registrations.indices where registrations[index].retakeAt <= now {
            registrations[index].retakeAt = .max
            let registration = registrations[index]
            if !outbox.contains(where: { $0.isRegister(of: registration.peerID) }) { enqueueRegister(registration) }
            for roomID in registration.rooms
            where !outbox.contains(where: { $0.isJoin(of: registration.peerID, roomID) }) {
                enqueueJoin(roomID, registration.peerID)
            }
        }
        let patience = later(now, seconds: configuration.patienceSeconds)
        if refreshICEAt <= now {
            refreshICEAt = later(now, seconds: SignalingClientLimits.iceRetrySeconds &+ configuration.patienceSeconds)
            enqueueInternal(.iceServers, expiresAt: patience) { Self.iceServersText(nil, $0) }
        }
        if sampleClockAt <= now {
            sampleClockAt = later(now, seconds: SignalingClientLimits.clockSeconds)
            if !outbox.contains(where: \.isClock) {
                enqueueInternal(.time, expiresAt: patience) { id in
                    Self.text("time", id) { $0.member("t0", Int64(clamping: now / 1_000_000)) }
                }
            }
        }
    }

    mutating func scheduleICE(_ ttlSeconds: UInt64, _ now: UInt64) {
        // The server sends new ones half a minute before that, if it can.
        let margin = min(SignalingClientLimits.iceMarginSeconds, ttlSeconds / 4)
        let wait = max(ttlSeconds &- margin, SignalingClientLimits.iceRetrySeconds)
        refreshICEAt = ttlSeconds == 0 ? .max : later(now, seconds: wait)
    }

    /// When the next of these is to be done.
    var keepUpAt: UInt64 { registrations.reduce(min(refreshICEAt, sampleClockAt)) { min($0, $1.retakeAt) } }

    func isWanted(_ peerID: String) -> Bool { registrations.contains { $0.peerID == peerID } }

    func isWanted(_ roomID: String, of peerID: String) -> Bool {
        registrations.contains { $0.peerID == peerID && $0.rooms.contains(roomID) }
    }

    mutating func forgetRoom(_ roomID: String, of peerID: String) {
        guard let place = registrations.firstIndex(where: { $0.peerID == peerID }) else { return }
        registrations[place].rooms.removeAll { $0 == roomID }
    }

    /// The server has the peer id under this connection.
    mutating func noteRegistered(_ peerID: String) {
        guard let place = registrations.firstIndex(where: { $0.peerID == peerID }) else { return }
        registrations[place].confirmedMetadata = registrations[place].metadata
        registrations[place].retakeAt = .max
        registrations[place].retakes = 0
    }

    /// A registration was refused that the caller asked for.
    mutating func noteRefused(_ peerID: String) {
        guard let place = registrations.firstIndex(where: { $0.peerID == peerID }) else { return }
        if let metadata = registrations[place].confirmedMetadata {
            registrations[place].metadata = metadata
        } else {
            registrations.remove(at: place)
        }
    }

    /// A registration was refused that the session made by itself.
    mutating func noteLost(
        _ peerID: String,
        _ error: SignalingError,
        _ now: UInt64,
        _ actions: inout [SignalingAction]
    ) {
        guard let place = registrations.firstIndex(where: { $0.peerID == peerID }) else { return }
        let isFinal = error.reason != .peerTaken && error.reason != .rateLimited
        if isFinal {
            registrations.remove(at: place)
        } else {
            let pause = SignalingClientLimits.retakeMilliseconds << min(registrations[place].retakes, 5)
            registrations[place].retakes &+= 1
            registrations[place].retakeAt = later(now, milliseconds: jittered(pause))
        }
        actions.append(.deliver(.registrationLost(peerID: peerID, error, isFinal: isFinal)))
    }

    private mutating func enqueueRegister(_ registration: Registration) {
        enqueueInternal(.register(peerID: registration.peerID)) {
            Self.registerText(registration.peerID, registration.metadata, $0)
        }
    }

    private mutating func enqueueJoin(_ roomID: String, _ peerID: String) {
        enqueueInternal(.join(roomID: roomID, peerID: peerID)) { Self.joinText(roomID, peerID, $0) }
    }
}

extension OutgoingMessage.Purpose {
    func isRegister(of id: String) -> Bool {
        if case .register(let peerID) = self { return peerID == id }
        return false
    }

    func isJoin(of id: String, _ room: String) -> Bool {
        if case .join(let roomID, let peerID) = self { return peerID == id && roomID == room }
        return false
    }
}

extension OutgoingMessage {
    /// For a connection that has not seen it.
    fileprivate var unsent: OutgoingMessage {
        var message = self
        message.sequence = 0
        message.isConfirmed = false
        return message
    }
}
