import STUN
import TURN
import Testing

/// AM: how little a stranger can make this server say, and to whom.
@Suite struct AmplificationTests {
    private let v6 = Endpoint("2606:4700::9", 40_000)

    private func binding(
        _ client: Client,
        fingerprint: Bool = false,
        _ attributes: (inout MessageBuilder) -> Void = { _ in }
    ) -> [UInt8] {
        client.request(.binding, signing: nil, fingerprint: fingerprint, attributes)
    }

    @Test func am01_aBindingAnswerHoldsTheAddressAndNothingElse() throws {
        let lab = try Lab()
        for (source, length) in [(Endpoint("198.51.100.7", 40_000), 32), (v6, 44)] {
            let client = lab.client(at: source)
            let request = binding(client)
            let answer = try #require(client.send(request).answer)
            #expect(answer.type == MessageType(.binding, .successResponse))
            #expect(answer.types == [.xorMappedAddress])
            #expect(answer.endpoints(.xorMappedAddress) == [source])
            #expect(Array(answer.bytes[4..<20]) == Array(request[4..<20]))
            #expect(answer.bytes.count == length)
        }
    }

    @Test func am02_fingerprintIsMirrored() throws {
        let client = try Lab().client()
        let answer = try #require(client.send(binding(client, fingerprint: true)).answer)
        #expect(answer.types == [.xorMappedAddress, .fingerprint])
        #expect(answer.bytes.count == 40)
        let challenge = try #require(client.send(client.request(.allocate, signing: nil, fingerprint: true)).answer)
        #expect(challenge.types.last == .fingerprint)
    }

    @Test func am03_a401IsAtMost104Bytes() throws {
        let lab = try Lab { $0.realm = "sixteen-chars-ok" }
        let client = lab.client()
        let bare = client.request(.allocate, signing: nil)
        #expect(bare.count == 20)
        #expect(client.send(bare).answer?.bytes.count == 104)
        // On the wire, with 28 bytes of IP and UDP headers on both.
        #expect(Double(104 + 28) / Double(20 + 28) <= 3.0)
    }

    @Test func am04_am05_unauthenticatedAnswersShareOneBudgetForEachSource() throws {
        let lab = try Lab { $0.unauthenticatedRepliesPerSecond = 10 }
        var answers = 0
        for index in 0..<1_000 as Range<UInt16> {
            let client = lab.client(at: Endpoint("198.51.100.66", 2_000 + index))
            var signing = client.signing()
            signing.nonce = Array(repeating: 0x41, count: 37)
            signing.realm = Array("x".utf8)
            switch index % 4 {
            case 0: answers += client.challenge() == nil ? 0 : 1
            case 1: answers += client.send(client.request(.refresh, signing: signing)).answer?.error == 438 ? 1 : 0
            case 2:
                signing.nonce = nil
                answers += client.send(client.request(.channelBind, signing: signing)).answer?.error == 400 ? 1 : 0
            default:
                answers += client.send(client.request(.createPermission, signing: nil)).answer?.error == 401 ? 1 : 0
            }
        }
        #expect(answers == 10)
        // Another source is served meanwhile, and the next second brings ten more.
        #expect(lab.client(at: Endpoint("198.51.100.67", 2_000)).challenge() != nil)
        lab.advance(seconds: 1)
        #expect((0..<20).count { _ in lab.client(at: Endpoint("198.51.100.66", 2_000)).challenge() != nil } == 10)
    }

    @Test func am04_aSlash64IsOneSource() throws {
        let lab = try Lab { ($0.unauthenticatedRepliesPerSecond, $0.bindingRepliesPerSecond) = (10, 20) }
        func client(_ index: UInt64) -> Client {
            lab.client(at: Endpoint(address: IPAddress(high: 0x2606_4700_0000_0001, low: index), port: 5_000))
        }
        #expect((0..<100 as Range<UInt64>).count { client($0).challenge() != nil } == 10)
        #expect(
            (0..<100 as Range<UInt64>).count { index in
                let client = client(index)
                return client.send(binding(client)).answer != nil
            } == 20
        )
    }

    @Test func am04_anAuthenticatedClientIsNotHeldToIt() throws {
        let lab = try Lab { $0.unauthenticatedRepliesPerSecond = 1 }
        let client = lab.client()
        #expect(client.allocate()?.isSuccess == true)
        #expect(client.challenge() == nil)
        for _ in 0..<50 { #expect(client.refresh()?.isSuccess == true) }
    }

    @Test func am15_noNumberOfSourcesRaisesTheOutputOfABucket() throws {
        let budget = ReplyBudget(seed: 99)
        let moment = Moment(monotonicNanoseconds: 5_000_000_000, wallSeconds: 0)
        var taken = 0
        for source in 0..<70_000 as Range<UInt32> {
            for _ in 0..<2 where budget.take(IPAddress(v4: 0x0B00_0000 + source), limit: 10, at: moment) { taken += 1 }
        }
        #expect(taken <= Limits.replyBuckets * 10)
        // And the table is used: a flood is not squeezed into a few buckets.
        #expect(taken > Limits.replyBuckets * 8)
    }

    @Test func am15_sourcesThatCollideShareOneBudget() throws {
        let moment = Moment(monotonicNanoseconds: 5_000_000_000, wallSeconds: 0)
        // One source spends its bucket; those that find theirs spent though they never asked stand in the same one.
        let budget = ReplyBudget(seed: 99)
        let first = IPAddress(v4: 0x0B00_0000)
        for _ in 0..<10 { #expect(budget.take(first, limit: 10, at: moment)) }
        let colliding = (1..<70_000 as Range<UInt32>).map { IPAddress(v4: 0x0B00_0000 + $0) }
            .filter { !budget.hasRoom($0, limit: 10, at: moment) }
        #expect((1...60).contains(colliding.count), "\(colliding.count) of 70,000 share one of 4,096 buckets")
        #expect(colliding.allSatisfy { !budget.take($0, limit: 10, at: moment) })
        // In the next second they have ten between them, whoever asks.
        let next = Moment(monotonicNanoseconds: 6_000_000_000, wallSeconds: 0)
        let granted = (0..<100).reduce(0) { sum, index in
            sum + (budget.take(colliding[index % colliding.count], limit: 10, at: next) ? 1 : 0)
        }
        #expect(granted == 10)
        // Under another seed they are strangers: nobody can choose an address to silence another's.
        let other = ReplyBudget(seed: 100)
        for _ in 0..<10 { _ = other.take(first, limit: 10, at: moment) }
        #expect(colliding.count { other.hasRoom($0, limit: 10, at: moment) } >= colliding.count - 1)
    }

    @Test func am15_aFloodFromManySourcesGrowsNothing() throws {
        let lab = try Lab { $0.unauthenticatedRepliesPerSecond = 10 }
        var answers = 0
        for source in 0..<70_000 as Range<UInt32> {
            let client = lab.client(at: Endpoint(address: IPAddress(v4: 0x0B00_0000 + source), port: 5_000))
            answers += client.challenge() == nil ? 0 : 1
        }
        #expect(answers <= Limits.replyBuckets * 10 && answers > Limits.replyBuckets * 8)
        #expect(lab.engine.allocationCount == 0 && lab.lookups.isEmpty)
    }

    @Test func aBudgetsWindowNeverGoesBack() {
        let budget = ReplyBudget(seed: 99)
        let source = IPAddress("198.51.100.66")
        // Two workers read the clock on either side of the turn of a second, over and over.
        var taken = 0
        for index in 0..<100 as Range<UInt64> {
            let moment = Moment(monotonicNanoseconds: 5_999_999_999 + index % 2, wallSeconds: 0)
            if budget.take(source, limit: 10, at: moment) { taken += 1 }
        }
        #expect(taken <= 20)
    }

    @Test func am06_noErrorCarriesAReasonOrSoftware() throws {
        let lab = try Lab()
        let client = lab.client()
        var answers = [
            client.challenge(), client.refresh(), client.permit([]), client.allocate(), client.allocate(),
            client.permit([]),
        ]
        answers.append(client.bind(0, Endpoint("8.8.8.8", 1)))
        answers.append(client.send(binding(client) { $0.append(AttributeType(rawValue: 0x7FFF), []) }).answer)
        answers.append(client.permit([Endpoint("10.0.0.1", 1)]))
        for answer in answers {
            let answer = try #require(answer)
            #expect(answer.value(.software) == nil)
            if !answer.isSuccess { #expect(answer.value(.errorCode)?.count == 4) }
        }
    }

    @Test func sp15_am07_am08_whatIsNotUnderstoodIs420() throws {
        let client = try Lab { $0.discovery.isEnabled = false }.client()
        for type in [0x7FFF, 0x0000, 0x0002, 0x0003, 0x0026, 0x0027] as [UInt16] {
            let answer = try #require(
                client.send(binding(client) { $0.append(AttributeType(rawValue: type), [0, 0, 0, 6]) }).answer
            )
            #expect(answer.error == 420)
            #expect(answer.value(.unknownAttributes) == [UInt8(type >> 8), UInt8(type & 0xFF)])
        }
        // Optional ones are passed over.
        #expect(
            client.send(binding(client) { $0.append(AttributeType(rawValue: 0xC0FF), [1]) }).answer?.isSuccess == true
        )
        // The list is capped, so the answer stays shorter than the question.
        let many = binding(client) { builder in
            for type in 0x7000..<0x7100 as Range<UInt16> { builder.append(AttributeType(rawValue: type), []) }
        }
        let answer = try #require(client.send(many).answer)
        #expect(answer.value(.unknownAttributes)?.count == 16)
        #expect(answer.bytes.count < many.count)
    }

    @Test func sp14_aMessageOfEmptyAttributesIsAnsweredShortly() throws {
        let client = try Lab().client()
        for type in [0x7FFF, 0xC0FF, 0x0020] as [UInt16] {
            let request = binding(client) { builder in
                for _ in 0..<16_000 { builder.append(AttributeType(rawValue: type), []) }
            }
            let answer = try #require(client.send(request).answer)
            #expect(answer.bytes.count <= 44)
        }
    }

    @Test func am09_sp20_anAnswerIsNeverAnswered() throws {
        let lab = try Lab()
        let client = lab.client()
        _ = client.allocate()
        let methods: [STUN.Method] = [
            .binding, .allocate, .refresh, .send, .data, .createPermission, .channelBind, .connect, .connectionAttempt,
        ]
        for method in methods {
            for messageClass in [MessageClass.successResponse, .errorResponse] {
                let bytes = client.message(MessageType(method, messageClass)) { $0.append(error: .unauthenticated) }
                #expect(client.send(bytes).drop == .unexpectedClass)
            }
            if method != .send {
                #expect(client.send(client.message(MessageType(method, .indication))).isSilence)
            }
        }
        // Everything that this server says, said to it.
        for answer in [
            client.challenge(), client.refresh(), client.permit([Endpoint("8.8.8.8", 1)]), client.permit([]),
        ] {
            #expect(client.send(try #require(answer).bytes).isSilence)
        }
        var indication = [UInt8](repeating: 0, count: 36)
        indication.withUnsafeMutableBytes { buffer in
            guard let base = buffer.baseAddress else { return }
            lab.engine.writeIndicationHeader(peer: Endpoint("8.8.8.8", 1), length: 0, at: base)
        }
        #expect(client.send(indication).drop == .unexpectedClass)
    }

    @Test func am11_serviceportsAndListenersAreNoClients() throws {
        let lab = try Lab { $0.policy.listeners = [Endpoint("203.0.113.6", 3_478)] }
        var sources = [0, 7, 13, 17, 19, 37, 53, 69, 123, 137, 161, 389, 1900, 11211].map {
            Endpoint("198.51.100.7", $0)
        }
        sources += [Endpoint("203.0.113.6", 3_478), Endpoint("203.0.113.5", 3_478)]
        for source in sources {
            let client = lab.client(at: source)
            #expect(client.send(binding(client)).drop == .unwantedSource, "\(source)")
            #expect(client.send(client.request(.allocate, signing: nil)).drop == .unwantedSource)
        }
    }

    @Test(arguments: ["0.0.0.0", "0.1.2.3", "255.255.255.255", "224.0.0.1", "239.255.255.250", "ff02::1", "::"])
    func am12_whatIsNoHostIsNoClient(_ source: String) throws {
        let client = try Lab().client(at: Endpoint(source, 5_000))
        #expect(client.send(binding(client)).drop == .unwantedSource)
        #expect(client.send(client.request(.allocate, signing: nil)).drop == .unwantedSource)
    }

    @Test func am13_reflectorsPortsAreNotReached() throws {
        let client = try Lab().client()
        _ = client.allocate()
        _ = client.permit([Endpoint("8.8.8.8", 4_000)])
        for port in [0, 19, 53, 123, 161, 389, 1900, 11211] as [UInt16] {
            #expect(client.indicate(Endpoint("8.8.8.8", port)).drop == .deniedPeer)
            #expect([400, 403].contains(client.bind(0x4000, Endpoint("8.8.8.8", port))?.error ?? 0))
        }
    }
}
