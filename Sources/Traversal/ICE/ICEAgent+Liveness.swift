import STUN

extension ICEAgent {
    /// Consent and probes of every valid pair, and of the path that a restart has left.
    func watch() {
        for pair in pairs { watch(pair) }
        if let pair = previous?.pair { watch(pair) }
    }

    private func watch(_ pair: ICEPair) {
        guard pair.state == .succeeded else { return }
        guard now < pair.liveness.consentEnd else { return fail(pair, .consentExpired) }
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

    private func ask(_ pair: ICEPair) {
        pair.liveness.nextCheck = after(
            jittered(pair === selected ? configuration.consentInterval : configuration.warmInterval)
        )
        pair.liveness.probing = (now, nextProbe(pair))
        send(pair)
    }

    private func nextProbe(_ pair: ICEPair) -> UInt64 {
        after(max(configuration.probeSpacing, pair.liveness.roundTrip))
    }

    private func askOthers() {
        for pair in pairs where pair.isAlive && pair !== selected && pair.liveness.probing == nil {
            if now &- pair.liveness.lastAnswer > configuration.death { ask(pair) }
        }
    }

    private func isSilent(_ pair: ICEPair) -> Bool {
        guard pair === selected, let silentSince else { return false }
        return now >= silentSince && now - silentSince >= configuration.silence
    }

    /// A slow path gets the time its answers need.
    private func deathTime(_ pair: ICEPair, _ since: UInt64) -> UInt64 {
        let wait = max(configuration.death, pair.liveness.roundTrip &* 4)
        let (sum, overflow) = since.addingReportingOverflow(wait)
        return overflow ? .max : sum
    }

    private func die(_ pair: ICEPair) {
        pair.liveness.isAlive = false
        pair.liveness.revivals = 0
        pair.liveness.probing = nil
        pair.liveness.nextCheck = after(configuration.revival)
        if pair === selected { silentSince = nil }
    }

    /// An answer renews consent (RFC 7675 section 5.1). A dead pair has to give two, so that a path that drops most
    /// packets does not come and go.
    func renew(_ pair: ICEPair) {
        pair.liveness.consentEnd = after(configuration.consentLifetime)
        pair.liveness.lastAnswer = now
        pair.liveness.probing = nil
        if pair === selected { silentSince = nil }
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
        if let pair = previous?.pair { considerLiveness(of: pair, consider) }
        if remote != nil, hasWork { consider(nextPace) }
        if let checkingSince, state == .checking, !pairs.contains(where: { $0.isPending || $0.state == .succeeded }) {
            consider(checkingSince.addingSaturated(configuration.patience))
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
                consider(silentSince.addingSaturated(configuration.silence))
            }
        }
    }
}

extension UInt64 {
    func addingSaturated(_ other: UInt64) -> UInt64 {
        let (sum, overflow) = addingReportingOverflow(other)
        return overflow ? .max : sum
    }
}
