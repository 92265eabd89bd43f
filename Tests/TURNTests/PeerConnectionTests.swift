import STUN
import TURN
import Testing

/// Peers that come, clients that claim them, and what ends both (RFC 6062 sections 5.3 to 5.5).
@Suite struct PeerConnectionTests {
    private let peer = Endpoint("8.8.8.8", 4_000)

    private func allocated(_ change: (inout Configuration) -> Void = { _ in }) throws -> Client {
        let lab = try Lab {
            $0.relaysTCP = true
            change(&$0)
        }
        let client = lab.streamClient()
        #expect(client.allocateStream()?.isSuccess == true)
        return client
    }

    /// A peer connection that waits for its client.
    private func waiting(_ client: Client) throws -> PeerConnectionKey {
        _ = client.connect(peer)
        let wanted = try #require(client.lab.takeConnect())
        client.lab.connected(wanted.key)
        _ = client.lab.takeEffects()
        return wanted.key
    }

    // MARK: Arrivals

    @Test func aPermittedPeerIsAnnounced() throws {
        let client = try allocated()
        _ = client.permit([peer])
        let key = try #require(client.lab.arrive(peer, at: client))
        let effects = client.lab.takeEffects()
        let attempt = try #require(effects.messages.first)
        #expect(attempt.type == MessageType(.connectionAttempt, .indication))
        #expect(attempt.connectionID == key.id)
        #expect(attempt.endpoints(.xorPeerAddress) == [peer])
        guard case .send(let message) = try #require(effects.first) else { return }
        #expect(message.tuple == client.tuple && message.listener == 3 && !message.isAnswer)
    }

    @Test func aPeerWithoutAPermissionIsNot() throws {
        let client = try allocated()
        #expect(client.lab.arrive(peer, at: client) == nil)
        _ = client.permit([peer])
        client.lab.advance(seconds: 301)
        #expect(client.lab.arrive(peer, at: client) == nil)
        #expect(client.lab.takeEffects().isEmpty)
    }

    @Test func pc21_aPeerThatIsDeniedSinceIsNotLetInNorLeftIn() throws {
        let client = try allocated()
        let lab = client.lab
        _ = client.permit([peer])
        let key = try #require(lab.arrive(peer, at: client))
        #expect(lab.claim(key.id) != nil)
        _ = lab.takeEffects()
        var configuration = lab.engine.configuration
        configuration.policy.deny = [.v4(0x0808_0800, 24)]
        lab.engine.reconfigure(configuration, at: lab.moment)
        #expect(lab.takeClosed() == [key])
        #expect(lab.arrive(Endpoint("8.8.8.8", 4_001), at: client) == nil)
    }

    @Test func aPermissionThatLapsesLeavesWhatIsConnected() throws {
        let client = try allocated()
        _ = client.permit([peer])
        let key = try #require(client.lab.arrive(peer, at: client))
        _ = client.lab.claim(key.id)
        _ = client.lab.takeEffects()
        client.lab.advance(seconds: 301)
        #expect(client.lab.takeEffects().isEmpty)
        #expect(client.lab.isCurrent(key))
    }

    @Test func peersThatAreNotClaimedAreBounded() throws {
        let client = try allocated()
        _ = client.permit([peer])
        var accepted = 0
        for port in UInt16(10_000)..<10_100 where client.lab.arrive(Endpoint("8.8.8.8", port), at: client) != nil {
            accepted += 1
        }
        #expect(accepted == Int(Limits.unboundPeerConnectionsPerAllocation))
    }

    @Test func aUDPAllocationHasNoPeersByTCP() throws {
        let lab = try Lab { $0.relaysTCP = true }
        let client = lab.client()
        _ = client.allocate()
        _ = client.permit([peer])
        #expect(lab.arrive(peer, at: client) == nil)
    }

    // MARK: ConnectionBind

    @Test func aBindIsProvedAndBothAnswersAreSigned() throws {
        let client = try allocated()
        let data = client.lab.streamClient(port: 40_001)
        let binding = try #require(data.connectionBind(77).binding)
        #expect(binding.id == 77 && binding.user == "alice")
        let success = try #require(Answer(binding.success))
        let failure = try #require(Answer(binding.failure))
        #expect(success.isSuccess && success.type.method == .connectionBind && data.isSigned(success, .sha1, .md5))
        #expect(failure.error == 400 && data.isSigned(failure, .sha1, .md5))
    }

    @Test func pc21_aBindWithWrongCredentialsIsNone() throws {
        let client = try allocated()
        let data = client.lab.streamClient(port: 40_001)
        data.password = "guessed"
        #expect(data.connectionBind(77).answer?.error == 401)
        let unsigned = data.request(.connectionBind, signing: nil) { $0.append(.connectionID, 77 as UInt32) }
        #expect(data.send(unsigned).answer?.error == 401)
    }

    @Test func aBindWithoutANumberOrByUDPOrOnAControlConnectionIs400() throws {
        let client = try allocated()
        let lab = client.lab
        let data = lab.streamClient(port: 40_001)
        #expect(data.perform(.connectionBind)?.error == 400)
        #expect(data.perform(.connectionBind) { $0.append(.connectionID, [1, 2]) }?.error == 400)
        #expect(lab.client(at: Endpoint("198.51.100.7", 40_002)).connectionBind(1).answer?.error == 400)
        #expect(client.connectionBind(1).answer?.error == 400)
    }

    @Test func pc21_onlyItsUserClaimsAConnectionAndOnlyOnce() throws {
        let client = try allocated()
        let key = try waiting(client)
        #expect(client.lab.claim(key.id, by: "bob") == nil)
        #expect(client.lab.claim(key.id &+ 1) == nil)
        #expect(client.lab.claim(0) == nil)
        #expect(client.lab.claim(key.id) == key)
        #expect(client.lab.claim(key.id) == nil)
    }

    @Test func aBindMayBorrowTheNonceOfItsControlConnectionAndOfNoOther() throws {
        let client = try allocated()
        let lab = client.lab
        let key = try waiting(client)
        let stranger = lab.streamClient(port: 40_009)
        stranger.challenge()
        let data = lab.streamClient(port: 40_001)
        let stolen = try #require(data.connectionBind(key.id, borrowingFrom: stranger).binding)
        #expect(lab.claim(stolen) == nil)
        let refusal = try #require(Answer(stolen.failure))
        #expect(refusal.error == 438 && refusal.value(.nonce) != nil)
        let borrowed = try #require(data.connectionBind(key.id, borrowingFrom: client).binding)
        #expect(lab.claim(borrowed) == key)
        #expect(data.perform(.refresh) != nil)
        let other = lab.client(at: Endpoint("198.51.100.7", 40_003))
        #expect(other.connectionBind(key.id, borrowingFrom: client).answer?.error == 438, "by UDP, none is borrowed")
    }

    @Test func aBorrowedNonceGrowsStaleLikeAnother() throws {
        let client = try allocated { $0.nonceLifetimeSeconds = 20 }
        let key = try waiting(client)
        client.lab.advance(seconds: 25)
        let data = client.lab.streamClient(port: 40_001)
        let binding = try #require(data.connectionBind(key.id, borrowingFrom: client).binding)
        #expect(client.lab.claim(binding) == nil)
        #expect(client.lab.claim(key.id) == key)
    }

    @Test func aConnectionUnderWayCannotBeClaimed() throws {
        let client = try allocated()
        _ = client.connect(peer)
        let wanted = try #require(client.lab.takeConnect())
        #expect(client.lab.claim(wanted.key.id) == nil)
    }

    @Test(arguments: [true, false])
    func whatIsNotClaimedIn30SecondsIsClosed(isInbound: Bool) throws {
        let client = try allocated()
        let lab = client.lab
        _ = client.permit([peer])
        let key = try isInbound ? #require(lab.arrive(peer, at: client)) : waiting(client)
        _ = lab.takeEffects()
        lab.advance(seconds: 29)
        #expect(lab.takeEffects().isEmpty)
        lab.advance(seconds: 1)
        #expect(lab.claim(key.id) == nil, "30 seconds are over")
        lab.advance(seconds: 1)
        #expect(lab.takeClosed() == [key])
        #expect(client.relay() != nil)
    }

    @Test func aClaimedConnectionStaysAsLongAsItsAllocation() throws {
        let client = try allocated()
        let key = try waiting(client)
        _ = client.lab.claim(key.id)
        client.lab.advance(seconds: 590)
        #expect(client.lab.takeEffects().isEmpty)
        client.lab.advance(seconds: 20)
        #expect(client.lab.takeClosed() == [key])
    }

    @Test(arguments: ["refresh", "revocation", "disconnection", "expiry", "shutdown"])
    func theEndOfTheAllocationEndsAllOfThem(_ end: String) throws {
        let client = try allocated()
        let lab = client.lab
        let bound = try waiting(client)
        _ = lab.claim(bound.id)
        _ = client.permit([Endpoint("8.8.4.4", 1)])
        let waiting = try #require(lab.arrive(Endpoint("8.8.4.4", 9_000), at: client))
        _ = client.connect(Endpoint("9.9.9.9", 80))
        let connecting = try #require(lab.takeConnect()).key
        switch end {
        case "refresh": #expect(client.refresh(0)?.isSuccess == true)
        case "revocation": lab.engine.revoke(user: "alice", at: lab.moment)
        case "disconnection": lab.engine.disconnect(client.tuple, at: lab.moment)
        case "expiry": lab.advance(seconds: 605)
        default: lab.engine.closeAll(.drained, at: lab.moment)
        }
        #expect(Set(lab.takeClosed()) == [bound, waiting, connecting])
        #expect(lab.shared.connectionQuota.total == 0)
        #expect(lab.relays.open.isEmpty)
        #expect(lab.claim(waiting.id) == nil)
    }

    @Test func connectionIDsTellTheirWorkerAndDoNotRepeat() throws {
        let relays = FakeRelays()
        for worker in 0..<3 {
            let lab = try Lab(relays: relays) { $0.relaysTCP = true }
            let engine = Engine(
                configuration: lab.engine.configuration,
                shared: lab.shared,
                cryptography: lab.cryptography,
                host: relays,
                connectionIDs: ConnectionIDs(worker: worker, of: 3)
            )
            lab.engine = engine
            let client = lab.streamClient()
            _ = client.allocateStream()
            var ids: Set<UInt32> = []
            for port in UInt16(1)..<31 where port != 19 && port != 25 {
                _ = client.connect(Endpoint("8.8.8.8", port))
                let id = try #require(lab.takeConnect()).key.id
                #expect(ConnectionIDs(worker: 0, of: 3).owner(of: id) == worker)
                ids.insert(id)
            }
            #expect(ids.count == 28)
            // With all bits but those of the worker random, 28 numbers within one 64th of the range are a broken
            // source.
            #expect(Set(ids.map { $0 >> 26 }).count > 8)
        }
    }

    // MARK: What it carries

    @Test func bytesAreCountedForTheUserAndApartFromPackets() throws {
        let client = try allocated()
        let lab = client.lab
        let key = try waiting(client)
        _ = lab.claim(key.id)
        lab.count(key, toPeer: 1_000)
        lab.count(key, toClient: 500)
        lab.ended(key)
        lab.count(key, toPeer: 7)
        let counters = lab.engine.counters
        #expect(counters.streamBytesToPeers == 1_007)
        #expect(counters.streamBytesToClients == 500)
        #expect(counters.packetsRelayed == 0)
        _ = client.refresh(0)
        let usage = lab.takeUsage()
        #expect(usage.map(\.traffic.bytesToPeers) == [1_000])
        #expect(usage.map(\.traffic.bytesToClient) == [500])
    }

    @Test func aLimitHoldsAStreamBackAndLosesNothing() throws {
        let client = try allocated { $0.bitsPerSecondPerAllocation = 8_000_000 }
        let lab = client.lab
        let key = try waiting(client)
        // A quarter of a second of 1,000,000 bytes a second.
        #expect((240_000...250_000).contains(lab.allowance(of: key)))
        lab.count(key, toPeer: 250_000)
        #expect(lab.allowance(of: key) == 0)
        lab.advance(nanoseconds: 100_000_000)
        #expect((90_000...100_000).contains(lab.allowance(of: key)))
    }

    @Test func theLimitOfAllHoldsAStreamBackToo() throws {
        let client = try allocated { $0.bitsPerSecondTotal = 8_000_000 }
        let key = try waiting(client)
        client.lab.count(key, toClient: 250_000)
        #expect(client.lab.allowance(of: key) == 0)
        client.lab.advance(seconds: 1)
        #expect(client.lab.allowance(of: key) > 200_000)
    }

    @Test func withoutALimitThereIsNone() throws {
        let client = try allocated()
        let key = try waiting(client)
        #expect(client.lab.allowance(of: key) == .max)
        client.lab.ended(key)
        #expect(client.lab.allowance(of: key) == 0)
    }
}
