import Testing
import Traversal

/// The table of NAT pairs: what can be direct without guessing ports is direct in every run, and the rest is relayed.
@Suite struct ReachabilityTests {
    struct Cell: Sendable, CustomTestStringConvertible {
        let offerer: Side
        let answerer: Side
        var testDescription: String { "\(offerer.name) to \(answerer.name)" }

        /// Ports of a symmetric NAT that the other side's filter wants to know beforehand cannot be known.
        var isDirect: Bool {
            let kinds = [offerer, answerer]
            guard kinds.contains(.symmetric) else { return true }
            return kinds.contains { $0 != .symmetric && $0 != .portRestricted }
        }
    }

    enum Side: Sendable, CaseIterable {
        case open, fullCone, restricted, portRestricted, symmetric

        var kind: SimulatedNAT.Kind? {
            switch self {
            case .open: nil
            case .fullCone: .fullCone
            case .restricted: .restricted
            case .portRestricted: .portRestricted
            case .symmetric: .symmetric
            }
        }

        var name: String { kind?.name ?? "Open" }
    }

    static let cells = Side.allCases.flatMap { first in Side.allCases.map { Cell(offerer: first, answerer: $0) } }

    @Test(arguments: cells.filter(\.isDirect))
    func pairsThatNeedNoGuessingAreDirectInAHundredRuns(_ cell: Cell) throws {
        for seed in 1...100 as ClosedRange<UInt64> {
            let network = SimulatedNetwork(seed: seed)
            let offerer = try network.addPeer(cell.offerer.kind, role: .controlling)
            let answerer = try network.addPeer(cell.answerer.kind, role: .controlled)
            network.connect(offerer, answerer)
            let isDirect = network.run(for: 5 * seconds) { network.isDirect }
            guard isDirect else {
                Issue.record("seed \(seed):\n\(offerer.agent.report)\n\(answerer.agent.report)")
                return
            }
        }
    }

    @Test(arguments: cells.filter { !$0.isDirect })
    func theOthersUseTheRelay(_ cell: Cell) throws {
        for seed in 1...10 as ClosedRange<UInt64> {
            let network = SimulatedNetwork(seed: seed)
            let offerer = try network.addPeer(cell.offerer.kind, role: .controlling)
            let answerer = try network.addPeer(cell.answerer.kind, role: .controlled)
            network.connect(offerer, answerer)
            #expect(network.run(for: 2 * seconds) { network.isConnected }, "seed \(seed)")
            network.run(for: 45 * seconds)
            #expect(network.isRelayed, "seed \(seed):\n\(offerer.agent.report)\n\(answerer.agent.report)")
            #expect(offerer.agent.state == .completed, "seed \(seed)")
        }
    }

    /// Ten of a hundred packets are lost on each leg, of which a relayed pair has four.
    @Test func lossDelaysAndDoesNotPrevent() throws {
        for seed in 1...60 as ClosedRange<UInt64> {
            let network = SimulatedNetwork(seed: seed)
            network.lossPercent = 10
            let offerer = try network.addPeer(.portRestricted, role: .controlling)
            let answerer = try network.addPeer(.portRestricted, role: .controlled)
            network.connect(offerer, answerer)
            let isDirect = network.run(for: 10 * seconds) { network.isDirect }
            #expect(isDirect, "seed \(seed):\n\(offerer.agent.report)\n\(answerer.agent.report)")
        }
    }

    @Test func peersWithoutRenominationEndOnTheDirectPairToo() throws {
        for seed in 1...20 as ClosedRange<UInt64> {
            let network = SimulatedNetwork(seed: seed)
            let offerer = try network.addPeer(.portRestricted, role: .controlling)
            let answerer = try network.addPeer(.restricted, role: .controlled)
            network.connect(offerer, answerer, renomination: false)
            network.run(for: 30 * seconds)
            #expect(network.isDirect, "seed \(seed)")
            #expect(network.peers.allSatisfy { $0.agent.path?.isNominated == true }, "seed \(seed)")
        }
    }

    /// The relay is usable a round trip and one turn after the answer, though its pairs are the last by priority; and
    /// the direct path follows within two round trips by the relay and 150 ms in the usual case.
    @Test func theRelayIsThereAtOnceAndTheDirectPathSoon() throws {
        var times: [UInt64] = []
        for seed in 1...50 as ClosedRange<UInt64> {
            let network = SimulatedNetwork(seed: seed)
            let offerer = try network.addPeer(.portRestricted, role: .controlling)
            let answerer = try network.addPeer(.portRestricted, role: .controlled)
            network.connect(offerer, answerer)
            network.run(for: 60 * milliseconds)
            let start = network.now
            #expect(network.run(for: seconds) { network.isConnected })
            // A turn of 50 ms, and two legs there and two back, each of 25 ms at most.
            #expect(network.now - start <= 150 * milliseconds, "seed \(seed): \(network.now - start)")
            #expect(network.run(for: 5 * seconds) { network.isDirect })
            times.append(network.now - start)
        }
        times.sort()
        #expect(times[25] <= 350 * milliseconds, "\(times)")
        #expect(times[49] <= 2 * seconds, "\(times)")
        print("direct after the answer: median \(times[25] / milliseconds) ms, longest \(times[49] / milliseconds) ms")
    }
}
