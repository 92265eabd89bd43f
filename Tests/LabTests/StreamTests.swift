import Lab
import STUN
import Testing

/// TCP between hosts and through NATs (RFC 9293, RFC 5382).
@Suite struct StreamTests {
    private let text = (0..<50_000).map { UInt8(truncatingIfNeeded: $0 &* 31) }

    private func pair(_ quality: LinkQuality = .access, seed: UInt64 = 5) -> (Internet, a: Host, b: Host) {
        let internet = Internet(seed: seed) { net in
            net.host("a", quality)
            net.host("b", quality)
        }
        return (internet, internet.host("a"), internet.host("b"))
    }

    private func endpoint(_ host: Host, _ port: UInt16) throws -> Endpoint {
        Endpoint(try #require(host.address()), port)
    }

    @Test func aConnectionOpensInOneRoundTripAndCarriesBytesBothWays() throws {
        let (internet, a, b) = pair()
        var accepted: TCPConnection?
        b.listen(80) { connection in
            accepted = connection
            connection.onReceive = { connection.send($0) }
        }
        let connection = try #require(a.connect(to: endpoint(b, 80)))
        try internet.run(while: { connection.state != .established })
        #expect(internet.seconds == 0.04)
        connection.send(text)
        try internet.run(while: { connection.inbox.count < text.count })
        #expect(connection.inbox == text)
        #expect(accepted?.remote == connection.local)
    }

    @Test func aPortThatNobodyListensOnRefuses() throws {
        let (internet, a, b) = pair()
        let connection = try #require(a.connect(to: endpoint(b, 80)))
        try internet.run(while: { connection.state != .closed })
        #expect(connection.failure == .refused)
        #expect(internet.seconds == 0.04)
    }

    @Test func aHostThatIsNotThereTimesOutAfterAllItsAttempts() throws {
        let (internet, a, _) = pair()
        let connection = try #require(a.connect(to: Endpoint("20.9.9.9", 80)))
        try internet.run(while: { connection.state != .closed }, atMostSeconds: 300)
        #expect(connection.failure == .timedOut)
        #expect(connection.attempts == 7)
        #expect(internet.seconds == 127)
    }

    @Test func everyByteArrivesInOrderDespiteLossAndReordering() async {
        let text = text
        await withSeeds(0..<10) { seed in
            let quality = LinkQuality(delayMilliseconds: 15, jitterMilliseconds: 5, lossRatio: 0.03, reorderRatio: 0.02)
            let internet = Internet(seed: seed) { net in
                net.host("a", quality)
                net.host("b", quality)
            }
            let (a, b) = (internet.host("a"), internet.host("b"))
            var received: [UInt8] = []
            var hasEnded = false
            b.listen(80) { connection in
                connection.onReceive = { received += $0 }
                connection.onEnd = { [unowned connection] in
                    hasEnded = true
                    connection.finish()
                }
            }
            let target = Endpoint(try #require(b.address()), 80)
            let connection = try #require(a.connect(to: target))
            connection.send(text)
            connection.finish()
            try internet.run(while: { connection.state != .closed }, atMostSeconds: 300)
            #expect(received == text && hasEnded)
            #expect(connection.failure == nil && connection.state == .closed)
        }
    }

    @Test func anEndOfOneDirectionLeavesTheOther() throws {
        let (internet, a, b) = pair()
        var accepted: TCPConnection?
        b.listen(80) { accepted = $0 }
        let connection = try #require(a.connect(to: endpoint(b, 80)))
        connection.send("question")
        connection.finish()
        try internet.run(seconds: 1)
        let other = try #require(accepted)
        #expect(other.hasEnded && String(decoding: other.inbox, as: UTF8.self) == "question")
        other.send("answer")
        try internet.run(seconds: 1)
        #expect(String(decoding: connection.inbox, as: UTF8.self) == "answer")
        #expect(connection.state == .established)
        other.finish()
        try internet.run(seconds: 1)
        #expect(connection.state == .closed && other.state == .closed && connection.failure == nil)
    }

    @Test func anAbortResetsTheOther() throws {
        let (internet, a, b) = pair()
        var accepted: TCPConnection?
        b.listen(80) { accepted = $0 }
        let connection = try #require(a.connect(to: endpoint(b, 80)))
        try internet.run(seconds: 1)
        connection.abort()
        try internet.run(seconds: 1)
        #expect(accepted?.failure == .reset)
    }

    @Test func aPathThatTakesOnlyShortPacketsIsFoundWithAndWithoutICMP() throws {
        for isBlackHole in [false, true] {
            let (internet, a, b) = pair()
            b.link.quality.mtuBytes = 1_280
            b.link.quality.isBlackHole = isBlackHole
            var received: [UInt8] = []
            b.listen(80) { $0.onReceive = { received += $0 } }
            let connection = try #require(a.connect(to: endpoint(b, 80)))
            connection.send(text)
            try internet.run(while: { received.count < text.count }, atMostSeconds: 120)
            #expect(received == text, "black hole: \(isBlackHole)")
        }
    }

    // MARK: Simultaneous open

    /// Both hosts behind NATs connect to each other's mapped endpoint, the second one so much later.
    private func punch(_ one: NATBehavior, _ other: NATBehavior, delaySeconds: Double = 0) throws -> (
        Internet, TCPConnection, TCPConnection
    ) {
        let internet = Internet(seed: 1) { net in
            net.nat("one", one) { $0.host("a") }
            net.nat("other", other) { $0.host("b") }
        }
        let targetOne = Endpoint(internet.router("one").publicAddress, 5_000)
        let targetOther = Endpoint(internet.router("other").publicAddress, 6_000)
        let a = try #require(internet.host("a").connect(to: targetOther, from: 5_000))
        try internet.run(seconds: delaySeconds)
        let b = try #require(internet.host("b").connect(to: targetOne, from: 6_000))
        try internet.run(while: { a.state != .established || b.state != .established }, atMostSeconds: 10)
        return (internet, a, b)
    }

    @Test func twoThatOpenAtOnceMeetThroughTheirNATsAtTheFirstAttempt() throws {
        let (internet, a, b) = try punch(.portRestricted, .portRestricted)
        #expect(a.state == .established && b.state == .established)
        // SYN against SYN, then SYN and ACK against SYN and ACK.
        #expect(a.attempts == 2 && b.attempts == 2 && internet.seconds < 0.1)
        a.send("to b")
        b.send("to a")
        try internet.run(seconds: 1)
        #expect(String(decoding: a.inbox, as: UTF8.self) == "to a")
        #expect(String(decoding: b.inbox, as: UTF8.self) == "to b")
    }

    @Test func aNATThatDropsLetsALateOneMeetTheFirstOnesNextAttempt() throws {
        let (_, a, b) = try punch(.portRestricted, .portRestricted, delaySeconds: 0.5)
        #expect(a.state == .established && b.state == .established)
    }

    @Test func aNATThatResetsRefusesTheOneThatComesFirst() throws {
        let resetting = NATBehavior.portRestricted.with { $0.unsolicitedTCP = .reject }
        let (_, a, _) = try punch(.portRestricted, resetting, delaySeconds: 0.5)
        #expect(a.state == .closed && a.failure == .refused)
    }

    @Test func twoThatOpenAtOnceMeetEvenThroughNATsThatReset() throws {
        let resetting = NATBehavior.portRestricted.with { $0.unsolicitedTCP = .reject }
        let (_, a, b) = try punch(resetting, resetting)
        #expect(a.state == .established && b.state == .established)
    }

    @Test func twoSymmetricNATsKeepThemApart() throws {
        let (_, a, b) = try punch(.symmetric, .symmetric)
        #expect(a.state == .synSent && b.state == .synSent)
    }

    @Test func listenerAndConnectionShareAPort() throws {
        let (internet, a, b) = pair()
        b.listen(80) { _ in }
        a.listen(7_000) { _ in }
        let out = try #require(a.connect(to: endpoint(b, 80), from: 7_000))
        let into = try #require(b.connect(to: endpoint(a, 7_000)))
        #expect(try a.connect(to: endpoint(b, 80), from: 7_000) == nil, "the same pair of endpoints is taken")
        try internet.run(seconds: 1)
        #expect(out.state == .established && into.state == .established)
    }

    @Test func aConnectionThatHasEndedLeavesItsMappingForTheTransitoryLifetimeOnly() throws {
        for isReset in [false, true] {
            let internet = Internet(seed: 1) { net in
                net.nat("home", .portRestricted) { $0.host("a") }
                net.host("b")
            }
            internet.host("b").listen(80) { connection in
                connection.onEnd = { [unowned connection] in connection.finish() }
            }
            let connection = try #require(internet.host("a").connect(to: endpoint(internet.host("b"), 80)))
            try internet.run(seconds: 1)
            if isReset { connection.abort() } else { connection.finish() }
            try internet.run(seconds: 235)
            #expect(connection.state == .closed && internet.router("home").mappingCount == 1)
            try internet.run(seconds: 10)
            #expect(internet.router("home").mappingCount == 0)
        }
    }

    @Test func anEstablishedConnectionOutlivesTheTransitoryLifetimeOfItsMapping() throws {
        let internet = Internet(seed: 1) { net in
            net.nat("home", .portRestricted) { $0.host("a") }
            net.host("b")
        }
        var accepted: TCPConnection?
        internet.host("b").listen(80) { accepted = $0 }
        let connection = try #require(internet.host("a").connect(to: endpoint(internet.host("b"), 80)))
        try internet.run(seconds: 7_200)
        accepted?.send("after two hours")
        try internet.run(seconds: 1)
        #expect(String(decoding: connection.inbox, as: UTF8.self) == "after two hours")
        try internet.run(seconds: 7_441)
        accepted?.send("too late")
        try internet.run(seconds: 1)
        #expect(connection.inbox.count == 15)
    }
}
