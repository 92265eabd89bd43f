import STUN

/// What comes from the server.
extension TURNClient {
    /// One datagram or frame.
    mutating func take(_ bytes: UnsafeRawBufferPointer, now: UInt64, into actions: inout [TURNAction]) {
        if let first = bytes.first, ChannelData.isChannel(firstByte: first, wide: false) {
            return takeChannelData(bytes, now: now, into: &actions)
        }
        guard let message = try? MessageView(bytes) else {
            ignored &+= 1
            return
        }
        if message.type == MessageType(.data, .indication) {
            return takeIndication(message, now: now, into: &actions)
        }
        switch transactions.receive(message, from: server, now: now, with: cryptography) {
        case .ignored: ignored &+= 1
        case .failed(let pending, let why): fail(pending, why, now: now, into: &actions)
        case .answered(let answer):
            let pending = answer.context
            switch answer.errorCode {
            case nil: succeed(pending, message, now: now, into: &actions)
            case 401, 438: challenge(pending, message, answer.errorCode == 438, now: now, into: &actions)
            case .some(let code): refuse(pending, code, message, now: now, into: &actions)
            }
        }
    }

    private mutating func succeed(
        _ pending: Pending,
        _ message: MessageView,
        now: UInt64,
        into actions: inout [TURNAction]
    ) {
        if pending.isRenewal, let renewed = renewal {
            session = renewed
            renewal = nil
            actions.append(.renewed)
        }
        switch pending.kind {
        case .allocate: allocated(message, now: now, into: &actions)
        case .refresh(lifetimeSeconds: 0): end(nil, into: &actions)
        case .refresh: refreshed(message, now: now)
        case .move:
            isMoving = false
            refreshed(message, now: now)
            guard renewal != nil else { return }
            request(
                .refresh(lifetimeSeconds: configuration.lifetimeSeconds),
                isRenewal: true,
                now: now,
                into: &actions
            )
        case .permissions(let peers): permitted(peers, now: now, into: &actions)
        case .channel(let number, let peer): bound(number, peer, now: now, into: &actions)
        case .keepAlive:
            guard let seen = AnswerRules.mappedAddress(of: message), seen != mapped else { return }
            // To the server this is another client than the allocation's.
            mapped = seen
            check(now: now, into: &actions)
        }
    }

    /// 401 and 438 (RFC 8489 section 9.2.5).
    private mutating func challenge(
        _ pending: Pending,
        _ message: MessageView,
        _ isStale: Bool,
        now: UInt64,
        into actions: inout [TURNAction]
    ) {
        // Who wants a password for that keeps the mapping as well.
        if case .keepAlive = pending.kind { return }
        var signer = pending.isRenewal ? renewal ?? session : session
        let verdict = signer.learn(message, isStale: isStale, wasSigned: pending.isSigned, cryptography)
        if pending.isRenewal { renewal = signer } else { session = signer }
        let code: UInt16 = isStale ? 438 : 401
        let phrase = AnswerRules.reason(of: message)
        func give(_ reason: TURNFailure.Reason) -> TURNFailure {
            failure(reason, pending.kind.operation, code: code, phrase: phrase)
        }
        switch verdict {
        case .answered:
            // One fresh nonce for each request: a server that refuses it as well is asked no more.
            if isStale, pending.hasFreshNonce {
                return fail(pending, give(.nonceNeverFresh), now: now, into: &actions)
            }
            if case .allocate = pending.kind {
                attempts += 1
                guard attempts < Limits.allocateAttempts else {
                    return fail(pending, give(.wrongCredentials), now: now, into: &actions)
                }
            } else if !isStale, pending.isSigned, pending.hasFreshNonce {
                return fail(pending, give(.wrongCredentials), now: now, into: &actions)
            }
            request(
                pending.kind,
                isRenewal: pending.isRenewal,
                hasFreshNonce: isStale || pending.isSigned,
                now: now,
                into: &actions
            )
        case .sameAsBefore: fail(pending, give(.wrongCredentials), now: now, into: &actions)
        case .bidDown: fail(pending, give(.bidDown), now: now, into: &actions)
        case .noCommonAlgorithm: fail(pending, give(.noCommonAlgorithm), now: now, into: &actions)
        case .malformed: fail(pending, give(.malformedAnswer), now: now, into: &actions)
        }
    }

    /// Any other error.
    private mutating func refuse(
        _ pending: Pending,
        _ code: UInt16,
        _ message: MessageView,
        now: UInt64,
        into actions: inout [TURNAction]
    ) {
        let failure = failure(
            pending.kind.reason(of: code),
            pending.kind.operation,
            code: code,
            phrase: AnswerRules.reason(of: message)
        )
        if case .allocate = pending.kind, retriesAllocate(code, message, now: now, into: &actions) { return }
        fail(pending, failure, now: now, into: &actions)
    }

    mutating func fail(
        _ pending: Pending,
        _ why: TransactionFailure,
        now: UInt64,
        into actions: inout [TURNAction]
    ) {
        var code: UInt16?
        let reason: TURNFailure.Reason
        switch why {
        case .timedOut: reason = .serverSilent
        // Some servers sign none of their errors. RFC 8489 section 9.2.5 has such an answer discarded as if it had
        // never come, so the request was sent until its time was over. What follows then is the client's own choice,
        // and the code the best guess there is; a redirection alone is never taken from nobody.
        case .integrityViolated(let claimed?) where claimed != 300:
            if case .allocate = pending.kind, phase == .allocating, !pending.isRenewal,
                retriesAllocate(claimed, nil, now: now, into: &actions)
            {
                return
            }
            (reason, code) = (pending.kind.reason(of: claimed), claimed)
        case .integrityViolated(let claimed): (reason, code) = (.unverifiedAnswers, claimed)
        case .unknownAttributes: reason = .unknownAttributes
        case .malformed: reason = .malformedAnswer
        }
        fail(pending, failure(reason, pending.kind.operation, code: code), now: now, into: &actions)
    }

    /// Decides what a failed request means for the whole.
    mutating func fail(
        _ pending: Pending,
        _ failure: TURNFailure,
        now: UInt64,
        into actions: inout [TURNAction]
    ) {
        // It is not signed, and whatever comes for an answer says nothing of the allocation.
        if case .keepAlive = pending.kind { return }
        if pending.isRenewal {
            renewal = nil
            actions.append(.renewalRefused(failure))
            return
        }
        if phase == .closing { return end(nil, into: &actions) }
        // An allocation that the server knows goes on relaying, whatever becomes of a request about it: an outage of
        // the way is over as a rule before the lifetime is.
        if failure.reason == .allocationLost {
            // A NAT that has forgotten its mapping makes this client another one to the server, which a ticket mends.
            if case .refresh = pending.kind, failure.code == 437, moved(now: now, into: &actions) { return }
            return end(failure, into: &actions)
        }
        switch pending.kind {
        case .allocate, .move: end(failure, into: &actions)
        case .refresh:
            refreshFailure = failure
            refreshAt = now.addingSaturated(Limits.retryPause)
        case .permissions(let peers): notPermitted(peers, failure, now: now, into: &actions)
        case .channel(let number, let peer): notBound(number, peer, failure, now: now, into: &actions)
        case .keepAlive: break
        }
    }

    /// Takes note that a request was given up without an answer, and is to be made again.
    mutating func putBack(_ pending: Pending, now: UInt64) {
        // A renewal is made again once the allocation has moved.
        if pending.isRenewal { return }
        switch pending.kind {
        case .allocate, .move, .keepAlive: break
        case .refresh: refreshAt = min(refreshAt, now)
        case .permissions(let peers):
            for peer in peers { permissions[peer]?.postpone(until: now) }
        case .channel(_, let peer): channels[peer]?.postpone(until: now)
        }
    }
}

extension TURNClient.Kind {
    func reason(of code: UInt16) -> TURNFailure.Reason {
        switch code {
        case 400: return .badRequest
        case 403: return .forbidden
        case 405: return .mobilityForbidden
        case 420: return .unknownAttributes
        case 437:
            if case .allocate = self { return .portInUse }
            return .allocationLost
        case 440: return .familyUnavailable
        case 441: return .foreignAllocation
        case 442: return .unsupportedTransport
        case 443: return .peerFamilyMismatch
        case 486: return .quotaReached
        case 508: return .outOfCapacity
        case 500...599: return .serverError
        default: return .unexpectedCode
        }
    }
}
