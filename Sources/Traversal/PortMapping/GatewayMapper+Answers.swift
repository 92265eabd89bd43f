import STUN

extension GatewayMapper {
    /// - Parameter isAnnouncement: it came to all clients, on their port for that.
    mutating func receive(
        _ bytes: [UInt8],
        isAnnouncement: Bool,
        now: UInt64,
        into actions: inout [PortMappingAction]
    ) {
        guard !isOver else { return }
        if let answer = PCPMessage.answer(bytes) {
            take(answer, isAnnouncement, now, &actions)
        } else if let answer = NATPMPMessage.answer(bytes) {
            take(answer, isAnnouncement, now, &actions)
        } else if !isAnnouncement, bytes.count >= 4, bytes[1] & 0x80 != 0, bytes[0] == 1, bytes[3] == 1,
            mode == .undecided
        {
            // RFC 6887 section 9: a server that speaks an earlier PCP alone.
            failures[.pcp] = .unsupportedVersion
        }
    }

    private mutating func take(
        _ answer: PCPMessage.Answer,
        _ isAnnouncement: Bool,
        _ now: UInt64,
        _ actions: inout [PortMappingAction]
    ) {
        switch answer {
        case .other: return
        case .announce(let head):
            if isAnnouncement, mode == .natPMP { return suspect(now) }
            // Nobody is believed that there is PCP who was not asked.
            guard mode == .pcp else { return }
            if !isAnnouncement, head.resultCode == 0 { settleProbe(now) }
            noteEpoch(head.epochSeconds, .pcp, isAnnouncement, now)
        case .map(let head, let map):
            // Section 11.4: what is not of a request of ours is passed over.
            guard !isAnnouncement, mode != .natPMP,
                let index = entries.firstIndex(where: {
                    $0.nonce == map.nonce && $0.port == InternalPort(map.transport, map.internalPort)
                })
            else { return }
            if mode == .undecided {
                mode = .pcp
            }
            hasAnswered.insert(.pcp)
            noteEpoch(head.epochSeconds, .pcp, false, now)
            take(head, map, of: index, now, &actions)
        }
    }

    private mutating func take(
        _ head: PCPMessage.Head,
        _ map: PCPMessage.Map,
        of index: Int,
        _ now: UInt64,
        _ actions: inout [PortMappingAction]
    ) {
        if releaseBy != nil {
            entries.remove(at: index)
            if entries.isEmpty { end(&actions) }
            return
        }
        guard head.resultCode == 0 else {
            let failure = PortMappingFailure(pcp: head.resultCode)
            return refuse(index, failure, .pcp, retrySeconds: head.lifetimeSeconds, now, &actions)
        }
        guard head.lifetimeSeconds > 0, let external = map.external, external.port != 0, external.address.v4 != 0
        else { return refuse(index, .badAnswer, .pcp, retrySeconds: 0, now, &actions) }
        grant(index, external, head.lifetimeSeconds, .pcp, now, &actions)
    }

    private mutating func take(
        _ answer: NATPMPMessage.Answer,
        _ isAnnouncement: Bool,
        _ now: UInt64,
        _ actions: inout [PortMappingAction]
    ) {
        switch answer {
        case .unsupportedVersion:
            // RFC 6887 appendix A: what a server says that knows NAT-PMP alone.
            guard !isAnnouncement, mode == .undecided, releaseBy == nil else { return }
            failures[.pcp] = .unsupportedVersion
            mode = .natPMP
            for index in entries.indices { (entries[index].sent, entries[index].nextAt) = (0, now) }
            advance(now: now, into: &actions)
        case .address(let code, let epochSeconds, let found):
            if isAnnouncement, mode == .pcp { return suspect(now) }
            if isAnnouncement, !hasAnswered.contains(.natPMP) { return }
            hasAnswered.insert(.natPMP)
            failures[.natPMP] = code == 0 ? nil : PortMappingFailure(natPMP: code)
            // With PCP its own probe goes on.
            if !isAnnouncement, mode != .pcp { settleProbe(now) }
            if mode == .natPMP { noteEpoch(epochSeconds, .natPMP, isAnnouncement, now) }
            guard let found, found.v4 != 0 else { return }
            address = found
            if mode == .natPMP { for index in entries.indices { publish(index, &actions) } }
        case .map(let code, let epochSeconds, let map):
            guard !isAnnouncement, mode == .natPMP else { return }
            let index = map.flatMap { map in entries.firstIndex { $0.port == map.port && $0.sent > 0 } }
            guard let index = index ?? (map == nil ? entries.firstIndex { $0.sent > 0 } : nil) else { return }
            hasAnswered.insert(.natPMP)
            noteEpoch(epochSeconds, .natPMP, false, now)
            take(code, map, of: index, now, &actions)
        }
    }

    private mutating func take(
        _ code: UInt16,
        _ map: NATPMPMessage.Map?,
        of index: Int,
        _ now: UInt64,
        _ actions: inout [PortMappingAction]
    ) {
        if releaseBy != nil {
            entries.remove(at: index)
            if entries.isEmpty { end(&actions) }
            return
        }
        guard code == 0, let map, map.externalPort != 0, map.lifetimeSeconds > 0 else {
            let failure = code == 0 ? .badAnswer : PortMappingFailure(natPMP: code)
            return refuse(index, failure, .natPMP, retrySeconds: 0, now, &actions)
        }
        entries[index].externalPort = map.externalPort
        entries[index].lifetimeSeconds = map.lifetimeSeconds
        schedule(index, map.lifetimeSeconds, now)
        failures[.natPMP] = nil
        publish(index, &actions)
    }

    private mutating func publish(_ index: Int, _ actions: inout [PortMappingAction]) {
        guard let address, let port = entries[index].externalPort else { return }
        tell(index, Endpoint(address: address, port: port), .natPMP, &actions)
    }

    private mutating func grant(
        _ index: Int,
        _ external: Endpoint,
        _ lifetimeSeconds: UInt32,
        _ by: PortMappingProtocol,
        _ now: UInt64,
        _ actions: inout [PortMappingAction]
    ) {
        entries[index].lifetimeSeconds = lifetimeSeconds
        schedule(index, lifetimeSeconds, now)
        failures[by] = nil
        tell(index, external, by, &actions)
    }

    /// Section 11.2.1: the first renewal goes out between a half and five eighths of the lifetime, not all at once.
    private mutating func schedule(_ index: Int, _ lifetimeSeconds: UInt32, _ now: UInt64) {
        let lifetime = UInt64(min(lifetimeSeconds, PortMappingLimits.longestLifetimeSeconds)) * Limits.second
        let wait = lifetime / 2 + cryptography.randomNumber() % (lifetime / 8 + 1)
        entries[index].sent = 0
        entries[index].nextAt = now.addingSaturated(max(wait, PortMappingLimits.shortestRenewal))
        entries[index].expiresAt = now.addingSaturated(max(lifetime, PortMappingLimits.shortestRenewal * 2))
    }

    private mutating func tell(
        _ index: Int,
        _ external: Endpoint,
        _ by: PortMappingProtocol,
        _ actions: inout [PortMappingAction]
    ) {
        guard entries[index].external != external else { return }
        entries[index].external = external
        let entry = entries[index]
        actions.append(
            .granted(
                PortMapping(
                    port: entry.port,
                    external: external,
                    by: by,
                    lifetimeSeconds: min(entry.lifetimeSeconds, PortMappingLimits.longestLifetimeSeconds)
                )
            )
        )
    }

    private mutating func refuse(
        _ index: Int,
        _ failure: PortMappingFailure,
        _ by: PortMappingProtocol,
        retrySeconds: UInt32,
        _ now: UInt64,
        _ actions: inout [PortMappingAction]
    ) {
        failures[by] = failure
        let usual = failure.isShort ? PortMappingLimits.shortErrorSeconds : PortMappingLimits.longErrorSeconds
        let seconds = retrySeconds == 0 ? usual : retrySeconds
        let bounded = min(max(seconds, PortMappingLimits.shortErrorSeconds), PortMappingLimits.longErrorSeconds)
        let retryAt = now.addingSaturated(UInt64(bounded) * Limits.second)
        if entries[index].external != nil { lose(index, retryAt: retryAt, &actions) }
        (entries[index].sent, entries[index].nextAt) = (0, retryAt)
    }

    mutating func lose(_ index: Int, retryAt: UInt64, _ actions: inout [PortMappingAction]) {
        (entries[index].external, entries[index].externalPort) = (nil, nil)
        (entries[index].sent, entries[index].nextAt) = (0, retryAt)
        actions.append(.lost(entries[index].port))
    }

    private mutating func settleProbe(_ now: UInt64) {
        // It was asked beside the one that has answered.
        if probes > 1, !hasAnswered.contains(.natPMP) { silent.insert(.natPMP) }
        probes = 0
        nextProbe = now.addingSaturated(PortMappingLimits.epochCheck)
    }

    mutating func end(_ actions: inout [PortMappingAction]) {
        isOver = true
        entries = []
        actions.append(.released)
    }

    // MARK: Epochs

    private mutating func noteEpoch(
        _ epochSeconds: UInt32,
        _ by: PortMappingProtocol,
        _ isAnnouncement: Bool,
        _ now: UInt64
    ) {
        guard epoch.note(epochSeconds, by: by, now: now), releaseBy == nil else { return }
        // Announcements cost no more than a round in so long: they are not authenticated.
        var at = quietUntil
        if now >= quietUntil {
            at = isAnnouncement ? soon(now) : now
            quietUntil = at.addingSaturated(PortMappingLimits.rebootPause)
        }
        for index in entries.indices {
            (entries[index].sent, entries[index].nextAt) = (0, min(entries[index].nextAt, at))
        }
    }

    /// A gateway of both protocols may announce its start by the other one alone, as miniupnpd does: its epoch tells.
    private mutating func suspect(_ now: UInt64) {
        guard releaseBy == nil, !entries.isEmpty, now >= unsuspectedUntil else { return }
        (probes, nextProbe) = (0, min(nextProbe, soon(now)))
        unsuspectedUntil = now.addingSaturated(PortMappingLimits.rebootPause)
    }

    private func soon(_ now: UInt64) -> UInt64 {
        now.addingSaturated(cryptography.randomNumber() % PortMappingLimits.announcementSpread)
    }
}
