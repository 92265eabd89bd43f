import STUN

extension ICEAgent {
    /// Consent and probes of every valid pair, and of the path that a restart has left.
    func watch() {
        for pair in pairs { watch(pair) }
        tryAgain()
        guard let old = previous else { return }
        if let pair = old.pair { watch(pair) }
        // The peer may be a little behind on its way to the new session's path; after the lifetime of consent it is
        // not.
        if let end = old.expiresAt {
            if now >= end { previous = nil }
        } else if old.pair?.isOver ?? true {
            previous?.expiresAt = after(configuration.consentLifetime)
        }
    }

    private func watch(_ pair: ICEPair) {
        guard pair.state == .succeeded else { return }
        guard now < pair.liveness.consentEnd else {
            fail(pair, .consentExpired)
            return noteLoss(of: pair)
        }
        if let probing = pair.liveness.probing {
            if now >= deathTime(pair, probing.since) {
                die(pair)
            } else if now >= probing.next {
                pair.liveness.probing = (probing.since, nextProbe(pair))
                send(pair)
                // The one to fall back to is asked as well, so that it is known to work when it is needed.
                if pair === selected { askOthers() }
            }
        } else if !pair.liveness.isAlive {
            guard now >= pair.liveness.nextCheck else { return }
            pair.liveness.nextCheck = after(configuration.revival)
            send(pair)
        } else if now >= pair.liveness.nextCheck || isSilent(pair) {
            ask(pair)
        }
    }

    func ask(_ pair: ICEPair) {
        if isSilent(pair) { pair.pathMTU?.noteSilence(now: now) }
        pair.liveness.nextCheck = after(
            jittered(pair === selected ? configuration.consentInterval : configuration.warmInterval)
        )
        pair.liveness.probing = (now, nextProbe(pair))
        send(pair)
    }

    private func nextProbe(_ pair: ICEPair) -> UInt64 {
        after(max(needsRestart ? configuration.probeSpacing / 2 : configuration.probeSpacing, pair.liveness.roundTrip))
    }

    /// Only a restart moves this peer, and takes its time after the death of the path.
    private var needsRestart: Bool { remote.map { !$0.supportsRenomination } ?? false }

    var death: UInt64 {
        needsRestart ? min(configuration.deathBeforeRestart, configuration.death) : configuration.death
    }

    private func askOthers() {
        for pair in pairs where pair.isAlive && pair !== selected && pair.liveness.probing == nil {
            if now &- pair.liveness.lastAnswer > death { ask(pair) }
        }
    }

    /// As if the path by this pair had been silent for long enough to be asked. One that has answered just now is not
    /// asked again, so that nobody makes this side ask all the time.
    func doubt(_ pair: ICEPair) -> Bool {
        guard pair === selected, silentSince ?? 0 > 0, pair.liveness.probing == nil,
            now >= pair.liveness.lastAnswer.addingSaturated(configuration.probeSpacing)
        else { return false }
        silentSince = 0
        return true
    }

    private func isSilent(_ pair: ICEPair) -> Bool {
        guard pair === selected, let silentSince else { return false }
        return now >= silentSince && now - silentSince >= silence
    }

    private var silence: UInt64 {
        peerIsElsewhere ? min(configuration.silence, configuration.followTime) : configuration.silence
    }

    /// The peer has chosen another path, which works, and nothing comes in by this side's: its own has died, or its NAT
    /// has given it another address.
    private var peerIsElsewhere: Bool {
        guard let elsewhere, elsewhere !== selected, elsewhere.isAlive, !needsRestart else { return false }
        return true
    }

    /// A slow path gets the time its answers need, and one that nothing waits for gets more, so that bad luck with a
    /// few checks moves nobody.
    private func deathTime(_ pair: ICEPair, _ since: UInt64) -> UInt64 {
        if pair === selected, peerIsElsewhere {
            return since.addingSaturated(max(configuration.followTime, pair.liveness.roundTrip &* 3))
        }
        let isIdle = pair === selected && silentSince == nil
        let death = isIdle ? max(death, configuration.idleDeath) : death
        return since.addingSaturated(max(death, pair.liveness.roundTrip &* 4))
    }

    func die(_ pair: ICEPair) {
        pair.liveness.isAlive = false
        pair.liveness.revivals = 0
        pair.liveness.probing = nil
        pair.liveness.nextCheck = after(configuration.revival)
        if pair === selected { silentSince = nil }
    }

    /// One of the pairs that have failed is asked again every few seconds, as long as data flows and there is no direct
    /// path, or none by a relay to fall back to: what was cut off for longer than a check lasts comes back without a
    /// restart. Where there was a direct path before, all are asked every two seconds. Where there was a path and none
    /// lives, all are asked every second, for as long as this session goes on.
    private func tryAgain() {
        let missing = missingPairs
        guard let next = missing.min(by: { $0.triedAgainAt < $1.triedAgainAt }) else { return nextTrial = nil }
        var interval = configuration.trialInterval
        if isCutOff {
            interval = max(configuration.probeSpacing, configuration.revival / UInt64(missing.count))
        } else if hasBeenDirect, next.relays == 0 {
            interval = max(configuration.probeSpacing, configuration.returnTime / UInt64(missing.count))
        }
        let due = min(nextTrial ?? .max, after(interval))
        guard nextTrial != nil, now >= due else { return nextTrial = due }
        nextTrial = after(interval)
        next.triedAgainAt = now
        permit(next)
        guard next.failure != .forbidden else { return }
        send(next)
    }

    /// Nothing carries data that has done so before: the network is gone, and may come back at any time.
    private var isCutOff: Bool {
        hasStood && state != .failed && selected?.isAlive != true && !pairs.contains(where: \.isAlive)
    }

    private var missingPairs: [ICEPair] {
        // The pauses between the transmissions of a check are up to 8 s long.
        func isSlow(_ pair: ICEPair) -> Bool { pair.state == .inProgress && (pair.transmission?.count ?? 0) > 2 }
        if isCutOff { return pairs.filter { isSlow($0) || $0.isUnanswered } }
        guard selected != nil else { return [] }
        let holds = holdsStreams
        func isHopeful(_ pair: ICEPair) -> Bool {
            pair.isAlive
                || pair.isPending && !isHeld(pair, holds) && !(hasBeenDirect && pair.relays == 0 && isSlow(pair))
        }
        let lacksDirect = !pairs.contains { $0.relays == 0 && isHopeful($0) }
        let lacksRelayed = !pairs.contains { $0.relays > 0 && isHopeful($0) }
        guard lacksDirect || lacksRelayed else { return [] }
        return pairs.filter { pair in
            if pair.relays > 0 { return lacksRelayed && pair.isUnanswered }
            return lacksDirect && (pair.isUnanswered || hasBeenDirect && isSlow(pair))
        }
    }

    /// An answer renews consent (RFC 7675 section 5.1). A dead pair has to give two, so that a path that drops most
    /// packets does not come and go.
    func renew(_ pair: ICEPair) {
        pair.liveness.consentEnd = after(configuration.consentLifetime)
        pair.liveness.lastAnswer = now
        pair.liveness.probing = nil
        pair.pathMTU?.noteHeard(now: now)
        if pair === selected { (silentSince, elsewhere) = (nil, nil) }
        guard !pair.liveness.isAlive else { return }
        pair.liveness.revivals += 1
        if pair.liveness.revivals >= 2 {
            pair.liveness.isAlive = true
            pair.liveness.nextCheck = after(jittered(configuration.warmInterval))
        } else {
            pair.liveness.nextCheck = after(configuration.probeSpacing)
        }
    }

    // MARK: Deadlines

    func earliestDeadline() -> UInt64? {
        var earliest = UInt64.max
        func consider(_ time: UInt64) { earliest = min(earliest, time) }
        for pair in pairs {
            if let transmission = pair.transmission { consider(transmission.next) }
            considerLiveness(of: pair, consider)
        }
        if let previous {
            if let pair = previous.pair { considerLiveness(of: pair, consider) }
            if let end = previous.expiresAt { consider(end) }
        }
        if let nextTrial { consider(nextTrial) }
        for permit in permits { if let time = releaseTime(of: permit) { consider(time) } }
        for lookup in lookups { if let time = lookup.nextAt { consider(time) } }
        if remote != nil, hasWork { consider(nextPace) }
        if remote != nil, let time = streamDeadline { consider(time) }
        if let time = pathMTUDeadline { consider(time) }
        if let checkingSince, state == .checking || state == .disconnected, let end = patienceEnd(checkingSince),
            !pairs.contains(where: { $0.isPending || $0.state == .succeeded })
        {
            consider(end)
        }
        if let firstValid, nominationWaits || oldPathWaits {
            consider(firstValid.addingSaturated(configuration.relayNominationDelay))
        }
        return earliest == .max ? nil : earliest
    }

    private func considerLiveness(of pair: ICEPair, _ consider: (UInt64) -> Void) {
        guard pair.state == .succeeded else { return }
        consider(pair.liveness.consentEnd)
        if let probing = pair.liveness.probing {
            consider(min(probing.next, deathTime(pair, probing.since)))
        } else {
            consider(pair.liveness.nextCheck)
            if pair === selected, pair.liveness.isAlive, let silentSince {
                consider(silentSince.addingSaturated(silence))
            }
        }
    }
}
