import STUN
import TURN
import Testing

/// PC: permissions and channels, as requests make them.
@Suite struct PermissionTests {
    private let peer = Endpoint("8.8.8.8", 4_000)

    private func allocated(_ configure: (inout Configuration) -> Void = { _ in }) throws -> Client {
        let client = try Lab(configure).client()
        try #require(client.allocate()?.isSuccess == true)
        return client
    }

    private func peers(_ range: Range<UInt32>) -> [Endpoint] {
        range.map { Endpoint(address: IPAddress(v4: 0x0808_0000 + $0), port: 1) }
    }

    @Test func pc03_portsAreNotCompared() throws {
        let client = try allocated()
        #expect(client.permit([Endpoint("8.8.8.8", 1)])?.isSuccess == true)
        let relay = try #require(client.relay())
        let source = Endpoint("8.8.8.8", 2)
        #expect(client.lab.receive(from: source, at: relay.local)?.peer == source)
        #expect(client.indicate(Endpoint("8.8.8.8", 3)).forward?.destination == Endpoint("8.8.8.8", 3))
    }

    @Test func pc05_oneDeniedAddressRefusesThemAll() throws {
        let client = try allocated()
        #expect(client.permit([])?.error == 400)
        for order in [[peer, Endpoint("10.0.0.1", 1)], [Endpoint("10.0.0.1", 1), peer]] {
            #expect(client.permit(order)?.error == 403)
            #expect(client.indicate(peer).drop == .noPermission)
        }
        #expect(client.permit([peer, Endpoint("8.8.4.4", 1)])?.isSuccess == true)
        #expect(client.indicate(Endpoint("8.8.4.4", 1)).forward != nil)
    }

    @Test func pc05_oneMalformedAddressRefusesThemAll() throws {
        let client = try allocated()
        let answer = client.perform(.createPermission) {
            $0.append(.xorPeerAddress, xor: peer)
            $0.append(.xorPeerAddress, [0, 1, 0])
        }
        #expect(answer?.error == 400)
        #expect(client.indicate(peer).drop == .noPermission)
    }

    @Test func pc06_theOtherFamilyIs443() throws {
        let client = try allocated()
        let other = Endpoint("2606:4700::1111", 1)
        #expect(client.permit([other])?.error == 443)
        #expect(client.permit([peer, other])?.error == 443)
        #expect(client.bind(0x4000, other)?.error == 443)
        #expect(client.indicate(peer).drop == .noPermission)
    }

    @Test func pc07_permissionsAreCapped() throws {
        let client = try allocated()
        #expect(client.permit(peers(0..<128))?.isSuccess == true)
        client.lab.advance(seconds: 100)
        #expect(client.permit(peers(128..<129))?.error == 508)
        #expect(client.bind(0x4000, Endpoint("9.9.9.9", 1))?.error == 508)
        // Those it has stay good, and may be renewed.
        #expect(client.permit(peers(0..<128))?.isSuccess == true)
        #expect(client.indicate(peers(127..<128)[0]).forward != nil)
        #expect(client.bind(0x4000, peers(5..<6)[0])?.isSuccess == true)
    }

    @Test func pc07_lapsedPermissionsDoNotSlipPastTheCap() throws {
        // At the very second when the first half lapses, and before any timer: it is asked for again beside a new half.
        let client = try allocated()
        let lab = client.lab
        _ = client.permit(peers(0..<64))
        lab.advance(seconds: 150)
        _ = client.permit(peers(64..<128))
        lab.advance(seconds: 150)
        #expect(client.permit(peers(0..<64) + peers(200..<264))?.error == 508)
        #expect(client.permit(peers(0..<64))?.isSuccess == true)
    }

    @Test func pc08_newPeersComeAtAPace() throws {
        let client = try allocated { $0.permissionsPerAllocation = 20 }
        let lab = client.lab
        #expect(client.permit(peers(0..<20))?.isSuccess == true)
        // The table is empty again after five minutes and the bucket full: a burst, and then five in a second.
        lab.advance(seconds: 301)
        var granted = 0
        for index in 100..<120 as Range<UInt32> where client.permit(peers(index..<(index + 1)))?.isSuccess == true {
            granted += 1
        }
        #expect(granted == 20)

        let scanner = try allocated { $0.permissionsPerAllocation = 0 }
        #expect(scanner.permit(peers(0..<128))?.isSuccess == true)
    }

    @Test func pc08_aScannerIsHeldToFiveAddressesASecond() throws {
        let client = try allocated { $0.permissionsPerAllocation = 10_000 }
        let lab = client.lab
        for start in stride(from: UInt32(0), to: 9_984, by: 128) { _ = client.permit(peers(start..<(start + 128))) }
        #expect(client.permit(peers(9_984..<10_000))?.isSuccess == true)
        // The burst is spent. Let it lapse for half an hour of pace: 301 s bring 1,505 tokens.
        lab.advance(seconds: 301)
        var granted = 0
        for index in 0..<3_000 as Range<UInt32> {
            if client.permit([Endpoint(address: IPAddress(v4: 0x0909_0000 + index), port: 1)])?.isSuccess == true {
                granted += 1
            }
        }
        #expect((1_504...1_506).contains(granted))
        // A known peer is renewed all the while, and a second brings five more.
        #expect(client.permit([Endpoint("9.9.0.0", 1)])?.isSuccess == true)
        #expect(client.indicate(Endpoint("9.9.0.0", 1)).forward != nil)
        lab.advance(seconds: 1)
        let more = (0..<20 as Range<UInt32>).count {
            client.permit([Endpoint(address: IPAddress(v4: 0x0A00_0000 - 1 - $0), port: 1)])?.isSuccess == true
        }
        #expect(more == 5)
    }

    @Test func pc09_channelNumbersHaveTheirRange() throws {
        let client = try allocated()
        for (number, isGood) in [
            (0x0000, false), (0x3FFF, false), (0x4000, true), (0x4FFF, true), (0x5000, false), (0x7FFF, false),
            (0x8000, false),
            (0xFFFF, false),
        ] as [(UInt16, Bool)] {
            #expect(
                client.bind(number, Endpoint("8.8.8.8", max(number, 1_024)))?.error == (isGood ? nil : 400),
                "\(number)"
            )
        }
        let wide = try allocated { $0.acceptsWideChannels = true }
        for (number, isGood) in [(0x3FFF, false), (0x4000, true), (0x5000, true), (0x7FFF, true), (0x8000, false)]
            as [(UInt16, Bool)]
        {
            #expect(
                wide.bind(number, Endpoint("8.8.8.8", max(number, 1_024)))?.error == (isGood ? nil : 400),
                "\(number)"
            )
        }
    }

    @Test func pc10_aChannelAndItsPeerBelongTogether() throws {
        let client = try allocated()
        let other = Endpoint("8.8.8.8", 4_001)
        #expect(client.bind(0x4000, peer)?.isSuccess == true)
        #expect(client.bind(0x4000, other)?.error == 400)
        #expect(client.bind(0x4001, peer)?.error == 400)
        #expect(client.bind(0x4001, other)?.isSuccess == true)
        #expect(client.bind(0x4000, other)?.error == 400)
        client.lab.advance(seconds: 250)
        #expect(client.bind(0x4000, peer)?.isSuccess == true)
        client.lab.advance(seconds: 250)
        #expect(client.channelData(0x4000).forward?.destination == peer)
        #expect(client.channelData(0x4001).forward?.destination == other)
    }

    @Test func pc18_portZeroIs400AndADeniedPortIs403() throws {
        let client = try allocated()
        #expect(client.bind(0x4000, Endpoint("8.8.8.8", 0))?.error == 400)
        for port in [19, 53, 123, 161, 389, 1900, 11211] as [UInt16] {
            #expect(client.bind(0x4000, Endpoint("8.8.8.8", port))?.error == 403, "port \(port)")
        }
        #expect(client.channelData(0x4000).drop == .unboundChannel)
        #expect(client.indicate(Endpoint("8.8.8.8", 1)).drop == .noPermission)
    }

    @Test func pc19_permissionsAndChannelsAreTheirAllocationsOwn() throws {
        let lab = try Lab()
        let alice = lab.client("alice", at: Endpoint("198.51.100.7", 1_024))
        let bob = lab.client("bob", at: Endpoint("198.51.100.7", 1_025))
        _ = alice.allocate()
        _ = bob.allocate()
        _ = alice.bind(0x4000, peer)
        #expect(bob.indicate(peer).drop == .noPermission)
        #expect(bob.channelData(0x4000).drop == .unboundChannel)
        let relay = try #require(bob.relay())
        #expect(lab.receive(from: peer, at: relay.local)?.drop == .peerNotPermitted)
        #expect(bob.bind(0x4000, Endpoint("8.8.4.4", 1))?.isSuccess == true)
        #expect(alice.channelData(0x4000).forward?.destination == peer)
        _ = bob.refresh(0)
        #expect(alice.channelData(0x4000).forward?.destination == peer)
    }

    @Test func pc21_rfc6062IsNotServed() throws {
        let client = try allocated()
        for method in [STUN.Method.connect, .connectionBind, .connectionAttempt] {
            let bytes = client.request(method, signing: client.signing()) { $0.append(.xorPeerAddress, xor: peer) }
            #expect(client.send(bytes).drop == .unknownMethod)
        }
        let tcp = client.lab.client("bob", at: Endpoint("198.51.100.9", 9_000))
        #expect(tcp.perform(.allocate) { $0.append(.requestedTransport, [6, 0, 0, 0]) }?.error == 442)
    }

    @Test func aReloadThatDeniesAPeerEndsItsPermissionAtOnce() throws {
        let client = try allocated()
        let lab = client.lab
        _ = client.bind(0x4000, peer)
        _ = client.permit([Endpoint("9.9.9.9", 1)])
        var configuration = lab.engine.configuration
        configuration.policy.deny = [.v4(0x0808_0800, 24)]
        lab.engine.reconfigure(configuration, at: lab.moment)
        let relay = try #require(client.relay())
        #expect(client.channelData(0x4000).drop == .noPermission)
        #expect(client.indicate(peer).drop == .noPermission)
        #expect(lab.receive(from: peer, at: relay.local)?.drop == .peerNotPermitted)
        #expect(client.permit([peer])?.error == 403)
        #expect(client.bind(0x4000, peer)?.error == 403)
        #expect(client.indicate(Endpoint("9.9.9.9", 1)).forward != nil)
    }
}
