import STUN

extension ICEAgent {
    /// RFC 8445 section 7.2.5. Only what the peer's password has signed is an answer.
    func takeAnswer(_ message: MessageView, on base: ICEBase, from source: Endpoint) -> Bool {
        let transaction = message.transactionID
        guard let check = checks[transaction] else {
            counters.unexpectedAnswers &+= 1
            return false
        }
        let pair = check.pair
        guard ICEMessage.isAuthentic(message, key: pair.key, with: cryptography) else {
            counters.unauthenticated &+= 1
            return false
        }
        let mapped = message.first(.xorMappedAddress).flatMap { AddressAttribute.decodeXOR($0, transaction) }
        let isSuccess = message.type.messageClass == .successResponse
        guard mapped != nil || !isSuccess else {
            counters.malformed &+= 1
            return false
        }
        checks[transaction] = nil
        pair.heardAt = now
        pair.transactions.removeAll { $0 == transaction }
        // RFC 8445 section 7.2.5.2.1.
        guard base == pair.local.base, source == pair.remoteEndpoint else {
            if pair.isPending { fail(pair, .asymmetric) }
            return true
        }
        if let bytes = check.probeBytes {
            noteProbe(bytes, on: pair, isSuccess: isSuccess)
        } else if let mapped, isSuccess {
            succeed(pair, transaction, check, mapped)
        } else {
            fail(pair, check, code: ICEMessage.errorCode(message))
        }
        return true
    }

    private func fail(_ pair: ICEPair, _ check: ICECheck, code: UInt16) {
        guard code == 487 else {
            if pair.isPending {
                fail(pair, .refused(code))
            } else if code == 403, pair.state == .succeeded {
                // RFC 7675 section 5.2: the peer takes its consent back at once.
                fail(pair, .consentRevoked)
                noteLoss(of: pair)
            }
            // For the rest a valid pair lives by its answers; another error leaves it to the end of consent.
            return
        }
        // RFC 8445 section 7.2.5.1: unless the role has changed since, it changes, and so does the tie-breaker.
        counters.roleConflicts &+= 1
        if check.role == role, remote?.isLite != true, roleChanges < ICELimits.roleChanges {
            roleChanges += 1
            tieBreaker = cryptography.randomNumber()
            takeRole(role.other)
        }
        guard pair.isPending else { return }
        pair.transmission = nil
        pair.state = .waiting
        // A peer that refuses for ever gets no more than the paced checks of its pairs, and those only a few times.
        pair.refusals += 1
        if pair.refusals > ICELimits.roleChanges { fail(pair, .refused(code)) } else { enqueue(pair) }
    }

    private func succeed(_ pair: ICEPair, _ transaction: TransactionID, _ check: ICECheck, _ mapped: Endpoint) {
        guard !pair.isOver else { return }
        pair.answers &+= 1
        if !check.isRetransmitted { measure(pair, now &- check.sent) }
        // A nomination goes on being told until it is answered itself.
        if pair.transmission?.transaction == transaction || pair.transmission?.nominates != true {
            pair.transmission = nil
        }
        note(mapped, on: pair, priority: check.priority)
        if pair.state != .succeeded { validate(pair) }
        renew(pair)
        if check.usesCandidate, role == .controlling, nominated === pair {
            pair.isNominated = true
        } else if pair.nominatesOnSuccess, role == .controlled {
            // RFC 8445 section 7.3.1.5: the nomination was waiting for this.
            pair.nominatesOnSuccess = false
            pair.isNominated = true
        }
    }

    private func validate(_ pair: ICEPair) {
        pair.state = .succeeded
        pair.failure = nil
        pair.isUnreachable = false
        pair.liveness.isAlive = true
        pair.liveness.probing = nil
        pair.liveness.nextCheck = after(jittered(configuration.warmInterval))
        if firstValid == nil { firstValid = now }
        // RFC 8445 section 7.2.5.3.3: what is alike will work too.
        for other in pairs where other.state == .frozen && other.foundation == pair.foundation {
            other.state = .waiting
        }
    }

    /// The address the peer saw: one of ours, or a new peer-reflexive one (RFC 8445 section 7.2.5.3.1).
    private func note(_ mapped: Endpoint, on pair: ICEPair, priority: UInt32) {
        pair.mapped = mapped
        let base = pair.local.base
        if let known = locals.first(where: { $0.base == base && $0.endpoint == mapped && $0.isBase })
            ?? locals.first(where: { $0.base == base && $0.endpoint == mapped })
        {
            pair.mappedType = known.type
            return
        }
        // A relay's peers see the relayed address, whatever another relay or NAT makes of it.
        pair.mappedType = pair.local.type == .relayed ? .relayed : .peerReflexive
    }

    private func measure(_ pair: ICEPair, _ sample: UInt64) {
        let before = pair.liveness.roundTrip
        // RFC 6298 section 2 without the variance; a sample of nothing counts as a nanosecond, since 0 means none.
        pair.liveness.roundTrip = max(1, before == 0 ? sample : before - before / 8 + sample / 8)
    }
}
