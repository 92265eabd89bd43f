import Lab
import STUN
import TestSupport
import Testing
import Traversal

@testable import TurnpikeClient

/// Whole clients behind gateways that map ports.
struct ClientPortMappingTests {
    private static func world(_ alice: NATBehavior, _ bob: NATBehavior, seed: UInt64) throws -> ClientWorld {
        try ClientWorld(
            [.init(name: "alice", behavior: alice, mapsPorts: true), .init(name: "bob", behavior: bob)],
            seed: seed
        )
    }

    private static func service(_ world: ClientWorld) throws -> PortMappingService {
        try #require(world.internet.router(ClientWorld.router("alice")).portMapping)
    }

    @Test func aMappingMakesASymmetricNATReachableFromAPortRestrictedOne() async {
        await withWorlds(runs(4)) { seed in
            // Each calls the other, in half of the runs each.
            let bob = seed % 2 == 0 ? NATBehavior.portRestricted : .symmetric
            let world = try Self.world(.symmetric, bob, seed: seed)
            try world.start()
            let info = try #require(world.alice.client.servers.nat.portMapping)
            #expect(info.mappedBy == "PCP" && info.isUsable && info.problem == nil, "\(info)")
            #expect(world.alice.client.servers.natType == .symmetric)
            #expect(world.alice.client.servers.natTypeForPeers == .fullCone)
            if seed % 4 < 2 {
                #expect(try world.meet())
            } else {
                world.bob.connect(to: "alice")
                #expect(try world.internet.run(while: { !world.areOpen }, atMostSeconds: 5))
            }
            #expect(try world.internet.run(while: { !world.areDirect }, atMostSeconds: 5), world.comment)
            #expect(try world.exchange())
            #expect(world.bob.client.peerNATs["alice"] == .fullCone)
            try world.close()
        }
    }

    @Test func whatWasMappedIsGivenBackAtTheEnd() async {
        await withWorlds(0..<1) { seed in
            let world = try Self.world(.portRestricted, .portRestricted, seed: seed)
            try world.start()
            let service = try Self.service(world)
            #expect(service.server.mappings.count == 1)
            var isClosed = false
            world.alice.client.close { isClosed = true }
            #expect(try world.internet.run(while: { !isClosed }, atMostSeconds: 3.8))
            #expect(service.server.mappings.isEmpty)
            // Relays take a moment to say goodbye.
            #expect(try world.internet.run(while: { world.alice.network.openPorts > 0 }, atMostSeconds: 5))
            try world.close()
        }
    }

    @Test func aGatewayThatStartsAnewMapsAgainAndTheConnectionLives() async {
        await withWorlds(0..<2) { seed in
            let world = try Self.world(.symmetric, .portRestricted, seed: seed)
            try world.start()
            #expect(try world.meet())
            #expect(try world.internet.run(while: { !world.areDirect }, atMostSeconds: 5), world.comment)
            // Epochs of the first seconds do not tell a start from a slow clock.
            try world.internet.run(seconds: 10)
            world.internet.router(ClientWorld.router("alice")).reboot()
            let service = try Self.service(world)
            #expect(service.server.mappings.isEmpty)
            #expect(try world.internet.run(while: { service.server.mappings.isEmpty }, atMostSeconds: 6))
            // It keeps its nonce and its port, so peers that know the mapping find it.
            #expect(try world.internet.run(while: { !world.areDirect }, atMostSeconds: 30), world.comment)
            #expect(try world.exchange())
            try world.close()
        }
    }

    @Test func aGatewayBehindAnotherNATIsToldAndItsMappingIsNot() async {
        await withWorlds(0..<1) { seed in
            let world = try Self.world(.symmetric, .portRestricted, seed: seed)
            // A carrier's address, and one that servers do not see.
            for address in [IPAddress("100.64.7.7"), IPAddress("45.9.9.9")] {
                let service = try Self.service(world)
                service.server.externalAddress = address.v4
                if world.alice.client.phase == .idle {
                    try world.start()
                } else {
                    try world.internet.run(seconds: 10)
                    world.internet.router(ClientWorld.router("alice")).reboot()
                    try world.internet.run(seconds: 6)
                }
                let info = try #require(world.alice.client.servers.nat.portMapping)
                #expect(info.isBehindAnotherNAT && !info.isUsable && info.externalIP == address.text, "\(info)")
                #expect(info.problem?.contains("two NATs") == true)
                #expect(world.alice.client.servers.natTypeForPeers == .symmetric)
            }
            #expect(!world.alice.client.gatherer.candidates.contains { $0.endpoint.address == IPAddress("100.64.7.7") })
            #expect(!world.alice.client.gatherer.candidates.contains { $0.endpoint.address == IPAddress("45.9.9.9") })
            try world.close()
        }
    }

    @Test func nothingIsAskedWhereItIsNotWanted() async {
        await withWorlds(0..<1) { seed in
            let world = try ClientWorld(
                [.init(name: "alice", behavior: .portRestricted, mapsPorts: true)],
                seed: seed
            ) { _, configuration in configuration.portMapping = false }
            try world.start()
            let service = try Self.service(world)
            #expect(service.server.requests.isEmpty)
            #expect(world.alice.client.servers.nat.portMapping == nil)
            try world.close()
        }
    }

    @Test func defaultRoutesAreReadFromTheKernelsTable() {
        let table = """
            Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
            wlan0\t00000000\t0100A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0
            eth0\t00000000\t0101A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0
            eth0\t0001A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0
            tun0\t00000000\t00000000\t0001\t0\t0\t50\t00000000\t0\t0\t0
            eth1\t0002A8C0\t0102A8C0\t0003\t0\t0\t100\t00FFFFFF\t0\t0\t0
            broken\t00
            """
        #expect(
            DefaultRoutes.gateways(in: table) == [
                Gateway(address: IPAddress("192.168.1.1"), interface: "eth0"),
                Gateway(address: IPAddress("192.168.0.1"), interface: "wlan0"),
            ]
        )
        #expect(DefaultRoutes.gateways(in: "").isEmpty)
    }

    @Test(arguments: [("true", true), ("0", false), ("No", false), ("on", true)])
    func theEnvironmentSwitchesItOff(_ text: String, _ isOn: Bool) {
        let configuration = Configuration.fromEnvironment(["P2P_PORT_MAPPING": text])
        #expect(configuration.portMapping == isOn && configuration.issues.isEmpty)
        #expect(Configuration.fromEnvironment([:]).portMapping)
        let broken = Configuration.fromEnvironment(["P2P_PORT_MAPPING": "maybe"])
        #expect(broken.portMapping && broken.issues.map(\.name) == ["P2P_PORT_MAPPING"])
    }
}
