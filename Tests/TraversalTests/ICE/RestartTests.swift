import STUN
import Testing
import Traversal

/// RFC 8445 section 9.
@Suite struct RestartTests {
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
            network.restart(by: offerer, with: answerer, signaling: 400 * milliseconds)
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
        network.restart(by: offerer, with: answerer, signaling: 30 * milliseconds)
        #expect(network.run(for: 5 * seconds) { network.isDirect })
    }

    /// RFC 8445 section 9: the peer may be a little behind on its way to the new session, and not for ever.
    @Test func theCredentialsOfBeforeServeForHalfAMinute() throws {
        let network = SimulatedNetwork(seed: 6)
        let offerer = try network.addPeer(nil, role: .controlling)
        let answerer = try network.addPeer(nil, role: .controlled)
        network.connect(offerer, answerer)
        #expect(network.run(for: 5 * seconds) { network.isDirect })
        network.run(for: 5 * seconds)
        let old = try #require(answerer.sent.last { $0.bytes[0] == 0 && $0.to == offerer.host }?.bytes)
        // Nobody answers the offer for long: the old path is in use, and its checks are answered.
        network.act(offerer) { offerer.agent.restart(now: network.now, into: &$0) }
        func isAnswered() -> Bool {
            let before = offerer.agent.counters.answeredRequests
            network.hand(old, to: offerer, SimulatedPeer.socket, from: answerer.host)
            return offerer.agent.counters.answeredRequests > before
        }
        network.run(for: 120 * seconds)
        #expect(isAnswered())
        network.restart(by: offerer, with: answerer, signaling: 30 * milliseconds)
        network.run(for: 10 * seconds)
        #expect(offerer.agent.path?.isNominated == true)
        #expect(isAnswered())
        network.run(for: 30 * seconds)
        #expect(!isAnswered())
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
