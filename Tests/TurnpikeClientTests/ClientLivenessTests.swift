import Lab
import STUN
import Testing
import Traversal

@testable import TurnpikeClient

/// What befalls connections that stand, as their applications see it.
@Suite struct ClientLivenessTests {
    private static let quality = LinkQuality(delayMilliseconds: 12, jitterMilliseconds: 3)

    private static func world(
        _ one: NATBehavior? = .portRestricted,
        _ other: NATBehavior? = .portRestricted,
        seed: UInt64,
        configure: (String, inout Configuration) -> Void = { _, _ in }
    ) throws -> ClientWorld {
        let world = try ClientWorld(
            [.init(name: "alice", behavior: one), .init(name: "bob", behavior: other)],
            quality: quality,
            seed: seed,
            configure: configure
        )
        try world.start()
        return world
    }

    /// The homes cannot reach one another, and then can again.
    @Test func aDeadDirectPathFallsBackToTheRelayAndComesBack() async {
        let (gaps, returns) = (Figures(), Figures())
        await withWorlds(runs(2)) { seed in
            let world = try Self.world(seed: seed)
            #expect(try world.meet(), world.comment)
            #expect(try world.internet.run(while: { !world.areDirect }, atMostSeconds: 5), world.comment)
            let traffic = ClientTraffic(world)
            try world.internet.run(seconds: 3 + Double(seed) / 7)
            let homes = ["alice", "bob"].map { world.internet.router(ClientWorld.router($0)).publicAddresses }
            world.internet.core.partition(homes[0], from: homes[1])
            let cut = world.internet.now
            try world.internet.run(seconds: 6)
            gaps.add(traffic.longestGapSeconds(since: cut))
            #expect(traffic.longestGapSeconds(since: cut) <= 2, world.comment)
            #expect(world.areRelayed, world.comment)
            try world.internet.run(seconds: 34)
            world.internet.core.heal()
            let repaired = world.internet.seconds
            let isBack = try world.internet.run(while: { !world.areDirect }, atMostSeconds: 60)
            #expect(isBack, world.comment)
            returns.add(world.internet.seconds - repaired)
            #expect(traffic.longestGapSeconds(since: cut) <= 2, world.comment)
            #expect(try traffic.stop())
            #expect(traffic.misplaced == 0)
            try world.close()
        }
        print(gaps.text("data stalls when the direct path dies, s"))
        print(returns.text("back on the direct path after its repair, s"))
    }

    /// Whatever the moment is at which it was sent.
    @Test func aPacketThatIsLostIsSentAgainAfterOneTimeout() async {
        let times = Figures()
        await withWorlds(runs(1)) { seed in
            let world = try Self.world(seed: seed)
            #expect(try world.meet(), world.comment)
            try world.internet.run(while: { !world.areDirect }, atMostSeconds: 5)
            try world.internet.run(seconds: 2)
            var arrivals = 0
            world.bob.onMessage = { _, _ in arrivals += 1 }
            for round in 0..<20 {
                // A round trip that can be measured brings the timeout back to its least (RFC 9260 section 6.3.3).
                world.alice.send(Message("arrives"), to: "bob")
                try world.internet.run(seconds: 0.5 + 0.0013 * Double(round))
                let cable = world.internet.host("alice").link
                cable.cut()
                world.alice.send(Message("lost at first"), to: "bob")
                let sent = world.internet.seconds
                try world.internet.run(seconds: 0.001)
                cable.restore()
                #expect(try world.internet.run(while: { arrivals < 2 * round + 2 }, atMostSeconds: 5))
                times.add(world.internet.seconds - sent)
            }
            try world.close()
        }
        // SCTP's least timeout of 0.4 s or the little more that jitter makes of it, the tick, and the way; a second
        // timeout would end after 1.2 s.
        #expect(times.quantile(1) <= 0.6)
        print(times.text("a lost message comes after, s"))
    }

    /// Longer than consent, so that nothing of the first session is left.
    @Test func aPathThatWasDeadForMinutesComesBack() async {
        let returns = Figures()
        await withWorlds(runs(1)) { seed in
            let world = try Self.world(seed: seed)
            #expect(try world.meet(), world.comment)
            try world.internet.run(while: { !world.areDirect }, atMostSeconds: 5)
            let traffic = ClientTraffic(world)
            let homes = ["alice", "bob"].map { world.internet.router(ClientWorld.router($0)).publicAddresses }
            world.internet.core.partition(homes[0], from: homes[1])
            try world.internet.run(seconds: 150)
            #expect(world.areRelayed, world.comment)
            world.internet.core.heal()
            let repaired = world.internet.seconds
            #expect(try world.internet.run(while: { !world.areDirect }, atMostSeconds: 130), world.comment)
            returns.add(world.internet.seconds - repaired)
            #expect(try traffic.stop())
            try world.close()
        }
        print(returns.text("back on the direct path after minutes, s"))
    }

    enum Upset: String, CaseIterable, Sendable {
        /// The NAT forgets all its mappings.
        case reboot
        /// It has another address as well.
        case renumber
        /// Nothing passes at one home for ten seconds.
        case outage
        case relayRestart, hubRestart
        /// Both, and nobody is there for ten seconds.
        case serversAway
    }

    @Test(arguments: Upset.allCases, [true, false])
    func whateverHappensInTheMiddleOfATransferAllOfItArrives(upset: Upset, isDirect: Bool) async {
        let gaps = Figures()
        await withWorlds(runs(2)) { seed in
            let world = try Self.world(isDirect ? .portRestricted : .symmetric, seed: seed) { _, configuration in
                // The relay is to carry it all the time.
                configuration.symmetricPunching = .never
            }
            #expect(try world.meet(), world.comment)
            try world.internet.run(seconds: 3)
            #expect(isDirect ? world.areDirect : world.areRelayed, world.comment)
            let traffic = ClientTraffic(world)
            try world.internet.run(seconds: 2)
            let start = world.internet.now
            let router = world.internet.router(ClientWorld.router("alice"))
            var outageSeconds = 0.0
            switch upset {
            case .reboot: router.reboot()
            case .renumber: router.renumber()
            case .outage:
                router.link.cut(afterSeconds: 0, forSeconds: 10)
                outageSeconds = 10
            case .relayRestart: world.internet.relay("turn").restart()
            case .hubRestart: world.internet.rendezvous("signaling").restart()
            case .serversAway:
                let (relay, hub) = (world.internet.relay("turn"), world.internet.rendezvous("signaling"))
                relay.host.link.cut(afterSeconds: 0, forSeconds: 10)
                hub.host.link.cut(afterSeconds: 0, forSeconds: 10)
                world.internet.scheduler.after(seconds: 10) {
                    relay.restart()
                    hub.restart()
                }
                if !isDirect { outageSeconds = 10 }
            }
            try world.internet.run(seconds: outageSeconds + 12)
            let gap = traffic.longestGapSeconds(since: start)
            gaps.add(gap)
            #expect(gap <= outageSeconds + 2, world.comment)
            #expect(try traffic.stop(), world.comment)
            #expect(traffic.misplaced == 0)
            #expect(world.alice.disconnections.isEmpty && world.bob.disconnections.isEmpty)
            // Somebody who comes later finds both.
            #expect(world.alice.isRegistered && world.bob.isRegistered)
            #expect(try world.internet.run(while: { isDirect != world.areDirect }, atMostSeconds: 130), world.comment)
            try world.close()
        }
        print(gaps.text("\(upset), \(isDirect ? "direct" : "relayed"): data stalls, s"))
    }

    /// It may be asleep, or between two networks.
    @Test func aPeerThatVanishesIsDisconnectedAfterTenMinutes() async {
        await withWorlds(runs(1)) { seed in
            let world = try Self.world(seed: seed)
            #expect(try world.meet(), world.comment)
            try world.internet.run(seconds: 2)
            world.internet.router(ClientWorld.router("bob")).link.cut()
            let start = world.internet.seconds
            world.alice.send(Message("never arrives"), to: "bob")
            try world.internet.run(while: { world.alice.path(to: "bob") != nil }, atMostSeconds: 40)
            #expect(world.alice.path(to: "bob") == nil, "after consent nothing is sent any more")
            #expect(
                try world.internet.run(while: { world.alice.disconnections.isEmpty }, atMostSeconds: 640),
                world.comment
            )
            #expect(world.internet.seconds - start > 600, "\(world.alice.disconnections.map(\.reason))")
            print("a peer that vanishes is disconnected after \(world.internet.seconds - start) s")
            #expect(world.alice.session(with: "bob") == nil)
            try world.close()
        }
    }
}
