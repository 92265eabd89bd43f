import DataChannels
import Synchronization
import TestSupport
import Testing

@Suite(.serialized) struct AssociationTests {
    @Test func bothEndsOpenWithinTwoRoundTrips() async throws {
        try await SCTPTime.virtual {
            let pair = try PeerPair(.init(delayMilliseconds: 25))
            try pair.connect()
            #expect(pair.run(for: 101) { $0.has(.opened, .client) && $0.has(.opened, .server) })
        }
    }

    /// The first message leaves with the OPEN, before the peer has said anything about the channel.
    @Test func aMessageFollowsItsChannelsOpenAtOnce() async throws {
        try await SCTPTime.virtual {
            let pair = try PeerPair.connected()
            let channel = try pair.client.openChannel(.init(label: "x"))
            #expect(pair.client.send([1, 2, 3], on: channel.id) == .sent)
            #expect(pair.run(for: 11) { $0.messages(channel.id, .server) == [[1, 2, 3]] })
        }
    }

    @Test func aChannelOpenedBeforeTheAssociationOpensWithIt() async throws {
        try await SCTPTime.virtual {
            let pair = try PeerPair()
            let channel = try pair.client.openChannel(.init(label: "early"))
            #expect(pair.client.send([1], on: channel.id) == .notOpen)
            try pair.connect()
            #expect(pair.run { $0.has(.channelOpened(channel, byPeer: true), .server) })
            #expect(pair.take(.client) == [.opened, .channelOpened(channel, byPeer: false)])
        }
    }

    @Test(arguments: [0, 10])
    func anAssociationComesUpAndEndsOverALossyPath(lossPercent: Int) async throws {
        try await SCTPTime.virtual {
            let pair = try PeerPair.connected(.init(lossPercent: lossPercent, jitterMilliseconds: 30), seed: 4)
            let channel = try pair.server.openChannel(.init(label: "x"))
            for number in 0..<50 { #expect(pair.server.send(pattern(2_000, seed: number), on: channel.id) == .sent) }
            // What was given goes out first.
            pair.server.shutdown()
            #expect(pair.run { $0.has(.closed(.shutdown), .client) && $0.has(.closed(.shutdown), .server) })
            #expect(pair.messages(channel.id, .client) == (0..<50).map { pattern(2_000, seed: $0) })
            #expect(pair.client.send([1], on: channel.id) == .notOpen)
            #expect(throws: DataChannelError.closed) { try pair.client.openChannel(.init(label: "late")) }
        }
    }

    @Test func bothMayShutDownAtOnce() async throws {
        try await SCTPTime.virtual {
            let pair = try PeerPair.connected()
            pair.client.shutdown()
            pair.server.shutdown()
            #expect(pair.run { $0.has(.closed(.shutdown), .client) && $0.has(.closed(.shutdown), .server) })
        }
    }

    @Test func anAbortIsTheEndForBothAtOnce() async throws {
        try await SCTPTime.virtual {
            let pair = try PeerPair.connected()
            pair.client.abort()
            #expect(pair.run(for: 11) { $0.has(.closed(.abortedByPeer), .server) })
            #expect(pair.take(.client) == [.closed(.aborted)])
            pair.client.abort()
            pair.client.shutdown()
            pair.collect()
            #expect(pair.take(.client) == [])
        }
    }

    @Test func anAssociationThatIsReleasedLeavesNothingBehind() async throws {
        try await SCTPTime.virtual {
            let before = SCTPStack.shared.associationCount
            let numbers = DataChannelLimits.associations
            // More than there are numbers: those of the first are used again.
            for round in 0..<numbers / 2 + 50 {
                let pair = try PeerPair.connected(.init(delayMilliseconds: 0))
                _ = try pair.client.openChannel(.init(label: "x"))
                #expect(SCTPStack.shared.associationCount == before + 2)
                if round.isMultiple(of: 3) { pair.client.abort() }
                if round.isMultiple(of: 4) { pair.server.shutdown() }
            }
            #expect(SCTPStack.shared.associationCount == before)
            #expect(SCTPStack.shared.establishedCount == 0)
            #expect(before > 0 || SCTPStack.shared.nextDeadline == nil)
        }
    }

    /// What `wake` holds may be the last owner of another association, whose end comes back to the table.
    @Test func aWakeMayHoldWhatEndsWithIt() async throws {
        try await SCTPTime.virtual {
            let before = SCTPStack.shared.associationCount
            do {
                let inner = try DataChannelAssociation(.client, wake: {})
                let held = UncheckedBox(inner)
                _ = try DataChannelAssociation(.client, wake: { withExtendedLifetime(held) {} })
            }
            #expect(SCTPStack.shared.associationCount == before)
        }
    }

    /// The last word is a packet like others: whoever drains after `abort` has said it.
    @Test func anAbortIsHandedOverThoughTheAssociationIsReleasedThen() async throws {
        try await SCTPTime.virtual {
            let pair = try PeerPair.connected()
            pair.client.abort()
            var last: [[UInt8]] = []
            pair.client.drain(sending: { last.append([UInt8]($0)) }, handling: { _ in })
            #expect(last.count == 1)
            // RFC 9260 section 3.3.7: chunk type 6.
            #expect(last.first?.dropFirst(12).first == 6)
        }
    }

    @Test func aPeerThatIsNotThereIsGivenUp() async throws {
        try await SCTPTime.virtual {
            let pair = try PeerPair(.init(isCut: true))
            try pair.client.connect()
            #expect(pair.run(for: 40_000) { $0.has(.closed(.timedOut), .client) })
            // INIT, ten times more, and the ABORT for whom it may reach.
            #expect(pair.sentPackets == 12)
        }
    }

    /// A path that comes back within a minute loses nothing, and traffic goes on within the greatest timeout.
    @Test func anOutageIsSurvivedOrNoticed() async throws {
        try await SCTPTime.virtual {
            let pair = try PeerPair.connected()
            let channel = try pair.client.openChannel(.init(label: "x"))
            pair.run(for: 100)
            pair.network.isCut = true
            #expect(pair.client.send([7], on: channel.id) == .sent)
            #expect(!pair.run(for: 30_000) { $0.has(.closed(.timedOut), .client) })
            pair.network.isCut = false
            #expect(pair.run(for: 3_200) { $0.messages(channel.id, .server) == [[7]] })
            pair.network.isCut = true
            #expect(pair.client.send([8], on: channel.id) == .sent)
            #expect(pair.run(for: 90_000) { $0.has(.closed(.timedOut), .client) })
        }
    }

    @Test func anIdleAssociationNoticesThatThePathIsDead() async throws {
        try await SCTPTime.virtual {
            let pair = try PeerPair.connected()
            pair.run(for: 1_000)
            let before = pair.sentPackets
            let steps = pair.steps
            pair.run(for: 60_000)
            // Heartbeats of both, every 15 s and a little, and their answers; the timers are looked at once in a
            // second.
            #expect(10...18 ~= pair.sentPackets - before)
            #expect(pair.steps - steps < 600)
            pair.network.isCut = true
            #expect(
                pair.run(for: 600_000) { $0.has(.closed(.timedOut), .client) && $0.has(.closed(.timedOut), .server) }
            )
        }
    }

    /// Hours without a word: nothing is lost, nothing is kept.
    @Test func anIdleAssociationLivesForHours() async throws {
        try await SCTPTime.virtual {
            let pair = try PeerPair.connected()
            let channel = try pair.client.openChannel(.init(label: "x"))
            pair.run(for: 8 * 3_600_000)
            #expect(pair.client.send([1], on: channel.id) == .sent)
            #expect(pair.run(for: 100) { $0.messages(channel.id, .server) == [[1]] })
        }
    }

    @Test func roundTripsAreThoseOfVirtualTime() async throws {
        try await SCTPTime.virtual {
            let pair = try PeerPair.connected(.init(delayMilliseconds: 150))
            let channel = try pair.client.openChannel(.init(label: "x"))
            for number in UInt8(0)..<20 {
                #expect(pair.client.send([number], on: channel.id) == .sent)
                pair.run(for: 500)
            }
            let statistics = try #require(pair.client.statistics)
            #expect(290...340 ~= statistics.roundTripMilliseconds, "\(statistics)")
        }
    }

    /// Several threads tell the time by one clock, and one may be late.
    @Test func timeDoesNotGoBack() async throws {
        try await SCTPTime.virtual {
            let association = try DataChannelAssociation(.client, wake: {})
            SCTPStack.shared.forgetTime()
            SCTPStack.shared.advance(to: 0)
            try association.connect()
            #expect(association.packets().count == 1)
            for milliseconds in [900, 0, 900, 500, 950] { SCTPStack.shared.advance(to: milliseconds * 1_000_000) }
            #expect(association.packets().isEmpty)
            SCTPStack.shared.advance(to: UInt64(1_100_000_000))
            #expect(association.packets().count == 1)
        }
    }

    @Test func theStackSaysWhenItWantsToBeCalled() async throws {
        try await SCTPTime.virtual {
            let pair = try PeerPair.connected()
            let channel = try pair.client.openChannel(.init(label: "x"))
            pair.run(for: 2_000)
            let second: UInt64 = 1_000_000_000
            #expect(SCTPStack.shared.nextDeadline == pair.now + second)
            // While something is not acknowledged the timers are looked at often.
            pair.network.isCut = true
            #expect(pair.client.send([1], on: channel.id) == .sent)
            pair.run(for: 20_000)
            #expect(SCTPStack.shared.nextDeadline == pair.now + second / 100)
            pair.network.isCut = false
            pair.run(for: 5_000)
            #expect(SCTPStack.shared.nextDeadline == pair.now + second)
        }
    }

    @Test func noPacketIsLongerThanItsLimit() async throws {
        try await SCTPTime.virtual {
            let pair = try PeerPair.connected()
            let channel = try pair.client.openChannel(.init(label: "x"))
            #expect(pair.client.send(pattern(60_000, seed: 1), on: channel.id) == .sent)
            #expect(pair.run { $0.messages(channel.id, .server).count == 1 })
            #expect(1_140...1_156 ~= pair.longestPacket)
            try pair.client.setPacketLimit(1_400)
            #expect(pair.client.send(pattern(60_000, seed: 2), on: channel.id) == .sent)
            #expect(pair.run { $0.messages(channel.id, .server).count == 2 })
            #expect(1_384...1_400 ~= pair.longestPacket)
            #expect(throws: DataChannelError.packetLimit(bytes: 100)) { try pair.client.setPacketLimit(100) }
        }
    }

    /// Data are cut for the path there is, up and down, in packets of the association's limit.
    @Test func aSegmentLimitRisesAndFalls() async throws {
        try await SCTPTime.virtual {
            var options = DataChannelOptions()
            options.packetLimitBytes = 1_435
            let pair = try PeerPair(client: options, server: options)
            for side in PeerPair.Side.allCases { try pair[side].setSegmentLimit(1_110) }
            try pair.connect()
            let channel = try pair.client.openChannel(.init(label: "x"))
            #expect(pair.run { $0.has(.channelOpened(channel, byPeer: true), .server) })
            for (count, limit) in [1_110, 1_435, 1_110, 700, 1_200].enumerated() {
                try pair.client.setSegmentLimit(limit)
                var longest = 0
                pair.tamper = { packet in
                    // DATA (RFC 9260 section 3.3.1) at the front of its packet.
                    if packet[12] == 0 { longest = max(longest, 12 + Int(packet[14]) << 8 + Int(packet[15])) }
                }
                #expect(pair.client.send(pattern(60_000, seed: count), on: channel.id) == .sent)
                #expect(pair.run { $0.messages(channel.id, .server).count == count + 1 })
                #expect(pair.messages(channel.id, .server).last == pattern(60_000, seed: count))
                #expect(limit - 4...limit ~= longest, "\(limit)")
                #expect(pair.longestPacket <= 1_435)
            }
            #expect(throws: DataChannelError.packetLimit(bytes: 100)) { try pair.client.setSegmentLimit(100) }
        }
    }

    /// The path may be known to be narrow before the association begins, or while it does.
    @Test(arguments: [false, true], [600, 1_400])
    func aPacketLimitHoldsFromTheFirstPacketOn(isConnecting: Bool, bytes: Int) async throws {
        try await SCTPTime.virtual {
            let pair = try PeerPair()
            if isConnecting { try pair.connect() }
            for side in PeerPair.Side.allCases { try pair[side].setPacketLimit(bytes) }
            if !isConnecting { try pair.connect() }
            let channel = try pair.client.openChannel(.init(label: "x"))
            #expect(pair.run { $0.has(.channelOpened(channel, byPeer: true), .server) })
            for side in PeerPair.Side.allCases {
                #expect(pair[side].send(pattern(60_000, seed: 1), on: channel.id) == .sent)
            }
            #expect(pair.run { !$0.messages(0, .server).isEmpty && !$0.messages(0, .client).isEmpty })
            #expect(bytes - 16...bytes ~= pair.longestPacket)
            #expect(pair.client.packetLimitBytes == bytes)
            pair.client.abort()
            #expect(throws: DataChannelError.closed) { try pair.client.setPacketLimit(1_000) }
        }
    }

    @Test func associationsDoNotHearOneAnother() async throws {
        try await SCTPTime.virtual {
            let pairs = try (0..<8).map { try PeerPair.connected(seed: UInt64($0)) }
            for (number, pair) in pairs.enumerated() {
                let channel = try pair.client.openChannel(.init(label: "\(number)"))
                #expect(pair.client.send([UInt8(number)], on: channel.id) == .sent)
            }
            for (number, pair) in pairs.enumerated() {
                #expect(pair.run(for: 1_000) { !$0.messages(0, .server).isEmpty })
                #expect(pair.messages(0, .server) == [[UInt8(number)]])
            }
        }
    }

    /// Whoever moves the timers is not whom they concern: the association is told.
    @Test func timersWakeTheirAssociation() async throws {
        try await SCTPTime.virtual {
            let wakes = Mutex(0)
            let association = try DataChannelAssociation(.client, wake: { wakes.withLock { $0 += 1 } })
            SCTPStack.shared.forgetTime()
            SCTPStack.shared.advance(to: 0)
            try association.connect()
            #expect(association.packets().count == 1)
            SCTPStack.shared.advance(to: 0)
            let before = wakes.withLock { $0 }
            SCTPStack.shared.advance(to: 900_000_000)
            #expect(wakes.withLock { $0 } == before)
            #expect(association.packets().isEmpty)
            SCTPStack.shared.advance(to: 1_100_000_000)
            #expect(wakes.withLock { $0 } == before + 1)
            #expect(association.packets().count == 1)
        }
    }

    /// Each by a thread of its own, over the one stack.
    @Test func associationsOfSeveralThreadsWorkAtOnce() async throws {
        try await SCTPTime.real {
            let arrived = try await withThrowingTaskGroup(of: Int.self) { group in
                for _ in 0..<4 {
                    group.addTask { try Self.exchange(messages: 200) }
                }
                return try await group.reduce(0, +)
            }
            #expect(arrived == 4 * 200)
        }
    }

    private static func exchange(messages count: Int) throws -> Int {
        let client = try DataChannelAssociation(.client, wake: {})
        let server = try DataChannelAssociation(.server, wake: {})
        try client.connect()
        try server.connect()
        let channel = try client.openChannel(.init(label: "x"))
        var sent = 0
        var arrived = 0
        // Nothing is lost and nothing waits for a timer, so so many turns are more than enough.
        for _ in 0..<10_000 where arrived < count {
            if sent < count, client.send(pattern(500, seed: sent), on: channel.id) == .sent { sent += 1 }
            client.drain(sending: { server.receive($0) }, handling: { _ in })
            server.drain(
                sending: { client.receive($0) },
                handling: { event in
                    if case .message(_, pattern(500, seed: arrived), _) = event { arrived += 1 }
                }
            )
        }
        return arrived
    }

    @Test func itSaysHowThePathIs() async throws {
        try await SCTPTime.virtual {
            let pair = try PeerPair.connected()
            let statistics = try #require(pair.client.statistics)
            #expect(statistics.congestionWindowBytes > 4_000)
            #expect(statistics.peerWindowBytes > 500_000)
            pair.client.abort()
            #expect(pair.client.statistics == nil)
        }
    }
}

/// For a closure that has to be Sendable and is called by nobody else.
private final class UncheckedBox<Value>: @unchecked Sendable {
    let value: Value

    init(_ value: Value) { self.value = value }
}
