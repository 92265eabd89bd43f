import Lab
import STUN
import Testing
import Traversal

/// Pairs of NATs that ordinary checks do not get through: how many searches find a way, and how soon. The bars are for
/// a thousand runs: `LAB_RUNS=1000`. With `LAB_LOSS=5` each link, and signaling, loses five packets of a hundred.
@Suite struct PunchCellTests {
    enum Cell: String, CaseIterable, Sendable {
        case counting, countingWithLoss, random, randomWithLoss, block, bothCounting, preserving, nasty, remembering

        var lossRatio: Double {
            LabLoss.ratio(usual: self == .countingWithLoss || self == .randomWithLoss ? 0.02 : 0)
        }

        /// Of a hundred, and within these seconds.
        var bar: (ratio: Double, seconds: Double) {
            switch self {
            case .counting, .countingWithLoss, .preserving, .nasty: (0.99, 2)
            case .random, .randomWithLoss: (0.97, 12)
            case .block: (0.99, 3)
            case .bothCounting: (0.95, 12)
            case .remembering: (0.99, 4)
            }
        }

        func behaviors(_ dice: inout Dice) -> (NATBehavior, NATBehavior) {
            let steady = PunchCellTests.steady(&dice)
            switch self {
            case .counting, .countingWithLoss: return (steady, PunchCellTests.counting(&dice))
            case .random, .randomWithLoss: return (steady, .symmetric)
            case .block:
                let size = [512, 1_024, 2_048][Int(dice.below(3))]
                return (steady, .symmetric.with { $0.allocation = .chunked(ports: size) })
            case .bothCounting: return (PunchCellTests.counting(&dice), PunchCellTests.counting(&dice))
            case .preserving: return (steady, .symmetric.with { $0.allocation = .preserving })
            case .remembering: return (steady, PunchCellTests.remembering)
            case .nasty: return (steady.with { $0.remembersUnsolicited = true }, PunchCellTests.counting(&dice))
            }
        }
    }

    /// Where the environment asks for loss, so many of a hundred searches may fail besides.
    private static let forgiven = LabLoss.wanted.map { $0 > 0 ? 0.015 : 0 } ?? 0

    /// One address for everybody, and it lets in nobody who was not sent to.
    private static func steady(_ dice: inout Dice) -> NATBehavior {
        let ways: [NATBehavior.Allocation] = [.preserving, .random, .sequential(step: 1), .chunked(ports: 1_024)]
        let way = ways[Int(dice.below(UInt64(ways.count)))]
        return .portRestricted.with { $0.allocation = way }
    }

    /// It lets in what is for itself, and takes note of it.
    private static let remembering = NATBehavior.linux.with { $0.remembersUnsolicited = true }

    /// With up to twenty connections a second that others behind it make.
    private static func counting(_ dice: inout Dice) -> NATBehavior {
        let step = [1, 1, 2, -1, -2, 4][Int(dice.below(6))]
        let rate = dice.chance(0.3) ? 0 : 20 * dice.unit()
        return .symmetric.with {
            $0.allocation = .sequential(step: step)
            $0.backgroundFlowsPerSecond = rate
        }
    }

    private static func quality(_ dice: inout Dice, lossRatio: Double) -> LinkQuality {
        LinkQuality(
            delayMilliseconds: 2 + 40 * dice.unit(),
            jitterMilliseconds: 8 * dice.unit(),
            lossRatio: lossRatio,
            reorderRatio: 0.02
        )
    }

    @Test(arguments: Cell.allCases, [false, true])
    func theSearchFindsAWayInTime(cell: Cell, isTurned: Bool) async {
        let (tally, bar) = (Tally(), cell.bar)
        let seeds = runs(cell == .random || cell == .randomWithLoss ? 4 : 8)
        await withSeeds(seeds) { seed in
            var dice = Dice(seed: seed, for: "cell \(cell)")
            let quality = Self.quality(&dice, lossRatio: cell.lossRatio)
            let (one, other) = cell.behaviors(&dice)
            let world = try PunchWorld(isTurned ? other : one, isTurned ? one : other, quality, seed: seed)
            try world.measure()
            guard world.begin() else { return tally.miss("no plan: \(world.reports)") }
            if let seconds = try world.meet(atMostSeconds: bar.seconds) {
                tally.hit(seconds)
            } else {
                tally.miss("seed \(seed): \(world.reports)")
            }
            // What lingers ends by itself, and nothing is left but the sockets with hits.
            try world.internet.run(seconds: 16)
            #expect(world.traffic.busiestSecond <= 200)
            #expect(world.traffic.forbidden == 0)
            #expect(world.traffic.longest <= PunchLimits.probeBytes)
            #expect(world.a.openSockets == world.a.hits.count && world.b.openSockets == world.b.hits.count)
            tally.packets += world.traffic.total
            tally.busiest = max(tally.busiest, world.traffic.busiestSecond)
        }
        print("\(cell)\(isTurned ? ", turned" : ""): \(tally.text)")
        // A few runs show no hundredths.
        let allowed = seeds.count < 100 ? seeds.count / 4 : Int(Double(seeds.count) * (1 - bar.ratio + Self.forgiven))
        #expect(tally.misses.count <= allowed, "\(tally.misses.prefix(5))")
    }
}

extension PunchWorld {
    var reports: String {
        [a, b].map { side in
            guard let report = side.punchReport else { return "\(side.report.map { "\($0)" } ?? "no report")" }
            let counters = side.puncher?.counters
            return "\(report.mapping) \(report.filtering) \(report.allocation.map { "\($0)" } ?? "unknown"), "
                + "\(counters?.attempts ?? 0) attempts, \(counters?.probesSent ?? 0) probes, \(side.hits.count) hits, "
                + (side.outcome?.rawValue ?? "under way")
        }.joined(separator: "; ")
    }
}
