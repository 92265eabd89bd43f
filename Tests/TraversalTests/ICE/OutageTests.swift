import STUN
import TestSupport
import Testing
import Traversal

/// The network is away for a while, by whatever way there is, or a relay is gone; and then something is there again.
@Suite struct OutageTests {
    private func network(
        _ seed: UInt64,
        _ kinds: (SimulatedNAT.Kind, SimulatedNAT.Kind) = (.portRestricted, .restricted),
        renomination: Bool = true
    ) throws -> (SimulatedNetwork, [SimulatedPeer]) {
        let network = SimulatedNetwork(seed: seed)
        let peers = [
            try network.addPeer(kinds.0, role: .controlling), try network.addPeer(kinds.1, role: .controlled),
        ]
        network.connect(peers[0], peers[1], renomination: renomination)
        #expect(network.run(for: 10 * seconds) { network.isConnected })
        return (network, peers)
    }

    /// Checks that were begun meanwhile are not left to their growing pauses. A cut of this length is over before
    /// consent is on the direct path, but not on the other, which was asked seldom and to which the data has gone.
    @Test(arguments: [true, false])
    func whatComesBackAfterACutIsFoundWithinTwoSeconds(renomination: Bool) throws {
        for seed in 1...12 as ClosedRange<UInt64> {
            let (network, peers) = try network(seed, renomination: renomination)
            network.grantRestarts(signaling: 50 * milliseconds, renomination: renomination)
            network.exchangeData(every: 100 * milliseconds) { true }
            network.run(for: 10 * seconds + seed * 500 * milliseconds)
            (network.isDirectCut, network.isRelayCut) = (true, true)
            network.run(for: (22 + seed % 4) * seconds)
            (network.isDirectCut, network.isRelayCut) = (false, false)
            let end = network.now
            for peer in peers { (peer.arrivals, peer.sent) = ([], []) }
            network.run(for: 2 * seconds) { peers.allSatisfy { !$0.arrivals.isEmpty } }
            #expect(peers.allSatisfy { !$0.arrivals.isEmpty }, "seed \(seed)\n\(peers[0].agent.report)")
            #expect(peers.allSatisfy { $0.sent.count < 60 }, "seed \(seed): \(network.now - end)")
        }
    }

    /// Nobody is there for as long as it takes to give up: so many checks are sent, and then none.
    @Test func thereIsAnEndToAskingForWhatDoesNotComeBack() throws {
        let (network, peers) = try network(7)
        network.run(for: 10 * seconds)
        for peer in peers { peer.sent = [] }
        peers[1].answers = false
        network.run(for: 30 * seconds + 12 * seconds)
        #expect(peers[0].agent.state == .failed, "\(peers[0].agent.report)")
        #expect((30...400).contains(peers[0].sent.count), "\(peers[0].sent.count)")
        peers[0].sent = []
        network.run(for: 60 * seconds)
        #expect(peers[0].sent.isEmpty)
    }

    /// All relays of a peer are of one foundation. One that is gone, and of which the peer was told all the same, keeps
    /// its successor waiting no longer than a transmission.
    @Test func aPairIsNotKeptWaitingByASilentOneOfItsFoundation() throws {
        let (network, peers) = try network(3, (.symmetric, .portRestricted))
        network.run(for: 10 * seconds)
        network.act(peers[0]) { peers[0].agent.restart(now: network.now, into: &$0) }
        network.act(peers[1]) { peers[1].agent.restart(now: network.now, into: &$0) }
        let gone = Endpoint(address: IPAddress(v4: 0xC612_0163), port: 50_000)
        var description = network.describe(peers[0], [])
        description.candidates = try [gone, #require(peers[0].relay)].map { endpoint in
            ICECandidate(
                foundation: "7",
                priority: endpoint == gone ? 2 : 1,
                address: .ip(endpoint.address),
                port: endpoint.port,
                type: .relayed
            )
        }
        peers[1].sent = []
        network.accept(description, by: peers[1])
        let isAsked = network.run(for: seconds) { peers[1].sent.contains { $0.to == peers[0].relay } }
        #expect(isAsked, "\(peers[1].agent.report)")
    }

    /// The relay's server has started anew, and there is another allocation soon: consent is not over for that.
    @Test func anAgentWhoseLastBaseIsGoneWaitsForAnother() throws {
        let (network, peers) = try network(5, (.symmetric, .symmetric))
        network.run(for: 5 * seconds)
        #expect(network.isRelayed)
        let peer = peers[0]
        for base in [SimulatedPeer.relayBase, SimulatedPeer.socket] {
            network.act(peer) { peer.agent.remove(base, now: network.now, into: &$0) }
        }
        #expect(peer.agent.path == nil && peer.agent.state == .disconnected)
        network.run(for: 38 * seconds)
        #expect(peer.agent.state == .disconnected, "\(peer.agent.report)")
        network.run(for: 2 * seconds)
        #expect(peer.agent.state == .failed && peer.reports.count == 1)
        #expect(peer.reports.last?.pairs.allSatisfy { $0.failure == .baseRemoved } == true)
    }
}
