import Lab
import STUN
import TURN
import Testing
import Traversal
import TurnpikeClient

/// Relay links in the lab, against the server's own engine.
@Suite struct RelayLinkTests {
    /// A link and all that came of it.
    final class Client {
        let network: LabNetwork
        private(set) var link: RelayLink?
        var allocations: [TURNAllocation] = []
        var received: [(bytes: [UInt8], from: Endpoint)] = []
        var permitted: [IPAddress] = []
        var refused: [TURNFailure] = []
        var renewals = 0
        var refusedRenewals: [RelayFailure] = []
        var ends: [RelayFailure?] = []

        init(_ network: LabNetwork, _ server: RelayServer) {
            self.network = network
            link = RelayLink(server, network: network, contexts: SecureContexts()) { [unowned self] in take($0) }
            link?.start()
        }

        private func take(_ event: RelayEvent) {
            switch event {
            case .allocated(let allocation): allocations.append(allocation)
            case .received(let bytes, let peer): received.append((Array(bytes), peer))
            case .permitted(let peers): permitted += peers
            case .refused(_, let failure): refused.append(failure)
            case .peerError: break
            case .renewed: renewals += 1
            case .silent: break
            case .renewalRefused(let failure): refusedRenewals.append(failure)
            case .ended(let failure): ends.append(failure)
            }
        }

        func send(_ text: String, to peer: Endpoint) {
            Array(text.utf8).withUnsafeBytes { _ = link?.send($0, to: peer) }
        }
    }

    private func server(
        _ host: String,
        _ transport: TURNConfiguration.Transport = .udp,
        port: UInt16 = 3_478,
        password: String = "open sesame"
    ) -> RelayServer {
        RelayServer(
            host: host,
            port: port,
            transport: transport,
            credential: TURNCredential(username: "ada", password: password)
        )
    }

    @Test(arguments: [TURNConfiguration.Transport.udp, .tcp])
    func dataGoesThroughARelayInBothDirections(transport: TURNConfiguration.Transport) throws {
        var made: LabRelay?
        let lab = Internet(seed: 1) {
            made = $0.relay("relay", users: ["ada": "open sesame"])
            $0.nat("home", .portRestricted) { $0.host("ada") }
            $0.host("bob")
        }
        let relay = try #require(made)
        let network = try LabNetwork(lab.host("ada"), seed: 1)
        network.names["turn.example.org"] = [relay.endpoint().address]
        let client = Client(network, server("turn.example.org", transport))
        try #expect(lab.run(while: { client.allocations.isEmpty }, atMostSeconds: 5))
        let relayed = try #require(client.allocations.first?.relayed.first)
        let bob = try #require(lab.host("bob").udp(port: 4_000))
        let peer = try #require(bob.local())
        #expect(client.link?.permit(peer.address) == false)
        try #expect(lab.run(while: { client.permitted.isEmpty }, atMostSeconds: 5))
        #expect(client.link?.permit(peer.address) == true)
        for number in 0..<20 { client.send("to \(number)", to: peer) }
        for number in 0..<20 { bob.send("from \(number)", to: relayed) }
        try lab.run(seconds: 1)
        #expect(bob.takeTexts() == (0..<20).map { "to \($0)" })
        #expect(client.received.map { String(decoding: $0.bytes, as: UTF8.self) } == (0..<20).map { "from \($0)" })
        client.link?.close()
        try lab.run(seconds: 2)
        #expect(relay.allocationCount == 0)
        #expect(client.ends.isEmpty)
        #expect(network.openPorts == 0)
    }

    @Test func aWrongPasswordIsNamedWithItsMend() throws {
        let (lab, network, _) = try world()
        let client = Client(network, server("turn.example.org", password: "wrong"))
        try #expect(lab.run(while: { client.ends.isEmpty }, atMostSeconds: 5))
        let text = try #require(client.ends.first ?? nil).description
        #expect(text.contains("turn:turn.example.org:3478?transport=udp"))
        #expect(text.contains("does not accept this username and password"))
        #expect(text.contains("check TURN_USERNAME and TURN_PASSWORD"))
    }

    @Test func anUnknownNameIsNamed() throws {
        let (lab, network, _) = try world()
        let client = Client(network, server("nowhere.example.org"))
        try #expect(lab.run(while: { client.ends.isEmpty }, atMostSeconds: 5))
        #expect(try #require(client.ends.first ?? nil).description.contains("there is no such name"))
    }

    @Test(arguments: [TURNConfiguration.Transport.udp, .tcp])
    func aServerThatIsNotThereIsGivenUpInTime(transport: TURNConfiguration.Transport) throws {
        let (lab, network, _) = try world()
        network.names["turn.example.org"] = [IPAddress("198.18.9.9")]
        let client = Client(network, server("turn.example.org", transport))
        try #expect(lab.run(while: { client.ends.isEmpty }, atMostSeconds: 20))
        #expect(lab.seconds < 16)
        let failure = try #require(client.ends.first ?? nil)
        #expect(failure.description.contains(transport == .udp ? "where UDP is blocked" : "no"))
        #expect(failure.mayPass)
        #expect(network.openPorts == 0)
    }

    @Test func aDeadAddressOfTheServerCostsAQuarterSecond() throws {
        let (lab, network, relay) = try world(v6: true)
        // IPv6 comes first, and leads nowhere.
        network.names["turn.example.org"] = [relay.endpoint().address, IPAddress("2001:db8:9::9")]
        let client = Client(network, server("turn.example.org"))
        try #expect(lab.run(while: { client.allocations.isEmpty }, atMostSeconds: 5))
        #expect(lab.seconds < 0.5)
        #expect(client.link?.serverEndpoint?.address == relay.endpoint().address)
    }

    @Test func aFamilyThatTheMachineDoesNotHaveIsNotTried() throws {
        let (lab, network, relay) = try world()
        network.names["turn.example.org"] = [IPAddress("2001:db8:9::9"), relay.endpoint().address]
        let client = Client(network, server("turn.example.org"))
        try #expect(lab.run(while: { client.allocations.isEmpty }, atMostSeconds: 5))
        #expect(lab.seconds < 0.25)
    }

    @Test func anAllocationIsKeptForHours() throws {
        let (lab, network, relay) = try world()
        let client = Client(network, server("turn.example.org"))
        try #expect(lab.run(while: { client.allocations.isEmpty }, atMostSeconds: 5))
        try lab.run(seconds: 7_200)
        #expect(relay.allocationCount == 1)
        #expect(client.ends.isEmpty)
    }

    @Test func aRestartedServerEndsTheRelay() throws {
        let (lab, network, relay) = try world()
        let client = Client(network, server("turn.example.org"))
        try #expect(lab.run(while: { client.allocations.isEmpty }, atMostSeconds: 5))
        relay.restart()
        try #expect(lab.run(while: { client.ends.isEmpty }, atMostSeconds: 700))
        #expect(try #require(client.ends.first ?? nil).mayPass)
        #expect(network.openPorts == 0)
    }

    @Test func aPermissionIsGivenBackByTheLastWhoAskedForIt() throws {
        let (lab, network, _) = try world()
        let client = Client(network, server("turn.example.org"))
        try #expect(lab.run(while: { client.allocations.isEmpty }, atMostSeconds: 5))
        let relayed = try #require(client.allocations.first?.relayed.first)
        let bob = try #require(lab.host("bob").udp(port: 4_000))
        let peer = try #require(bob.local())
        client.link?.permit(peer.address)
        client.link?.permit(peer.address)
        try lab.run(seconds: 1)
        client.link?.release(peer.address)
        // Refreshed for as long as one holds it.
        try lab.run(seconds: 900)
        bob.send("one", to: relayed)
        try lab.run(seconds: 1)
        #expect(client.received.count == 1)
        client.link?.release(peer.address)
        try lab.run(seconds: 301)
        bob.send("two", to: relayed)
        try lab.run(seconds: 1)
        #expect(client.received.count == 1)
    }

    @Test func aFreshCredentialIsTakenAndAWrongOneIsNot() throws {
        let (lab, network, relay) = try world()
        relay.add(user: "ada", password: "open sesame")
        let client = Client(network, server("turn.example.org"))
        try #expect(lab.run(while: { client.allocations.isEmpty }, atMostSeconds: 5))
        client.link?.renew(TURNCredential(username: "ada", password: "wrong"))
        try lab.run(seconds: 2)
        #expect(client.refusedRenewals.count == 1)
        client.link?.renew(TURNCredential(username: "ada", password: "open sesame"))
        try lab.run(seconds: 2)
        #expect(client.renewals == 1)
        #expect(client.ends.isEmpty)
    }

    @Test func aServerThatDrainsSendsItsClientToAnother() throws {
        var made: LabRelay?
        let lab = Internet(seed: 3) {
            let fresh = $0.relay("new", users: ["ada": "open sesame"])
            made = fresh
            $0.relay("old", users: ["ada": "open sesame"]) {
                $0.engine.isDraining = true
                $0.engine.alternateServers = [fresh.endpoint()]
            }
            $0.host("ada")
        }
        let fresh = try #require(made)
        let network = try LabNetwork(lab.host("ada"), seed: 3)
        network.names["turn.example.org"] = lab.host("old").addresses
        for transport in [TURNConfiguration.Transport.udp, .tcp] {
            let client = Client(network, server("turn.example.org", transport))
            try #expect(lab.run(while: { client.allocations.isEmpty }, atMostSeconds: 5))
            #expect(client.link?.serverEndpoint == fresh.endpoint())
            client.link?.close()
            try lab.run(seconds: 2)
        }
        #expect(fresh.allocationCount == 0)
    }

    @Test func whereItCannotMoveItEnds() throws {
        let (lab, network, _) = try world()
        let client = Client(network, server("turn.example.org"))
        try #expect(lab.run(while: { client.allocations.isEmpty }, atMostSeconds: 5))
        client.link?.move()
        try lab.run(seconds: 1)
        #expect(try #require(client.ends.first ?? nil).mayPass)
    }

    private func world(v6: Bool = false) throws -> (Internet, LabNetwork, LabRelay) {
        var made: LabRelay?
        let lab = Internet(seed: 2) {
            made = $0.relay("relay", users: ["ada": "open sesame"])
            $0.host("ada", v6: v6)
            $0.host("bob")
        }
        let relay = try #require(made)
        let network = try LabNetwork(lab.host("ada"), seed: 2)
        network.names["turn.example.org"] = [relay.endpoint().address]
        return (lab, network, relay)
    }
}
