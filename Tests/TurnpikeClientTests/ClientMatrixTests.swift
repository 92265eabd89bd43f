import Lab
import STUN
import Testing
import Traversal

@testable import TurnpikeClient

/// The table of NAT pairs with whole clients: what can be direct without guessing ports is direct in every run, and the
/// rest is connected over the relay. `LAB_RUNS=100` is the whole count.
@Suite struct ClientMatrixTests {
    /// The five types of NAT.
    enum Side: String, CaseIterable, Sendable {
        case open, fullCone, restricted, portRestricted, symmetric

        /// With everything else about it drawn: how it gives out ports, and whether it turns packets round.
        func home(_ name: String, _ dice: inout Dice) -> ClientWorld.Home {
            let ways: [NATBehavior.Allocation] =
                self == .symmetric
                ? [.random, .chunked(ports: 512)]
                : [.preserving, .random, .sequential(step: [1, 2, -1][Int(dice.below(3))]), .chunked(ports: 1_024)]
            let allocation = ways[Int(dice.below(UInt64(ways.count)))]
            let turnsRound = dice.chance(0.3)
            let plain: NATBehavior? =
                switch self {
                case .open: nil
                case .fullCone: .fullCone
                case .restricted: .restricted
                case .portRestricted: .portRestricted
                case .symmetric: .symmetric
                }
            let behavior = plain?.with {
                $0.allocation = allocation
                $0.hairpinning = turnsRound ? .externalSource : .none
            }
            // Where there is no NAT there is nothing else in the way either.
            return ClientWorld.Home(name: name, behavior: behavior, firewall: self == .open ? .open : .stateful)
        }
    }

    /// A direction of the table.
    struct Cell: Sendable, CustomTestStringConvertible {
        let offerer: Side
        let answerer: Side

        var testDescription: String { "\(offerer) to \(answerer)" }

        /// All but a symmetric NAT with another one, or with a port-restricted one.
        var isDirect: Bool {
            let strict: Set = [Side.portRestricted, .symmetric]
            let isHard = { (one: Side, other: Side) in one == .symmetric && strict.contains(other) }
            return !isHard(offerer, answerer) && !isHard(answerer, offerer)
        }

        static let all = Side.allCases.flatMap { first in Side.allCases.map { Cell(offerer: first, answerer: $0) } }
    }

    /// Each seed has another delay.
    private static func quality(_ seed: UInt64) -> LinkQuality {
        var dice = Dice(seed: seed, for: "quality")
        return LinkQuality(
            delayMilliseconds: 2 + 40 * dice.unit(),
            jitterMilliseconds: 8 * dice.unit(),
            reorderRatio: 0.02
        )
    }

    @Test(arguments: Cell.all) func everyPairEndsOnTheBestPathThereIs(cell: Cell) async {
        await withWorlds(runs(1)) { seed in
            var dice = Dice(seed: seed, for: "\(cell.offerer) and \(cell.answerer)")
            let homes = [cell.offerer.home("alice", &dice), cell.answerer.home("bob", &dice)]
            let world = try ClientWorld(homes, quality: Self.quality(seed), seed: seed)
            try world.start()
            #expect(try world.meet(), world.comment)
            if cell.isDirect {
                #expect(
                    try world.internet.run(while: { !world.areDirect }, atMostSeconds: 5),
                    world.comment
                )
            } else {
                try world.internet.run(seconds: 10)
                #expect(world.areRelayed, world.comment)
            }
            #expect(try world.exchange(), world.comment)
            #expect(world.internet.log.isConserved)
            try world.close()
        }
    }
}
