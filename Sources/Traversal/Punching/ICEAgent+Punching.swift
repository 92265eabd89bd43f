import STUN

extension ICEAgent {
    /// The peer was heard on that base from this candidate, by other means than a check: the pair is checked next.
    package func addPunched(
        _ candidate: ICECandidate,
        on base: ICEBase,
        now: UInt64,
        into output: inout [ICEAction]
    ) {
        turn(now, &output) {
            hear(of: candidate)
            guard let endpoint = candidate.endpoint, let pair = pair(base, endpoint),
                pair.state == .waiting || pair.state == .frozen
            else { return }
            pair.state = .waiting
            enqueue(pair, first: true)
        }
    }
}
