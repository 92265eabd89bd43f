import STUN
import TURN
import Testing

/// PA-41 and 1:1 NAT: relays of this server that talk to each other, and nothing else of this host.
@Suite struct OwnHostTests {
    private static let inside = "10.1.2.3"
    private static let outside = "203.0.113.5"

    /// A lab whose relay is behind 1:1 NAT, or is not.
    private func lab(behindNAT: Bool) throws -> Lab {
        let relays = FakeRelays()
        let inside = IPAddress(behindNAT ? Self.inside : Self.outside)
        let outside = IPAddress(Self.outside)
        relays.addresses[.ipv4] = FakeRelays.Address(inside: inside, advertised: outside)
        return try Lab(relays: relays) {
            $0.policy.ownAddresses = [inside, outside, IPAddress("192.168.1.1")]
            $0.policy.listeners = [Endpoint(Self.outside, 3_478), Endpoint(Self.inside, 3_478)]
            if behindNAT { $0.insideAddresses = [outside: inside] }
            $0.nonceLifetimeSeconds = 3_600
        }
    }

    /// Two clients with allocations, and their legs.
    private func pair(_ lab: Lab) throws -> (Client, RelayLeg, Client, RelayLeg) {
        let alice = lab.client("alice", at: Endpoint("198.51.100.7", 1_024))
        let bob = lab.client("bob", at: Endpoint("198.51.100.8", 1_024))
        _ = alice.allocate()
        _ = bob.allocate()
        return (alice, try #require(alice.relay()), bob, try #require(bob.relay()))
    }

    @Test(arguments: [false, true])
    func pa41_twoRelaysReachEachOtherBothWays(_ behindNAT: Bool) throws {
        let lab = try lab(behindNAT: behindNAT)
        let (alice, aliceLeg, bob, bobLeg) = try pair(lab)
        #expect(alice.permit([bobLeg.advertised])?.isSuccess == true)
        #expect(bob.permit([aliceLeg.advertised])?.isSuccess == true)
        for (client, leg, other, otherLeg) in [(alice, aliceLeg, bob, bobLeg), (bob, bobLeg, alice, aliceLeg)] {
            // What leaves goes to where the other socket is bound, which few NATs would bring back from outside.
            #expect(client.indicate(otherLeg.advertised).forward?.destination == otherLeg.local)
            // What comes in carries the inside source; the client knows the outside one.
            #expect(lab.receive(from: leg.local, at: otherLeg.local)?.peer == leg.advertised)
            #expect(other.bind(0x4001, leg.advertised)?.isSuccess == true)
            #expect(other.channelData(0x4001).forward?.destination == leg.local)
            for _ in 0..<2 { #expect(lab.receive(from: leg.local, at: otherLeg.local)?.channel == 0x4001) }
        }
    }

    @Test(arguments: [false, true])
    func pa41_nothingElseOfThisHostIsReached(_ behindNAT: Bool) throws {
        let lab = try lab(behindNAT: behindNAT)
        let (alice, aliceLeg, _, bobLeg) = try pair(lab)
        #expect(alice.permit([bobLeg.advertised])?.isSuccess == true)
        let free =
            bobLeg.advertised.port ^ 1 == aliceLeg.advertised.port
            ? bobLeg.advertised.port ^ 3 : bobLeg.advertised.port ^ 1
        for port in [22, 80, 3_478, 5_349, 8_443, 9_641, free] {
            for address in [Self.outside, Self.inside, "192.168.1.1"] {
                let target = Endpoint(address, port)
                #expect(alice.bind(0x4000, target)?.error == 403, "\(address):\(port)")
                #expect(alice.indicate(target).isSilence)
                #expect(lab.receive(from: target, at: aliceLeg.local)?.drop == .peerNotPermitted)
            }
        }
    }

    @Test func pa41_theInsideAddressIsNoPeerOfItsOwn() throws {
        let lab = try lab(behindNAT: true)
        let (alice, _, _, bobLeg) = try pair(lab)
        #expect(alice.bind(0x4000, bobLeg.local)?.error == 403)
        _ = alice.permit([bobLeg.local])
        #expect(alice.indicate(bobLeg.local).isSilence)
    }

    @Test(arguments: [false, true])
    func pa41_aRelayThatHasGoneIsReachedByNoPath(_ behindNAT: Bool) throws {
        let lab = try lab(behindNAT: behindNAT)
        let (alice, aliceLeg, bob, bobLeg) = try pair(lab)
        _ = alice.bind(0x4000, bobLeg.advertised)
        #expect(alice.channelData(0x4000).forward != nil)
        #expect(lab.receive(from: bobLeg.local, at: aliceLeg.local)?.channel == 0x4000)
        // The port may be any service's from now on.
        _ = bob.refresh(0)
        #expect(alice.channelData(0x4000).drop == .deniedPeer)
        #expect(alice.indicate(bobLeg.advertised).drop == .deniedPeer)
        #expect(lab.receive(from: bobLeg.local, at: aliceLeg.local)?.drop == .peerNotPermitted)
        #expect(alice.bind(0x4000, bobLeg.advertised)?.error == 403)
    }

    @Test func pa41_anAddressThatBecomesThisHostsIsGuardedAtOnce() throws {
        let lab = try lab(behindNAT: false)
        let alice = lab.client()
        let peer = Endpoint("203.0.112.9", 4_000)
        _ = alice.allocate()
        _ = alice.bind(0x4000, peer)
        let leg = try #require(alice.relay())
        #expect(alice.channelData(0x4000).forward != nil)
        #expect(lab.receive(from: peer, at: leg.local)?.channel == 0x4000)
        var configuration = lab.engine.configuration
        configuration.policy.ownAddresses.insert(peer.address)
        lab.engine.reconfigure(configuration, at: lab.moment)
        #expect(alice.channelData(0x4000).drop == .deniedPeer)
        #expect(alice.indicate(peer).drop == .deniedPeer)
        #expect(lab.receive(from: peer, at: leg.local)?.drop == .peerNotPermitted)
    }

    @Test func aReloadedMappingMovesTheChannelsThatStand() throws {
        let lab = try lab(behindNAT: true)
        let (alice, _, _, bobLeg) = try pair(lab)
        _ = alice.bind(0x4000, bobLeg.advertised)
        #expect(alice.channelData(0x4000).forward?.destination == bobLeg.local)
        var configuration = lab.engine.configuration
        configuration.insideAddresses = [:]
        lab.engine.reconfigure(configuration, at: lab.moment)
        #expect(alice.channelData(0x4000).forward?.destination == bobLeg.advertised)
    }

    @Test func am10_aListenerIsNoPeer() throws {
        let lab = try lab(behindNAT: false)
        let partner = Endpoint("203.0.112.1", 3_478)
        var configuration = lab.engine.configuration
        configuration.policy.listeners.insert(partner)
        lab.engine.reconfigure(configuration, at: lab.moment)
        let alice = lab.client()
        _ = alice.allocate()
        _ = alice.permit([Endpoint(address: partner.address, port: 4_000)])
        #expect(alice.bind(0x4000, partner)?.error == 403)
        #expect(alice.indicate(partner).drop == .deniedPeer)
        #expect(alice.indicate(Endpoint(address: partner.address, port: 4_000)).forward != nil)
    }
}
