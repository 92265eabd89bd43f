import STUN
import Traversal

/// Offer, answer and candidates between two peers of a network.
extension SimulatedNetwork {
    /// What a description of this peer holds.
    struct Description {
        var parameters: ICERemoteParameters
        var candidates: [ICECandidate]
    }

    /// Names the peer's candidates to its agent: its own address, what a STUN server sees of it, its relay.
    func gather(_ peer: SimulatedPeer) -> [ICECandidate] {
        var locals = [ICELocalCandidate(base: SimulatedPeer.socket, type: .host, endpoint: peer.host)]
        if let nat = peer.nat {
            locals.append(
                ICELocalCandidate(
                    base: SimulatedPeer.socket,
                    type: .serverReflexive,
                    endpoint: nat.outbound(peer.host, to: Self.stunServer, &generator),
                    baseEndpoint: peer.host,
                    server: Self.stunServer.address
                )
            )
        }
        if let relay = peer.relay {
            locals.append(ICELocalCandidate(base: SimulatedPeer.relayBase, type: .relayed, endpoint: relay))
        }
        var candidates: [ICECandidate] = []
        act(peer) { actions in
            for local in locals {
                if let candidate = peer.agent.addLocalCandidate(local, now: now, into: &actions) {
                    candidates.append(candidate)
                }
            }
            peer.agent.endLocalCandidates(now: now, into: &actions)
        }
        return candidates
    }

    func describe(
        _ peer: SimulatedPeer,
        _ candidates: [ICECandidate],
        renomination: Bool = true,
        padding: Bool = true
    ) -> Description {
        var candidates = candidates
        for index in candidates.indices {
            candidates[index].usernameFragment = peer.agent.localCredentials.usernameFragment
        }
        var parameters = ICERemoteParameters(
            credentials: peer.agent.localCredentials,
            supportsRenomination: renomination
        )
        parameters.takesPadding = padding
        return Description(parameters: parameters, candidates: candidates)
    }

    func accept(_ description: Description, by peer: SimulatedPeer) {
        act(peer) { actions in
            try? peer.agent.setRemote(description.parameters, now: now, into: &actions)
            for candidate in description.candidates {
                // As text, as it travels.
                guard let read = try? CandidateLine.parse(CandidateLine.text(candidate)) else { continue }
                peer.agent.addRemoteCandidate(read, now: now, into: &actions)
            }
            peer.agent.endRemoteCandidates(now: now, into: &actions)
        }
    }

    /// The first peer offers; the answer comes two signaling delays later.
    func connect(
        _ offerer: SimulatedPeer,
        _ answerer: SimulatedPeer,
        signaling: UInt64 = 30 * milliseconds,
        renomination: Bool = true,
        padding: Bool = true
    ) {
        let offer = describe(offerer, gather(offerer), renomination: renomination, padding: padding)
        after(signaling) { [self] in
            let answer = describe(answerer, gather(answerer), renomination: renomination, padding: padding)
            accept(offer, by: answerer)
            after(signaling) { [self] in accept(answer, by: offerer) }
        }
    }

    /// New credentials on both sides, with an offer and an answer as at the beginning.
    func restart(
        by offerer: SimulatedPeer,
        with answerer: SimulatedPeer,
        signaling: UInt64,
        renomination: Bool = true
    ) {
        after(0) { [self] in
            act(offerer) { offerer.agent.restart(now: now, into: &$0) }
            let offer = describe(offerer, candidates(offerer), renomination: renomination)
            after(signaling) { [self] in
                act(answerer) { answerer.agent.restart(now: now, into: &$0) }
                let answer = describe(answerer, candidates(answerer), renomination: renomination)
                accept(offer, by: answerer)
                after(signaling) { [self] in accept(answer, by: offerer) }
            }
        }
    }

    /// Restarts by whoever wants one, if none is under way: offers that cross are for signaling to sort out.
    func grantRestarts(signaling: UInt64, renomination: Bool = true) {
        var isUnderWay = false
        for (peer, other) in zip(peers, peers.reversed()) {
            peer.onRestartWanted = { [unowned self] in
                peer.restartsWanted += 1
                guard !isUnderWay else { return }
                isUnderWay = true
                restart(by: peer, with: other, signaling: signaling, renomination: renomination)
                after(2 * signaling + milliseconds) { isUnderWay = false }
            }
        }
    }

    /// What the agent has already.
    private func candidates(_ peer: SimulatedPeer) -> [ICECandidate] {
        var list = [ICELocalCandidate(base: SimulatedPeer.socket, type: .host, endpoint: peer.host)]
        if let nat = peer.nat {
            list.append(
                ICELocalCandidate(
                    base: SimulatedPeer.socket,
                    type: .serverReflexive,
                    endpoint: nat.outbound(peer.host, to: Self.stunServer, &generator),
                    baseEndpoint: peer.host
                )
            )
        }
        if let relay = peer.relay {
            list.append(ICELocalCandidate(base: SimulatedPeer.relayBase, type: .relayed, endpoint: relay))
        }
        return list.map(peer.agent.signaled)
    }

    var isDirect: Bool { peers.allSatisfy { $0.agent.path.map { !$0.isRelayed } ?? false } }
    var isRelayed: Bool { peers.allSatisfy { $0.agent.path?.isRelayed ?? false } }
    var isConnected: Bool { peers.allSatisfy { $0.agent.path != nil } }
}
