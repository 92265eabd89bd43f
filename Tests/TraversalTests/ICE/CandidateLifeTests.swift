import STUN
import Testing
import Traversal

/// Candidates of a long session: those that are learned twice, and those that lead nowhere any more.
@Suite struct CandidateLifeTests {
    private func candidate(_ endpoint: Endpoint, _ type: ICECandidateType = .serverReflexive) -> ICECandidate {
        ICECandidate(
            foundation: "f\(endpoint.port)",
            priority: 1_000,
            address: .ip(endpoint.address),
            port: endpoint.port,
            type: type
        )
    }

    /// Its check came by the relay, and the candidate is told afterwards: the socket tries it too.
    @Test func aCandidateThatACheckHasShownIsPairedWithEveryBaseOnceItIsSignaled() throws {
        let network = SimulatedNetwork(seed: 3)
        let one = try network.addPeer(nil, role: .controlling)
        let other = try network.addPeer(nil, role: .controlled, relayed: false)
        _ = network.gather(one)
        network.accept(network.describe(other, []), by: one)
        network.accept(network.describe(one, []), by: other)
        // Nothing but its check shows where the other one is, and to our relay alone.
        let relay = try #require(one.relay)
        network.act(other) { actions in
            _ = other.agent.addLocalCandidate(
                ICELocalCandidate(base: SimulatedPeer.socket, type: .host, endpoint: other.host),
                now: network.now,
                into: &actions
            )
            other.agent.addRemoteCandidate(candidate(relay, .relayed), now: network.now, into: &actions)
        }
        network.run(for: 500 * milliseconds)
        network.act(one) { one.agent.addRemoteCandidate(candidate(other.host, .host), now: network.now, into: &$0) }
        let pairs = one.agent.report.pairs.filter { $0.remote == other.host }
        #expect(pairs.contains { $0.localType == .host }, "\(one.agent.report)")
    }

    /// A NAT that rebinds again and again makes no pile of candidates.
    @Test func aReflexiveCandidateTakesThePlaceOfTheOneBefore() throws {
        let network = SimulatedNetwork(seed: 4)
        let peer = try network.addPeer(nil, role: .controlling, relayed: false)
        network.act(peer) { actions in
            for port in 1...100 as ClosedRange<UInt16> {
                let signaled = peer.agent.addLocalCandidate(
                    ICELocalCandidate(
                        base: SimulatedPeer.socket,
                        type: .serverReflexive,
                        endpoint: Endpoint(address: IPAddress(v4: 0x1E00_0001), port: port),
                        baseEndpoint: peer.host,
                        server: IPAddress(v4: 0x1400_0001)
                    ),
                    now: network.now,
                    into: &actions
                )
                #expect(signaled?.port == port)
            }
        }
        #expect(peer.agent.report.localCandidates == 1)
        #expect(peer.agent.counters.candidatesBeyondLimit == 0)
    }

    /// Addresses that nobody answers at make room for new ones.
    @Test func signaledCandidatesThatHaveFailedGiveWay() throws {
        let network = SimulatedNetwork(seed: 5)
        let one = try network.addPeer(nil, role: .controlling, relayed: false)
        let other = try network.addPeer(nil, role: .controlled, relayed: false)
        _ = network.gather(one)
        network.accept(network.describe(other, []), by: one)
        func tell(_ ports: ClosedRange<UInt16>) {
            network.act(one) { actions in
                for port in ports {
                    let nobody = Endpoint(address: IPAddress(v4: 0x1E00_0099), port: port)
                    one.agent.addRemoteCandidate(candidate(nobody), now: network.now, into: &actions)
                }
            }
        }
        let limit = UInt16(ICELimits.remoteCandidates)
        tell(1...limit)
        tell((limit + 1)...(limit + 1))
        #expect(one.agent.counters.candidatesBeyondLimit == 1, "while they are tried there is no room")
        network.run(for: 600 * seconds)
        tell((limit + 2)...(limit + 2))
        #expect(one.agent.counters.candidatesBeyondLimit == 1)
        #expect(one.agent.report.pairs.contains { $0.remote.port == limit + 2 })
    }
}
