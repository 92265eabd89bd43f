import Signaling
import Traversal

/// When both sides begin to connect over TCP. A NAT that drops what nobody asked for forgives a second; one that
/// answers it with a reset lets only those in who come before the other's reset is there. Both sides know the server's
/// clock to a few milliseconds, so whoever has the answer names a moment by it, in a `signal` of the kind `tcp`.
extension PeerSession {
    private static let streamSignal = "tcp"

    /// The answer is there: both sides know the other's addresses, or will in a moment.
    func planStreams() {
        guard let link else { return }
        host.gatherer.refreshStreams()
        let answerTime = now &- min(offeredAt, now)
        let lead = ClientLimits.planLead &+ min(answerTime / 2, ClientLimits.longestPlan / 2)
        let start = now &+ lead
        guard let time = host.serverClock?.milliseconds(atNanoseconds: start) else { return }
        link.ice { agent, now, actions in agent.beginStreams(at: start, now: now, into: &actions) }
        tell(signal: Self.streamSignal, ["at": .number(time)])
    }

    /// The offer of a peer that is going to name a moment.
    func awaitStreamPlan() {
        host.gatherer.refreshStreams()
        guard let link, host.serverClock != nil, isTurnpikePeer else { return }
        signalUsers[Self.streamSignal] = { [weak self] in self?.takeStreamPlan($0) }
        link.ice { agent, now, actions in
            agent.beginStreams(at: now &+ ClientLimits.planPatience, now: now, into: &actions)
        }
    }

    private func takeStreamPlan(_ payload: JSONValue) {
        guard let link, let time = payload["at"]?.number,
            let start = host.serverClock?.nanoseconds(atMilliseconds: time)
        else { return }
        link.ice { agent, now, actions in
            let bounded = min(max(start, now), now &+ ClientLimits.longestPlan)
            agent.beginStreams(at: bounded, now: now, into: &actions)
        }
    }
}
