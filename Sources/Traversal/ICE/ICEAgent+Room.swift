import STUN

/// Room for what is new. A peer that goes from network to network has other addresses in each, and so does one whose
/// NAT changes ports or whose relays come and go; the lists hold what it has now, not what it had.
///
/// Nothing but what was signaled, or what a check with the right password has shown, ever asks for room.
extension ICEAgent {
    func add(_ candidate: ICECandidate, at endpoint: Endpoint) {
        remotes.append(candidate)
        toldAt[endpoint] = now
    }

    /// Candidates without a use give way: of those whose pairs have all failed, what checks have shown before what was
    /// signaled; then whatever was not heard of for the longest time.
    func makeRoomForRemote() -> Bool {
        guard remotes.count >= ICELimits.remoteCandidates else { return true }
        func isIdle(_ candidate: ICECandidate) -> Bool { !own(candidate).contains { $0.state != .failed } }
        let idle =
            remotes.firstIndex { $0.type == .peerReflexive && isIdle($0) }
            ?? remotes.firstIndex { isIdle($0) && !own($0).isEmpty } ?? longestUnheardRemote
        guard let idle else { return false }
        let gone = remotes.remove(at: idle)
        for pair in own(gone) { forget(pair) }
        if let endpoint = gone.endpoint, !remotes.contains(where: { $0.endpoint == endpoint }) {
            toldAt[endpoint] = nil
        }
        return true
    }

    /// The pair that a new one may take the place of: one that nothing brings back, then any that has failed, then one
    /// that was not heard of for long, then the least of those that nobody has tried.
    func pairToReplace(by new: ICEPair) -> ICEPair? {
        func longestUnheard(_ condition: (ICEPair) -> Bool) -> ICEPair? {
            pairs.filter(condition).min { $0.heardAt < $1.heardAt }
        }
        return longestUnheard(\.isOver) ?? longestUnheard { $0.state == .failed }
            ?? longestUnheard { isUnheard(since: $0.heardAt) && !isKept($0) }
            ?? pairs.last { ($0.state == .frozen || $0.state == .waiting) && $0.priority < new.priority }
    }

    private func own(_ candidate: ICECandidate) -> [ICEPair] {
        pairs.filter { $0.remoteEndpoint == candidate.endpoint && $0.remote.transport == candidate.transport }
    }

    /// Relays are what works everywhere, and go last.
    private var longestUnheardRemote: Int? {
        let unheard = remotes.indices.compactMap { index -> (index: Int, isRelayed: Bool, heardAt: UInt64)? in
            let own = own(remotes[index])
            let told = remotes[index].endpoint.flatMap { toldAt[$0] } ?? 0
            let heardAt = own.reduce(told) { max($0, $1.heardAt) }
            guard isUnheard(since: heardAt), !own.contains(where: isKept) else { return nil }
            return (index, remotes[index].type == .relayed, heardAt)
        }
        return unheard.min { ($0.isRelayed ? 1 : 0, $0.heardAt) < ($1.isRelayed ? 1 : 0, $1.heardAt) }?.index
    }

    private func isUnheard(since time: UInt64) -> Bool { now >= time.addingSaturated(ICELimits.hearing) }

    /// What carries data, and what it falls back to, stays whatever is new.
    private func isKept(_ pair: ICEPair) -> Bool {
        pair === selected || pair === nominated || pair.isNominated || pair.nominatesOnSuccess
            || pair.isAlive && pair.relays > 0
    }
}
