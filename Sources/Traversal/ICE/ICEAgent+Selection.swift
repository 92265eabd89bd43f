import STUN

extension ICEAgent {
    /// Which pair carries data. The controlled agent follows nominations as long as a nominated pair lives; before
    /// that, and always on the controlling side, it is the best valid pair that lives (RFC 8445 sections 8.1.1 and
    /// 12.1).
    func choose() {
        noteFall()
        var pool = pairs.filter(\.isAlive)
        if prefersProven {
            let proven = pool.filter { $0.heardAt >= fellAt }
            if !proven.isEmpty { pool = proven }
        }
        if role == .controlled, pool.contains(where: \.isNominated) {
            pool.removeAll { !$0.isNominated }
            // A peer that numbers its nominations means the last; one that nominates several, the best (section 8.1.1).
            let number = pool.reduce(0) { max($0, $1.nominationNumber) }
            pool.removeAll { $0.nominationNumber < number }
            // One nomination is of one pair. Where it has come by two, the peer's NAT has given it another address.
            let newest = number > 0 ? pool.reduce(0) { max($0, $1.nominationOrder) } : 0
            pool.removeAll { $0.nominationOrder < newest }
        }
        if let selected, !selected.isAlive, pool.contains(where: { $0.liveness.probing == nil }) {
            // What killed the path may have killed others, whose own probes are not over.
            pool.removeAll { $0.liveness.probing != nil }
        }
        guard let best = pool.max(by: { $1.outranks($0) }) else {
            if let selected, selected.state != .succeeded {
                if selected.failure == .baseRemoved { lostBaseAt = now }
                select(nil)
            }
            return
        }
        guard best !== selected, !staysOnOldPath(insteadOf: best) else { return }
        if let selected { noteFallback(from: selected, to: best) }
        select(best)
    }

    /// The path has died. What killed it may have killed others, which are asked.
    private func noteFall() {
        guard let selected, !selected.isAlive else { return fallen = nil }
        guard fallen !== selected else { return }
        fallen = selected
        // Others were asked when the path fell silent.
        fellAt = selected.failure == .baseRemoved ? now : now &- min(now, death)
        for pair in pairs where pair.isAlive && pair.heardAt < fellAt && pair.liveness.probing == nil { ask(pair) }
    }

    /// Since the last path has died, the one in its place has not been heard, or something else has. A pair that may be
    /// dead as well gives way to one that is known to live, once it has had the time to answer.
    private var prefersProven: Bool {
        guard let selected, selected.isAlive else { return true }
        guard selected.heardAt < fellAt else { return true }
        guard let since = selected.liveness.probing?.since else { return false }
        return now >= since.addingSaturated(max(configuration.probeSpacing / 2, selected.liveness.roundTrip &* 2))
    }

    private func select(_ pair: ICEPair?) {
        if let pair { takePathMTU(to: pair) }
        selected = pair
        (silentSince, elsewhere) = (nil, nil)
        if let pair {
            (wasConnected, hasStood, lostBaseAt) = (true, true, nil)
            if pair.relays == 0 { hasBeenDirect = true }
            leaveOldPath()
            let next = after(jittered(configuration.consentInterval))
            pair.liveness.nextCheck = min(pair.liveness.nextCheck, next)
        }
    }

    private func leaveOldPath() {
        for transaction in previous?.pair?.transactions ?? [] { checks[transaction] = nil }
        previous?.pair = nil
    }

    /// After a restart a direct old path is not left for a relay before the direct pairs have had their time.
    private func staysOnOldPath(insteadOf best: ICEPair) -> Bool {
        guard let old = previous?.pair, selected === old, old.isAlive, best.relays > old.relays else { return false }
        return isEarly
    }

    var oldPathWaits: Bool { isEarly && previous?.pair != nil && previous?.pair === selected }

    private var isEarly: Bool {
        guard let firstValid else { return false }
        return now < firstValid.addingSaturated(configuration.relayNominationDelay)
    }

    // MARK: Nomination

    /// The controlling agent nominates the pair in use, and each better one that takes its place.
    func nominate() {
        guard role == .controlling, let pair = selected, pair !== previous?.pair, pair.isAlive, nominated !== pair,
            !nominationWaits
        else { return }
        number(pair)
        pair.nominatesNext = true
        enqueue(pair, first: true)
    }

    /// The pair becomes the one that is nominated.
    func number(_ pair: ICEPair) {
        nominated = pair
        nominationCount &+= 1
        pair.nominationNumber = nominationCount
    }

    var nominationWaits: Bool {
        guard role == .controlling, let pair = selected, pair.relays > 0, nominated == nil, isEarly, !hurries,
            remote?.supportsRenomination != true
        else { return false }
        return pairs.contains { $0.isPending && $0.relays < pair.relays }
    }

    // MARK: State

    func updateState() {
        let next = currentState()
        guard next != state else { return }
        state = next
        actions.append(.state(next))
        if next == .failed { actions.append(.failed(report)) }
    }

    private func currentState() -> ICEState {
        if let selected {
            guard selected.isAlive else { return .disconnected }
            let holds = holdsStreams
            let isDone =
                selected.isNominated && localsEnded && remotesEnded
                && !pairs.contains { $0.isPending && !isHeld($0, holds) }
            return isDone ? .completed : .connected
        }
        guard let checkingSince else { return .new }
        if state == .failed { return .failed }
        if pairs.contains(where: { $0.isPending || $0.state == .succeeded }) {
            return wasConnected ? .disconnected : .checking
        }
        let isOver = patienceEnd(checkingSince).map { now >= $0 } ?? true
        return isOver ? .failed : wasConnected ? .disconnected : .checking
    }

    /// Until when an agent without a pair waits; nil where it does not, since all have been silent for the lifetime of
    /// consent. There may still come checks of the peer (RFC 8863 section 4), or a relay in the place of the one that
    /// the path went by.
    func patienceEnd(_ checkingSince: UInt64) -> UInt64? {
        if wasConnected, lostBaseAt == nil { return nil }
        return (lostBaseAt ?? checkingSince).addingSaturated(configuration.patience)
    }

    // MARK: Restart

    func beginAnew(role: ICERole?) {
        // A path from before the last restart may still be in use.
        if let remote {
            previous = PreviousSession(
                fragment: Array(localCredentials.usernameFragment.utf8),
                remoteFragment: Array(remote.credentials.usernameFragment.utf8),
                key: localKey,
                pair: selected
            )
        }
        for pair in pairs where pair !== selected {
            for transaction in pair.transactions { checks[transaction] = nil }
        }
        selected?.transmission = nil
        (pairs, triggered, remotes, named, early) = ([], [], [], [], [])
        toldAt = [:]
        (remote, nominated, firstValid, checkingSince) = (nil, nil, nil, nil)
        (remotesEnded, wasConnected, lostBaseAt) = (false, false, nil)
        (streamsAt, haveStreamsBegun) = (nil, false)
        (hurries, hasFallenBack) = (hasFallenBack, false)
        lookups = []
        (roleChanges, nominationCount, nominationOrder) = (0, 0, 0)
        localCredentials = ICECredentials(random: cryptography)
        localKey = Array(localCredentials.password.utf8)
        tieBreaker = cryptography.randomNumber()
        if let role, role != self.role { takeRole(role) }
    }
}
