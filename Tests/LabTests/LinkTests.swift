import Lab
import STUN
import Testing

/// Links: what they lose, how long they take, and in what order things come out.
@Suite struct LinkTests {
    /// Two hosts; all that is not ideal lies on the first one's link.
    private func pair(_ quality: LinkQuality, seed: UInt64 = 3) throws -> (Internet, from: UDPSocket, to: UDPSocket) {
        let internet = Internet(seed: seed) { net in
            net.host("a", quality)
            net.host("b", LinkQuality(delayMilliseconds: 0))
        }
        internet.log.capacity = 16
        return (
            internet, try #require(internet.host("a").udp(port: 1_000)),
            try #require(internet.host("b").udp(port: 2_000))
        )
    }

    /// Sends numbered datagrams, one each millisecond.
    private func send(_ count: Int, _ internet: Internet, _ from: UDPSocket, _ to: UDPSocket) throws -> [Int] {
        let destination = try #require(to.local())
        for number in 0..<count {
            internet.scheduler.after(seconds: Double(number) / 1_000) { from.send("\(number)", to: destination) }
        }
        try internet.run(seconds: Double(count) / 1_000 + 2)
        return to.takeTexts().compactMap { Int($0) }
    }

    @Test func delayAndOrderAreExactOnAnIdealLink() throws {
        let (internet, from, to) = try pair(LinkQuality(delayMilliseconds: 25))
        var arrivals: [Double] = []
        to.onReceive = { _ in arrivals.append(internet.seconds) }
        from.send("x", to: try #require(to.local()))
        try internet.run(seconds: 1)
        #expect(arrivals == [0.025])
    }

    @Test func lossIsAsOftenAsItSays() throws {
        let (internet, from, to) = try pair(LinkQuality(lossRatio: 0.05))
        let arrived = try send(8_000, internet, from, to)
        #expect((330...470).contains(Int(internet.log.dropped(.loss))))
        #expect(arrived == arrived.sorted())
        #expect(arrived.count + Int(internet.log.dropped(.loss)) == 8_000)
    }

    @Test func burstsLoseManyInARow() throws {
        let bursts = LinkQuality.Bursts(beginRatio: 0.01, endRatio: 0.1)
        let (internet, from, to) = try pair(LinkQuality(bursts: bursts))
        let arrived = try send(8_000, internet, from, to)
        // A hundredth begins, ten are lost on average: one in eleven.
        let lost = Int(internet.log.dropped(.burst))
        #expect((500...1_000).contains(lost))
        let gaps = zip(arrived, arrived.dropFirst()).map { $1 - $0 - 1 }.filter { $0 > 0 }
        #expect((7...13).contains(Double(lost) / Double(gaps.count)))
    }

    @Test func jitterDelaysButKeepsTheOrder() throws {
        let (internet, from, to) = try pair(LinkQuality(delayMilliseconds: 10, jitterMilliseconds: 20))
        var delays: [Double] = []
        var order: [Int] = []
        to.onReceive = { datagram in
            let number = Int(String(decoding: datagram.bytes, as: UTF8.self)) ?? -1
            order.append(number)
            delays.append(internet.seconds * 1_000 - Double(number))
        }
        _ = try send(2_000, internet, from, to)
        #expect(order == Array(0..<2_000))
        #expect(delays.allSatisfy { $0 >= 9.99 && $0 <= 30.01 })
        #expect((delays.max() ?? 0) - (delays.min() ?? 0) > 10)
    }

    @Test func reorderedPacketsAreOvertakenAndComeAllTheSame() throws {
        let (internet, from, to) = try pair(LinkQuality(reorderRatio: 0.1))
        let arrived = try send(2_000, internet, from, to)
        #expect(arrived.count == 2_000 && Set(arrived).count == 2_000)
        let overtaken = zip(arrived, arrived.dropFirst()).count { $0 > $1 }
        #expect((100...260).contains(overtaken))
    }

    @Test func aDuplicateIsCountedAndArrivesTwice() throws {
        var quality = LinkQuality()
        quality.duplicateRatio = 1
        let (internet, from, to) = try pair(quality)
        #expect(try send(3, internet, from, to) == [0, 0, 1, 1, 2, 2])
        #expect(internet.log.duplicated == 3 && internet.log.isConserved)
    }

    @Test func aRateSpacesPacketsAndItsQueueOverflows() throws {
        var quality = LinkQuality(delayMilliseconds: 0, bitsPerSecond: 8_000_000)
        quality.queueBytes = 10_000
        let (internet, from, to) = try pair(quality)
        var arrivals: [UInt64] = []
        to.onReceive = { _ in arrivals.append(internet.now) }
        // 1,000 bytes with their headers: a millisecond each, and ten of them wait at once.
        for _ in 0..<30 { from.send([UInt8](repeating: 0, count: 972), to: try #require(to.local())) }
        try internet.run(seconds: 1)
        #expect(arrivals.count == 10)
        #expect(zip(arrivals, arrivals.dropFirst()).allSatisfy { $1 - $0 == 1_000_000 })
        #expect(internet.log.dropped(.queueFull) == 20)
    }

    @Test func aPacketLongerThanTheLinkTakesIsAnsweredUnlessItIsABlackHole() throws {
        for isBlackHole in [false, true] {
            let internet = Internet(seed: 1) { net in
                net.host("a")
                net.host("b", LinkQuality(mtuBytes: 1_280))
            }
            internet.host("b").link.quality.isBlackHole = isBlackHole
            let from = try #require(internet.host("a").udp())
            let to = try #require(internet.host("b").udp(port: 2_000))
            var kinds: [Problem.Kind] = []
            from.onProblem = { kinds.append($0.kind) }
            from.send([UInt8](repeating: 1, count: 1_253), to: try #require(to.local()))
            from.send([UInt8](repeating: 1, count: 1_252), to: try #require(to.local()))
            try internet.run(seconds: 1)
            #expect(to.inbox.map(\.bytes.count) == [1_252])
            #expect(kinds == (isBlackHole ? [] : [.tooBig(mtuBytes: 1_280)]))
        }
    }

    @Test func aCutLosesWhatIsUnderWayAndARestoredLinkCarriesAgain() throws {
        let (internet, from, to) = try pair(LinkQuality(delayMilliseconds: 100))
        let destination = try #require(to.local())
        internet.host("a").link.cut(afterSeconds: 0.95, forSeconds: 1)
        for tenths in 0..<30 {
            internet.scheduler.after(seconds: Double(tenths) / 10) { from.send("\(tenths)", to: destination) }
        }
        try internet.run(seconds: 5)
        // That of 0.9 s is on the link when it is cut; the link is back at 1.95 s.
        #expect(to.takeTexts().compactMap { Int($0) } == Array(0...8) + Array(20...29))
        #expect(internet.log.dropped(.linkDown) == 11)
    }

    @Test func aPartitionKeepsTwoApartAndNobodyElse() throws {
        let internet = Internet(seed: 1) { net in for name in ["a", "b", "c"] { net.host(name) } }
        let sockets = try ["a", "b", "c"].map { try #require(internet.host($0).udp(port: 1_000)) }
        func everyoneToEveryone() throws -> [Int] {
            for sender in sockets {
                for receiver in sockets where receiver !== sender {
                    sender.send("x", to: try #require(receiver.local()))
                }
            }
            try internet.run(seconds: 1)
            return sockets.map { $0.takeTexts().count }
        }
        internet.core.partition(internet.host("a").addresses, from: internet.host("b").addresses)
        #expect(try everyoneToEveryone() == [1, 1, 2])
        #expect(internet.log.dropped(.partition) == 2)
        internet.core.heal()
        #expect(try everyoneToEveryone() == [2, 2, 2])
    }

    @Test func aLowHopLimitOpensTheOwnNATAndReachesNobody() throws {
        let yard = Yard(.portRestricted)
        let socket = try #require(yard.inner.udp(port: 5_000))
        let far = try yard.farSockets()[0]
        var kinds: [Problem.Kind] = []
        socket.onProblem = { kinds.append($0.kind) }
        socket.send("opener", to: try #require(far.local()), hopLimit: 5)
        try yard.internet.run(seconds: 1)
        #expect(far.inbox.isEmpty)
        #expect(kinds == [.hopLimitExceeded])
        far.send("in", to: Endpoint(yard.router.publicAddress, 5_000))
        try yard.internet.run(seconds: 1)
        #expect(socket.takeTexts() == ["in"])
    }
}
