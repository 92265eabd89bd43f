import Traversal

/// What becomes of this machine's ways into the world, and what is done about it. Everything that stands goes along:
/// connections keep their keys and their data, and get new paths.
extension PeerClient {
    func take(_ event: UplinkWatch.Event) {
        guard phase == .running else { return }
        switch event {
        case .moved(let addresses):
            gatherer.look()
            servers.move(to: addresses)
            signaling?.move(to: addresses)
        case .stirred:
            gatherer.look()
            gatherer.askAgain()
            servers.retry()
            signaling?.retry()
        case .resumed:
            gatherer.look()
            gatherer.askAgain()
            servers.check()
            // The server has not heard of this client for as long as it slept, and may have closed without a word.
            signaling?.reconnect()
        }
    }

    /// The time within which NATs forget is known better.
    func keepAlive(_ interval: UInt64) {
        guard interval != context.keepAliveNanoseconds else { return }
        context.keepAliveNanoseconds = interval
        gatherer.keepAlive = interval
        servers.keepAlive(interval)
        for session in sessions.values { session.link?.agent.keepWarm(interval) }
    }

    /// A path is silent. Before it counts as dead it is known whether the relays to fall back to are there, and what
    /// the NATs have made of the sockets' mappings.
    func watchPaths() {
        let agents = sessions.values.compactMap(\.link?.agent)
        watchRelays(isInDoubt: agents.contains(where: \.doubtsRelay))
        guard agents.contains(where: \.isInDoubt) else {
            isInDoubt = false
            return
        }
        guard !isInDoubt || now >= nextCheck else { return }
        isInDoubt = true
        nextCheck = now &+ ClientLimits.checkPause
        gatherer.askAgain()
    }

    /// A relay is asked sooner than the path is given up: it takes a few round trips to have another one, and to tell
    /// the peer.
    private func watchRelays(isInDoubt: Bool) {
        guard isInDoubt else {
            relayDoubt = nil
            return
        }
        guard var doubt = relayDoubt else {
            // Paths that fall silent again and again do not have a server asked as often.
            if now >= nextRelayCheck {
                relayDoubt = RelayDoubt(since: now, hurryAt: now &+ ClientLimits.hurryPause)
                checkRelays()
            }
            return
        }
        let isNew = now &- doubt.since < ClientLimits.hurryTime
        // What was asked while the server was away is over by now, and it may be back without the relay.
        if now >= nextRelayCheck &+ (isNew ? 0 : ClientLimits.checkPause) { checkRelays() }
        if now >= doubt.hurryAt {
            doubt.hurryAt = now &+ (isNew ? ClientLimits.hurryPause : ClientLimits.checkPause)
            servers.hurry()
            signaling?.hurry()
        }
        relayDoubt = doubt
    }

    private func checkRelays() {
        nextRelayCheck = now &+ ClientLimits.second
        servers.check()
    }
}
