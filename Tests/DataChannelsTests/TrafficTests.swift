import DataChannels
import TestSupport
import Testing

@Suite(.serialized) struct TrafficTests {
    @Test func messagesArriveAsTheyWereSent() async throws {
        try await SCTPTime.virtual {
            var options = DataChannelOptions()
            options.remoteMaxMessageBytes = 262_144
            let pair = try PeerPair.connected(client: options)
            let channel = try pair.client.openChannel(.init(label: "x"))
            let sizes = [0, 1, 3, 1_155, 1_156, 65_535, 65_536, 65_537, 262_144]
            for size in sizes {
                for isText in [false, true] {
                    let bytes = pattern(size, seed: size)
                    while pair.client.send(bytes, isText: isText, on: channel.id) == .wouldBlock { pair.run(for: 10) }
                }
            }
            #expect(pair.run { $0.messages(channel.id, .server).count == 2 * sizes.count })
            let expected = sizes.flatMap { size in
                [false, true].map {
                    DataChannelEvent.message(channel: channel.id, bytes: pattern(size, seed: size), isText: $0)
                }
            }
            #expect(Array(pair.take(.server).dropFirst()) == expected)
            #expect(pair.client.send(pattern(262_145, seed: 1), on: channel.id) == .tooLong)
        }
    }

    @Test func tenMegabytesSurviveTwoPercentLoss() async throws {
        try await SCTPTime.virtual {
            var options = DataChannelOptions()
            options.remoteMaxMessageBytes = 262_144
            let pair = try PeerPair.connected(.init(lossPercent: 2, jitterMilliseconds: 4), seed: 2, client: options)
            let channel = try pair.client.openChannel(.init(label: "file"))
            let part = pattern(50_000, seed: 3)
            var sent = 0
            var arrived = 0
            var wrong = 0
            let isWhole = pair.run(for: 900_000) { pair in
                while sent < 200, pair.client.send(part, on: channel.id) == .sent { sent += 1 }
                for case .message(_, let bytes, _) in pair.take(.server) {
                    arrived += 1
                    if bytes != part { wrong += 1 }
                }
                return arrived == 200
            }
            #expect(isWhole, "\(arrived) of 200 parts arrived")
            #expect(wrong == 0)
        }
    }

    @Test func anOrderedChannelKeepsItsOrderAndAnUnorderedOneDoesNotWait() async throws {
        try await SCTPTime.virtual {
            let pair = try PeerPair.connected(.init(lossPercent: 10, jitterMilliseconds: 40), seed: 5)
            var configuration = DataChannelConfiguration(label: "x")
            let ordered = try pair.client.openChannel(configuration)
            configuration.isOrdered = false
            let unordered = try pair.client.openChannel(configuration)
            pair.run(for: 2_000)
            for number in 0..<200 {
                #expect(pair.client.send([UInt8(number)], on: ordered.id) == .sent)
                #expect(pair.client.send([UInt8(number)], on: unordered.id) == .sent)
                pair.run(for: 10)
            }
            let all = (0..<200).map { [UInt8($0)] }
            #expect(
                pair.run {
                    $0.messages(ordered.id, .server).count == 200 && $0.messages(unordered.id, .server).count == 200
                }
            )
            #expect(pair.messages(ordered.id, .server) == all)
            let came = pair.messages(unordered.id, .server)
            #expect(came != all)
            #expect(Set(came) == Set(all))
        }
    }

    @Test func aMessageIsNotSentAgainMoreOftenThanItsChannelSays() async throws {
        try await SCTPTime.virtual {
            let pair = try PeerPair.connected(.init(lossPercent: 20), seed: 6)
            var configuration = DataChannelConfiguration(label: "x")
            configuration.reliability = .maxRetransmits(0)
            configuration.isOrdered = false
            let lossy = try pair.client.openChannel(configuration)
            let whole = try pair.client.openChannel(.init(label: "y"))
            #expect(pair.run { $0.has(.channelOpened(lossy, byPeer: true), .server) })
            for number in 0..<200 {
                #expect(pair.client.send([UInt8(number)], on: lossy.id) == .sent)
                pair.run(for: 20)
            }
            #expect(pair.client.send([1], on: whole.id) == .sent)
            #expect(pair.run { $0.messages(whole.id, .server) == [[1]] })
            let came = pair.messages(lossy.id, .server)
            #expect(130...185 ~= came.count, "\(came.count) of 200 came where every fifth packet is lost")
            #expect(Set(came).count == came.count)
        }
    }

    @Test func aMessageIsGivenUpAfterItsLifetime() async throws {
        try await SCTPTime.virtual {
            let pair = try PeerPair.connected()
            var configuration = DataChannelConfiguration(label: "x")
            configuration.reliability = .maxLifetime(20)
            let channel = try pair.client.openChannel(configuration)
            #expect(pair.run(for: 1_000) { $0.has(.channelOpened(channel, byPeer: true), .server) })
            pair.network.isCut = true
            #expect(pair.client.send([1], on: channel.id) == .sent)
            pair.run(for: 50)
            pair.network.isCut = false
            // By the retransmission its time is over: nothing comes, and the next message does not wait for it.
            pair.run(for: 5_000)
            #expect(pair.client.send([2], on: channel.id) == .sent)
            #expect(pair.run(for: 1_000) { !$0.messages(channel.id, .server).isEmpty })
            #expect(pair.messages(channel.id, .server) == [[2]])
        }
    }

    /// Each takes all the room that it can get when it is told of it.
    @Test func channelsThatFillTheBufferAllGetTheirTurn() async throws {
        try await SCTPTime.virtual {
            let pair = try PeerPair.connected()
            let channels = try (0..<4).map { _ in try pair.client.openChannel(.init(label: "x")).id }
            pair.run(for: 100)
            let part = pattern(16_384, seed: 1)
            var came: [UInt16: Int] = [:]
            for id in channels { while pair.client.send(part, on: id) == .sent {} }
            pair.run(for: 400) { pair in
                for case .writable(let id) in pair.take(.client) { while pair.client.send(part, on: id) == .sent {} }
                for case .message(let id, let bytes, _) in pair.take(.server) { came[id, default: 0] += bytes.count }
                pair.collect()
                return false
            }
            let all = came.values.reduce(0, +)
            for id in channels { #expect(came[id, default: 0] > all / 8, "\(came)") }
        }
    }

    /// Its OPEN waits for room, with no message before it, and the others do not wait for it.
    @Test func aChannelIsOpenedWhileTheBufferIsFull() async throws {
        try await SCTPTime.virtual {
            let pair = try PeerPair.connected()
            let first = try pair.client.openChannel(.init(label: "x"))
            pair.run(for: 100)
            // To the last byte: an OPEN of twelve bytes does not fit either.
            for size in [60_000, 1_000, 10] {
                while pair.client.send(pattern(size, seed: 1), on: first.id) == .sent {}
            }
            let second = try pair.client.openChannel(.init(label: "y"))
            #expect(pair.client.send([1], on: second.id) == .wouldBlock)
            #expect(pair.run { $0.has(.writable(channel: second.id), .client) })
            #expect(pair.has(.writable(channel: first.id), .client))
            #expect(pair.client.send([2], on: second.id) == .sent)
            #expect(pair.run { $0.messages(second.id, .server) == [[2]] })
            #expect(pair.has(.channelOpened(second, byPeer: true), .server))
        }
    }

    /// Whatever the handlers do, one call leaves nothing behind.
    @Test func oneDrainHandsOverWhatItsHandlersCause() async throws {
        try await SCTPTime.virtual {
            let pair = try PeerPair.connected()
            var events: [DataChannelEvent] = []
            let channel = try pair.client.openChannel(.init(label: "x"))
            pair.client.drain(
                sending: { pair.server.receive($0) },
                handling: { event in
                    events.append(event)
                    guard case .channelOpened = event else { return }
                    for number in UInt8(0)..<10 { #expect(pair.client.send([number], on: channel.id) == .sent) }
                    pair.client.drain(sending: { _ in Issue.record("a drain in a drain") }, handling: { _ in })
                    #expect(pair.client.nextPacket() == nil)
                }
            )
            #expect(pair.client.nextPacket() == nil && pair.client.nextEvent() == nil)
            #expect(events.contains(.bufferedAmountLow(channel: channel.id)))
            pair.collect()
            #expect(pair.messages(channel.id, .server) == (0..<10).map { [UInt8($0)] })
        }
    }

    @Test func aFullBufferRefusesAndSaysWhenToGoOn() async throws {
        try await SCTPTime.virtual {
            let pair = try PeerPair.connected()
            let channel = try pair.client.openChannel(.init(label: "x"))
            pair.client.setBufferedAmountLowThreshold(100_000, of: channel.id)
            pair.run(for: 100)
            let part = pattern(60_000, seed: 1)
            var sent = 0
            while pair.client.send(part, on: channel.id) == .sent { sent += 1 }
            #expect(sent == 17)
            #expect(pair.client.send(part, on: channel.id) == .wouldBlock)
            #expect(pair.client.bufferedAmount(of: channel.id) > 900_000)
            #expect(!pair.has(.bufferedAmountLow(channel: channel.id), .client))
            #expect(pair.run { $0.has(.writable(channel: channel.id), .client) })
            #expect(pair.run { $0.has(.bufferedAmountLow(channel: channel.id), .client) })
            #expect(pair.client.bufferedAmount(of: channel.id) <= 100_000)
            #expect(pair.run { $0.messages(channel.id, .server).count == sent })
            #expect(pair.client.bufferedAmount(of: channel.id) == 0)
        }
    }

    /// Who sends back what it reads would wait for ever otherwise: for room before the next message is read.
    @Test func whoReadsNothingIsToldOfRoomAllTheSame() async throws {
        try await SCTPTime.virtual {
            let pair = try PeerPair.connected()
            let channel = try pair.client.openChannel(.init(label: "x"))
            #expect(pair.run { $0.has(.channelOpened(channel, byPeer: true), .server) })
            pair.sleeping = [.server]
            let part = pattern(60_000, seed: 1)
            #expect(pair.client.send(part, on: channel.id) == .sent)
            pair.run(for: 1_000)
            pair.server.setBufferedAmountLowThreshold(100_000, of: channel.id)
            while pair.server.send(part, on: channel.id) == .sent {}
            #expect(pair.run { $0.has(.writable(channel: channel.id), .server) })
            #expect(pair.run { $0.has(.bufferedAmountLow(channel: channel.id), .server) })
            #expect(pair.messages(channel.id, .server).isEmpty)
            pair.sleeping = []
            #expect(pair.messages(channel.id, .server) == [part])
        }
    }

    @Test func aReaderThatSleepsHoldsUpTheSender() async throws {
        try await SCTPTime.virtual {
            let pair = try PeerPair.connected()
            let channel = try pair.client.openChannel(.init(label: "x"))
            pair.sleeping = [.server]
            let part = pattern(50_000, seed: 1)
            var sent = 0
            pair.run(for: 60_000) { pair in
                while pair.client.send(part, on: channel.id) == .sent { sent += 1 }
                return false
            }
            // What the sender keeps, what the receiver has in usrsctp and in events: 1 MiB each.
            #expect(40...66 ~= sent, "\(sent) messages of 50,000 bytes were taken")
            pair.sleeping = []
            #expect(pair.run { $0.messages(channel.id, .server).count == sent })
            #expect(!pair.has(.closed(.timedOut), .client))
        }
    }

    @Test(arguments: [70_000, 700_000])
    func aMessageLongerThanAgreedClosesItsChannel(bytes: Int) async throws {
        try await SCTPTime.virtual {
            var sender = DataChannelOptions()
            sender.remoteMaxMessageBytes = 1_000_000
            var receiver = DataChannelOptions()
            receiver.maxMessageBytes = 65_536
            let pair = try PeerPair.connected(client: sender, server: receiver)
            let channel = try pair.client.openChannel(.init(label: "x"))
            let other = try pair.client.openChannel(.init(label: "y"))
            #expect(pair.client.send(pattern(bytes, seed: 1), on: channel.id) == .sent)
            #expect(pair.run { $0.has(.channelClosed(channel: channel.id, .messageTooLong), .server) })
            #expect(pair.run { $0.has(.channelClosed(channel: channel.id, .peer), .client) })
            #expect(pair.messages(channel.id, .server).isEmpty)
            #expect(pair.client.send(pattern(65_536, seed: 2), on: other.id) == .sent)
            #expect(pair.run { $0.messages(other.id, .server) == [pattern(65_536, seed: 2)] })
        }
    }
}
