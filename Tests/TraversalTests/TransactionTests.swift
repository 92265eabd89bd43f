import OpenSSLCrypto
import STUN
import TestSupport
import Testing
import Traversal

/// Requests, their retransmissions, and what is believed of answers (RFC 8489 sections 6 and 9.2.5).
@Suite struct TransactionTests {
    private static let server = Endpoint("203.0.113.5", 3_478)
    private static let start: UInt64 = 5_000 * seconds

    private let cryptography: OpenSSLCryptography
    private var table = TransactionTable<Int>()

    init() throws { cryptography = try OpenSSLCryptography() }

    private static func id(_ number: UInt64) -> TransactionID { TransactionID(high: number, low: 9) }

    private static func request(
        _ number: UInt64 = 1,
        schedule: RetransmissionSchedule = .datagram(),
        key: AnswerKey? = nil
    ) -> TransactionTable<Int>.Request {
        TransactionTable<Int>.Request(
            bytes: [0, 1, UInt8(truncatingIfNeeded: number)],
            transactionID: id(number),
            method: .binding,
            destination: server,
            schedule: schedule,
            key: key
        )
    }

    private mutating func receive(
        _ bytes: [UInt8],
        from source: Endpoint = server,
        socket: Int = 0,
        at now: UInt64 = start
    ) throws -> TransactionTable<Int>.Arrival {
        try bytes.withUnsafeBytes {
            let view = try MessageView($0)
            return table.receive(view, from: source, socket: socket, now: now, with: cryptography)
        }
    }

    private func success(_ number: UInt64 = 1, key: AnswerKey? = nil, fingerprint: Bool = false) throws -> [UInt8] {
        try message(.binding, .successResponse, Self.id(number), key: key, fingerprint: fingerprint) {
            $0.append(.xorMappedAddress, xor: Endpoint("198.51.100.7", 40_000))
        }
    }

    private mutating func begin(_ request: TransactionTable<Int>.Request, at now: UInt64 = start) -> Bool {
        table.begin(request, 7, now: now)
    }

    /// Lets the table run until nothing is left.
    /// - Returns: when what was sent, in milliseconds from the start, and when it ended why.
    private mutating func runOut() -> (sent: [UInt64], bytes: [[UInt8]], end: UInt64, failure: TransactionFailure?) {
        var result: (sent: [UInt64], bytes: [[UInt8]], end: UInt64, failure: TransactionFailure?) = ([], [], 0, nil)
        while let deadline = table.nextDeadline {
            for event in table.advance(now: deadline) {
                let time = (deadline - Self.start) / milliseconds
                switch event {
                case .transmit(_, let destination, let bytes):
                    #expect(destination == Self.server)
                    result.sent.append(time)
                    result.bytes.append(bytes)
                case .failed(_, let failure):
                    result.end = time
                    result.failure = failure
                }
            }
        }
        return result
    }

    @Test mutating func aDatagramIsSentAgainAtTheTimesOfTheSpecificationAndUnchanged() {
        #expect(begin(Self.request()))
        let run = runOut()
        #expect(run.sent == [500, 1_500, 3_500, 7_500, 15_500, 31_500])
        #expect(run.bytes.allSatisfy { $0 == [0, 1, 1] })
        #expect(run.end == 39_500)
        #expect(run.failure == .timedOut)
    }

    @Test mutating func aConnectionCarriesEachRequestOnce() {
        #expect(begin(Self.request(schedule: .stream)))
        let run = runOut()
        #expect(run.sent == [])
        #expect(run.end == 39_500)
    }

    @Test mutating func whoSleptThroughSeveralTimesSendsOneCopy() {
        #expect(begin(Self.request()))
        #expect(table.advance(now: Self.start + 20 * seconds).count == 1)
        #expect(table.advance(now: Self.start + 20 * seconds).isEmpty)
    }

    @Test mutating func theTimeoutIsLearntFromRoundTripsAndForgottenAfterTenMinutes() throws {
        #expect(begin(Self.request()))
        guard case .answered(let answer) = try receive(success(), at: Self.start + 200 * milliseconds) else {
            Issue.record("no answer")
            return
        }
        #expect(answer.context == 7)
        #expect(answer.errorCode == nil)
        #expect(answer.roundTripNanoseconds == 200 * milliseconds)
        // RFC 6298: 200 + 4 × 100.
        let later = Self.start + 60 * seconds
        #expect(table.schedule(to: Self.server, now: later).gapsNanoseconds.first == 600 * milliseconds)
        let other = Endpoint("203.0.113.6", 3_478)
        #expect(table.schedule(to: other, now: later).gapsNanoseconds.first == 500 * milliseconds)
        #expect(table.schedule(to: Self.server, now: later + 601 * seconds).gapsNanoseconds.first == 500 * milliseconds)
    }

    @Test mutating func anAnswerToARequestSentTwiceTeachesNothing() throws {
        #expect(begin(Self.request()))
        _ = table.advance(now: Self.start + 500 * milliseconds)
        guard case .answered(let answer) = try receive(success(), at: Self.start + 510 * milliseconds) else {
            Issue.record("no answer")
            return
        }
        #expect(answer.roundTripNanoseconds == nil)
        #expect(table.estimates.count == 0)
    }

    @Test func estimatesOfManyServersAreBounded() {
        var estimates = RoundTripEstimates()
        for number in 0..<1_000 {
            estimates.learn(
                roundTripNanoseconds: 50 * milliseconds,
                to: IPAddress(v4: UInt32(number)),
                now: Self.start + UInt64(number)
            )
        }
        #expect(estimates.count == 32)
        #expect(
            estimates.retransmissionNanoseconds(to: IPAddress(v4: 999), now: Self.start + 1_000) == 150 * milliseconds
        )
        #expect(estimates.retransmissionNanoseconds(to: IPAddress(v4: 0), now: Self.start) == 500 * milliseconds)
    }

    @Test mutating func aSecondAndALateAnswerFindNothing() throws {
        #expect(begin(Self.request()))
        _ = try receive(success())
        #expect(try receive(success()).ignored == .unknownTransaction)
        #expect(begin(Self.request(2)))
        _ = runOut()
        #expect(try receive(success(2)).ignored == .unknownTransaction)
    }

    @Test mutating func anAnswerFromElsewhereIsNone() throws {
        #expect(begin(Self.request()))
        #expect(try receive(success(), from: Endpoint("203.0.113.5", 3_479)).ignored == .wrongSource)
        #expect(try receive(success(), socket: 1).ignored == .wrongSource)
        #expect(try receive(message(.allocate, .successResponse, Self.id(1))).ignored == .wrongMethod)
        #expect(try receive(message(.binding, .request, Self.id(1))).ignored == .notAnAnswer)
        #expect(table.count == 1)
        var moving = Self.request(2)
        moving.acceptsAnyOrigin = true
        #expect(begin(moving))
        guard case .answered(let answer) = try receive(success(2), from: Endpoint("203.0.113.6", 3_479)) else {
            Issue.record("no answer")
            return
        }
        #expect(answer.source == Endpoint("203.0.113.6", 3_479))
    }

    @Test mutating func whatDoesNotVerifyByDatagramIsIgnoredAndNamedAtTheEnd() throws {
        let key = AnswerKey(.sha1, Array("right".utf8))
        #expect(begin(Self.request(key: key)))
        #expect(try receive(success(key: AnswerKey(.sha1, Array("wrong".utf8)))).ignored == .integrity)
        #expect(try receive(success()).ignored == .integrity)
        // Made with the right key, but with another hash than the request's.
        #expect(try receive(success(key: AnswerKey(.sha256, key.key))).ignored == .integrity)
        let refusal = try message(.binding, .errorResponse, Self.id(1)) { $0.append(code: 400) }
        #expect(try receive(refusal).ignored == .integrity)
        #expect(runOut().failure == .integrityViolated(code: 400))

        #expect(begin(Self.request(2, key: key)))
        guard case .answered = try receive(success(2, key: key)) else {
            Issue.record("no answer")
            return
        }
    }

    @Test mutating func whatDoesNotVerifyByAConnectionEndsTheTransaction() throws {
        var request = Self.request(schedule: .stream, key: AnswerKey(.sha256, [1, 2, 3]))
        request.isReliable = true
        #expect(begin(request))
        guard case .failed(7, .integrityViolated(code: nil)) = try receive(success()) else {
            Issue.record("not ended")
            return
        }
        #expect(table.count == 0)
    }

    @Test(arguments: [401, 438] as [UInt16])
    mutating func aChallengeNeedsNoIntegrity(code: UInt16) throws {
        #expect(begin(Self.request(key: AnswerKey(.sha1, [1]))))
        let challenge = try message(.binding, .errorResponse, Self.id(1)) { $0.append(code: code) }
        guard case .answered(let answer) = try receive(challenge) else {
            Issue.record("no answer")
            return
        }
        #expect(answer.errorCode == code)
    }

    @Test mutating func aNonceThatAnnouncesAlgorithmsWhichAreNotThereIsIgnored() throws {
        #expect(begin(Self.request()))
        let answer = try message(.binding, .successResponse, Self.id(1)) {
            $0.append(.nonce, Array("obMatJos2AAABxyz".utf8))
        }
        #expect(try receive(answer).ignored == .bidDown)
    }

    @Test mutating func attributesThatMustBeUnderstoodAndAreNotEndTheTransaction() throws {
        #expect(begin(Self.request()))
        let strange = try message(.binding, .successResponse, Self.id(1)) {
            $0.append(AttributeType(rawValue: 0x7F01), [1, 2, 3, 4])
        }
        guard case .failed(7, .unknownAttributes) = try receive(strange) else {
            Issue.record("taken")
            return
        }
        // Above 0x8000 it does not matter, nor do the attributes of RFC 3489.
        #expect(begin(Self.request(2)))
        let harmless = try message(.binding, .successResponse, Self.id(2)) {
            $0.append(AttributeType(rawValue: 0xC001), [1, 2, 3, 4])
            $0.append(AttributeType(rawValue: 0x0005), [0, 1, 0, 0, 1, 2, 3, 4])
        }
        guard case .answered = try receive(harmless) else {
            Issue.record("refused")
            return
        }
    }

    @Test mutating func anErrorWithoutACodeIsAFailure() throws {
        #expect(begin(Self.request()))
        guard case .failed(7, .malformed) = try receive(message(.binding, .errorResponse, Self.id(1))) else {
            Issue.record("taken")
            return
        }
    }

    @Test mutating func whereFingerprintsAreAgreedOnAnAnswerWithoutOneIsIgnored() throws {
        var request = Self.request()
        request.requiresFingerprint = true
        #expect(begin(request))
        #expect(try receive(success()).ignored == .noFingerprint)
        guard case .answered = try receive(success(fingerprint: true)) else {
            Issue.record("no answer")
            return
        }
    }

    @Test mutating func thereIsAnEndToTransactionsUnderWay() {
        for number in 0..<256 { #expect(begin(Self.request(UInt64(number)))) }
        #expect(!begin(Self.request(1_000)))
        #expect(table.abandon().count == 256)
        #expect(begin(Self.request(1_000)))
        #expect(!begin(Self.request(1_000)))
    }

    @Test mutating func mutatedAnswersDoNoHarm() throws {
        var generator = SeededGenerator(for: "mutatedAnswersDoNoHarm")
        let key = AnswerKey(.sha1, [1, 2, 3])
        let packets = [
            try success(), try success(key: key, fingerprint: true),
            try message(.binding, .errorResponse, Self.id(1)) {
                $0.append(code: 401, reason: "Unauthorized")
                $0.append(.nonce, Array("obMatJos2AAADxyz".utf8))
                $0.append(.passwordAlgorithms, [0, 2, 0, 0, 0, 1, 0, 0])
            },
        ]
        for round in 0..<fuzzRounds(100_000) {
            if table.count == 0 { _ = begin(Self.request(1, key: round % 2 == 0 ? key : nil)) }
            let packet = mutated(packets[round % packets.count], &generator)
            packet.withUnsafeBytes { bytes in
                guard let view = try? MessageView(bytes) else { return }
                _ = table.receive(view, from: Self.server, now: Self.start, with: cryptography)
                _ = AnswerRules.reason(of: view)
            }
        }
        #expect(table.count <= 1)
    }
}

extension TransactionTable.Arrival {
    fileprivate var ignored: IgnoredAnswer? { if case .ignored(let reason) = self { reason } else { nil } }
}
