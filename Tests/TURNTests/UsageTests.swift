import STUN
import TURN
import Testing

/// What users have relayed is told in differences, each byte once, and who has used up the month gets no more.
@Suite struct UsageTests {
    private let peer = Endpoint("8.8.8.8", 4_000)

    private func bound(_ lab: Lab, _ user: String, port: UInt16) throws -> Client {
        let client = lab.client(user, at: Endpoint("198.51.100.7", port))
        try #require(client.allocate()?.isSuccess == true)
        try #require(client.bind(0x4000, peer)?.isSuccess == true)
        return client
    }

    /// All that reports tell until every allocation has been looked at.
    private func usage(_ lab: Lab) -> [String: Traffic] {
        var sum: [String: Traffic] = [:]
        for _ in 0..<Limits.usageReportParts {
            let report = lab.takeUsage()
            #expect(Set(report.map(\.user)).count == report.count)
            for entry in report { sum[entry.user, default: Traffic()].add(entry.traffic) }
        }
        return sum
    }

    @Test func eachByteIsToldOnceUnderItsUser() throws {
        let lab = try Lab()
        let clients = try (0..<6).map { try bound(lab, $0 % 2 == 0 ? "alice" : "bob", port: 40_000 + UInt16($0)) }
        #expect(usage(lab).isEmpty)
        for (index, client) in clients.enumerated() {
            for _ in 0...index { _ = client.channelData(0x4000, [UInt8](repeating: 1, count: 100)) }
        }
        let relay = try #require(clients[0].relay())
        _ = lab.receive(from: peer, at: relay.local, bytes: 50)
        let told = usage(lab)
        #expect(told["alice"]?.bytesToPeers == 900 && told["bob"]?.bytesToPeers == 1_200)
        #expect(told["alice"]?.packetsToPeers == 9 && told["bob"]?.packetsToPeers == 12)
        #expect(told["alice"]?.bytesToClient == 50 && told["alice"]?.packetsToClient == 1)
        #expect(usage(lab).isEmpty)
        _ = clients[5].channelData(0x4000, [1, 2, 3])
        #expect(usage(lab).mapValues(\.bytesToPeers) == ["bob": 3])
    }

    @Test func anAllocationThatEndsIsToldOfAtOnce() throws {
        let lab = try Lab()
        let client = try bound(lab, "alice", port: 40_000)
        _ = client.channelData(0x4000, [UInt8](repeating: 1, count: 100))
        #expect(usage(lab)["alice"]?.bytesToPeers == 100)
        _ = client.channelData(0x4000, [UInt8](repeating: 1, count: 11))
        _ = client.refresh(0)
        // Its slot is another's now, who starts at nothing.
        _ = try bound(lab, "bob", port: 40_001)
        let report = lab.takeUsage()
        #expect(report.map(\.user) == ["alice"] && report.first?.traffic.bytesToPeers == 11)
        #expect(usage(lab).isEmpty)
    }

    @Test func theEndOfAllLosesNothing() throws {
        let lab = try Lab()
        for port in 40_000..<40_010 as Range<UInt16> {
            _ = try bound(lab, "alice", port: port).channelData(0x4000, [1, 2])
        }
        lab.engine.closeAll(.drained, at: lab.moment)
        #expect(lab.takeUsage().map(\.traffic.bytesToPeers) == [20])
    }

    @Test func aTimeLimitedUserCountsUnderHisName() throws {
        let lab = try Lab { $0.sharedSecrets = [Array("secret".utf8)] }
        let client = lab.timeLimitedClient("carol", secret: "secret")
        try #require(client.allocate()?.isSuccess == true)
        try #require(client.bind(0x4000, peer)?.isSuccess == true)
        _ = client.channelData(0x4000, [1, 2, 3])
        #expect(usage(lab).mapValues(\.bytesToPeers) == ["carol": 3])
    }

    @Test func whoHasUsedUpTheMonthIsRefusedUntilItEnds() throws {
        let lab = try Lab()
        let client = try bound(lab, "alice", port: 40_000)
        let bystander = try bound(lab, "bob", port: 40_001)
        let end = lab.moment.wallSeconds + 100
        lab.add(user: "alice", password: "wonderland", overQuotaUntilSeconds: end)
        lab.engine.forget(user: "alice")
        #expect(client.refresh()?.error == 486)
        lab.engine.revoke(user: "alice", .quota, at: lab.moment)
        #expect(lab.relays.ended.map(\.end) == [.quota])
        #expect(lab.relays.ended.first?.end.rawValue == "quota")
        #expect(client.allocate()?.error == 486)
        #expect(bystander.refresh()?.isSuccess == true)
        #expect(bystander.channelData(0x4000).forward != nil)
        // The quota of allocations was not touched by what was refused.
        #expect(lab.shared.quota.held(by: "alice") == 0)
        lab.advance(seconds: 99)
        #expect(client.allocate()?.error == 486)
        lab.advance(seconds: 1)
        #expect(client.allocate()?.isSuccess == true)
    }

    @Test func whoHasUsedUpTheMonthMayStillEndHisAllocation() throws {
        let lab = try Lab()
        let client = try bound(lab, "alice", port: 40_000)
        lab.add(user: "alice", password: "wonderland", overQuotaUntilSeconds: .max)
        lab.engine.forget(user: "alice")
        #expect(client.refresh(0)?.isSuccess == true)
        #expect(lab.relays.ended.map(\.end) == [.released])
    }

    @Test func aTimeLimitedCredentialIsNoWayAroundAUsersLimit() throws {
        let lab = try Lab { $0.sharedSecrets = [Array("secret".utf8)] }
        lab.add(user: "alice", password: "wonderland", overQuotaUntilSeconds: .max)
        #expect(lab.timeLimitedClient("alice", secret: "secret").allocate()?.error == 486)
    }

    @Test func aWrongPasswordLearnsNothingOfTheQuota() throws {
        let lab = try Lab()
        lab.add(user: "alice", password: "wonderland", overQuotaUntilSeconds: .max)
        let client = lab.client("alice")
        client.password = "wrong"
        #expect(client.allocate()?.error == 401)
    }
}
