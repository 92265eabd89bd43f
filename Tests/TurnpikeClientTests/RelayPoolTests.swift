import Lab
import STUN
import Testing
import Traversal
import TurnpikeClient

/// Relay pools in the lab, against the server's own engine.
@Suite struct RelayPoolTests {
    final class Client {
        private(set) var pool: RelayPool?
        var up: [RelayBase] = []
        var down: [(base: RelayBase, failure: RelayFailure?)] = []
        var failures: [RelayFailure] = []
        var received: [(base: UInt32, bytes: [UInt8])] = []
        var permitted: [IPAddress] = []
        var settled = 0

        init(_ network: LabNetwork, _ servers: [RelayServer]) {
            pool = RelayPool(firstID: 100, network: network, contexts: SecureContexts()) { [unowned self] in take($0) }
            pool?.use(servers)
        }

        private func take(_ event: RelayPoolEvent) {
            switch event {
            case .up(let base): up.append(base)
            case .down(let base, let failure): down.append((base, failure))
            case .received(let base, let bytes, _): received.append((base, Array(bytes)))
            case .permitted(_, let peer): permitted.append(peer)
            case .failed(let failure): failures.append(failure)
            case .settled: settled += 1
            case .refused, .peerError, .renewalRefused: break
            }
        }
    }

    private func servers(
        _ hosts: [String],
        _ transports: [TURNConfiguration.Transport] = [.udp, .tcp],
        password: String = "open sesame"
    ) -> [RelayServer] {
        hosts.flatMap { host in
            transports.map {
                RelayServer(
                    host: host,
                    port: 3_478,
                    transport: $0,
                    credential: TURNCredential(username: "ada", password: password)
                )
            }
        }
    }

    @Test func overUDPWhereItWorksAndNothingBesides() throws {
        let (lab, network, relays) = try world()
        let client = Client(network, servers(["one"]))
        try lab.run(seconds: 20)
        #expect(client.up.map(\.server.transport) == [.udp])
        #expect(client.settled == 1)
        #expect(relays[0].allocationCount == 1)
        #expect(client.down.isEmpty && client.failures.isEmpty)
    }

    @Test func overTCPWhereUDPIsBlocked() throws {
        let (lab, network, _) = try world(firewall: .noUDP)
        let client = Client(network, servers(["one"]))
        try #expect(lab.run(while: { client.up.isEmpty }, atMostSeconds: 5))
        #expect(lab.seconds < 1)
        #expect(client.up.map(\.server.transport) == [.tcp])
        // UDP would be better, so it is waited for, and its failure is told.
        try #expect(lab.run(while: { client.settled == 0 }, atMostSeconds: 20))
        #expect(client.failures.map(\.server.transport) == [.udp])
        #expect(client.failures.first?.description.contains("where UDP is blocked") == true)
    }

    @Test func oneBaseForEachFamilyOfARelay() throws {
        let (lab, network, _) = try world(v6: true)
        let client = Client(network, servers(["one"]))
        try lab.run(seconds: 2)
        #expect(client.up.map(\.relayed.family) == [.ipv4, .ipv6])
        #expect(client.up.map(\.id) == [100, 101])
    }

    @Test func twoServersAreKeptAndTheThirdIsGivenBack() throws {
        let (lab, network, relays) = try world(count: 3)
        let client = Client(network, servers(["one", "two", "three"]))
        try lab.run(seconds: 20)
        #expect(Set(client.up.map(\.server.host)).count == 2)
        #expect(client.up.count == 2)
        #expect(relays.map(\.allocationCount).reduce(0, +) == 2)
    }

    @Test func aRelayThatGoesIsReplacedByAnother() throws {
        let (lab, network, relays) = try world(count: 3)
        let client = Client(network, servers(["one", "two", "three"]))
        try lab.run(seconds: 5)
        let lost = try #require(client.up.first)
        relays[["one", "two", "three"].firstIndex(of: lost.server.host) ?? 0].remove(user: "ada")
        try #expect(lab.run(while: { client.up.count < 3 }, atMostSeconds: 700))
        #expect(client.down.map(\.base.id) == [lost.id])
        #expect(client.down.first?.failure != nil)
        #expect(client.pool?.up.count == 2)
        #expect(client.up[2].server.host != lost.server.host)
    }

    @Test func aServerThatIsDownIsTriedAgain() throws {
        let (lab, network, _) = try world()
        lab.host("ada").link.cut()
        let client = Client(network, servers(["one"]))
        try lab.run(seconds: 40)
        #expect(client.up.isEmpty && client.settled == 1)
        #expect(client.pool?.failures.count == 2)
        lab.host("ada").link.restore()
        try #expect(lab.run(while: { client.up.isEmpty }, atMostSeconds: 40))
        #expect(client.pool?.failures.isEmpty == false || client.up.first?.server.transport == .udp)
    }

    @Test func aWrongPasswordIsNotTriedAgainBeforeThereIsAnother() throws {
        let (lab, network, _) = try world()
        let client = Client(network, servers(["one"], password: "wrong"))
        try lab.run(seconds: 60)
        #expect(client.failures.count == 2)
        client.pool?.use(servers(["one"]))
        try #expect(lab.run(while: { client.up.isEmpty }, atMostSeconds: 2))
    }

    @Test func dataFindsItsBaseAndBack() throws {
        let (lab, network, _) = try world()
        let client = Client(network, servers(["one"]))
        try #expect(lab.run(while: { client.up.isEmpty }, atMostSeconds: 5))
        let base = try #require(client.up.first)
        let bob = try #require(lab.host("bob").udp(port: 4_000))
        let peer = try #require(bob.local())
        client.pool?.permit(peer.address, at: base.id)
        try #expect(lab.run(while: { client.permitted.isEmpty }, atMostSeconds: 5))
        Array("to".utf8).withUnsafeBytes { _ = client.pool?.send($0, from: base.id, to: peer) }
        bob.send("from", to: base.relayed)
        try lab.run(seconds: 1)
        #expect(bob.takeTexts() == ["to"])
        #expect(client.received.map(\.base) == [base.id])
        #expect(client.received.map(\.bytes) == [Array("from".utf8)])
    }

    @Test func closingGivesEverythingBack() throws {
        let (lab, network, relays) = try world(count: 2)
        let client = Client(network, servers(["one", "two"]))
        try lab.run(seconds: 5)
        client.pool?.close()
        try lab.run(seconds: 5)
        #expect(relays.map(\.allocationCount) == [0, 0])
        #expect(network.openPorts == 0)
    }

    @Test func anEmptyListSettlesAtOnce() throws {
        let (_, network, _) = try world()
        #expect(Client(network, []).settled == 1)
    }

    private func world(
        count: Int = 1,
        v6: Bool = false,
        firewall: Firewall = .open
    ) throws -> (Internet, LabNetwork, [LabRelay]) {
        let names = ["one", "two", "three"]
        var relays: [LabRelay] = []
        let lab = Internet(seed: 3) { core in
            for name in names.prefix(count) {
                relays.append(core.relay(name, users: ["ada": "open sesame"], v6: v6))
            }
            core.firewall("wall", firewall) { $0.host("ada") }
            core.host("bob")
        }
        let network = try LabNetwork(lab.host("ada"), seed: 3)
        for (name, relay) in zip(names, relays) { network.names[name] = [relay.endpoint().address] }
        return (lab, network, relays)
    }
}
