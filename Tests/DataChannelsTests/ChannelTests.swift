import DataChannels
import TestSupport
import Testing

@Suite(.serialized) struct ChannelTests {
    static let kinds: [(Bool, DataChannel.Reliability)] = [true, false].flatMap { isOrdered in
        [(isOrdered, .reliable), (isOrdered, .maxRetransmits(3)), (isOrdered, .maxLifetime(500))]
    }

    @Test(arguments: kinds, PeerPair.Side.allCases)
    func thePeerLearnsWhatKindOfChannelItIs(
        kind: (isOrdered: Bool, reliability: DataChannel.Reliability),
        side: PeerPair.Side
    ) async throws {
        try await SCTPTime.virtual {
            let pair = try PeerPair.connected()
            var configuration = DataChannelConfiguration(label: "Grüße")
            configuration.subprotocol = "chat.v1"
            configuration.isOrdered = kind.isOrdered
            configuration.reliability = kind.reliability
            configuration.priority = 512
            let channel = try pair[side].openChannel(configuration)
            #expect(channel.id == (side == .client ? 0 : 1))
            let other: PeerPair.Side = side == .client ? .server : .client
            #expect(pair.run(for: 1_000) { $0.has(.channelOpened(channel, byPeer: true), other) })
            #expect(pair[other].send([1], on: channel.id) == .sent)
            #expect(pair[side].send([2], on: channel.id) == .sent)
            #expect(
                pair.run(for: 1_000) {
                    $0.messages(channel.id, side) == [[1]] && $0.messages(channel.id, other) == [[2]]
                }
            )
        }
    }

    @Test func bothMayOpenChannelsAtOnce() async throws {
        try await SCTPTime.virtual {
            let pair = try PeerPair.connected(.init(lossPercent: 10, jitterMilliseconds: 20))
            let ours = try (0..<40).map { try pair.client.openChannel(.init(label: "c\($0)")) }
            let theirs = try (0..<40).map { try pair.server.openChannel(.init(label: "s\($0)")) }
            #expect(Set((ours + theirs).map(\.id)).count == 80)
            #expect(
                pair.run { pair in
                    ours.allSatisfy { pair.has(.channelOpened($0, byPeer: true), .server) }
                        && theirs.allSatisfy { pair.has(.channelOpened($0, byPeer: true), .client) }
                }
            )
            #expect(pair.client.channelCount == 80)
            #expect(pair.server.channelCount == 80)
        }
    }

    @Test func aNegotiatedChannelNeedsNoWordOnTheWire() async throws {
        try await SCTPTime.virtual {
            let pair = try PeerPair.connected()
            var configuration = DataChannelConfiguration(label: "fixed")
            configuration.negotiatedID = 7
            let channel = try pair.client.openChannel(configuration)
            _ = try pair.server.openChannel(configuration)
            #expect(pair.client.send([1], on: 7) == .sent)
            #expect(pair.run(for: 1_000) { $0.messages(7, .server) == [[1]] })
            #expect(pair.has(.channelOpened(channel, byPeer: false), .client))
            #expect(!pair.has(.channelOpened(channel, byPeer: true), .server))
            #expect(throws: DataChannelError.idInUse(7)) { try pair.client.openChannel(configuration) }
            configuration.negotiatedID = 1_024
            #expect(throws: DataChannelError.idTooHigh(1_024, limit: 1_024)) {
                try pair.client.openChannel(configuration)
            }
        }
    }

    @Test(arguments: [[PeerPair.Side.client], [.server], [.client, .server]])
    func aChannelClosesOnceItsMessagesAreThrough(closers: [PeerPair.Side]) async throws {
        try await SCTPTime.virtual {
            let pair = try PeerPair.connected(.init(lossPercent: 5, jitterMilliseconds: 15), seed: 9)
            for round in 0..<3 {
                let channel = try pair.client.openChannel(.init(label: "\(round)"))
                #expect(channel.id == 0)
                #expect(pair.run(for: 10_000) { $0.has(.channelOpened(channel, byPeer: true), .server) })
                for side in closers {
                    for number in 0..<20 { #expect(pair[side].send(pattern(3_000, seed: number), on: 0) == .sent) }
                    pair[side].closeChannel(0)
                    #expect(pair[side].send([1], on: 0) == .notOpen)
                }
                #expect(pair.run { $0.client.channelCount == 0 && $0.server.channelCount == 0 })
                for side in PeerPair.Side.allCases {
                    let reason: DataChannelCloseReason = closers.contains(side) ? .local : .peer
                    #expect(pair.has(.channelClosed(channel: 0, reason), side))
                    let other: PeerPair.Side = side == .client ? .server : .client
                    let expected = closers.contains(other) ? (0..<20).map { pattern(3_000, seed: $0) } : []
                    #expect(pair.messages(0, side) == expected)
                    _ = pair.take(side)
                }
            }
        }
    }

    /// The end that closes may be done before the other, whose word of its own reset got lost.
    @Test func anIdIsUsedAgainAtOnce() async throws {
        try await SCTPTime.virtual {
            let pair = try PeerPair.connected(.init(lossPercent: 20, jitterMilliseconds: 15), seed: 12)
            for round in 0..<30 {
                let channel = try pair.client.openChannel(.init(label: "\(round)"))
                #expect(channel.id == 0)
                #expect(pair.client.send([UInt8(round)], on: 0) == .sent)
                pair.client.closeChannel(0)
                #expect(pair.run { $0.has(.channelClosed(channel: 0, .local), .client) })
                _ = pair.take(.client)
            }
            #expect(pair.run { $0.messages(0, .server).count == 30 && $0.server.channelCount == 0 })
            #expect(pair.messages(0, .server) == (0..<30).map { [UInt8($0)] })
        }
    }

    @Test func closingOneChannelLeavesTheOthers() async throws {
        try await SCTPTime.virtual {
            let pair = try PeerPair.connected()
            let channels = try (0..<5).map { try pair.client.openChannel(.init(label: "\($0)")) }
            pair.run(for: 100)
            for channel in channels.dropLast() { pair.client.closeChannel(channel.id) }
            #expect(pair.run(for: 5_000) { $0.server.channelCount == 1 })
            #expect(pair.client.send([5], on: channels[4].id) == .sent)
            #expect(pair.run(for: 1_000) { $0.messages(channels[4].id, .server) == [[5]] })
        }
    }

    /// The peer has no channel there, and resets its side all the same.
    @Test func aNegotiatedChannelThatThePeerNeverOpenedCanBeClosed() async throws {
        try await SCTPTime.virtual {
            let pair = try PeerPair.connected()
            var configuration = DataChannelConfiguration(label: "mine")
            configuration.negotiatedID = 3
            _ = try pair.client.openChannel(configuration)
            #expect(pair.client.send([1], on: 3) == .sent)
            pair.client.closeChannel(3)
            #expect(pair.run(for: 5_000) { $0.has(.channelClosed(channel: 3, .local), .client) })
            #expect(pair.take(.server) == [])
            let quiet = pair.sentPackets
            pair.run(for: 5_000)
            #expect(pair.sentPackets - quiet < 4, "the two answer each other's resets")
        }
    }

    @Test func theChannelsOfAConnectionAreBounded() async throws {
        try await SCTPTime.virtual {
            var options = DataChannelOptions()
            options.channelLimit = 4
            let pair = try PeerPair.connected(server: options)
            let channels = try (0..<6).map { try pair.client.openChannel(.init(label: "\($0)")) }
            #expect(pair.run(for: 5_000) { $0.client.channelCount == 4 })
            for channel in channels.dropFirst(4) {
                #expect(pair.has(.channelClosed(channel: channel.id, .peer), .client))
            }
            #expect(pair.server.channelCount == 4)
            #expect(throws: DataChannelError.tooManyChannels(limit: 4)) {
                try pair.server.openChannel(.init(label: "x"))
            }
            #expect(pair.client.send([1], on: channels[0].id) == .sent)
            #expect(pair.run(for: 1_000) { $0.messages(channels[0].id, .server) == [[1]] })
        }
    }

    @Test func longNamesAreRefusedBeforeTheyAreSent() async throws {
        try await SCTPTime.virtual {
            let pair = try PeerPair.connected()
            let label = String(repeating: "é", count: DataChannelLimits.nameBytes / 2)
            let channel = try pair.client.openChannel(.init(label: label))
            #expect(pair.run(for: 1_000) { $0.has(.channelOpened(channel, byPeer: true), .server) })
            #expect(throws: DataChannelError.nameTooLong(bytes: 4_098, limit: 4_096)) {
                try pair.client.openChannel(.init(label: label + "é"))
            }
        }
    }

    /// RFC 8832 section 6: who is the DTLS client has the even ids. Here both say that they are.
    @Test func aChannelWithAnIdOfOursIsRefused() async throws {
        try await SCTPTime.virtual {
            let first = try DataChannelAssociation(.client, wake: {})
            let second = try DataChannelAssociation(.client, wake: {})
            SCTPStack.shared.forgetTime()
            SCTPStack.shared.advance(to: 0)
            try first.connect()
            try second.connect()
            let channel = try first.openChannel(.init(label: "x"))
            var events: [DataChannelEvent] = []
            for _ in 0..<20 {
                first.drain(sending: { second.receive($0) }, handling: { events.append($0) })
                second.drain(sending: { first.receive($0) }, handling: { _ in })
            }
            #expect(events == [.opened, .channelOpened(channel, byPeer: false), .channelClosed(channel: 0, .peer)])
            #expect(second.channelCount == 0)
        }
    }
}
