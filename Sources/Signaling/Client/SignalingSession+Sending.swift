/// The client's own restraint: a little less than the server would refuse.
struct Pace {
    private let rate: Rate
    private var bucket = TokenBucket()
    /// The server has asked for a pause.
    var pausedUntil: UInt64 = 0

    init(_ limits: SignalingServerLimits = SignalingServerLimits()) {
        let share = SignalingClientLimits.burstShare
        rate = Rate(perSecond: limits.messagesPerSecond, burst: limits.burst * share.numerator / share.denominator)
    }

    mutating func mayTake(_ now: UInt64) -> Bool { now >= pausedUntil && bucket.tryTake(of: rate, now: now) == 0 }

    mutating func take(_ now: UInt64) { bucket.take(of: rate, now: now) }

    /// From when on a message may go.
    func readyAt(_ now: UInt64) -> UInt64 {
        let wait = bucket.waitNanoseconds(of: rate, now: now)
        let (sum, carry) = now.addingReportingOverflow(wait)
        return max(pausedUntil, carry ? .max : sum)
    }
}

/// Sending, and finding out whether it arrived.
extension SignalingSession {
    /// Sends what may be sent.
    /// - Parameter isLast: all of it, since the connection is closed behind it.
    mutating func flush(_ now: UInt64, _ actions: inout [SignalingAction], isLast: Bool = false) {
        guard case .open = phase else { return }
        let bytesMax = welcome?.limits.maxMessageBytes ?? SignalingServerLimits().maxMessageBytes
        while !outbox.waiting.isEmpty, isLast || (outbox.mayFly && pace.mayTake(now)) {
            guard let message = outbox.sendFirst(now, bytesMax: bytesMax) else { continue }
            guard message.sequence > 0 else {
                // It was made when the limits were others. The server would close the connection.
                drop(message, .tooLarge(bytesMax: bytesMax), &actions)
                continue
            }
            transmit(message.text, now, &actions)
        }
        settlePace(now)
        guard ping == nil, now >= pace.pausedUntil, pingDueAt <= now else { return }
        sendPing(now, &actions)
    }

    private mutating func transmit(_ text: String, _ now: UInt64, _ actions: inout [SignalingAction]) {
        counters.messagesSent &+= 1
        sentAt = now
        actions.append(.send(text))
    }

    /// Asks for a sign of life. The answer also says that all before it has arrived, and the question tells the server
    /// the same.
    private mutating func sendPing(_ now: UInt64, _ actions: inout [SignalingAction]) {
        let id = nextID()
        pace.take(now)
        ping = Ping(id: id, sequence: outbox.count(), sentAt: now)
        let received = received
        transmit(Self.text("ping", id) { $0.member("received", Int64(clamping: received)) }, now, &actions)
    }

    /// When a ping is due, if none is on its way.
    private var pingDueAt: UInt64 {
        if outbox.wantsConfirmation { return 0 }
        let limits = welcome?.limits ?? SignalingServerLimits()
        let interval = min(configuration.keepAliveSeconds &* 1_000, limits.peerTimeoutMilliseconds / 3)
        // The server has to hear something, too.
        let due = later(min(heardAt, sentAt), milliseconds: interval)
        guard let oldest = outbox.oldestUnconfirmedAt else { return due }
        return min(due, later(oldest, seconds: SignalingClientLimits.confirmSeconds))
    }

    /// Whether the connection is alive. If not, it is given up.
    mutating func keepAlive(_ now: UInt64, _ actions: inout [SignalingAction]) -> Bool {
        guard let ping, later(max(ping.sentAt, heardAt), seconds: configuration.silenceSeconds) <= now else {
            return true
        }
        counters.silences &+= 1
        actions.append(.close(code: 1001))
        lost(nil, Self.silence, now, &actions)
        return false
    }

    /// When `advance` has something to do in an open session.
    var openDeadline: UInt64 {
        var next = keepUpAt
        if let ping {
            next = min(next, later(max(ping.sentAt, heardAt), seconds: configuration.silenceSeconds))
        } else {
            next = min(next, max(pingDueAt, pace.pausedUntil))
        }
        if !outbox.waiting.isEmpty, outbox.mayFly { next = min(next, paceReadyAt) }
        return next
    }

    private mutating func settlePace(_ now: UInt64) { paceReadyAt = pace.readyAt(now) }

    /// The server has had too much for the moment.
    mutating func pause(_ error: SignalingError, _ now: UInt64) {
        let asked = min(error.retryAfterMilliseconds ?? 1_000, SignalingClientLimits.ratePauseMillisecondsMax)
        pace.pausedUntil = max(pace.pausedUntil, later(now, milliseconds: asked &+ jittered(asked / 8)))
    }

    /// What nobody waits for any more.
    mutating func expireRequests(_ now: UInt64, _ actions: inout [SignalingAction]) {
        for message in outbox.takeExpired(now) {
            let error: SignalingError =
                message.sequence > 0 && !message.purpose.isAnswered ? .unconfirmed : .timedOut("The request")
            drop(message, error, &actions)
        }
    }

    mutating func fail(
        _ messages: [OutgoingMessage],
        _ error: SignalingError,
        _ actions: inout [SignalingAction]
    ) {
        for message in messages { drop(message, error, &actions) }
    }

    func drop(_ message: OutgoingMessage, _ error: SignalingError, _ actions: inout [SignalingAction]) {
        guard !message.isInternal else { return }
        actions.append(.deliver(.failed(SignalingRequestID(rawValue: message.id), error)))
    }

    private static let silence = SignalingError(
        .timedOut,
        "Nothing was heard from the signaling server any more",
        mend: "check the network"
    )
}
