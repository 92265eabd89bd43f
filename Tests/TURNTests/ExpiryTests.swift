import STUN
import TURN
import Testing

/// AL-12, PC-04, PC-11, CL-03: what ends by itself, and when.
@Suite struct ExpiryTests {
    private let peer = Endpoint("8.8.8.8", 4_000)

    /// Whether data passes now, by each of the four ways.
    private func ways(_ client: Client) -> [Bool] {
        guard let relay = client.relay() else { return [false, false, false, false] }
        return [
            client.indicate(peer).forward != nil,
            client.channelData(0x4000).forward != nil,
            client.lab.receive(from: peer, at: relay.local).map { $0.drop == nil } ?? false,
            client.lab.receive(from: Endpoint(address: peer.address, port: 9), at: relay.local)
                .map { $0.drop == nil } ?? false,
        ]
    }

    @Test(arguments: [600, 601, 3_600] as [UInt32])
    func al12_anAllocationEndsOnTime(_ lifetime: UInt32) throws {
        let lab = try Lab { $0.nonceLifetimeSeconds = 7_200 }
        lab.advance(nanoseconds: 700_000_000)
        let client = lab.client()
        #expect(client.allocate(lifetimeSeconds: lifetime)?.lifetimeSeconds == lifetime)
        _ = client.permit([peer])
        lab.advance(seconds: UInt64(lifetime) - 1)
        #expect(lab.engine.allocationCount == 1)
        #expect(lab.relays.open.count == 1)
        lab.advance(seconds: 2)
        #expect(lab.engine.allocationCount == 0)
        #expect(lab.relays.open.isEmpty && lab.relays.timers.isEmpty)
        #expect(lab.relays.ended.map(\.end) == [.expired])
        #expect(lab.shared.quota.total == 0)
        #expect(client.refresh(600)?.error == 437)
        #expect(ways(client) == [false, false, false, false])
        #expect(client.indicate(peer).drop == .noAllocation)
    }

    @Test func aChangedUserIsHeldToItWithWhatHeHas() throws {
        let lab = try Lab { $0.nonceLifetimeSeconds = 3_600 }
        let client = lab.client()
        let other = lab.client("bob", at: Endpoint("198.51.100.8", 40_000))
        _ = client.allocate(lifetimeSeconds: 3_600)
        _ = other.allocate(lifetimeSeconds: 3_600)
        _ = client.bind(0x4000, peer)
        // The bucket holds 64 KiB, and then nothing passes in this instant.
        lab.change(UserTerms(name: "alice", bitsPerSecond: 8_000, expiresAtSeconds: lab.moment.wallSeconds + 100))
        let payload = [UInt8](repeating: 1, count: 1_000)
        let passed = (0..<200).count { _ in client.channelData(0x4000, payload).forward != nil }
        #expect((60...70).contains(passed), "\(passed)")
        lab.change(UserTerms(name: "alice", bitsPerSecond: 0, expiresAtSeconds: lab.moment.wallSeconds + 1_000))
        #expect((0..<200).allSatisfy { _ in client.channelData(0x4000, payload).forward != nil })
        // The nearer end, and its grace, hold until a Refresh; the farther one does not move it.
        lab.advance(seconds: 100 + Limits.credentialGraceSeconds - 1)
        #expect(lab.engine.allocationCount == 2)
        lab.advance(seconds: 2)
        #expect(lab.engine.allocationCount == 1)
        #expect(other.refresh(600)?.isSuccess == true)
    }

    @Test func al12_refreshMovesTheEnd() throws {
        let lab = try Lab { $0.nonceLifetimeSeconds = 3_600 }
        let client = lab.client()
        _ = client.allocate()
        lab.advance(seconds: 500)
        _ = client.refresh(900)
        lab.advance(seconds: 899)
        #expect(lab.engine.allocationCount == 1)
        // A shorter one brings it forward.
        _ = client.refresh(3_600)
        _ = client.refresh(600)
        lab.advance(seconds: 599)
        #expect(lab.engine.allocationCount == 1)
        lab.advance(seconds: 2)
        #expect(lab.engine.allocationCount == 0)
    }

    @Test func al12_aChannelEndsOnTimeAndItsNumberIsFree() throws {
        let lab = try Lab { $0.nonceLifetimeSeconds = 3_600 }
        let client = lab.client()
        _ = client.allocate(lifetimeSeconds: 3_600)
        _ = client.bind(0x4000, peer)
        let other = Endpoint("8.8.4.4", 1)
        for _ in 0..<2 {
            lab.advance(seconds: 299)
            _ = client.permit([peer])
        }
        lab.advance(seconds: 1, nanoseconds: 999_999_999)
        #expect(client.channelData(0x4000).forward != nil)
        #expect(client.bind(0x4000, other)?.error == 400)
        lab.advance(nanoseconds: 1)
        #expect(client.channelData(0x4000).drop == .unboundChannel)
        // Its permission is younger: the same peer's data comes as an indication now.
        let relay = try #require(client.relay())
        #expect(lab.receive(from: peer, at: relay.local)?.peer == peer)
        #expect(client.bind(0x4000, other)?.isSuccess == true)
    }

    @Test func pc04_trafficNeverRefreshesAPermission() throws {
        let lab = try Lab()
        let client = lab.client()
        _ = client.allocate()
        _ = client.bind(0x4000, peer)
        for _ in 0..<299 {
            #expect(ways(client) == [true, true, true, true])
            lab.advance(seconds: 1)
        }
        #expect(ways(client) == [true, true, true, true])
        lab.advance(seconds: 2)
        #expect(ways(client) == [false, false, false, false])
    }

    @Test func pc04_trafficNeverRefreshesAChannelOrAnAllocation() throws {
        let lab = try Lab { $0.nonceLifetimeSeconds = 3_600 }
        let client = lab.client()
        _ = client.allocate()
        _ = client.bind(0x4000, peer)
        for _ in 0..<59 {
            lab.advance(seconds: 10)
            _ = client.permit([peer])
            #expect(ways(client) == [true, true, true, true])
        }
        lab.advance(seconds: 11)
        #expect(lab.engine.allocationCount == 0)
    }

    @Test func pc11_aChannelWhosePermissionLapsedIsDeafUntilItIsPermittedAgain() throws {
        let lab = try Lab { $0.nonceLifetimeSeconds = 3_600 }
        let client = lab.client()
        _ = client.allocate()
        _ = client.bind(0x4000, peer)
        lab.advance(seconds: 400)
        #expect(client.channelData(0x4000).drop == .noPermission)
        let relay = try #require(client.relay())
        #expect(lab.receive(from: peer, at: relay.local)?.drop == .peerNotPermitted)
        _ = client.permit([Endpoint(address: peer.address, port: 1)])
        #expect(client.channelData(0x4000).forward?.destination == peer)
        #expect(lab.receive(from: peer, at: relay.local)?.channel == 0x4000)
        // Binding again does as well.
        lab.advance(seconds: 190)
        _ = client.refresh(600)
        #expect(client.bind(0x4000, peer)?.isSuccess == true)
        lab.advance(seconds: 299)
        #expect(ways(client) == [true, true, true, true])
    }

    @Test func aPermissionThatItsChannelHeldGoesWithTheChannel() throws {
        let lab = try Lab { ($0.nonceLifetimeSeconds, $0.permissionsPerAllocation) = (3_600, 2) }
        let client = lab.client()
        _ = client.allocate(lifetimeSeconds: 3_600)
        for round in 0..<4 as Range<UInt32> {
            let peers = [1, 2].map { Endpoint(address: IPAddress(v4: 0x0808_0000 + 16 * round + $0), port: 4_000) }
            for (index, peer) in peers.enumerated() {
                #expect(client.bind(0x4000 + UInt16(index), peer)?.isSuccess == true, "round \(round)")
            }
            #expect(client.permit([self.peer])?.error == 508)
            // The permissions lapse and stay, since the channels stand on them; with those they leave the table.
            lab.advance(seconds: 400)
            #expect(client.permit([self.peer])?.error == 508)
            lab.advance(seconds: 201)
        }
        #expect(client.permit([peer])?.isSuccess == true)
    }

    @Test func cl03_afterASleepThingsExpireOnce() throws {
        let lab = try Lab { ($0.nonceLifetimeSeconds, $0.allocationsPerUser) = (3_600, 0) }
        for port in 2_000..<2_100 as Range<UInt16> {
            let client = lab.client(at: Endpoint("198.51.100.7", port))
            _ = client.allocate()
            _ = client.bind(0x4000, peer)
        }
        lab.advance(seconds: 36_000)
        #expect(lab.relays.ended.count == 100)
        #expect(lab.relays.closings == 100)
        #expect(lab.engine.allocationCount == 0 && lab.relays.timers.isEmpty && lab.shared.quota.total == 0)
    }

    @Test func aTimerOfAnEarlierUseOfTheSlotEndsNothing() throws {
        let lab = try Lab()
        let client = lab.client()
        _ = client.allocate()
        let index = lab.allocation(of: client.tuple)
        _ = client.refresh(0)
        lab.advance(seconds: 300)
        _ = client.allocate()
        #expect(lab.allocation(of: client.tuple) == index)
        for at in [lab.moment, Moment(monotonicNanoseconds: 0, wallSeconds: 0)] {
            lab.engine.expire(allocation: index, at: at)
            lab.engine.expire(allocation: index + 1, at: at)
            lab.engine.expire(allocation: 60_000, at: at)
        }
        #expect(lab.engine.allocationCount == 1)
        lab.advance(seconds: 599)
        #expect(lab.engine.allocationCount == 1)
        lab.advance(seconds: 2)
        #expect(lab.engine.allocationCount == 0)
    }

    @Test func aSlotsGenerationTellsItsUsesApart() throws {
        let lab = try Lab()
        let client = lab.client()
        var generations: Set<UInt32> = []
        for _ in 0..<50 {
            _ = client.allocate()
            let request = try #require(lab.relays.requests.last)
            generations.insert(request.generation)
            #expect(lab.isCurrent(request))
            _ = client.refresh(0)
            #expect(!lab.isCurrent(request))
        }
        #expect(generations.count == 50)
        var absent = try #require(lab.relays.requests.last)
        absent.allocation = 70_000
        #expect(!lab.isCurrent(absent))
    }

    @Test func pc22_tablesThatWereFullAreEmptyAgain() throws {
        let lab = try Lab {
            ($0.nonceLifetimeSeconds, $0.permissionsPerAllocation) = (1 << 30, 0)
        }
        let client = lab.client()
        for round in 0..<5 {
            _ = client.allocate(lifetimeSeconds: 3_600)
            for index in 0..<1_000 as Range<UInt32> {
                let peer = Endpoint(address: IPAddress(v4: 0x0808_0000 + index), port: 5_000)
                guard client.bind(0x4000 + UInt16(index), peer)?.isSuccess == true else {
                    Issue.record("round \(round), channel \(index)")
                    return
                }
            }
            lab.advance(seconds: 601)
            #expect(lab.relays.ended.count == round)
            #expect(lab.relays.timers.count == 1)
            lab.advance(seconds: 3_000)
            #expect(lab.relays.ended.count == round + 1)
        }
    }
}
