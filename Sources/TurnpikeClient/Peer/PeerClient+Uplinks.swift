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
        guard sessions.values.contains(where: { $0.link?.agent.isInDoubt ?? false }) else {
            isInDoubt = false
            return
        }
        guard !isInDoubt || now >= nextCheck else { return }
        isInDoubt = true
        nextCheck = now &+ ClientLimits.checkPause
        gatherer.askAgain()
        servers.check()
    }
}
