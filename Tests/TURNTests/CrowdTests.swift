import STUN
import TURN
import Testing

/// AL-18, RE-12, RE-17: many at once.
@Suite(.serialized) struct CrowdTests {
    private let peer = Endpoint("8.8.8.8", 4_000)

    @Test func al18_fiftyThousandThatEndInOneSecondHoldNobodyUp() throws {
        let relays = FakeRelays()
        relays.ports = 1_024...65_535
        let lab = try Lab(relays: relays) { ($0.nonceLifetimeSeconds, $0.allocationsPerUser) = (7_200, 0) }
        let survivor = lab.client("bob", at: Endpoint("198.51.100.9", 40_000))
        #expect(survivor.allocate(lifetimeSeconds: 3_600)?.isSuccess == true)
        let crowd = lab.client()
        var made = 0
        for port in 12_000..<62_000 as Range<UInt16> {
            crowd.tuple.client = Endpoint("198.51.100.7", port)
            crowd.challenge()
            made += crowd.allocate()?.isSuccess == true ? 1 : 0
        }
        #expect(made == 50_000 && lab.engine.allocationCount == 50_001)
        let relay = try #require(survivor.relay())
        var lost = 0
        var batches = 0
        var slowest = Duration.zero
        let clock = ContinuousClock()
        var last = clock.now
        // A worker lets 256 end in a turn of its loop, and packets have theirs in between.
        lab.advance(seconds: 590, batch: 256) { _ in }
        #expect(survivor.bind(0x4000, peer)?.isSuccess == true)
        last = clock.now
        lab.advance(seconds: 11, batch: 256) { lab in
            slowest = max(slowest, clock.now - last)
            batches += 1
            if survivor.channelData(0x4000).forward == nil { lost += 1 }
            if lab.receive(from: peer, at: relay.local)?.channel != 0x4000 { lost += 1 }
            last = clock.now
        }
        #expect(lab.engine.allocationCount == 1)
        #expect(relays.open.count == 1 && lab.shared.quota.total == 1)
        #expect(lost == 0)
        #expect(slowest < .milliseconds(100), "a batch took \(slowest)")
        #expect(batches > 100)
    }

    @Test func re12_anAllocationHasAtMost4096Channels() throws {
        let client = try Lab().client()
        #expect(client.allocate()?.isSuccess == true)
        for number in Limits.channels {
            let bound = client.bind(number, Endpoint(address: peer.address, port: 20_000 + (number - 0x4000)))
            #expect(bound?.isSuccess == true, "\(number)")
        }
        #expect(Limits.channels.count == 4_096)
        for number in [0x3FFF, 0x5000, 0xFFFF] as [UInt16] {
            #expect(client.bind(number, Endpoint(address: peer.address, port: 50_000))?.error == 400)
        }
        // One that it has already, for another peer, and one more for a peer that has one.
        #expect(client.bind(0x4000, Endpoint(address: peer.address, port: 50_000))?.error == 400)
        #expect(client.bind(0x4001, Endpoint(address: peer.address, port: 20_000))?.error == 400)
        let load = client.lab.takeLoad()
        #expect(load.channels == 4_096 && load.permissions == 1)
        #expect(client.refresh(0)?.isSuccess == true)
        #expect(client.lab.takeLoad().channels == 0)
    }

    @Test func re12_aFullTableOfPermissionsRefusesAndIsThereAgain() throws {
        let lab = try Lab { ($0.permissionsPerAllocation, $0.nonceLifetimeSeconds) = (65_535, 3_600) }
        var clients: [Client] = []
        var next: UInt32 = 0x0808_0000
        var granted = 0
        var refused = 0
        for port in 1_024..<1_030 as Range<UInt16> {
            let client = lab.client(at: Endpoint("198.51.100.7", port))
            #expect(client.allocate()?.isSuccess == true)
            clients.append(client)
            // Of 65,535 each, in requests of 128.
            for _ in 0..<511 {
                let peers = (0..<128 as Range<UInt32>).map { Endpoint(address: IPAddress(v4: next + $0), port: 9) }
                next += 128
                let answer = client.permit(peers)
                if answer?.isSuccess == true { granted += 128 } else { refused += 1 }
                #expect(answer?.isSuccess == true || answer?.error == 508)
            }
        }
        #expect(granted == Limits.permissionsPerWorker / 128 * 128 && refused > 0)
        #expect(lab.takeLoad().permissions == granted)
        // A full table harms nobody who has his, and five minutes later it is empty.
        #expect(clients[0].indicate(Endpoint(address: IPAddress(v4: 0x0808_0000), port: 9)).forward != nil)
        lab.advance(seconds: 301)
        #expect(lab.takeLoad().permissions == 0)
        #expect(clients[5].permit([peer])?.isSuccess == true)
    }

    @Test func re17_whatIsCachedOfAHundredThousandUsersIsBounded() throws {
        let lab = try Lab { $0.unauthenticatedRepliesPerSecond = 0 }
        let long = String(repeating: "n", count: 240)
        let client = lab.client("nobody")
        client.challenge()
        // Names that nobody has, as long as they may be: each is asked of the store once, and few are kept.
        for index in 0..<20_000 {
            client.username = "\(long)\(index)"
            #expect(client.allocate()?.error == 401)
        }
        #expect(lab.lookups.count == 20_000)
        let before = lab.lookups.count
        for index in (0..<20_000).reversed().prefix(Limits.absentNamesCached) {
            client.username = "\(long)\(index)"
            _ = client.allocate()
        }
        #expect(lab.lookups.count == before, "the latest are remembered")
        client.username = "\(long)0"
        _ = client.allocate()
        #expect(lab.lookups.count == before + 1, "the first are forgotten")
        // Known ones, given as the store gives them.
        let keys = try #require(
            CredentialKeys(md5: Array(repeating: 1, count: 16), sha256: Array(repeating: 2, count: 32))
        )
        for index in 0..<100_000 {
            let name = "user\(index)"
            lab.learn(
                name,
                UserRecord(name: name, keys: keys, expiresAtSeconds: nil, maximumAllocations: nil, isEnabled: true)
            )
        }
        #expect(lab.cachedUsers <= 2 * Limits.credentialsCached)
        #expect(lab.cachedUsers >= Limits.credentialsCached)
    }
}
