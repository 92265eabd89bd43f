import DataChannels
import TestSupport
import Testing

/// Associations whose handshake went with an offer and its answer.
@Suite(.serialized) struct SignaledTests {
    /// Signaling in between: INIT and INIT ACK, and nothing by the path.
    private func signaled(_ network: PeerPair.Network = .init()) throws -> PeerPair {
        let pair = try PeerPair(network)
        let initiation = try #require(pair.client.makeInitiation())
        let answer = try #require(pair.server.answer(initiation: initiation))
        #expect(pair.client.finish(initiation: initiation, answer: answer))
        return pair
    }

    @Test func bothEndsStandBeforeThereIsAPath() async throws {
        try await SCTPTime.virtual {
            let pair = try signaled(.init(isCut: true))
            pair.run(for: 20)
            #expect(pair.take(.client) == [.opened] && pair.take(.server) == [.opened])
            #expect(pair.sentPackets == 0, "the rest of the handshake is not sent")
        }
    }

    /// Both open the channel whose number they know.
    @Test func theFirstPacketByThePathIsData() async throws {
        try await SCTPTime.virtual {
            let pair = try signaled(.init(delayMilliseconds: 25))
            pair.collect()
            var configuration = DataChannelConfiguration(label: "own")
            configuration.negotiatedID = 0
            for side in PeerPair.Side.allCases {
                _ = try pair[side].openChannel(configuration)
                #expect(pair[side].send([1, 2, 3], on: 0) == .sent)
            }
            #expect(
                pair.run(for: 26) { pair in
                    PeerPair.Side.allCases.allSatisfy { pair.messages(0, $0) == [[1, 2, 3]] }
                }
            )
            let other = try pair.server.openChannel(.init(label: "other"))
            #expect(pair.server.send([4], on: other.id) == .sent)
            #expect(pair.run(for: 30) { $0.messages(other.id, .client) == [[4]] })
            pair.client.shutdown()
            #expect(pair.run { $0.has(.closed(.shutdown), .client) && $0.has(.closed(.shutdown), .server) })
        }
    }

    @Test func dataAreCarriedOverALossyPath() async throws {
        try await SCTPTime.virtual {
            let pair = try signaled(.init(lossPercent: 10, jitterMilliseconds: 30))
            pair.collect()
            let channel = try pair.server.openChannel(.init(label: "x"))
            for number in 0..<50 { #expect(pair.server.send(pattern(2_000, seed: number), on: channel.id) == .sent) }
            let expected = (0..<50).map { pattern(2_000, seed: $0) }
            #expect(pair.run { $0.messages(channel.id, .client) == expected })
        }
    }

    /// The answer may come seconds later; INITs that were sent again meanwhile go nowhere.
    @Test func aLateAnswerIsGoodAsWell() async throws {
        try await SCTPTime.virtual {
            let pair = try PeerPair(.init(isCut: true))
            let initiation = try #require(pair.client.makeInitiation())
            let answer = try #require(pair.server.answer(initiation: initiation))
            for step in UInt64(1)...40 { SCTPStack.shared.advance(to: step * 100_000_000) }
            #expect(pair.client.finish(initiation: initiation, answer: answer))
            #expect(pair.client.nextPacket() == nil)
        }
    }

    @Test func whatIsNoInitiationOrNoAnswerToItIsRefused() async throws {
        try await SCTPTime.virtual {
            let count = SCTPStack.shared.associationCount
            do {
                let pair = try PeerPair()
                let other = try PeerPair()
                let initiation = try #require(pair.client.makeInitiation())
                #expect(pair.client.makeInitiation() == nil, "there is one already")
                let second = try #require(other.client.makeInitiation())
                let answer = try #require(pair.server.answer(initiation: initiation))
                #expect(!other.client.finish(initiation: second, answer: answer), "it has another tag")
                #expect(!pair.client.finish(initiation: initiation, answer: initiation))
                #expect(!pair.client.finish(initiation: initiation, answer: []))
                #expect(other.server.answer(initiation: answer) == nil)
                // None of these has spoiled it.
                #expect(pair.client.finish(initiation: initiation, answer: answer))
            }
            #expect(SCTPStack.shared.associationCount == count)
        }
    }

    /// It comes by signaling, before anybody's certificate was seen.
    @Test func mutatedMessagesDoNoHarm() async throws {
        var random = SeededGenerator(for: "signaled SCTP")
        let rounds = fuzzRounds(400)
        try await SCTPTime.virtual {
            let before = SCTPStack.shared.associationCount
            for _ in 0..<rounds {
                let pair = try PeerPair(.init(isCut: true))
                var initiation = try #require(pair.client.makeInitiation())
                let genuine = initiation
                change(&initiation, using: &random)
                guard var answer = pair.server.answer(initiation: initiation) else { continue }
                change(&answer, using: &random)
                if pair.client.finish(initiation: genuine, answer: answer) {
                    _ = try? pair.client.openChannel(.init(label: "x"))
                }
                pair.run(for: 20)
            }
            #expect(SCTPStack.shared.associationCount == before)
        }
    }

    /// Half of the time, with its checksum made right again.
    private func change(_ packet: inout [UInt8], using random: inout SeededGenerator) {
        guard Bool.random(using: &random) else { return }
        mutate(&packet, using: &random)
        guard packet.count > 12 else { return }
        packet = sealed(packet[..<8] + [0, 0, 0, 0] + packet[12...])
    }
}
