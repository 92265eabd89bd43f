import STUN
import TURN
import Testing

/// RE-13: what exceeds a limit of bandwidth is dropped at once and counted, and nobody else loses anything.
@Suite struct BandwidthTests {
    private let peer = Endpoint("8.8.8.8", 4_000)

    private func lab(perAllocation: UInt64 = 0, total: UInt64 = 0) throws -> Lab {
        try Lab {
            $0.bitsPerSecondPerAllocation = perAllocation
            $0.bitsPerSecondTotal = total
        }
    }

    private func bound(_ lab: Lab, _ user: String = "alice", port: UInt16 = 40_000) throws -> Client {
        let client = lab.client(user, at: Endpoint("198.51.100.7", port))
        try #require(client.allocate()?.isSuccess == true)
        try #require(client.bind(0x4000, peer)?.isSuccess == true)
        return client
    }

    /// Sends `count` datagrams of `bytes` at even distances over a second; tells how many passed.
    private func flood(_ client: Client, count: Int, bytes: Int) -> Int {
        let data = [UInt8](repeating: 7, count: bytes)
        return (0..<count).count { _ in
            defer { client.lab.advance(nanoseconds: 1_000_000_000 / UInt64(count)) }
            return client.channelData(0x4000, data).forward != nil
        }
    }

    @Test func re13_tenTimesTheLimitPassesTheLimitAndTheBurst() throws {
        let client = try bound(lab(perAllocation: 8_000_000))
        // 1,000 datagrams of 1,000 bytes are a second's worth, a quarter of that the burst.
        let first = flood(client, count: 10_000, bytes: 1_000)
        #expect((1_249...1_251).contains(first))
        for _ in 0..<5 { #expect((999...1_001).contains(flood(client, count: 10_000, bytes: 1_000))) }
    }

    @Test func re13_belowTheLimitNothingIsLost() throws {
        let client = try bound(lab(perAllocation: 8_000_000))
        for _ in 0..<5 { #expect(flood(client, count: 999, bytes: 1_000) == 999) }
        // As much at once as the burst holds, and not a datagram more.
        client.lab.advance(seconds: 1)
        let data = [UInt8](repeating: 7, count: 1_000)
        #expect((0..<250).allSatisfy { _ in client.channelData(0x4000, data).forward != nil })
        #expect(client.channelData(0x4000, data).drop == .overBandwidth)
        // What has been refused costs nothing: a millisecond later there is room for one.
        client.lab.advance(nanoseconds: 1_000_000)
        #expect(client.channelData(0x4000, data).forward != nil)
        #expect(client.channelData(0x4000, data).drop == .overBandwidth)
    }

    @Test func aBucketHoldsTheLongestDatagramHoweverLowTheRate() throws {
        for rate in [1, 7, 8, 1_000, 64_000] as [UInt64] {
            let client = try bound(lab(perAllocation: rate))
            let data = [UInt8](repeating: 7, count: 65_507)
            #expect(client.channelData(0x4000, data).forward != nil)
            #expect(client.channelData(0x4000, data).drop == .overBandwidth)
        }
    }

    @Test func theHighestRatesDoNotOverflow() throws {
        for rate in [400_000_000_000, 400_000_000_001, .max] as [UInt64] {
            let client = try bound(lab(perAllocation: rate, total: rate))
            for _ in 0..<1_000 { try #require(client.channelData(0x4000, [1, 2, 3]).forward != nil) }
        }
    }

    @Test func bothDirectionsAndBothFormsShareABucket() throws {
        let client = try bound(lab(perAllocation: 8_000_000))
        let relay = try #require(client.relay())
        let stranger = Endpoint("8.8.8.8", 4_001)
        #expect(client.lab.receive(from: peer, at: relay.local, bytes: 60_000)?.channel == 0x4000)
        #expect(client.lab.receive(from: stranger, at: relay.local, bytes: 60_000)?.peer == stranger)
        #expect(client.channelData(0x4000, [UInt8](repeating: 1, count: 60_000)).forward != nil)
        #expect(client.indicate(peer, [UInt8](repeating: 1, count: 60_000)).forward != nil)
        // 10,000 bytes are left of the burst of 250,000.
        #expect(client.channelData(0x4000, [UInt8](repeating: 1, count: 10_001)).drop == .overBandwidth)
        #expect(client.indicate(peer, [UInt8](repeating: 1, count: 10_001)).drop == .overBandwidth)
        #expect(client.lab.receive(from: peer, at: relay.local, bytes: 10_001)?.drop == .overBandwidth)
        #expect(client.lab.receive(from: stranger, at: relay.local, bytes: 10_001)?.drop == .overBandwidth)
        #expect(client.lab.receive(from: stranger, at: relay.local, bytes: 10_000)?.peer == stranger)
    }

    @Test func aRunIsCutWhereTheLimitIs() throws {
        let client = try bound(lab(perAllocation: 8_000_000))
        let relay = try #require(client.relay())
        func receive(_ run: PayloadRun) -> (PayloadRun, Engine.PeerVerdict?) {
            var run = run
            let verdict = client.lab.receive(&run, from: peer, at: relay.local)
            return (run, verdict)
        }
        for _ in 0..<24 { _ = client.channelData(0x4000, [UInt8](repeating: 1, count: 10_000)) }
        let whole = PayloadRun(packets: 40, bytes: 39_500, segmentBytes: 1_000)
        let (cut, verdict) = receive(whole)
        #expect(verdict?.channel == 0x4000)
        #expect(cut == PayloadRun(packets: 10, bytes: 10_000, segmentBytes: 1_000))
        #expect(client.lab.dropped(.overBandwidth) == 30)
        // None of it passes: the verdict is about all, which the worker counts.
        let (refused, none) = receive(whole)
        #expect(none?.drop == .overBandwidth && refused == whole)
        #expect(client.lab.dropped(.overBandwidth) == 30)
        // The last one of a run may be shorter; it passes with the rest.
        client.lab.advance(nanoseconds: 39_500_000)
        let (passed, all) = receive(whole)
        #expect(all?.channel == 0x4000 && passed == whole)
        _ = client.refresh(0)
        let traffic = try #require(client.lab.relays.ended.first?.summary.traffic)
        #expect(traffic.packetsToClient == 50 && traffic.bytesToClient == 49_500)
        #expect(traffic.packetsOverBandwidth == 70)
    }

    @Test func re13_otherAllocationsLoseNothing() throws {
        let lab = try lab(perAllocation: 8_000_000)
        let greedy = try bound(lab)
        let others = try [bound(lab, port: 40_001), bound(lab, "bob", port: 40_002)]
        let data = [UInt8](repeating: 7, count: 1_000)
        var passed = 0
        for _ in 0..<900 {
            for _ in 0..<10 where greedy.channelData(0x4000, data).forward != nil { passed += 1 }
            for other in others { try #require(other.channelData(0x4000, data).forward != nil) }
            lab.advance(nanoseconds: 1_000_000)
        }
        #expect((1_145...1_155).contains(passed))
    }

    @Test func aUsersOwnLimitReplacesTheServers() throws {
        let lab = try lab(perAllocation: 8_000_000)
        lab.add(user: "slow", password: "s", bitsPerSecond: 800_000)
        lab.add(user: "fast", password: "f", bitsPerSecond: 80_000_000)
        lab.add(user: "free", password: "u", bitsPerSecond: 0)
        for (index, expected) in [("slow", 165), ("fast", 12_500), ("free", 20_000), ("alice", 1_250)].enumerated() {
            let client = try bound(lab, expected.0, port: 41_000 + UInt16(index))
            let passed = flood(client, count: 20_000, bytes: 1_000)
            #expect(abs(passed - expected.1) <= 1, "\(expected.0): \(passed)")
        }
    }

    @Test func aUsersOwnLimitHoldsForATimeLimitedCredentialOfThatName() throws {
        let lab = try Lab { $0.sharedSecrets = [Array("secret".utf8)] }
        lab.add(user: "slow", password: "s", bitsPerSecond: 800_000)
        let client = lab.timeLimitedClient("slow", secret: "secret")
        try #require(client.allocate()?.isSuccess == true)
        try #require(client.bind(0x4000, peer)?.isSuccess == true)
        #expect(abs(flood(client, count: 2_000, bytes: 1_000) - 165) <= 1)
    }

    @Test func theTotalIsSharedByAllWorkers() throws {
        let first = try lab(total: 8_000_000)
        let second = try Lab(shared: first.shared) { $0.bitsPerSecondTotal = 8_000_000 }
        let clients = [try bound(first), try bound(second)]
        let data = [UInt8](repeating: 7, count: 1_000)
        var passed = [0, 0]
        for _ in 0..<3_000 {
            for (index, client) in clients.enumerated() {
                if client.channelData(0x4000, data).forward != nil { passed[index] += 1 }
                client.lab.advance(nanoseconds: 1_000_000)
            }
        }
        #expect((3_249...3_251).contains(passed[0] + passed[1]))
        // One worker alone may have it all.
        var alone = 0
        for _ in 0..<2_000 {
            if clients[1].channelData(0x4000, data).forward != nil { alone += 1 }
            clients[1].lab.advance(nanoseconds: 500_000)
        }
        #expect((999...1_251).contains(alone))
    }

    @Test func whatTheTotalRefusesIsNotTakenFromTheAllocation() throws {
        let lab = try lab(perAllocation: 8_000_000, total: 1_600_000)
        let client = try bound(lab)
        #expect(client.channelData(0x4000, [UInt8](repeating: 1, count: 65_000)).forward != nil)
        for _ in 0..<100 { #expect(client.channelData(0x4000, [UInt8](repeating: 1, count: 65_000)).drop != nil) }
        // The total goes; the allocation's own bucket still has what is left of its burst.
        lab.reconfigure {
            $0.bitsPerSecondPerAllocation = 8_000_000
            $0.bitsPerSecondTotal = 0
        }
        #expect(client.channelData(0x4000, [UInt8](repeating: 1, count: 65_000)).forward != nil)
        #expect(client.channelData(0x4000, [UInt8](repeating: 1, count: 65_000)).forward != nil)
        #expect(client.channelData(0x4000, [UInt8](repeating: 1, count: 65_000)).drop == .overBandwidth)
    }

    @Test func aReloadLimitsLiveAllocationsAndFreesThem() throws {
        let lab = try lab()
        lab.add(user: "fast", password: "f", bitsPerSecond: 80_000_000)
        let client = try bound(lab)
        let fast = try bound(lab, "fast", port: 40_001)
        #expect(flood(client, count: 5_000, bytes: 1_000) == 5_000)
        lab.reconfigure { $0.bitsPerSecondPerAllocation = 1 }
        #expect((65...66).contains(flood(client, count: 5_000, bytes: 1_000)))
        #expect(flood(fast, count: 5_000, bytes: 1_000) == 5_000)
        // A rate so low leaves a debt of days, which ends with it.
        lab.reconfigure { $0.bitsPerSecondPerAllocation = 8_000_000 }
        #expect((1_249...1_251).contains(flood(client, count: 5_000, bytes: 1_000)))
        lab.reconfigure { $0.bitsPerSecondTotal = 1 }
        #expect((65...66).contains(flood(fast, count: 5_000, bytes: 1_000)))
        lab.reconfigure { _ in }
        #expect(flood(fast, count: 5_000, bytes: 1_000) == 5_000)
    }

    @Test func aChangedUserIsLimitedAnewAtTheNextRefresh() throws {
        let lab = try lab()
        let client = try bound(lab)
        lab.add(user: "alice", password: "wonderland", bitsPerSecond: 8_000_000)
        lab.engine.forget(user: "alice")
        #expect(flood(client, count: 5_000, bytes: 1_000) == 5_000)
        #expect(client.refresh()?.isSuccess == true)
        #expect((1_249...1_251).contains(flood(client, count: 5_000, bytes: 1_000)))
    }

    @Test func whatIsDroppedIsCountedInNoTrafficButAsDropped() throws {
        let client = try bound(lab(perAllocation: 8_000_000))
        let passed = flood(client, count: 5_000, bytes: 1_000)
        _ = client.refresh(0)
        let traffic = try #require(client.lab.relays.ended.first?.summary.traffic)
        #expect(traffic.packetsToPeers == UInt64(passed) && traffic.bytesToPeers == UInt64(passed) * 1_000)
        #expect(traffic.packetsOverBandwidth == UInt64(5_000 - passed))
    }
}
