import STUN
import Testing
import Traversal

/// A peer that has had more addresses than the lists hold.
@Suite struct CandidateRoomTests {
    private func candidate(_ endpoint: Endpoint, _ type: ICECandidateType = .serverReflexive) -> ICECandidate {
        ICECandidate(
            foundation: "f\(endpoint.address.v4).\(endpoint.port)",
            priority: ICEPriority.candidate(type, .udp, localPreference: .max),
            address: .ip(endpoint.address),
            port: endpoint.port,
            type: type
        )
    }

    private func connected(_ seed: UInt64) throws -> (SimulatedNetwork, one: SimulatedPeer, other: SimulatedPeer) {
        let network = SimulatedNetwork(seed: seed)
        let one = try network.addPeer(.portRestricted, role: .controlling)
        let other = try network.addPeer(.portRestricted, role: .controlled)
        network.connect(one, other)
        #expect(network.run(for: 5 * seconds) { network.isDirect })
        return (network, one, other)
    }

    private func isHeard(_ peer: SimulatedPeer, at address: IPAddress) -> Bool {
        peer.agent.path.map { !$0.isRelayed && $0.remote.address == address } ?? false
    }

    /// In each network it has an address of its own, the NAT's, and three that lead nowhere.
    @Test(arguments: [0, 1])
    func aPeerThatMovesFortyTimesIsDirectEachTime(mover: Int) throws {
        let (network, one, other) = try connected(1)
        network.exchangeData(every: 20 * milliseconds) { true }
        let (moving, staying) = mover == 0 ? (one, other) : (other, one)
        let nat = try #require(moving.nat)
        for move in 1...40 as ClosedRange<UInt32> {
            network.run(for: 500 * milliseconds)
            nat.forget()
            nat.address = IPAddress(v4: 0xC633_7000 + move)
            let seen = nat.outbound(moving.host, to: SimulatedNetwork.stunServer, &network.generator)
            network.act(moving) { actions in
                _ = moving.agent.addLocalCandidate(
                    ICELocalCandidate(
                        base: SimulatedPeer.socket,
                        type: .serverReflexive,
                        endpoint: seen,
                        baseEndpoint: moving.host,
                        server: SimulatedNetwork.stunServer.address
                    ),
                    now: network.now,
                    into: &actions
                )
            }
            network.after(30 * milliseconds) {
                network.act(staying) { actions in
                    let nowhere = (0..<4 as Range<UInt32>).map {
                        Endpoint(address: IPAddress(v4: 0xC0A9_0000 + move << 4 + $0), port: 5_000)
                    }
                    for told in nowhere.map({ candidate($0, .host) }) + [candidate(seen)] {
                        staying.agent.addRemoteCandidate(told, now: network.now, into: &actions)
                    }
                }
            }
            let isBack = network.run(for: 3 * seconds) { network.isDirect && isHeard(staying, at: nat.address) }
            #expect(isBack, "move \(move): \(staying.agent.report)\n\(moving.agent.report)")
        }
        let report = staying.agent.report
        #expect(report.remoteCandidates <= ICELimits.remoteCandidates && report.pairs.count <= ICELimits.pairs)
        #expect(report.counters.candidatesBeyondLimit == 0)
    }

    @Test func thePathAndTheRelayStayWhateverIsNew() throws {
        let (network, one, _) = try connected(4)
        let relayed = one.agent.report.pairs.filter {
            $0.isAlive && ($0.localType == .relayed || $0.remoteType == .relayed)
        }
        let path = try #require(one.agent.path)
        #expect(!relayed.isEmpty)
        for number in 0..<500 as Range<UInt32> {
            network.run(for: 100 * milliseconds)
            let nobody = Endpoint(address: IPAddress(v4: 0xC0A9_0000 + number), port: 5_000)
            network.act(one) { one.agent.addRemoteCandidate(candidate(nobody), now: network.now, into: &$0) }
        }
        #expect(one.agent.path == path)
        let pairs = one.agent.report.pairs
        for old in relayed {
            #expect(pairs.contains { $0.local == old.local && $0.remote == old.remote && $0.isAlive })
        }
        // The newest is there.
        #expect(pairs.contains { $0.remote.address == IPAddress(v4: 0xC0A9_0000 + 499) }, "\(one.agent.report)")
    }

    /// Its own path has died, and it tells that by what it sends.
    @Test func aPeerThatSendsByAnotherPairIsFollowedThere() throws {
        let network = SimulatedNetwork(seed: 6)
        let one = try network.addPeer(.portRestricted, role: .controlling)
        let other = try network.addPeer(.portRestricted, role: .controlled)
        network.isDirectCut = true
        network.connect(one, other)
        #expect(network.run(for: 10 * seconds) { network.isRelayed })
        let relayed = try #require(other.agent.path)
        network.isDirectCut = false
        #expect(network.run(for: 60 * seconds) { network.isDirect })
        network.run(for: 2 * seconds)
        network.isDirectCut = true
        var isOver = false
        network.every(20 * milliseconds) {
            guard !isOver else { return }
            network.sendData(one)
            network.sendData(other, by: relayed)
        }
        // Without that it takes 1.6 s.
        #expect(network.run(for: 900 * milliseconds) { one.agent.path?.isRelayed ?? false }, "\(one.agent.report)")
        isOver = true
    }

    /// What is not the peer's takes nobody's place, be the list as old as it may.
    @Test func whatDoesNotAuthenticateTakesNoRoom() throws {
        let (network, one, other) = try connected(5)
        let limit = UInt32(ICELimits.remoteCandidates)
        network.act(one) { actions in
            for number in 0..<limit {
                let nobody = Endpoint(address: IPAddress(v4: 0xC0A9_0000 + number), port: 5_000)
                one.agent.addRemoteCandidate(candidate(nobody), now: network.now, into: &actions)
            }
        }
        network.run(for: 10 * seconds)
        let before = one.agent.report
        #expect(before.remoteCandidates == ICELimits.remoteCandidates)
        // Whole but for the last byte of the password's proof, which stands ahead of FINGERPRINT's eight.
        var forged = try #require(other.sent.last { $0.bytes.count > 20 && $0.bytes[0] == 0 && $0.bytes[1] == 1 }).bytes
        forged[forged.count - 9] ^= 1
        for number in 0..<500 as Range<UInt32> {
            let stranger = Endpoint(address: IPAddress(v4: 0xC0AA_0000 + number), port: 5_000)
            network.hand(forged, to: one, SimulatedPeer.socket, from: stranger)
        }
        let after = one.agent.report
        #expect(after.pairs.map(\.remote) == before.pairs.map(\.remote))
        #expect(after.remoteCandidates == before.remoteCandidates)
        #expect(after.counters.candidatesBeyondLimit == before.counters.candidatesBeyondLimit)
    }
}
