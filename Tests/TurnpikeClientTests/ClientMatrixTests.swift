import Lab
import STUN
import Testing
import Traversal

@testable import TurnpikeClient

/// The table of NAT pairs with whole clients: what can be direct is so in every run, where ports have to be guessed
/// after a second search at the latest, and the rest is connected over the relay. `LAB_RUNS=100` is the whole count.
@Suite struct ClientMatrixTests {
    private static func home(_ name: String, _ side: NATSide, _ dice: inout Dice) -> ClientWorld.Home {
        // Where there is no NAT there is nothing else in the way either.
        .init(name: name, behavior: side.behavior(&dice), firewall: side == .open ? .open : .stateful)
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

    @Test(arguments: NATPair.all) func everyPairEndsOnTheBestPathThereIs(cell: NATPair) async {
        await withWorlds(runs(1)) { seed in
            var dice = Dice(seed: seed, for: "\(cell.offerer) and \(cell.answerer)")
            let homes = [Self.home("alice", cell.offerer, &dice), Self.home("bob", cell.answerer, &dice)]
            let world = try ClientWorld(homes, quality: Self.quality(seed), seed: seed)
            try world.start()
            #expect(try world.meet(), world.comment)
            if cell.isDirect || cell.isGuessable {
                #expect(
                    try world.internet.run(while: { !world.areDirect }, atMostSeconds: cell.isDirect ? 5 : 60),
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
