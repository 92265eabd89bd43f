import STUN
import Testing
import Traversal

/// What happens to a connection after it stands.
@Suite struct LivenessTests {
    private func connected(
        _ first: SimulatedNAT.Kind? = .portRestricted,
        _ second: SimulatedNAT.Kind? = .portRestricted,
        seed: UInt64,
        relayed: Bool = true,
        renomination: Bool = true
    ) throws -> SimulatedNetwork {
        let network = SimulatedNetwork(seed: seed)
        let offerer = try network.addPeer(first, role: .controlling, relayed: relayed)
        let answerer = try network.addPeer(second, role: .controlled, relayed: relayed)
        network.connect(offerer, answerer, renomination: renomination)
        #expect(network.run(for: 5 * seconds) { network.isDirect }, "seed \(seed)")
        network.run(for: 5 * seconds)
        return network
    }

    /// Relay first: the path is there before the direct one, which takes over without a gap.
    @Test func theRelayCarriesDataUntilTheDirectPathTakesOver() throws {
        for seed in 1...20 as ClosedRange<UInt64> {
            let network = SimulatedNetwork(seed: seed)
            network.isDirectCut = true
            let offerer = try network.addPeer(.portRestricted, role: .controlling)
            let answerer = try network.addPeer(.portRestricted, role: .controlled)
            network.connect(offerer, answerer)
            #expect(network.run(for: seconds) { network.isRelayed }, "seed \(seed)")
            network.exchangeData(every: 20 * milliseconds) { !network.isDirect }
            network.run(for: 2 * seconds)
            #expect(network.isRelayed, "seed \(seed)")
            network.isDirectCut = false
            #expect(network.run(for: 10 * seconds) { network.isDirect }, "seed \(seed)\n\(offerer.agent.report)")
            for peer in network.peers {
                #expect(peer.paths.allSatisfy { $0.path != nil }, "seed \(seed)")
                #expect(peer.paths.dropLast().allSatisfy { $0.path?.isRelayed == true }, "seed \(seed)")
                #expect(peer.paths.count <= 4, "seed \(seed): \(peer.paths)")
                let gaps = zip(peer.arrivals, peer.arrivals.dropFirst()).map { $1 - $0 }
                #expect((gaps.max() ?? 0) < 200 * milliseconds, "seed \(seed)")
            }
        }
    }

    /// Within two seconds data arrives again, over the relay; and once the direct path works it comes back.
    @Test(arguments: [true, false])
    func aDeadPathFallsBackToTheRelayWithinTwoSecondsAndReturns(renomination: Bool) throws {
        for seed in 1...25 as ClosedRange<UInt64> {
            let network = try connected(seed: seed, renomination: renomination)
            network.exchangeData(every: 20 * milliseconds) { true }
            network.run(for: 2 * seconds)
            let cut = network.now
            network.isDirectCut = true
            network.run(for: 4 * seconds)
            #expect(network.isRelayed, "seed \(seed)")
            for peer in network.peers {
                let again = peer.arrivals.first { $0 > cut + 100 * milliseconds } ?? .max
                #expect(again - cut <= 2 * seconds, "seed \(seed): \(again - cut)\n\(peer.agent.report)")
                #expect(peer.agent.state == .connected || peer.agent.state == .completed)
            }
            let mended = network.now
            network.isDirectCut = false
            #expect(network.run(for: 5 * seconds) { network.isDirect }, "seed \(seed)")
            #expect(network.now - mended <= 3 * seconds, "seed \(seed): \(network.now - mended)")
        }
    }

    /// Nothing comes back by the one direction, though it is the other that is cut.
    @Test func aPathThatWorksOneWayIsLeftByBoth() throws {
        for seed in 1...10 as ClosedRange<UInt64> {
            let network = try connected(seed: seed)
            network.exchangeData(every: 20 * milliseconds) { true }
            let deaf = network.peers[Int(seed & 1)]
            network.drops = { _, target in target.address == deaf.nat?.address }
            #expect(network.run(for: 10 * seconds) { network.isRelayed }, "seed \(seed)")
        }
    }

    /// RFC 7675 section 5.1: after 30 s without an answer nothing is sent any more, and the report says why.
    @Test func lostConsentEndsTheConnectionAndItsTraffic() throws {
        let network = try connected(seed: 7)
        let lost = network.now
        (network.isDirectCut, network.isRelayCut) = (true, true)
        network.run(for: 60 * seconds)
        for peer in network.peers {
            let states = peer.states.filter { $0.at > lost }
            #expect(states.map(\.state) == [.disconnected, .failed])
            let failed = try #require(states.last?.at)
            // Consent was renewed at most 6 s before, and lasts 30 s.
            #expect(failed - lost <= 30 * seconds + 100 * milliseconds)
            #expect(failed - lost >= 19 * seconds)
            #expect(peer.agent.path == nil && peer.agent.nextDeadline == nil)
            let report = try #require(peer.reports.last)
            #expect(report.failure == .consentExpired)
            #expect(report.pairs.contains { $0.failure == .consentExpired })
            let count = peer.sent.count
            network.run(for: 60 * seconds)
            #expect(peer.sent.count == count)
        }
    }

    /// RFC 7675 section 5.1: every 4 to 6 seconds on the path, never in step.
    @Test func consentIsAskedForAtRandomisedIntervals() throws {
        let network = try connected(seed: 9, relayed: false)
        let peer = network.peers[0]
        let start = network.now
        let before = peer.sent.count
        network.run(for: 120 * seconds)
        #expect(network.isDirect)
        let requests = peer.sent.dropFirst(before).filter { $0.bytes[0] == 0 && $0.bytes[1] == 1 }
        #expect((18...32).contains(requests.count), "\(requests.count) in \(network.now - start)")
        #expect(peer.agent.state == .completed)
    }

    /// The mappings are gone, so the peer sees another address; the connection follows.
    @Test func aNATThatForgetsIsFollowed() throws {
        for seed in 1...20 as ClosedRange<UInt64> {
            let network = try connected(seed: seed)
            network.exchangeData(every: 20 * milliseconds) { true }
            let cut = network.now
            network.peers[0].nat?.forget()
            network.run(for: 10 * seconds)
            #expect(network.isDirect || network.isRelayed, "seed \(seed)")
            for peer in network.peers {
                let gaps = zip(peer.arrivals, peer.arrivals.dropFirst()).filter { $1 > cut }.map { $1 - $0 }
                #expect((gaps.max() ?? .max) <= 2 * seconds, "seed \(seed): \(gaps.max() ?? 0)")
            }
        }
    }

    @Test func tenPercentLossForAnHourCostsNothingButPackets() throws {
        let network = try connected(seed: 11)
        network.lossPercent = 10
        network.run(for: 3_600 * seconds)
        for peer in network.peers {
            #expect(!peer.states.contains { $0.state == .failed || $0.state == .disconnected })
            #expect(peer.agent.path != nil)
        }
        // Two hours later nothing has piled up.
        #expect(network.peers[0].agent.report.pairs.count <= ICELimits.pairs)
    }

    @Test func aRemovedBaseLeavesThePathToTheOthers() throws {
        let network = try connected(seed: 12)
        let peer = network.peers[0]
        network.act(peer) { peer.agent.remove(SimulatedPeer.socket, now: network.now, into: &$0) }
        #expect(peer.agent.path?.base == SimulatedPeer.relayBase)
        network.act(peer) { peer.agent.remove(SimulatedPeer.relayBase, now: network.now, into: &$0) }
        #expect(peer.agent.path == nil)
    }
}
