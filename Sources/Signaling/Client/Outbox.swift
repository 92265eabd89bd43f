/// A request or message on its way to the server.
struct OutgoingMessage {
    enum Purpose {
        case register(peerID: String)
        case unregister(peerID: String)
        case join(roomID: String, peerID: String)
        case leave(roomID: String, peerID: String)
        case lookup(peerID: String)
        case iceServers
        case time
        case probe
        /// To a peer, or to a room.
        case message

        /// Whether the server answers it when all is well.
        var isAnswered: Bool {
            if case .message = self { return false }
            return true
        }

        /// Whether a refusal for the moment is mended by waiting here.
        var isPatient: Bool {
            switch self {
            case .iceServers, .time, .probe: false
            default: true
            }
        }

        var isClock: Bool {
            if case .time = self { return true }
            return false
        }
    }

    let id: UInt64
    let purpose: Purpose
    let text: String
    /// Whether the session made it, and not the caller.
    let isInternal: Bool
    /// When nobody waits for it any more.
    let expiresAt: UInt64
    /// Its number among the messages of this connection; 0 as long as it waits.
    var sequence: UInt64 = 0
    var sentAt: UInt64 = 0
    /// Its place among all that waits.
    fileprivate(set) var order: UInt64 = 0
    var attempts = 0
    /// Whether the server has it, and only its answer is missing.
    var isConfirmed = false

    var isWorthRepeating: Bool { purpose.isPatient }
    var byteCount: Int { text.utf8.count }
}

/// What waits to be sent, and what was sent and may have to be sent again, each in the order in which it was made.
struct Outbox {
    private(set) var waiting: [OutgoingMessage] = []
    private(set) var sent: [OutgoingMessage] = []
    /// Of those that are not confirmed.
    private(set) var unconfirmedCount = 0
    private(set) var unconfirmedBytes = 0
    /// The number of the newest message of this connection.
    private(set) var sequence: UInt64 = 0
    /// When the first of all is not waited for any more.
    private(set) var nextExpiry = UInt64.max
    private var lastOrder: UInt64 = 0

    /// Whether the caller may add to what waits. What the session adds by itself is bounded by what the caller has
    /// registered.
    var hasRoom: Bool {
        let callers = waiting.lazy.filter { !$0.isInternal }
        return callers.count < SignalingClientLimits.waitingMessagesMax
            && callers.reduce(0) { $0 + $1.byteCount } < SignalingClientLimits.waitingBytesMax
    }

    /// Whether more may be sent before some is confirmed.
    var mayFly: Bool {
        unconfirmedCount < SignalingClientLimits.unconfirmedMessagesMax
            && unconfirmedBytes < SignalingClientLimits.unconfirmedBytesMax
    }

    var wantsConfirmation: Bool {
        unconfirmedCount >= SignalingClientLimits.confirmMessages
            || unconfirmedBytes >= SignalingClientLimits.confirmBytes
    }

    /// When the oldest message was sent that is not confirmed.
    var oldestUnconfirmedAt: UInt64? { sent.first { !$0.isConfirmed }?.sentAt }

    var isEmpty: Bool { waiting.isEmpty && sent.isEmpty }

    mutating func append(_ message: OutgoingMessage) {
        var message = message
        lastOrder &+= 1
        message.order = lastOrder
        waiting.append(message)
        nextExpiry = min(nextExpiry, message.expiresAt)
    }

    /// Takes a number for a message that is not kept.
    mutating func count() -> UInt64 {
        sequence &+= 1
        return sequence
    }

    /// The next one, as sent; or as it is, and thrown out, where it is longer than that.
    mutating func sendFirst(_ now: UInt64, bytesMax: Int) -> OutgoingMessage? {
        guard !waiting.isEmpty else { return nil }
        var message = waiting.removeFirst()
        guard message.byteCount <= bytesMax else { return message }
        message.sequence = count()
        message.sentAt = now
        message.attempts += 1
        sent.append(message)
        unconfirmedCount += 1
        unconfirmedBytes += message.byteCount
        return message
    }

    /// The server has all messages up to this number.
    mutating func confirm(through number: UInt64) {
        guard let first = sent.first(where: { !$0.isConfirmed }), first.sequence <= number else { return }
        for index in sent.indices where !sent[index].isConfirmed && sent[index].sequence <= number {
            sent[index].isConfirmed = true
            unconfirmedCount -= 1
            unconfirmedBytes -= sent[index].byteCount
        }
        sent.removeAll { $0.isConfirmed && !$0.purpose.isAnswered }
    }

    /// What waits for this answer, which it has now; all before it has arrived, too.
    mutating func takeAnswered(_ id: UInt64) -> OutgoingMessage? {
        guard let message = sent.first(where: { $0.id == id }) else { return nil }
        confirm(through: message.sequence)
        sent.removeAll { $0.id == id }
        return message
    }

    /// Whether something like it is on its way.
    func contains(where matches: (OutgoingMessage.Purpose) -> Bool) -> Bool {
        sent.contains { matches($0.purpose) } || waiting.contains { matches($0.purpose) }
    }

    /// Lets a message that the server refused for the moment wait at the place that it had.
    mutating func putBack(_ message: OutgoingMessage) {
        var message = message
        message.sequence = 0
        message.isConfirmed = false
        let place = waiting.firstIndex { $0.order > message.order } ?? waiting.endIndex
        waiting.insert(message, at: place)
        nextExpiry = min(nextExpiry, message.expiresAt)
    }

    /// The session goes on. What the server has not got is sent again, before what waits; what it has got is not.
    /// - Parameters:
    ///   - serverReceived: how many messages it had got since the last `welcome`. One that does not say it is sent
    ///     everything again that it has not confirmed otherwise.
    ///   - hasMissed: answers may have been lost for good.
    /// - Returns: how many messages are sent again.
    mutating func resume(serverReceived: UInt64?, hasMissed: Bool) -> UInt64 {
        if let serverReceived { confirm(through: serverReceived) }
        // The caller's requests end with their time; the session's own are made anew.
        if hasMissed { sent.removeAll { $0.isConfirmed && $0.isInternal } }
        // The server does not repeat what its clock showed; it is asked anew.
        sent.removeAll { $0.purpose.isClock }
        waiting.removeAll { $0.purpose.isClock }
        let again = sent.filter { !$0.isConfirmed }
        sent.removeAll { !$0.isConfirmed }
        for index in sent.indices { sent[index].sequence = 0 }
        sequence = 0
        unconfirmedCount = 0
        unconfirmedBytes = 0
        waiting = again + waiting
        for index in waiting.indices { waiting[index].sequence = 0 }
        return UInt64(again.count)
    }

    /// Takes everything out, in order: what was sent, then what waits. A new session begins.
    /// - Parameter sequence: messages that it was sent already.
    mutating func takeAll(sequence: UInt64 = 0) -> [OutgoingMessage] {
        defer {
            let order = lastOrder
            self = Outbox()
            self.sequence = sequence
            lastOrder = order
        }
        return sent + waiting
    }

    /// Takes out what nobody waits for any more.
    mutating func takeExpired(_ now: UInt64) -> [OutgoingMessage] {
        guard nextExpiry <= now else { return [] }
        let expired = (sent + waiting).filter { $0.expiresAt <= now }
        for message in expired {
            if message.sequence > 0, !message.isConfirmed {
                unconfirmedCount -= 1
                unconfirmedBytes -= message.byteCount
            }
        }
        sent.removeAll { $0.expiresAt <= now }
        waiting.removeAll { $0.expiresAt <= now }
        nextExpiry = (sent + waiting).reduce(.max) { min($0, $1.expiresAt) }
        return expired
    }
}
