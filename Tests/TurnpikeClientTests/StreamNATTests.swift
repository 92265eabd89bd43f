import Lab
import STUN
import Testing
import Traversal

@testable import TurnpikeClient

/// What NATs do with TCP is found out by asking over TCP, and by being connected to.
@Suite struct StreamNATTests {
    struct Case: Sendable, CustomStringConvertible {
        var description: String
        var behavior: NATBehavior?
        var firewall = Firewall.stateful
        var mapping: String
        var unsolicited: String

        static let all = [
            Case(
                description: "a host without a NAT",
                firewall: .open,
                mapping: "endpoint-independent",
                unsolicited: "accepted"
            ),
            Case(
                description: "a full cone",
                behavior: .fullCone,
                mapping: "endpoint-independent",
                unsolicited: "accepted"
            ),
            Case(
                description: "a home router",
                behavior: .portRestricted,
                mapping: "endpoint-independent",
                unsolicited: "dropped"
            ),
            Case(
                description: "one that resets",
                behavior: .portRestricted.with {
                    ($0.unsolicitedTCP, $0.allocation) = (.reject, .random)
                },
                mapping: "endpoint-independent",
                unsolicited: "refused"
            ),
            Case(
                description: "one that lets in by address",
                behavior: .restricted,
                mapping: "endpoint-independent",
                unsolicited: "dropped"
            ),
            Case(
                description: "one that maps by address",
                behavior: .symmetric.with { $0.mapping = .addressDependent },
                mapping: "address-dependent",
                unsolicited: "dropped"
            ),
            Case(
                description: "a symmetric one",
                behavior: .symmetric,
                mapping: "address-and-port-dependent",
                unsolicited: "dropped"
            ),
            Case(
                description: "one that is friendly by UDP alone",
                behavior: .fullCone.with {
                    ($0.tcpMapping, $0.tcpFiltering) = (.addressAndPortDependent, .addressAndPortDependent)
                    $0.allocation = .random
                },
                mapping: "address-and-port-dependent",
                unsolicited: "dropped"
            ),
        ]
    }

    @Test(arguments: Case.all) func theTCPOfANATIsFoundOut(a: Case) async {
        await withWorlds(runs(1)) { seed in
            let home = ClientWorld.Home(name: "alice", behavior: a.behavior, firewall: a.firewall)
            let world = try ClientWorld([home], seed: seed)
            world.alice.start()
            let nat = { world.alice.client.servers.nat }
            #expect(try world.internet.run(while: { nat().tcp == nil }, atMostSeconds: 4))
            #expect(nat().tcp?.mapping == a.mapping)
            #expect(nat().tcp?.unsolicited == a.unsolicited)
            #expect(nat().tcp?.publicIP != nil && nat().tcp?.publicPort != nil)
            try world.close()
        }
    }

    /// The step is what it gives from one connection to the next, whatever else is connected meanwhile.
    @Test(arguments: [1, 2, -1, -3]) func theStepOfANATThatCountsIsFoundOut(step: Int) async {
        await withWorlds(runs(2)) { seed in
            let behavior = NATBehavior.symmetric.with { $0.allocation = .sequential(step: step) }
            let world = try ClientWorld([.init(name: "alice", behavior: behavior)], seed: seed)
            world.alice.start()
            let nat = { world.alice.client.servers.nat }
            #expect(try world.internet.run(while: { nat().tcp == nil }, atMostSeconds: 4))
            #expect(nat().tcp?.mapping == "address-and-port-dependent")
            #expect(nat().tcp?.portAllocation == "sequential" && nat().tcp?.portStep == step)
            try world.close()
        }
    }

    @Test(arguments: [NATBehavior.symmetric, .portRestricted]) func whereNothingIsCountedThereIsNoStep(
        behavior: NATBehavior
    ) async {
        await withWorlds(runs(1)) { seed in
            let world = try ClientWorld([.init(name: "alice", behavior: behavior)], seed: seed)
            world.alice.start()
            let nat = { world.alice.client.servers.nat }
            #expect(try world.internet.run(while: { nat().tcp == nil }, atMostSeconds: 4))
            #expect(nat().tcp?.portStep == nil)
            #expect(nat().tcp?.portAllocation == (behavior.mapping == .endpointIndependent ? nil : "random"))
            try world.close()
        }
    }

    /// Nobody has named a server for UDP: the one for TCP is asked, over TCP.
    @Test func aServerForTCPAloneIsAskedOverTCP() async {
        await withWorlds(runs(1)) { seed in
            let home = ClientWorld.Home(name: "alice", behavior: .portRestricted.with { $0.allocation = .random })
            let world = try ClientWorld([home], seed: seed) { _, configuration in
                configuration.usesServersFromSignaling = false
                configuration.turnServers = configuration.turnServers.map { server in
                    .init(url: server.url + "?transport=tcp", username: server.username, password: server.password)
                }
            }
            world.alice.start()
            let client = world.alice.client
            #expect(try world.internet.run(while: { client.servers.nat.tcp == nil }, atMostSeconds: 4))
            #expect(client.servers.nat.tcp?.mapping == "endpoint-independent")
            #expect(client.servers.nat.tcp?.unsolicited == "dropped")
            let outside = world.internet.router(ClientWorld.router("alice")).publicAddress
            let reflexive = client.gatherer.candidates.filter { $0.type == .serverReflexive }
            #expect(reflexive.count == 2)
            #expect(reflexive.allSatisfy { $0.transport.isTCP && $0.endpoint.address == outside })
            try world.close()
        }
    }

    @Test func eachReasonWhyAMappingDiffersIsTold() {
        let (one, two, three) = (Endpoint("192.0.2.1", 1), Endpoint("192.0.2.1", 2), Endpoint("192.0.2.1", 3))
        #expect(StreamNATReport.mapping(one, one, one) == .endpointIndependent)
        #expect(StreamNATReport.mapping(one, two, two) == .addressDependent)
        #expect(StreamNATReport.mapping(one, two, three) == .addressAndPortDependent)
    }
}
