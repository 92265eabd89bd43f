import Signaling
import Traversal

/// When both sides begin to connect over TCP. A NAT that drops what nobody asked for forgives a second; one that
/// answers it with a reset lets only those in who come before the other's reset is there. Both sides know the server's
/// clock to a few milliseconds, so whoever has the answer names a moment by it, in a `signal` of the kind `tcp`.
///
/// A NAT that counts has another port for each of those connections. What ports it gave to them is measured, and told
/// in another such `signal`: a peer whose port is the same for everybody, and was just sent to, connects to each.
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
        signalUsers[Self.streamSignal] = { [weak self] in self?.takeStreamPorts($0) }
        aimStreams(at: start)
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
        guard payload["ports"] == nil else { return takeStreamPorts(payload) }
        guard let link, let time = payload["at"]?.number,
            let start = host.serverClock?.nanoseconds(atMilliseconds: time)
        else { return }
        let bounded = min(max(start, now), now &+ ClientLimits.longestPlan)
        link.ice { agent, now, actions in agent.beginStreams(at: bounded, now: now, into: &actions) }
        aimStreams(at: bounded)
    }

    // MARK: NATs that count

    private func aimStreams(at moment: UInt64) {
        streamAim = nil
        guard let link, !link.isRelayOnly, let facts = host.aimFacts else { return }
        streamAim = StreamAim(facts, around: moment, host.context.network) { [weak self] in
            // Where datagrams get out of both, their ports are guessed, and a path by UDP is the better one.
            self?.isDirect == false && self?.haveDatagrams == false
        } _: { [weak self] address, ports in
            guard let self, !isDirect else { return }
            tell(
                signal: Self.streamSignal,
                [
                    "address": .string(AddressText.text(address)),
                    "ports": .array(ports.map { .number(Double($0)) }),
                ]
            )
        }
    }

    /// Both sides have been seen by a server over UDP.
    private var haveDatagrams: Bool {
        let isHere = host.gatherer.candidates.contains { $0.type == .serverReflexive && !$0.transport.isTCP }
        let isThere = link?.agent.report.pairs.contains { $0.remoteType == .serverReflexive && !$0.transport.isTCP }
        return isHere && isThere == true
    }

    private func takeStreamPorts(_ payload: JSONValue) {
        guard let link, !link.isRelayOnly, !isDirect, host.aimsStreams,
            let address = payload["address"]?.string.flatMap({ AddressText.address($0) }),
            PunchTarget.isAllowed(address)
        else { return }
        let ports = (payload["ports"]?.array ?? []).prefix(ClientLimits.aimedPorts)
            .compactMap { $0.number.flatMap { UInt16(exactly: $0) } }
        for (index, port) in ports.enumerated() where port > 0 {
            let candidate = ICECandidate(
                // None of them waits for what comes of another.
                foundation: "aim\(index)",
                transport: .tcpSimultaneous,
                priority: ICEPriority.candidate(.serverReflexive, .tcpSimultaneous, localPreference: 0),
                address: .ip(address),
                port: port,
                type: .serverReflexive
            )
            link.ice { agent, now, actions in agent.addRemoteCandidate(candidate, now: now, into: &actions) }
        }
    }
}
