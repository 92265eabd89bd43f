import STUN
import TURN
import Testing

/// Allocations that relay TCP (RFC 6062), without a socket.
@Suite struct StreamAllocationTests {
    private let peer = Endpoint("8.8.8.8", 4_000)

    private func makeLab(_ change: (inout Configuration) -> Void = { _ in }) throws -> Lab {
        try Lab {
            $0.relaysTCP = true
            change(&$0)
        }
    }

    /// A client with a TCP allocation.
    private func allocated(_ change: (inout Configuration) -> Void = { _ in }) throws -> Client {
        let client = try makeLab(change).streamClient()
        #expect(client.allocateStream()?.isSuccess == true)
        return client
    }

    // MARK: Allocate

    @Test func aTCPAllocationIsMadeAndItsRelayListens() throws {
        let client = try allocated()
        let relay = try #require(client.lab.relays.open.values.first)
        #expect(relay.request.isStream)
        #expect(client.lab.relays.isLiveStreamRelay(relay.leg.advertised))
        #expect(!client.lab.relays.isLiveRelay(relay.leg.advertised))
    }

    @Test func aClientByUDPMayNotRelayTCP() throws {
        let client = try makeLab().client()
        #expect(client.allocateStream()?.error == 400)
    }

    @Test func withoutTheSettingTCPIsUnsupported() throws {
        #expect(try Lab().streamClient().allocateStream()?.error == 442)
    }

    @Test(arguments: [
        (AttributeType.evenPort, [UInt8(0x80)]), (.evenPort, [0]), (.dontFragment, []),
        (.reservationToken, [1, 2, 3, 4, 5, 6, 7, 8]),
    ])
    func attributesOfDatagramsAreABadRequest(_ type: AttributeType, _ value: [UInt8]) throws {
        #expect(try makeLab().streamClient().allocateStream { $0.append(type, value) }?.error == 400)
    }

    @Test func bothFamiliesCanBeHad() throws {
        let lab = try makeLab()
        let address = IPAddress("2606:4700::5")
        lab.relays.addresses[.ipv6] = FakeRelays.Address(inside: address, advertised: address)
        let client = lab.streamClient()
        #expect(client.allocateStream { $0.append(.additionalAddressFamily, [2, 0, 0, 0]) }?.isSuccess == true)
        #expect(client.connect(Endpoint("2606:4700::1111", 80)) == nil)
        #expect(lab.takeConnect()?.source.address == address)
    }

    @Test func allocationsOfBothKindsShareTheQuota() throws {
        let lab = try makeLab { $0.allocationsPerUser = 2 }
        #expect(lab.client().allocate()?.isSuccess == true)
        #expect(lab.streamClient(port: 1_025).allocateStream()?.isSuccess == true)
        #expect(lab.streamClient(port: 1_026).allocateStream()?.error == 486)
    }

    @Test func channelsAndSendIndicationsHaveNoPlaceOnIt() throws {
        let client = try allocated()
        #expect(client.permit([peer])?.isSuccess == true)
        #expect(client.bind(0x4000, peer)?.error == 403)
        #expect(client.indicate(peer).drop == .badIndication)
        #expect(client.channelData(0x4000).drop == .unboundChannel)
    }

    // MARK: Connect

    @Test func connectIsAnsweredWhenThePeerHasAnswered() throws {
        let client = try allocated()
        let lab = client.lab
        #expect(client.connect(peer) == nil)
        let wanted = try #require(lab.takeConnect())
        #expect(wanted.peer == peer)
        #expect(wanted.source == client.relay()?.local)
        #expect(lab.takeEffects().isEmpty)
        lab.connected(wanted.key)
        let answer = try #require(lab.takeEffects().messages.first)
        #expect(answer.isSuccess && answer.type.method == .connect)
        #expect(answer.connectionID == wanted.key.id)
        #expect(client.isSigned(answer, .sha1, .md5))
        #expect(lab.claim(wanted.key.id) == wanted.key)
    }

    @Test func aPeerThatRefusesIs447() throws {
        let client = try allocated()
        _ = client.connect(peer)
        let wanted = try #require(client.lab.takeConnect())
        client.lab.failed(wanted.key)
        let answer = try #require(client.lab.takeEffects().messages.first)
        #expect(answer.error == 447)
        #expect(client.isSigned(answer, .sha1, .md5))
        #expect(client.connect(peer) == nil, "it may be tried again")
    }

    @Test func aPeerThatIsSilentIs447After30Seconds() throws {
        let client = try allocated()
        let lab = client.lab
        _ = client.connect(peer)
        let wanted = try #require(lab.takeConnect())
        lab.advance(seconds: 29)
        #expect(lab.takeEffects().isEmpty)
        lab.advance(seconds: 2)
        let effects = lab.takeEffects()
        #expect(effects.messages.first?.error == 447)
        #expect(!lab.isCurrent(wanted.key))
        lab.connected(wanted.key)
        #expect(lab.takeEffects().isEmpty, "too late")
    }

    @Test func aSecondConnectToThePeerIs446WhileTheFirstLives() throws {
        let client = try allocated()
        let lab = client.lab
        _ = client.connect(peer)
        let wanted = try #require(lab.takeConnect())
        #expect(client.connect(peer)?.error == 446)
        lab.connected(wanted.key)
        #expect(client.connect(peer)?.error == 446)
        #expect(lab.claim(wanted.key.id) != nil)
        #expect(client.connect(peer)?.error == 446)
        #expect(client.connect(Endpoint("8.8.8.8", 4_001)) == nil, "another port is another peer")
        lab.ended(wanted.key)
        #expect(client.connect(peer) == nil)
    }

    @Test(arguments: [
        ("127.0.0.1", 80), ("169.254.169.254", 80), ("10.0.0.1", 80), ("203.0.113.5", 50_000), ("203.0.113.5", 22),
        ("0.0.0.0", 80), ("8.8.8.8", 53), ("8.8.8.8", 25), ("224.0.0.1", 80),
    ])
    func pc21_connectObeysThePolicyOfPeers(_ address: String, _ port: UInt16) throws {
        let client = try allocated { $0.policy.ownAddresses = [IPAddress("203.0.113.5")] }
        #expect(client.connect(Endpoint(address, port))?.error == 403)
        #expect(client.lab.takeEffects().isEmpty)
    }

    @Test func connectWithoutAPeerIs400AndToAnotherFamily443() throws {
        let client = try allocated()
        #expect(client.perform(.connect)?.error == 400)
        #expect(client.perform(.connect) { $0.append(.xorPeerAddress, [0, 9, 1]) }?.error == 400)
        #expect(client.connect(Endpoint("8.8.8.8", 0))?.error == 400)
        #expect(client.connect(Endpoint("2606:4700::1111", 80))?.error == 443)
    }

    @Test func connectNeedsATCPAllocationOfTheSameUser() throws {
        let lab = try makeLab()
        #expect(lab.streamClient(port: 1_025).connect(peer)?.error == 437)
        let datagrams = lab.streamClient(port: 1_026)
        _ = datagrams.allocate()
        #expect(datagrams.connect(peer)?.error == 403)
        let client = lab.streamClient()
        _ = client.allocateStream()
        #expect(lab.streamClient("bob").connect(peer)?.error == 441)
    }

    @Test func onThisHostOnlyALiveRelayByTCPIsReached() throws {
        let lab = try makeLab { $0.policy.ownAddresses = [IPAddress("203.0.113.5")] }
        let (one, other, datagrams) = (lab.streamClient(), lab.streamClient("bob", port: 1_025), lab.client())
        _ = one.allocateStream()
        _ = other.allocateStream()
        _ = datagrams.allocate()
        let target = try #require(other.relay()?.advertised)
        #expect(one.connect(target) == nil)
        let own = try #require(one.relay()?.advertised)
        let byUDP = try #require(datagrams.relay()?.advertised)
        #expect(one.connect(byUDP)?.error == 403)
        #expect(one.connect(own)?.error == 403, "to itself")
        #expect(other.permit([own])?.isSuccess == true)
        #expect(lab.arrive(own, at: other) != nil)
        #expect(lab.arrive(Endpoint("203.0.113.5", 22), at: other) == nil)
        // And the other way about: no datagram goes to a number that is a relay's by TCP.
        _ = datagrams.permit([target])
        #expect(datagrams.indicate(target).drop == .deniedPeer)
    }

    @Test func tooManyConnectsAreRefused() throws {
        let client = try allocated()
        for port in 1_000..<(1_000 + Limits.unboundPeerConnectionsPerAllocation) {
            #expect(client.connect(Endpoint("8.8.8.8", port)) == nil)
        }
        #expect(client.connect(peer)?.error == 508)
        client.lab.advance(seconds: 31)
        #expect(client.connect(peer) == nil)
    }

    @Test func aScanOfPortsIsHeldBack() throws {
        let client = try allocated()
        var refusals = 0
        for port in UInt16(1_000)..<1_400 {
            if client.connect(Endpoint("8.8.8.8", port))?.error == 508 { refusals += 1 }
            if let wanted = client.lab.takeConnect() { client.lab.failed(wanted.key) }
        }
        let granted = client.lab.engine.configuration.permissionsPerAllocation
        #expect(refusals == 400 - granted)
    }

    @Test func aUserHasSoManyConnectionsOverAllHisAllocations() throws {
        let lab = try makeLab { $0.allocationsPerUser = 100 }
        var made = 0
        for number in UInt16(0)..<17 {
            let client = lab.streamClient(port: 2_000 + number)
            _ = client.allocateStream()
            for port in UInt16(1_000)..<1_064 {
                if client.connect(Endpoint("8.8.8.8", port)) == nil, let wanted = lab.takeConnect() {
                    lab.connected(wanted.key)
                    #expect(lab.claim(wanted.key.id) != nil)
                    made += 1
                }
            }
        }
        #expect(made == Limits.peerConnectionsPerUser)
        let other = lab.streamClient("bob", port: 3_000)
        _ = other.allocateStream()
        #expect(other.connect(peer) == nil)
        lab.engine.revoke(user: "alice", at: lab.moment)
        #expect(lab.shared.connectionQuota.total == 1)
    }
}
