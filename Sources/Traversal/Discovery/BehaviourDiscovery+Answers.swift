import STUN

/// What comes by the sockets, and the tests that follow from it.
extension BehaviourDiscovery {
    /// A datagram that came by one of the sockets.
    /// - Returns: whether it was for this machine; what was not may be for others on the same socket.
    @discardableResult
    package mutating func receive(
        _ bytes: UnsafeRawBufferPointer,
        on socket: Int,
        from source: Endpoint,
        now: UInt64,
        into actions: inout [Action]
    ) -> Bool {
        guard !isOver, isOpen(socket), let message = try? MessageView(bytes), message.type.method == .binding else {
            return false
        }
        var isOurs = true
        if message.type.messageClass == .request {
            // Only what one of our sockets has sent to the other has one of these numbers.
            if let ids = hairpinIDs,
                socket == 0 && message.transactionID == ids.toFirst
                    || socket == Self.hairpinSocket && message.transactionID == ids.toSecond
            {
                report.hairpin = .determined(true)
            } else {
                isOurs = false
            }
        } else if !takeLifetimeAnswer(message, socket, now: now, into: &actions) {
            isOurs = take(message, socket, source, now: now, into: &actions)
        }
        pump(now: now, into: &actions)
        settleLifetime(into: &actions)
        return isOurs
    }

    private mutating func take(
        _ message: MessageView,
        _ socket: Int,
        _ source: Endpoint,
        now: UInt64,
        into actions: inout [Action]
    ) -> Bool {
        switch transactions.receive(message, from: source, socket: socket, now: now, with: cryptography) {
        case .ignored: return false
        case .failed(let probe, _): missed(probe, now: now, into: &actions)
        case .answered(let answer):
            switch answer.context {
            case .changed(let test):
                if answer.errorCode == nil {
                    if filters[test]?.source == nil { filters[test]?.source = source }
                } else {
                    filters[test]?.isRefused = true
                }
                return true
            case .proof(let test):
                proving.remove(test)
                if answer.errorCode == nil, source == pair.map(test.origin) { proved.insert(test) }
                return true
            default: break
            }
            guard answer.errorCode == nil, let mapped = AnswerRules.mappedAddress(of: message),
                mapped.family == answer.destination.family
            else {
                missed(answer.context, now: now, into: &actions)
                return true
            }
            if let roundTrip = answer.roundTripNanoseconds {
                report.roundTripNanoseconds = min(report.roundTripNanoseconds ?? .max, roundTrip)
            }
            learn(answer.context, answer.destination, mapped, message, now: now, into: &actions)
        }
        return true
    }

    private mutating func learn(
        _ probe: Probe,
        _ server: Endpoint,
        _ mapped: Endpoint,
        _ message: MessageView,
        now: UInt64,
        into actions: inout [Action]
    ) {
        switch probe {
        case .server:
            sightings.append(Sighting(server: server, mapped: mapped))
            report.answeringServers.append(server)
            if anchor == nil { begin(with: server, mapped, now: now, into: &actions) }
            if pair == nil, !isConcluded, let second = Self.otherAddress(message, than: server) {
                begin(Pair(first: server, second: second), now: now, into: &actions)
            }
        case .alternate:
            sightings.append(Sighting(server: server, mapped: mapped))
            prove(server, now: now, into: &actions)
        case .control(let test):
            filters[test]?.proved += 1
            if !otherPorts.contains(mapped.port) { otherPorts.append(mapped.port) }
        case .sample(let index):
            if let local = sockets[index + 3] ?? nil {
                samples[index] = PortPattern.Sample(local: local.port, mapped: mapped.port)
            }
            skipSample(index)
        case .hairpin: hairpinMapped = mapped
        case .lifetimeMapping(let index): lifetimeMapped(index, mapped, now: now, into: &actions)
        case .lifetimeControl(let index): lifetimeProved(index, mapped)
        case .changed, .proof: break
        }
    }

    /// A request has gone without an answer that can be used.
    mutating func missed(_ probe: Probe, now: UInt64, into actions: inout [Action]) {
        switch probe {
        case .server(let index):
            if index < servers.count { report.silentServers.append(servers[index].endpoint) }
            // All of them: there is nothing to wait for.
            if report.silentServers.count == servers.count { conclude(now: now, into: &actions) }
        case .sample(let index): skipSample(index)
        case .lifetimeMapping: lifetimeFailed("the server has stopped answering", into: &actions)
        case .proof(let test): proving.remove(test)
        case .alternate, .control, .changed, .hairpin, .lifetimeControl: break
        }
    }

    mutating func skipSample(_ index: Int) {
        guard index == nextSample else { return }
        isSampling = false
        nextSample += 1
    }

    // MARK: Tests

    /// The first server has answered: what any server can help with begins.
    private mutating func begin(with server: Endpoint, _ mapped: Endpoint, now: UInt64, into actions: inout [Action]) {
        anchor = server
        report.mapped = mapped
        alarms[.conclude] = now.addingSaturated(Limits.discoveryTime)
        for index in 0..<Limits.allocationSamples { open(3 + index, into: &actions) }
        open(Self.hairpinSocket, into: &actions)
    }

    /// A server with a second address: what takes one begins.
    private mutating func begin(_ pair: Pair, now: UInt64, into actions: inout [Action]) {
        self.pair = pair
        alarms[.conclude] = now.addingSaturated(Limits.discoveryTime)
        for corner in pair.corners {
            ask(.alternate, from: 0, corner, Self.alternateSchedule, now: now, into: &actions)
        }
        for test in FilterTest.allCases { open(test.rawValue, into: &actions) }
    }

    /// One of the server's other places has answered the first socket, so the filter lets in what comes from there. A
    /// server that was told to answer from there and cannot would look like a filter to the fresh sockets.
    private mutating func prove(_ place: Endpoint, now: UInt64, into actions: inout [Action]) {
        guard let pair, let test = FilterTest.allCases.first(where: { $0.origin(pair) == place }) else { return }
        proving.insert(test)
        ask(.proof(test), from: 0, pair.first, Self.alternateSchedule, now: now, into: &actions)
    }

    /// OTHER-ADDRESS, where both its address and its port differ (RFC 5780 section 7.4), and it is as public as the
    /// server's: a server in the world has no business with what lies behind our NAT. Servers of RFC 3489 have
    /// CHANGED-ADDRESS in its place (section 11.2.3), with one address of their own too, so it is worth no more than
    /// what it names answers.
    private static func otherAddress(_ message: MessageView, than server: Endpoint) -> Endpoint? {
        let value = message.first(.otherAddress) ?? message.first(.changedAddress)
        guard let other = value.flatMap(AddressAttribute.decode),
            other.family == server.family, other.address != server.address, other.port != server.port,
            other.port != 0, !other.address.isUnusable, other.address.isLoopback == server.address.isLoopback,
            !other.address.isPrivate || server.address.isPrivate
        else { return nil }
        return other
    }

    /// Begins whatever can begin, and concludes when nothing is left to wait for.
    mutating func pump(now: UInt64, into actions: inout [Action]) {
        guard !isOver, !isConcluded else { return }
        if pair != nil, filters.isEmpty, FilterTest.allCases.allSatisfy({ sockets[$0.rawValue] != .some(nil) }) {
            for test in FilterTest.allCases where isOpen(test.rawValue) { filters[test] = FilterState() }
            if !filters.isEmpty { filterRound(now: now, into: &actions) }
        }
        // A socket that could not be opened is left out.
        while anchor != nil, nextSample < Limits.allocationSamples, sockets[3 + nextSample] == nil { nextSample += 1 }
        if let anchor, !isSampling, nextSample < Limits.allocationSamples, isOpen(3 + nextSample) {
            isSampling = true
            let gap = max(60 * Limits.millisecond, (report.roundTripNanoseconds ?? 0) / 4 * 5)
            let schedule = RetransmissionSchedule(
                gapsNanoseconds: Array(
                    repeating: min(gap, Limits.discoveryTime),
                    count: Limits.allocationTransmissions - 1
                ),
                lastWaitNanoseconds: min(gap, Limits.discoveryTime) * 2
            )
            ask(.sample(nextSample), from: 3 + nextSample, anchor, schedule, now: now, into: &actions)
        }
        if let anchor, !isHairpinning, isOpen(Self.hairpinSocket) {
            isHairpinning = true
            ask(.hairpin, from: Self.hairpinSocket, anchor, Self.alternateSchedule, now: now, into: &actions)
        }
        if hairpinMapped != nil, hairpinIDs == nil {
            hairpinIDs = (cryptography.randomTransaction(), cryptography.randomTransaction())
            hairpinCopy(now: now, into: &actions)
        }
        if anchor != nil, isSettled(now: now) { conclude(now: now, into: &actions) }
    }

    /// One request for an answer from elsewhere and a plain one, by each of the fresh sockets. Both go to the same
    /// place, so that the plain one opens nothing that the other has not.
    mutating func filterRound(now: UInt64, into actions: inout [Action]) {
        guard let pair, !isConcluded else { return }
        var isLast = true
        for test in FilterTest.allCases {
            guard let state = filters[test], state.source == nil, !state.isRefused,
                state.sent < Limits.filterRounds
            else { continue }
            filters[test]?.sent += 1
            let once = RetransmissionSchedule(gapsNanoseconds: [], lastWaitNanoseconds: Limits.discoveryTime)
            ask(.changed(test), from: test.rawValue, pair.first, once, now: now, into: &actions)
            ask(.control(test), from: test.rawValue, pair.first, once, now: now, into: &actions)
            if state.sent + 1 < Limits.filterRounds { isLast = false }
        }
        if isLast {
            alarms[.look] = now.addingSaturated(filterGrace)
        } else {
            alarms[.filterRound] = now.addingSaturated(Limits.filterSpacing)
        }
    }

    var filterGrace: UInt64 { max(Limits.filterGrace, (report.roundTripNanoseconds ?? 0) * 2) }

    /// Each of the two sockets sends to the other's outside address: the first packet of either side opens the filter
    /// for the other's, so that what does not arrive was not turned round.
    mutating func hairpinCopy(now: UInt64, into actions: inout [Action]) {
        guard let ids = hairpinIDs, let second = hairpinMapped, let first = report.mapped, !isConcluded,
            hairpinSent < Limits.hairpinCopies, report.hairpin.value == nil
        else { return }
        hairpinSent += 1
        actions.append(.send(0, to: second, binding(ids.toSecond)))
        actions.append(.send(Self.hairpinSocket, to: first, binding(ids.toFirst)))
        alarms[.hairpinCopy] = now.addingSaturated(
            hairpinSent < Limits.hairpinCopies ? Limits.hairpinSpacing : Limits.hairpinGrace
        )
    }
}
