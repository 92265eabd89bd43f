import Lab
import STUN
import Testing
import Traversal

@testable import TurnpikeClient

/// Paths that come back, machines that were asleep, NATs that forget soon, and links that get worse and worse.
@Suite struct ClientHealingTests {
    static let quality = LinkQuality(delayMilliseconds: 12, jitterMilliseconds: 3)

    static func world(
        _ behavior: NATBehavior = .portRestricted,
        quality: LinkQuality = quality,
        seed: UInt64,
        configure: (String, inout Configuration) -> Void = { _, _ in }
    ) throws -> ClientWorld {
        try ClientWorld(
            [.init(name: "alice", behavior: behavior), .init(name: "bob", behavior: behavior)],
            quality: quality,
            seed: seed,
            configure: configure
        )
    }

    /// Whether it was cut for a moment, or for longer than a check, consent, or the restart that follows it lasts.
    @Test func aPathIsDirectAgainWithinThreeSecondsOfItsRepair() async {
        let returns = Figures()
        await withWorlds(runs(1)) { seed in
            let world = try Self.world(seed: seed)
            try world.start()
            #expect(try world.meet(), world.comment)
            #expect(try world.internet.run(while: { !world.areDirect }, atMostSeconds: 5), world.comment)
            let homes = ["alice", "bob"].map { world.internet.router(ClientWorld.router($0)).publicAddresses }
            for seconds in [4.0, 21, 32, 37.5, 44, 58, 90] {
                world.internet.core.partition(homes[0], from: homes[1])
                #expect(try world.exchange(atMostSeconds: 4), world.comment)
                try world.internet.run(seconds: seconds)
                #expect(world.areRelayed, world.comment)
                world.internet.core.heal()
                let repaired = world.internet.seconds
                #expect(try world.internet.run(while: { !world.areDirect }, atMostSeconds: 60), world.comment)
                returns.add(world.internet.seconds - repaired)
                #expect(try world.exchange(), world.comment)
            }
            #expect(world.alice.disconnections.isEmpty && world.bob.disconnections.isEmpty)
            try world.close()
        }
        #expect(returns.quantile(1) <= 3)
        print(returns.text("direct again after the repair of a path, s"))
    }

    /// Its mappings, relay, session at the signaling server and consent are all over when it wakes up.
    @Test(arguments: ["alice", "bob"])
    func aConnectionOutlivesFiveMinutesOfSleep(sleeper: String) async {
        let (returns, directs) = (Figures(), Figures())
        // With the last of these seeds the sleeper hears and speaks before it gets to its alarms.
        await withWorlds(runs(17)) { seed in
            let world = try Self.world(seed: seed)
            try world.start()
            #expect(try world.meet(), world.comment)
            #expect(try world.internet.run(while: { !world.areDirect }, atMostSeconds: 5), world.comment)
            try world.internet.run(seconds: 5)
            world[sleeper].network.stop()
            try world.internet.run(seconds: 300 + Double(seed) / 3)
            let woken = world.internet.seconds
            world[sleeper].network.proceed()
            // What each says at once comes to the other.
            #expect(try world.exchange(atMostSeconds: 10), world.comment)
            returns.add(world.internet.seconds - woken)
            #expect(try world.internet.run(while: { !world.areDirect }, atMostSeconds: 10), world.comment)
            directs.add(world.internet.seconds - woken)
            #expect(world.alice.disconnections.isEmpty && world.bob.disconnections.isEmpty)
            #expect(world.alice.isRegistered && world.bob.isRegistered)
            try world.close()
        }
        #expect(returns.quantile(1) <= 1)
        #expect(directs.quantile(1) <= 1)
        print(returns.text("\(sleeper) wakes up: data flows after, s"))
        print(directs.text("\(sleeper) wakes up: direct after, s"))
    }

    @Test func noMappingIsLostInTenIdleMinutesBehindAForgetfulNAT() async {
        await withWorlds(runs(1)) { seed in
            let behavior = NATBehavior.portRestricted.with {
                $0.udpLifetimeSeconds = 30
                // So that a mapping that was lost would be followed by another one.
                $0.allocation = .random
            }
            let quality = LinkQuality(delayMilliseconds: 12, jitterMilliseconds: 3, lossRatio: 0.05)
            let world = try Self.world(behavior, quality: quality, seed: seed)
            try world.start(atMostSeconds: 20)
            #expect(try world.meet(atMostSeconds: 10), world.comment)
            #expect(try world.internet.run(while: { !world.areDirect }, atMostSeconds: 10), world.comment)
            // How long mappings live is known by then, and the sockets that have found it out are closed.
            try world.internet.run(seconds: 45)
            #expect(world.alice.network.openPorts <= 4)
            #expect(world.alice.client.context.keepAliveNanoseconds == 21_600_000_000)
            func mappings() -> [Set<Endpoint>] {
                [world.alice, world.bob].map { client in
                    let relays = client.client.servers.relays?.up.map(\.mapped) ?? []
                    return Set(client.client.gatherer.candidates.map(\.endpoint) + relays)
                }
            }
            let before = mappings()
            let changes = world.alice.pathChanges.count + world.bob.pathChanges.count
            var packets = 0
            world.internet.log.observe = { entry in
                if entry.event == .sent, entry.place == "alice", case .datagram = entry.packet.body { packets += 1 }
            }
            try world.internet.run(seconds: 600)
            world.internet.log.observe = nil
            #expect(mappings() == before, world.comment)
            // Checks of ICE's every few seconds for each pair, and what keeps the mappings of one socket and one relay.
            #expect(packets < 2_000)
            print("ten idle minutes: \(packets) datagrams, \(world.alice.network.openPorts) sockets")
            // Three checks in a row are lost once in a while: data goes over the relay until the next one is answered.
            #expect(world.alice.pathChanges.count + world.bob.pathChanges.count <= changes + 4, world.comment)
            #expect(world.areDirect, world.comment)
            #expect(try world.exchange(), world.comment)
            try world.close()
        }
    }

    /// Without a connection nothing else goes by the mapping of the relay's socket.
    @Test func mappingsAreUsedMoreOftenWhereTheyAreForgottenSooner() async {
        await withWorlds(runs(1)) { seed in
            let world = try Self.world(.portRestricted.with { $0.udpLifetimeSeconds = 14 }, seed: seed)
            try world.start()
            #expect(world.alice.client.context.keepAliveNanoseconds == 25_000_000_000)
            try world.internet.run(seconds: 40)
            #expect(world.alice.client.context.keepAliveNanoseconds == 9_600_000_000)
            #expect(world.alice.client.servers.nat.lifetimeAtLeastSeconds == 12)
            #expect(world.alice.client.servers.nat.lifetimeBelowSeconds == 17)
            let before = world.alice.client.gatherer.candidates.map(\.endpoint)
            try world.internet.run(seconds: 120)
            #expect(world.alice.client.gatherer.candidates.map(\.endpoint) == before)
            #expect(try world.meet(), world.comment)
            #expect(try world.internet.run(while: { !world.areDirect }, atMostSeconds: 5), world.comment)
            try world.close()
        }
    }

    /// Before it is known how soon that is.
    @Test(arguments: [6, 25])
    func mappingsAreUsedAsOftenAsTheConfigurationSays(keepAliveSeconds: Int) async {
        await withWorlds(runs(1)) { seed in
            let behavior = NATBehavior.portRestricted.with { ($0.udpLifetimeSeconds, $0.allocation) = (14, .random) }
            let world = try Self.world(behavior, seed: seed) { _, configuration in
                configuration.keepAliveInterval = .seconds(keepAliveSeconds)
            }
            try world.start()
            let gatherer = world.alice.client.gatherer
            let before = gatherer.candidates.first { $0.type == .serverReflexive }?.endpoint
            try world.internet.run(seconds: 35)
            let after = gatherer.candidates.first { $0.type == .serverReflexive }?.endpoint
            #expect((before == after) == (keepAliveSeconds < 14))
            try world.close()
        }
    }

    /// Nobody who relays for this machine hears of the change, and it sends nothing but what keeps mappings.
    @Test func aRelayIsFoundAgainBehindANATThatHasForgottenIt() async {
        await withWorlds(runs(1)) { seed in
            let world = try Self.world(.symmetric, seed: seed)
            try world.start()
            try world.internet.run(seconds: 2)
            world.internet.router(ClientWorld.router("bob")).reboot()
            try world.internet.run(seconds: 30)
            #expect(try world.meet(atMostSeconds: 2), world.comment)
            #expect(try world.exchange(), world.comment)
            try world.close()
        }
    }

    struct Level: Sendable {
        var number: Int
        var quality: LinkQuality

        /// From a good wireless network by a bad mobile one to a satellite in a storm; each way, of one side.
        static let all = [
            (10.0, 5.0, 0.005), (50, 15, 0.015), (100, 30, 0.03), (150, 45, 0.04), (200, 60, 0.05), (250, 70, 0.065),
            (300, 80, 0.08), (500, 100, 0.12), (800, 200, 0.2),
        ]
        .enumerated().map { number, values in
            Level(
                number: number,
                quality: LinkQuality(
                    delayMilliseconds: values.0,
                    jitterMilliseconds: values.1,
                    lossRatio: values.2,
                    bursts: .init(beginRatio: values.2 / 4, endRatio: 0.5),
                    reorderRatio: number == 0 ? 0 : values.2
                )
            )
        }
    }

    @Test(arguments: Level.all, ["alice", "bob"])
    func aPairIsDirectOverALinkThatIs(level: Level, side: String) async {
        let (relayed, direct) = (Figures(), Figures())
        await withWorlds(runs(1)) { seed in
            let world = try Self.world(seed: seed)
            let link = world.internet.router(ClientWorld.router(side)).link
            link.quality = level.quality
            try world.start(atMostSeconds: 60)
            let called = world.internet.seconds
            let limit = 20 + 10 * Double(level.number)
            let isOpen = try world.meet(atMostSeconds: limit)
            relayed.add(world.internet.seconds - called)
            let isDirect = try world.internet.run(while: { !world.areDirect }, atMostSeconds: limit)
            direct.add(world.internet.seconds - called)
            let isHeard = try world.exchange(atMostSeconds: limit)
            // The last two are told, whatever comes of them.
            #expect(level.number > 6 || isOpen && isDirect && isHeard, world.comment)
            try world.close()
        }
        print(relayed.text("level \(level.number) of \(side): connected, s"))
        print(direct.text("level \(level.number) of \(side): direct, s"))
    }
}
