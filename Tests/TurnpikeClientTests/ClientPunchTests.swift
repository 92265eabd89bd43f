import Lab
import STUN
import Testing
import Traversal

@testable import TurnpikeClient

/// Whole clients behind NATs that ordinary checks do not get through: from the call of `connect` to the direct path on
/// both sides. The bars are for a thousand runs: `LAB_RUNS=1000`. With `LAB_LOSS=5` each link loses five packets of a
/// hundred.
@Suite struct ClientPunchTests {
    enum Cell: String, CaseIterable, Sendable {
        case counting, random, block, bothCounting, remembering

        /// Of a hundred, and within these seconds. A segment of signaling that is lost comes a second later or three.
        var bar: (ratio: Double, seconds: Double) {
            let (ratio, seconds) = barWithoutLoss
            return LabLoss.ratio() > 0 ? (ratio - 0.015, seconds + 8) : (ratio, seconds)
        }

        private var barWithoutLoss: (ratio: Double, seconds: Double) {
            switch self {
            case .counting: (0.99, 2)
            case .random: (0.97, 12)
            case .block: (0.99, 3)
            case .bothCounting: (0.95, 12)
            case .remembering: (0.99, 5)
            }
        }

        func behaviors(_ dice: inout Dice) -> (NATBehavior, NATBehavior) {
            let steps = [1, 1, 2, -1]
            let counting = (0..<2).map { _ in
                NATBehavior.symmetric.with {
                    $0.allocation = .sequential(step: steps[Int(dice.below(4))])
                    $0.backgroundFlowsPerSecond = dice.chance(0.3) ? 0 : 20 * dice.unit()
                }
            }
            return switch self {
            case .counting: (.portRestricted, counting[0])
            case .random: (.portRestricted, .symmetric)
            case .block: (.portRestricted, .symmetricChunked)
            case .bothCounting: (counting[0], counting[1])
            // Linux, where its own firewall lets in what is for itself.
            case .remembering: (.portRestricted, .linux.with { $0.remembersUnsolicited = true })
            }
        }
    }

    private static func quality(_ dice: inout Dice) -> LinkQuality {
        LinkQuality(
            delayMilliseconds: 2 + 40 * dice.unit(),
            jitterMilliseconds: 8 * dice.unit(),
            lossRatio: LabLoss.ratio(),
            reorderRatio: 0.02
        )
    }

    private static func world(
        _ one: NATBehavior,
        _ other: NATBehavior,
        _ quality: LinkQuality,
        seed: UInt64,
        configure: (String, inout Configuration) -> Void = { _, _ in }
    ) throws -> ClientWorld {
        try ClientWorld(
            [.init(name: "alice", behavior: one), .init(name: "bob", behavior: other)],
            quality: quality,
            seed: seed,
            configure: configure
        )
    }

    /// Counts what the two send to each other's NAT from here on.
    private static func watch(_ world: ClientWorld) -> PunchTraffic {
        let traffic = PunchTraffic()
        let addresses = [
            "alice": world.internet.router(ClientWorld.router("bob")).publicAddress,
            "bob": world.internet.router(ClientWorld.router("alice")).publicAddress,
        ]
        world.internet.log.observe = { entry in
            guard entry.event == .sent, let peer = addresses[entry.place] else { return }
            traffic.note(entry.packet, from: entry.place, peer: peer, at: entry.time)
        }
        return traffic
    }

    @Test(arguments: Cell.allCases, [false, true])
    func theyAreDirectInTime(cell: Cell, isTurned: Bool) async {
        let (tally, bar, seeds) = (Tally(), cell.bar, runs(cell == .random ? 2 : 1))
        await withWorlds(seeds) { seed in
            var dice = Dice(seed: seed, for: "cell \(cell)")
            let quality = Self.quality(&dice)
            let (one, other) = cell.behaviors(&dice)
            let world = try Self.world(isTurned ? other : one, isTurned ? one : other, quality, seed: seed)
            try world.start(atMostSeconds: 30)
            let traffic = Self.watch(world)
            let began = world.internet.seconds
            #expect(try world.meet(atMostSeconds: 10), world.comment)
            let left = began + bar.seconds - world.internet.seconds
            if try world.internet.run(while: { !world.areDirect }, atMostSeconds: left) {
                tally.hit(world.internet.seconds - began)
                // What is guessed is by UDP. Two homes may have met by TCP before fresh sockets are tried.
                #expect(cell == .remembering || world.alice.path(to: "bob")?.transport == .udp, world.comment)
                #expect(try world.exchange(atMostSeconds: 10), world.comment)
            } else {
                tally.miss("seed \(seed): \(world.comment)")
            }
            world.internet.log.observe = nil
            #expect(traffic.busiestSecond <= 200)
            (tally.packets, tally.busiest) = (tally.packets + traffic.total, max(tally.busiest, traffic.busiestSecond))
            // The mapping is ICE's to keep alive, and no other socket is left open.
            if seed == 0, !isTurned, world.areDirect {
                try world.internet.run(seconds: 130)
                #expect(world.areDirect, world.comment)
                // Some twenty find out how long mappings live, and each of a search would be one of 64 or more.
                #expect(world.alice.network.openPorts < 40 && world.bob.network.openPorts < 40)
            }
            try world.close()
        }
        print("\(cell)\(isTurned ? ", turned" : ""): \(tally.text)")
        // A few runs show no hundredths, and one of a hundred searches among all ports may find nothing.
        let allowed = seeds.count < 100 ? seeds.count / 2 : Int(Double(seeds.count) * (1 - bar.ratio))
        #expect(tally.misses.count <= allowed, "\(tally.misses.prefix(2))")
    }

    /// Both ports would have to be found, or nobody is to look for any: nothing is sent for that.
    @Test(arguments: ["both random", "random and counting", "one does not want it"])
    func whatCannotBeFoundIsNotLookedFor(case name: String) async {
        await withWorlds(runs(1)) { seed in
            let (one, other): (NATBehavior, NATBehavior) =
                switch name {
                case "both random": (.symmetric, .symmetric)
                case "random and counting": (.symmetric, .symmetricSequential)
                default: (.portRestricted, .symmetric)
                }
            let world = try Self.world(one, other, .access, seed: seed) { peer, configuration in
                if name == "one does not want it", peer == "bob" { configuration.symmetricPunching = .never }
            }
            try world.start()
            let traffic = Self.watch(world)
            #expect(try world.meet(), world.comment)
            try world.internet.run(seconds: 20)
            #expect(world.areRelayed, world.comment)
            for client in [world.alice, world.bob] {
                #expect(client.session(with: client === world.alice ? "bob" : "alice")?.punch?.summary == nil)
            }
            // The checks of ICE, and no more.
            #expect(traffic.total < 200)
            try world.close()
        }
    }
}
