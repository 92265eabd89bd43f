import STUN
import Testing
import Traversal

/// RFC 8445 section 9.
@Suite struct RestartTests {
    private func restart(_ network: SimulatedNetwork, signaling: UInt64) {
        let (offerer, answerer) = (network.peers[0], network.peers[1])
        network.act(offerer) { offerer.agent.restart(now: network.now, into: &$0) }
        let offer = network.describe(offerer, candidates(offerer, network))
        network.after(signaling) {
            network.act(answerer) { answerer.agent.restart(now: network.now, into: &$0) }
            let answer = network.describe(answerer, self.candidates(answerer, network))
            network.accept(offer, by: answerer)
            network.after(signaling) { network.accept(answer, by: offerer) }
        }
    }

    /// What the agent has already.
    private func candidates(_ peer: SimulatedPeer, _ network: SimulatedNetwork) -> [ICECandidate] {
        var list = [ICELocalCandidate(base: SimulatedPeer.socket, type: .host, endpoint: peer.host)]
        if let nat = peer.nat {
            let mapped = nat.outbound(peer.host, to: SimulatedNetwork.stunServer, &network.generator)
            list.append(
                ICELocalCandidate(
                    base: SimulatedPeer.socket,
                    type: .serverReflexive,
                    endpoint: mapped,
                    baseEndpoint: peer.host
                )
            )
        }
        if let relay = peer.relay {
            list.append(ICELocalCandidate(base: SimulatedPeer.relayBase, type: .relayed, endpoint: relay))
        }
        return list.map(peer.agent.signaled)
    }

    @Test func dataFlowsByTheOldPathUntilTheNewOneStands() throws {
        for seed in 1...20 as ClosedRange<UInt64> {
            let network = SimulatedNetwork(seed: seed)
            let offerer = try network.addPeer(.portRestricted, role: .controlling)
            let answerer = try network.addPeer(.restricted, role: .controlled)
            network.connect(offerer, answerer)
            #expect(network.run(for: 5 * seconds) { network.isDirect })
            network.run(for: 3 * seconds)
            network.exchangeData(every: 20 * milliseconds) { true }
            let old = network.peers.map(\.agent.localCredentials)
            let counts = network.peers.map(\.paths.count)
            restart(network, signaling: 400 * milliseconds)
            #expect(network.peers.allSatisfy { $0.agent.path != nil })
            network.run(for: 6 * seconds)
            #expect(network.isDirect, "seed \(seed)")
            for (index, peer) in network.peers.enumerated() {
                #expect(peer.agent.localCredentials != old[index])
                #expect(peer.paths.dropFirst(counts[index]).allSatisfy { $0.path?.isRelayed == false }, "seed \(seed)")
                let gaps = zip(peer.arrivals, peer.arrivals.dropFirst()).map { $1 - $0 }
                #expect((gaps.max() ?? .max) < 200 * milliseconds, "seed \(seed)")
            }
        }
    }

    @Test func aFailedConnectionComesBackByARestart() throws {
        let network = SimulatedNetwork(seed: 5)
        let offerer = try network.addPeer(.portRestricted, role: .controlling)
        let answerer = try network.addPeer(.portRestricted, role: .controlled)
        network.connect(offerer, answerer)
        #expect(network.run(for: 5 * seconds) { network.isDirect })
        (network.isDirectCut, network.isRelayCut) = (true, true)
        network.run(for: 60 * seconds)
        #expect(network.peers.allSatisfy { $0.agent.state == .failed })
        (network.isDirectCut, network.isRelayCut) = (false, false)
        restart(network, signaling: 30 * milliseconds)
        #expect(network.run(for: 5 * seconds) { network.isDirect })
    }

    @Test func otherCredentialsWithoutARestartAreRefused() throws {
        let agent = ICEAgent(role: .controlling, cryptography: try SeededCryptography(seed: 1))
        var actions: [ICEAction] = []
        func parameters(_ fragment: String) throws -> ICERemoteParameters {
            ICERemoteParameters(
                credentials: try ICECredentials(usernameFragment: fragment, password: "0123456789012345678901")
            )
        }
        try agent.setRemote(try parameters("abcd"), now: 1, into: &actions)
        try agent.setRemote(try parameters("abcd"), now: 2, into: &actions)
        #expect(throws: ICEError.restartNeeded) {
            try agent.setRemote(try parameters("efgh"), now: 3, into: &actions)
        }
        agent.restart(now: 4, into: &actions)
        try agent.setRemote(try parameters("efgh"), now: 5, into: &actions)
        #expect(throws: ICEError.credentials) { try parameters("abc") }
        #expect(throws: ICEError.credentials) { try parameters("ab:cd") }
        #expect(throws: ICEError.credentials) { try ICECredentials(usernameFragment: "abcd", password: "short") }
    }
}
