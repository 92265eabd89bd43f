import Lab
import STUN
import TURN
import Testing

/// The real engine and the real hub, reached through NATs by hand-built messages.
@Suite struct ServerTests {
    private func twoHomes(_ behavior: NATBehavior, v6: Bool = false, seed: UInt64 = 1) -> Internet {
        Internet(seed: seed) { net in
            net.relay("turn", users: ["alice": "wonderland", "bob": "builder"], v6: v6)
            net.rendezvous("signaling", users: ["alice": "wonderland", "bob": "builder"])
            net.nat("one", behavior) { $0.host("a", v6: v6) }
            net.nat("other", behavior) { $0.host("b", v6: v6) }
        }
    }

    // MARK: STUN

    @Test(arguments: [false, true])
    func aBindingSaysTheMappedAddressAndWhereTheOtherOneIs(v6: Bool) throws {
        let internet = twoHomes(.portRestricted, v6: v6)
        let relay = internet.relay("turn")
        let family: AddressFamily = v6 ? .ipv6 : .ipv4
        let socket = try #require(internet.host("a").udp(port: 5_000))
        socket.send(message(MessageType(.binding, .request)), to: relay.endpoint(family))
        try internet.run(seconds: 1)
        let answer = try #require(socket.inbox.first.flatMap { Reading($0.bytes) })
        let outside = v6 ? socket.local(.ipv6) : Endpoint(internet.router("one").publicAddress, 5_000)
        #expect(answer.endpoint(.xorMappedAddress) == outside)
        #expect(answer.plainEndpoint(.otherAddress) == relay.alternate(family))
    }

    /// RFC 5780 section 4.4: what a filter lets through, of the answers from the same place, another port, another
    /// address.
    @Test(arguments: [
        (NATBehavior.fullCone, [0, 2, 6]), (.restricted, [0, 2]), (.portRestricted, [0]),
    ])
    func answersFromElsewherePassTheFilterThatAdmitsThem(behavior: NATBehavior, passing: [UInt32]) throws {
        let internet = twoHomes(behavior)
        let relay = internet.relay("turn")
        for change in [0, 2, 6] as [UInt32] {
            let socket = try #require(internet.host("a").udp())
            socket.send(
                message(MessageType(.binding, .request)) { $0.append(.changeRequest, change) },
                to: relay.endpoint()
            )
            try internet.run(seconds: 1)
            #expect(socket.inbox.count == (passing.contains(change) ? 1 : 0), "change \(change)")
            let origin =
                change == 6 ? relay.alternate() : Endpoint(relay.endpoint().address, change == 2 ? 3_479 : 3_478)
            if let from = socket.inbox.first?.from { #expect(from == origin) }
        }
    }

    // MARK: TURN

    @Test(arguments: [ClientTransport.udp, .tcp])
    func theRelayCarriesDataBetweenTwoThatNATsKeepApart(transport: ClientTransport) throws {
        let internet = twoHomes(.symmetric)
        let relay = internet.relay("turn")
        let a = try HandClient(internet.host("a"), relay, "alice", "wonderland", overTCP: transport == .tcp)
        let b = try HandClient(internet.host("b"), relay, "bob", "builder", overTCP: transport == .tcp)
        try a.allocate()
        try b.allocate()
        #expect(relay.allocationCount == 2)
        let (relayedA, relayedB) = (try #require(a.relayed), try #require(b.relayed))
        #expect(relayedA.address == relay.endpoint().address)
        try a.permit(relayedB)
        try b.permit(relayedA)
        a.indicate("by indication", to: relayedB)
        try internet.run(seconds: 1)
        #expect(b.takeData() == ["by indication"])
        try b.bind(0x4001, to: relayedA)
        b.channel(0x4001, "by channel")
        try internet.run(seconds: 1)
        #expect(a.takeData() == ["by channel"])
        a.indicate("back by channel", to: relayedB)
        try internet.run(seconds: 1)
        #expect(b.takeChannelData() == ["back by channel"])
    }

    @Test func anAllocationExpiresByVirtualTime() throws {
        let internet = twoHomes(.portRestricted)
        let relay = internet.relay("turn")
        let a = try HandClient(internet.host("a"), relay, "alice", "wonderland")
        try a.allocate()
        try internet.run(seconds: 590)
        #expect(relay.allocationCount == 1)
        try internet.run(seconds: 20)
        #expect(relay.allocationCount == 0)
    }

    @Test func aRestartedServerKnowsNoAllocationAndAnotherCanBeMade() throws {
        let internet = twoHomes(.portRestricted)
        let relay = internet.relay("turn")
        let a = try HandClient(internet.host("a"), relay, "alice", "wonderland", overTCP: true)
        try a.allocate()
        relay.restart()
        try internet.run(seconds: 1)
        #expect(relay.allocationCount == 0 && a.isClosed)
        let again = try HandClient(internet.host("a"), relay, "alice", "wonderland")
        try again.allocate()
        #expect(relay.allocationCount == 1)
    }

    @Test func aWrongPasswordIsRefused() throws {
        let internet = twoHomes(.portRestricted)
        let a = try HandClient(internet.host("a"), internet.relay("turn"), "alice", "looking-glass")
        try a.allocate()
        #expect(a.relayed == nil && a.lastError == 401)
    }

    @Test func theClientHearsWhenItsPeerIsUnreachable() throws {
        let internet = twoHomes(.fullCone)
        let a = try HandClient(internet.host("a"), internet.relay("turn"), "alice", "wonderland")
        try a.allocate()
        let closed = Endpoint("30.9.9.9", 4_000)
        internet.core.host("empty", [closed.address])
        try a.permit(closed)
        a.indicate("anybody?", to: closed)
        try internet.run(seconds: 1)
        #expect(a.unreachable == [closed])
    }

    @Test func whereUDPIsBlockedTheRelayIsReachedByTCPOnPort443() throws {
        let internet = Internet(seed: 1) { net in
            net.relay("turn", users: ["alice": "wonderland"])
            net.nat("office", .portRestricted, firewall: .httpsOnly) { $0.host("a") }
        }
        let relay = internet.relay("turn")
        let a = try HandClient(internet.host("a"), relay, "alice", "wonderland", overTCP: true, port: 443)
        try a.allocate()
        #expect(a.relayed != nil)
        a.disconnect()
        try internet.run(seconds: 1)
        #expect(relay.allocationCount == 0)
    }

    // MARK: Signaling

    private func peer(_ internet: Internet, _ host: String, _ user: String, _ password: String) throws
        -> SignalingClient
    {
        let client = try #require(SignalingClient(internet.host(host), to: internet.rendezvous("signaling").endpoint()))
        client.send(#"{"type":"hello","username":"\#(user)","password":"\#(password)"}"#)
        client.send(#"{"type":"register","peerId":"\#(user)"}"#)
        try internet.run(seconds: 1)
        return client
    }

    @Test func theHubCarriesAnOfferAndAnAnswer() throws {
        let internet = twoHomes(.symmetric)
        let alice = try peer(internet, "a", "alice", "wonderland")
        let bob = try peer(internet, "b", "bob", "builder")
        #expect(alice.take("registered") != nil && bob.take("registered") != nil)
        alice.send(#"{"type":"offer","to":"bob","offer":{"sdp":"v=0"}}"#)
        let began = internet.seconds
        try internet.run(while: { bob.inbox.allSatisfy { !$0.contains("offer") } })
        #expect(
            abs(internet.seconds - began - 0.041) < 1e-9,
            "half a millisecond in each house, 20 ms to the server and 20 back"
        )
        let offer = try #require(bob.take("offer"))
        #expect(offer.contains(#""from":"alice""#) && offer.contains("v=0"))
        bob.send(#"{"type":"answer","to":"alice","answer":{"sdp":"v=0"}}"#)
        try internet.run(seconds: 1)
        #expect(alice.take("answer")?.contains(#""from":"bob""#) == true)
    }

    @Test func aWrongPasswordIsToldAndTheConnectionClosed() throws {
        let internet = twoHomes(.symmetric)
        var code: UInt16??
        let client = try #require(SignalingClient(internet.host("a"), to: internet.rendezvous("signaling").endpoint()))
        client.onClose = { code = .some($0) }
        client.send(#"{"type":"hello","username":"alice","password":"no"}"#)
        try internet.run(seconds: 10)
        #expect(client.take("error")?.contains("unauthenticated") == true)
        #expect(code == .some(4_401))
    }

    @Test func aClientThatComesBackResumesWhatItHad() throws {
        let internet = twoHomes(.symmetric)
        let alice = try peer(internet, "a", "alice", "wonderland")
        let bob = try peer(internet, "b", "bob", "builder")
        let welcome = try #require(alice.take("welcome"))
        let token = try #require(welcome.firstMatch(of: /"resumeToken":"([^"]+)"/)?.1)
        alice.abort()
        try internet.run(seconds: 1)
        bob.send(#"{"type":"signal","to":"alice","signal":"while you were away"}"#)
        try internet.run(seconds: 1)
        let again = try #require(SignalingClient(internet.host("a"), to: internet.rendezvous("signaling").endpoint()))
        again.send(#"{"type":"hello","resume":"\#(token)"}"#)
        try internet.run(seconds: 1)
        #expect(again.take("signal")?.contains("while you were away") == true)
    }
}
