import STUN

/// The client's side of STUN transactions (RFC 8489 section 6): requests that wait for their answers, sent again by
/// schedule, and the rules an answer must obey before anybody believes it.
///
/// Sockets are numbers of the caller's; a transaction is answered on the one it left by. `Context` is whatever the
/// caller wants back with the answer.
package struct TransactionTable<Context> {
    package struct Request {
        package var bytes: [UInt8]
        package var transactionID: TransactionID
        package var method: Method
        package var destination: Endpoint
        package var socket: Int
        package var schedule: RetransmissionSchedule
        /// A key makes the answer have to prove that its sender knows it (RFC 8489 section 9.2.5).
        package var key: AnswerKey?
        /// An answer may come from elsewhere, as CHANGE-REQUEST wants (RFC 5780 section 7.2).
        package var acceptsAnyOrigin = false
        /// An answer without FINGERPRINT is none of ours, where both sides agreed on it (RFC 8489 section 7).
        package var requiresFingerprint = false
        /// Over a connection: what does not verify ends the transaction, since nothing better will come.
        package var isReliable = false

        package init(
            bytes: [UInt8],
            transactionID: TransactionID,
            method: Method,
            destination: Endpoint,
            socket: Int = 0,
            schedule: RetransmissionSchedule,
            key: AnswerKey? = nil
        ) {
            self.bytes = bytes
            self.transactionID = transactionID
            self.method = method
            self.destination = destination
            self.socket = socket
            self.schedule = schedule
            self.key = key
        }
    }

    package enum Event {
        /// The same bytes once more (RFC 8489 section 6.2.1: retransmissions are identical).
        case transmit(socket: Int, destination: Endpoint, bytes: [UInt8])
        case failed(Context, TransactionFailure)
    }

    package enum Arrival {
        case answered(Answer)
        case failed(Context, TransactionFailure)
        case ignored(IgnoredAnswer)
    }

    package struct Answer {
        package let context: Context
        /// The code of ERROR-CODE; nil for a success.
        package let errorCode: UInt16?
        package let source: Endpoint
        package let destination: Endpoint
        package let socket: Int
        /// Nil where the request had been sent more than once.
        package let roundTripNanoseconds: UInt64?
    }

    private struct Entry {
        var request: Request
        var context: Context
        var transmissions = 1
        var firstSentAt: UInt64
        var deadline: UInt64
        /// The code of an answer that came unsigned, and whether any came that did not verify.
        var unverifiedCode: UInt16?
        var hadUnverified = false
        var lastSentAt: UInt64
        /// Sent once more than its schedule has it.
        var isRepeated = false
    }

    /// What is known of the ways; a caller with several tables may hand it on from one to the next.
    package var estimates = RoundTripEstimates()
    private var entries: [TransactionID: Entry] = [:]
    private let understands: @Sendable (AttributeType) -> Bool

    /// - Parameter understands: the attributes below 0x8000 that the caller's answers may have.
    package init(understands: @escaping @Sendable (AttributeType) -> Bool = AnswerRules.understands) {
        self.understands = understands
    }

    package var count: Int { entries.count }

    package var nextDeadline: UInt64? { entries.values.lazy.map(\.deadline).min() }

    /// The schedule for a datagram to that server, by what is known of the way.
    package mutating func schedule(to server: Endpoint, now: UInt64) -> RetransmissionSchedule {
        .datagram(retransmissionNanoseconds: estimates.retransmissionNanoseconds(to: server.address, now: now))
    }

    /// Takes note of a request, which the caller sends once right away.
    /// - Returns: false when too many are under way, or the id is in use; nothing is noted then.
    package mutating func begin(_ request: Request, _ context: Context, now: UInt64) -> Bool {
        guard entries.count < Limits.transactions, entries[request.transactionID] == nil else { return false }
        let wait = request.schedule.gapsNanoseconds.first ?? request.schedule.lastWaitNanoseconds
        entries[request.transactionID] = Entry(
            request: request,
            context: context,
            firstSentAt: now,
            deadline: now.addingSaturated(wait),
            lastSentAt: now
        )
        return true
    }

    /// Takes an answer.
    package mutating func receive(
        _ message: MessageView,
        from source: Endpoint,
        socket: Int = 0,
        now: UInt64,
        with cryptography: any Cryptography
    ) -> Arrival {
        let id = message.transactionID
        guard message.type.messageClass == .successResponse || message.type.messageClass == .errorResponse else {
            return .ignored(.notAnAnswer)
        }
        // Late and second answers end here: their transaction is over (RFC 8489 section 6.3.3).
        guard let entry = entries[id] else { return .ignored(.unknownTransaction) }
        guard entry.request.socket == socket, entry.request.acceptsAnyOrigin || entry.request.destination == source
        else { return .ignored(.wrongSource) }
        guard entry.request.method == message.type.method else { return .ignored(.wrongMethod) }
        guard !entry.request.requiresFingerprint || message.fingerprintOffset != 0 else {
            return .ignored(.noFingerprint)
        }

        let isError = message.type.messageClass == .errorResponse
        let code = isError ? AnswerRules.errorCode(of: message) : nil
        let isChallenge = code == 401 || code == 438
        // RFC 8489 section 9.2.5: a nonce that announces password algorithms which are not there was tampered with. In
        // a challenge, whoever answers it sees that.
        if !isChallenge, AnswerRules.isBidDown(message) { return .ignored(.bidDown) }
        if !isChallenge, let key = entry.request.key, !key.verifies(message, with: cryptography) {
            return unverified(id, message.hasIntegrity ? nil : code)
        }

        entries[id] = nil
        if isError, code == nil { return .failed(entry.context, .malformed) }
        // RFC 8489 sections 6.3.3 and 6.3.4.
        if AnswerRules.hasUnknownAttributes(message, understands) {
            return .failed(entry.context, .unknownAttributes)
        }
        var roundTrip: UInt64?
        if entry.transmissions == 1, !entry.isRepeated {
            let nanoseconds = now &- entry.firstSentAt
            roundTrip = nanoseconds
            estimates.learn(
                roundTripNanoseconds: nanoseconds,
                to: entry.request.destination.address,
                now: now
            )
        }
        return .answered(
            Answer(
                context: entry.context,
                errorCode: code,
                source: source,
                destination: entry.request.destination,
                socket: socket,
                roundTripNanoseconds: roundTrip
            )
        )
    }

    /// Sends again what is due, and ends what had its time.
    package mutating func advance(now: UInt64) -> [Event] {
        var events: [Event] = []
        // In the order of their deadlines, so that one seed gives one run.
        let due = entries.filter { $0.value.deadline <= now }.map { ($0.value.deadline, $0.key) }
            .sorted { ($0.0, $0.1.high, $0.1.low) < ($1.0, $1.1.high, $1.1.low) }
        for (_, id) in due {
            guard var entry = entries[id] else { continue }
            let gaps = entry.request.schedule.gapsNanoseconds
            guard entry.transmissions <= gaps.count else {
                entries[id] = nil
                events.append(
                    .failed(
                        entry.context,
                        entry.hadUnverified ? .integrityViolated(code: entry.unverifiedCode) : .timedOut
                    )
                )
                continue
            }
            let next =
                entry.transmissions < gaps.count
                ? gaps[entry.transmissions] : entry.request.schedule.lastWaitNanoseconds
            entry.transmissions += 1
            entry.lastSentAt = now
            // From the time it should have gone out, unless that is long past: a caller who slept sends one copy and no
            // burst.
            let base = now &- entry.deadline < next ? entry.deadline : now
            entry.deadline = base.addingSaturated(next)
            entries[id] = entry
            events.append(
                .transmit(
                    socket: entry.request.socket,
                    destination: entry.request.destination,
                    bytes: entry.request.bytes
                )
            )
        }
        return events
    }

    /// What has waited for its answer for longer than it may take, to be sent once more; the schedule stays as it is.
    package mutating func repeatAll(now: UInt64) -> [[UInt8]] {
        let waiting = entries.filter { now >= $0.value.lastSentAt.addingSaturated(Limits.shortestRetransmission) }
            .sorted { ($0.key.high, $0.key.low) < ($1.key.high, $1.key.low) }
        for (id, _) in waiting {
            entries[id]?.lastSentAt = now
            entries[id]?.isRepeated = true
        }
        return waiting.map(\.value.request.bytes)
    }

    /// Ends transactions without an answer, as for a connection that broke or an ICMP error.
    /// - Returns: their contexts.
    package mutating func abandon(where condition: (Request, Context) -> Bool = { _, _ in true }) -> [Context] {
        let ended = entries.filter { condition($0.value.request, $0.value.context) }
            .sorted { ($0.key.high, $0.key.low) < ($1.key.high, $1.key.low) }
        for entry in ended { entries[entry.key] = nil }
        return ended.map(\.value.context)
    }

    /// RFC 8489 section 9.2.5: by datagram as if it had never come, by a connection the end.
    private mutating func unverified(_ id: TransactionID, _ code: UInt16?) -> Arrival {
        guard let entry = entries[id] else { return .ignored(.unknownTransaction) }
        guard entry.request.isReliable else {
            entries[id]?.hadUnverified = true
            if let code { entries[id]?.unverifiedCode = code }
            return .ignored(.integrity)
        }
        entries[id] = nil
        return .failed(entry.context, .integrityViolated(code: code))
    }
}

/// Why a transaction ended without an answer that can be used.
package enum TransactionFailure: Equatable, Sendable {
    case timedOut
    /// Answers came, and none was made with our key. The code is what the last of them claimed that was not signed at
    /// all.
    case integrityViolated(code: UInt16?)
    /// The answer has attributes that must be understood and are not.
    case unknownAttributes
    /// An error without a code.
    case malformed
}

/// Why a message was no answer to anything of ours.
package enum IgnoredAnswer: Equatable, Sendable {
    case notAnAnswer, unknownTransaction, wrongSource, wrongMethod, noFingerprint, integrity, bidDown
}

/// What an answer is proved with: the same kind of integrity and the same key as its request.
package struct AnswerKey: Equatable, Sendable {
    package var integrity: Integrity
    package var key: [UInt8]

    package init(_ integrity: Integrity, _ key: [UInt8]) {
        self.integrity = integrity
        self.key = key
    }

    func verifies(_ message: MessageView, with cryptography: any Cryptography) -> Bool {
        key.withUnsafeBytes { integrity.verifies(message, key: $0, with: cryptography) }
    }
}
