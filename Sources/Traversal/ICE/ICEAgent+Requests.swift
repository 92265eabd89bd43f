import STUN

extension ICEAgent {
    func take(_ bytes: UnsafeRawBufferPointer, on base: ICEBase, from source: Endpoint) -> Bool {
        guard let message = try? MessageView(bytes), message.type.method == .binding else {
            counters.malformed &+= 1
            return false
        }
        switch message.type.messageClass {
        case .request: return takeRequest(message, on: base, from: source)
        case .successResponse, .errorResponse: return takeAnswer(message, on: base, from: source)
        case .indication:
            // RFC 8445 section 11: a keepalive; it is not authenticated and says nothing.
            counters.indications &+= 1
            return false
        }
    }

    /// RFC 8445 section 7.3.
    private func takeRequest(_ message: MessageView, on base: ICEBase, from source: Endpoint) -> Bool {
        guard let username = message.first(.username), let colon = username.firstIndex(of: UInt8(ascii: ":")) else {
            counters.unauthenticated &+= 1
            return false
        }
        let fragment = username[..<colon]
        let peerFragment = Array(username[(colon + 1)...])
        if fragment.elementsEqual(localCredentials.usernameFragment.utf8) {
            guard isKnownPeer(peerFragment), ICEMessage.isAuthentic(message, key: localKey, with: cryptography) else {
                counters.unauthenticated &+= 1
                return false
            }
            return answer(message, on: base, from: source, username: Array(username), peerFragment: peerFragment)
        }
        // A session that was restarted: the peer may use its path until the new one stands.
        guard let previous, fragment.elementsEqual(previous.fragment), peerFragment == previous.remoteFragment,
            ICEMessage.isAuthentic(message, key: previous.key, with: cryptography)
        else {
            counters.unauthenticated &+= 1
            return false
        }
        confirm(message, on: base, to: source, key: previous.key)
        return true
    }

    private func isKnownPeer(_ fragment: [UInt8]) -> Bool {
        guard let remote else { return ICELimits.usernameFragmentCharacters.contains(fragment.count) }
        return fragment.elementsEqual(remote.credentials.usernameFragment.utf8)
    }

    private func answer(
        _ message: MessageView,
        on base: ICEBase,
        from source: Endpoint,
        username: [UInt8],
        peerFragment: [UInt8]
    ) -> Bool {
        let unknown = ICEMessage.unknownAttributes(message)
        guard unknown.isEmpty else {
            refuse(message, ICEMessage.unknownAttribute, unknown, on: base, to: source)
            return false
        }
        guard let request = ICERequest(message, username: username) else {
            refuse(message, ICEMessage.badRequest, on: base, to: source)
            return false
        }
        guard settleRole(request) else {
            send(
                ICEMessage.failure(
                    message.transactionID,
                    code: ICEMessage.roleConflict,
                    key: localKey,
                    with: cryptography
                ),
                on: base,
                to: source
            )
            return true
        }
        confirm(message, on: base, to: source, key: localKey)
        if remote != nil {
            process(request, on: base, from: source)
        } else if early.count < ICELimits.earlyChecks {
            early.removeAll { $0.base == base && $0.source == source && !$0.request.usesCandidate }
            early.append(EarlyCheck(request: request, base: base, source: source, fragment: peerFragment))
        } else {
            counters.earlyChecksBeyondLimit &+= 1
        }
        return true
    }

    private func confirm(_ message: MessageView, on base: ICEBase, to source: Endpoint, key: [UInt8]) {
        counters.answeredRequests &+= 1
        send(
            ICEMessage.success(message.transactionID, mapped: source, key: key, with: cryptography),
            on: base,
            to: source
        )
    }

    private func refuse(
        _ message: MessageView,
        _ code: UInt32,
        _ unknown: [AttributeType] = [],
        on base: ICEBase,
        to source: Endpoint
    ) {
        counters.refusedRequests &+= 1
        let bytes = ICEMessage.failure(
            message.transactionID,
            code: code,
            unknown: unknown,
            key: localKey,
            with: cryptography
        )
        send(bytes, on: base, to: source)
    }

    private func send(_ bytes: [UInt8], on base: ICEBase, to target: Endpoint) {
        actions.append(.send(base: base, to: target, bytes: bytes))
    }

    /// RFC 8445 section 7.3.1.1: of two with one role the larger tie-breaker controls.
    /// - Returns: false when it is the peer that has to change.
    private func settleRole(_ request: ICERequest) -> Bool {
        guard request.role == role else { return true }
        counters.roleConflicts &+= 1
        let keepsRole = (tieBreaker >= request.tieBreaker) == (role == .controlling)
        // Opposite a lite agent there is nothing to settle, and one that wants it all the time is not heard.
        guard !keepsRole, remote?.isLite != true, roleChanges < ICELimits.roleChanges else { return false }
        roleChanges += 1
        takeRole(role.other)
        return true
    }

    // MARK: What a check brings about

    /// RFC 8445 sections 7.3.1.3 to 7.3.1.5.
    func process(_ request: ICERequest, on base: ICEBase, from source: Endpoint) {
        let pair: ICEPair
        if let known = self.pair(base, source) {
            pair = known
        } else {
            guard let (local, candidate) = ends(on: base, from: source, priority: request.priority),
                let made = makePair(local, candidate, source)
            else { return }
            pair = made
        }
        pair.requests &+= 1
        pair.heardAt = now
        if pair === selected { (silentSince, elsewhere) = (nil, nil) }
        if role == .controlled { note(request, on: pair) }
        trigger(pair)
    }

    private func ends(
        on base: ICEBase,
        from source: Endpoint,
        priority: UInt32
    ) -> (ICELocalCandidate, ICECandidate)? {
        if isStream(base) { return streamEnds(on: base, from: source, priority: priority) }
        guard let local = sender(on: base, .udp),
            let candidate = remoteCandidate(at: source, .udp, priority: priority)
        else { return nil }
        return (local, candidate)
    }

    private func trigger(_ pair: ICEPair) {
        switch pair.state {
        case .succeeded: return
        case .inProgress:
            // The check under way was sent before the peer's opened its NAT: no more of it, and a new one.
            pair.transmission = nil
        case .failed where pair.isOver: return
        default: pair.failure = nil
        }
        pair.state = .waiting
        enqueue(pair)
    }

    /// USE-CANDIDATE once, with every check, or with a number: agents differ, and all are understood.
    private func note(_ request: ICERequest, on pair: ICEPair) {
        if request.usesCandidate || request.nomination > 0 {
            nominationOrder &+= 1
            pair.nominationOrder = nominationOrder
            pair.nominationNumber = max(pair.nominationNumber, request.nomination)
            if pair.state == .succeeded { pair.isNominated = true } else { pair.nominatesOnSuccess = true }
        } else if pair.isNominated, pair.nominationNumber == 0,
            pairs.contains(where: { $0.isNominated && $0.nominationOrder > pair.nominationOrder })
        {
            // The peer has nominated another since, and says no more that it wants this one.
            pair.isNominated = false
        }
    }
}
