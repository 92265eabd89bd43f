import STUN

/// The allocation itself: what its answers mean, and what else may be tried.
extension TURNClient {
    mutating func allocated(_ message: MessageView, now: UInt64, into actions: inout [TURNAction]) {
        guard let mapped = AnswerRules.mappedAddress(of: message), let lifetime = Self.lifetime(message) else {
            return end(failure(.malformedAnswer, .allocate), into: &actions)
        }
        var relayed: [Endpoint] = []
        var iterator = message.attributes
        while let attribute = iterator.next() {
            guard attribute.type == .xorRelayedAddress,
                let endpoint = AddressAttribute.decodeXOR(attribute.value, message.transactionID)
            else { continue }
            if endpoint.port != 0, !relayed.contains(where: { $0.family == endpoint.family }) {
                relayed.append(endpoint)
            }
        }
        phase = .live
        // RFC 8656 section 7.3: what was not asked for is given back.
        let isWanted = relayed.contains { endpoint in
            switch configuration.families {
            case .ipv4: endpoint.family == .ipv4 || configuration.reservationToken != nil
            case .ipv6: endpoint.family == .ipv6
            case .both: true
            }
        }
        guard isWanted else {
            actions.append(
                .send(
                    build(MessageType(.refresh, .request), cryptography.randomTransaction()) { builder in
                        builder.append(.lifetime, 0 as UInt32)
                        session.sign(&builder, cryptography)
                    }
                )
            )
            return end(failure(relayed.isEmpty ? .malformedAnswer : .familyUnavailable, .allocate), into: &actions)
        }
        takeTicket(message)
        let token = message.first(.reservationToken).flatMap { $0.count == 8 ? $0.uint64(at: 0) : nil }
        let granted = TURNAllocation(
            relayed: relayed,
            mapped: mapped,
            lifetimeSeconds: lifetime,
            reservationToken: token,
            isMobile: !ticket.isEmpty
        )
        allocation = granted
        self.mapped = mapped
        schedule(lifetime, now: now)
        actions.append(.allocated(granted))
    }

    mutating func refreshed(_ message: MessageView, now: UInt64) {
        takeTicket(message)
        let lifetime = Self.lifetime(message) ?? allocation?.lifetimeSeconds ?? Limits.shortestLifetimeSeconds
        allocation?.lifetimeSeconds = lifetime
        schedule(lifetime, now: now)
        refreshFailure = nil
    }

    /// Whether another Allocate is under way, or another connection asked for, in answer to a refusal.
    /// - Parameter message: nil where the server did not sign it; nothing but its code is looked at then.
    mutating func retriesAllocate(
        _ code: UInt16,
        _ message: MessageView?,
        now: UInt64,
        into actions: inout [TURNAction]
    ) -> Bool {
        attempts += 1
        guard phase == .allocating, attempts < Limits.allocateAttempts else { return false }
        switch code {
        case 300:
            guard let message else { return false }
            redirect(message, now: now, into: &actions)
            return true
        case 405 where configuration.wantsMobility && leavesOut.insert(.mobilityTicket).inserted: break
        case 420:
            // What only makes the allocation better is left out; what it is about is not.
            let named = (message.map(Self.unknownAttributes) ?? optionalAttributes).filter {
                optionalAttributes.contains($0) && !leavesOut.contains($0)
            }
            guard !named.isEmpty else { return false }
            leavesOut.formUnion(named)
        case 440 where configuration.families == .both && !asksForIPv6Alone: asksForIPv6Alone = true
        case 437 where freshPorts < Limits.freshPorts:
            freshPorts += 1
            reconnect(to: server, certificateName: nil, into: &actions)
            return true
        default: return false
        }
        request(.allocate, now: now, into: &actions)
        return true
    }

    /// What this configuration asks for beyond an allocation.
    private var optionalAttributes: [AttributeType] {
        var used: [AttributeType] = []
        if configuration.prohibitsFragments { used.append(.dontFragment) }
        if configuration.wantsMobility { used.append(.mobilityTicket) }
        if configuration.families == .both { used.append(.additionalAddressFamily) }
        return used
    }

    /// 300 (RFC 8489 section 10).
    private mutating func redirect(_ message: MessageView, now: UInt64, into actions: inout [TURNAction]) {
        var alternate: Endpoint?
        var iterator = message.attributes
        while let attribute = iterator.next() {
            guard alternate == nil, attribute.type == .alternateServer,
                let endpoint = AddressAttribute.decode(attribute.value), endpoint.family == server.family
            else { continue }
            alternate = endpoint
        }
        let phrase = AnswerRules.reason(of: message)
        guard let alternate, alternate.port != 0 else {
            return end(failure(.malformedAnswer, .allocate, code: 300, phrase: phrase), into: &actions)
        }
        // A server elsewhere has no business with what listens on this host, or with a whole network.
        let isTrusted =
            !alternate.address.isUnusable
            && (!alternate.address.isLoopback || server.address.isLoopback || configuration.followsToLoopback)
        guard isTrusted else {
            return end(failure(.redirectionRefused, .allocate, code: 300, phrase: phrase), into: &actions)
        }
        redirects += 1
        let isRecent = visited[alternate].map { now &- $0 < Limits.redirectMemory } ?? false
        guard !isRecent, redirects <= Limits.redirects else {
            return end(failure(.redirectionLoop, .allocate, code: 300, phrase: phrase), into: &actions)
        }
        let domain = message.first(.alternateDomain).flatMap { value in
            value.count <= 255 ? String(validating: value, as: UTF8.self) : nil
        }
        // Realm and nonce are the other server's; the credential is the same (section 10).
        session = LongTermSession(session.credential)
        reconnect(to: alternate, certificateName: domain, into: &actions)
    }

    private mutating func reconnect(
        to server: Endpoint,
        certificateName: String?,
        into actions: inout [TURNAction]
    ) {
        self.server = server
        phase = .idle
        attempts = 0
        frames.reset()
        _ = transactions.abandon()
        actions.append(.reconnect(to: server, certificateName: certificateName))
    }

    private mutating func schedule(_ lifetimeSeconds: UInt32, now: UInt64) {
        let bounded = min(max(lifetimeSeconds, Limits.shortestLifetimeSeconds), Limits.longestLifetimeSeconds)
        let lifetime = UInt64(bounded) * Limits.second
        expiresAt = now.addingSaturated(lifetime)
        // At least half of the lifetime passes first, so that a short one makes no flood.
        refreshAt = now.addingSaturated(max(lifetime / 2, lifetime - min(lifetime, Limits.refreshMargin)))
    }

    private mutating func takeTicket(_ message: MessageView) {
        guard configuration.wantsMobility, let value = message.first(.mobilityTicket),
            (1...Limits.ticketBytes).contains(value.count)
        else { return }
        ticket = Array(value)
    }

    private static func lifetime(_ message: MessageView) -> UInt32? {
        message.first(.lifetime).flatMap { $0.count == 4 ? $0.uint32(at: 0) : nil }
    }

    private static func unknownAttributes(_ message: MessageView) -> [AttributeType] {
        guard let value = message.first(.unknownAttributes) else { return [] }
        return stride(from: 0, to: min(value.count, 64) - 1, by: 2).map {
            AttributeType(rawValue: value.uint16(at: $0))
        }
    }
}

extension IPAddress {
    var isLoopback: Bool {
        isIPv4 ? v4 >> 24 == 127 : high == 0 && (low == 1 || low >> 24 == 0xFFFF_7F)
    }

    /// Of a private or a link's range, which means something else in every network.
    var isPrivate: Bool {
        guard isIPv4 else { return high >> 57 == 0xFC >> 1 || high >> 54 == 0x3FA }
        return v4 >> 24 == 10 || v4 >> 20 == 0xAC1 || v4 >> 16 == 0xC0A8 || v4 >> 22 == 0x6440_0000 >> 22
            || v4 >> 16 == 0xA9FE
    }

    /// Unspecified, multicast or broadcast: nobody is a host there.
    var isUnusable: Bool {
        isIPv4 ? v4 >> 24 == 0 || v4 >> 28 >= 0xE : high >> 56 == 0xFF || high == 0 && low == 0
    }
}
