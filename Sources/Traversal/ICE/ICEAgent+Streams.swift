import STUN

/// Candidates over TCP (RFC 6544). One port of this host listens and connects, and has up to three candidates: one for
/// opening from both sides at the same time, one that others connect to, and one that connects to others.
///
/// They are for networks without UDP: their checks wait for a moment that both sides know, and go on waiting while a
/// path without a relay carries data by UDP.
extension ICEAgent {
    /// When connections are to be opened, in place of `ICEConfiguration.streamDelay` behind the peer's description: a
    /// NAT that answers what comes too early with a reset lets in who comes at the same time.
    package func beginStreams(at time: UInt64, now: UInt64, into output: inout [ICEAction]) {
        turn(now, &output) { (streamsAt, haveStreamsBegun) = (time, false) }
    }

    /// There is a connection with `peer`, and what waited for it is on its way.
    package func noteConnected(_ peer: Endpoint, on base: ICEBase, now: UInt64) {
        self.now = max(self.now, now)
        // What it took to connect is no round trip.
        for transaction in pair(base, peer)?.transactions ?? [] { checks[transaction]?.sent = self.now }
    }

    /// The connection with `peer` is gone. Checks ask for another one where this side can connect.
    package func noteDisconnected(_ peer: Endpoint, from base: ICEBase, now: UInt64, into output: inout [ICEAction]) {
        turn(now, &output) {
            let old = previous?.pair.map { [$0] } ?? []
            for pair in pairs + old
            where pair.local.base == base && pair.remoteEndpoint == peer && pair.isAlive {
                die(pair)
            }
        }
    }

    /// No check over TCP may begin.
    var holdsStreams: Bool {
        guard let streamsAt, now >= streamsAt else { return true }
        return hasDirectDatagrams
    }

    /// What an incoming connection has shown is checked in any case.
    func isHeld(_ pair: ICEPair, _ holdsStreams: Bool) -> Bool {
        holdsStreams && pair.local.transport.isTCP && !pair.isQueued
            && (pair.state == .waiting || pair.state == .frozen)
    }

    /// When the first connections are opened; nil where that is past, or not wanted.
    var streamDeadline: UInt64? {
        guard let streamsAt, now < streamsAt, !hasDirectDatagrams,
            pairs.contains(where: { $0.local.transport.isTCP && $0.isPending })
        else { return nil }
        return streamsAt
    }

    private var hasDirectDatagrams: Bool {
        pairs.contains { $0.relays == 0 && !$0.local.transport.isTCP && $0.isAlive }
    }

    /// At the moment that both sides know all connections begin at once; their checks follow at the usual pace.
    func openStreams() {
        guard remote != nil, !haveStreamsBegun, !holdsStreams else { return }
        haveStreamsBegun = true
        let dialed = pairs.lazy.filter { $0.isDialed && $0.isPending }.prefix(ICELimits.streamsAtOnce)
        for pair in dialed { actions.append(.connect(base: pair.local.base, to: pair.remoteEndpoint)) }
    }

    /// The candidates of both sides that an incoming connection, or one this side has opened, is between.
    func streamEnds(
        on base: ICEBase,
        from source: Endpoint,
        priority: UInt32
    ) -> (ICELocalCandidate, ICECandidate)? {
        let known = remotes.first {
            $0.endpoint == source && ($0.transport == .tcpSimultaneous || $0.transport == .tcpPassive)
        }
        if let known, let local = sender(on: base, known.transport.counterpart) { return (local, known) }
        // RFC 6544 section 7.2: whoever has connected did so from an active candidate.
        guard let local = sender(on: base, .tcpPassive) ?? sender(on: base, .tcpSimultaneous),
            let candidate = remoteCandidate(at: source, .tcpActive, priority: priority)
        else { return nil }
        return (local, candidate)
    }
}

extension ICEPair {
    /// This side connects, rather than waiting for the other one.
    var isDialed: Bool {
        (local.transport == .tcpActive || local.transport == .tcpSimultaneous) && remote.transport != .tcpActive
    }
}
