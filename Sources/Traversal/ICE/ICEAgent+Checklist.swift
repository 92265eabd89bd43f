import STUN

extension ICEAgent {
    func pair(_ base: ICEBase, _ remote: Endpoint) -> ICEPair? {
        pairs.first { $0.local.base == base && $0.remoteEndpoint == remote }
    }

    /// RFC 8445 sections 6.1.2.2 to 6.1.2.5. Without the peer's credentials there is no checklist yet.
    func formPair(_ local: ICELocalCandidate, _ candidate: ICECandidate) {
        guard remote != nil, let endpoint = candidate.endpoint,
            candidate.transport == local.transport.counterpart,
            // RFC 6544 section 6.2: who listens is connected to.
            local.transport != .tcpPassive,
            endpoint.family == local.endpoint.family,
            Self.isLinkLocal(endpoint.address) == Self.isLinkLocal(local.baseEndpoint.address),
            sender(on: local.base, local.transport) == local,
            pair(local.base, endpoint) == nil,
            let pair = makePair(local, candidate, endpoint), pair.state != .failed
        else { return }
        // The first of a foundation is checked, the others wait to learn from it (RFC 8445 section 6.1.2.6); one that
        // joins later learns at once (RFC 8838 section 12).
        let alike = pairs.filter { $0 !== pair && $0.foundation == pair.foundation }
        let isFirst = !alike.contains { $0.state == .waiting || $0.state == .inProgress || $0.state == .frozen }
        pair.state = isFirst || alike.contains { $0.state == .succeeded } ? .waiting : .frozen
        if !isFirst, pair.state == .frozen, let rival = alike.first(where: { $0.state == .waiting && !$0.isQueued }),
            pair.priority > rival.priority
        {
            (pair.state, rival.state) = (.waiting, .frozen)
        }
    }

    /// A new pair in its place in the checklist, or nil when there are too many that are better.
    func makePair(_ local: ICELocalCandidate, _ candidate: ICECandidate, _ endpoint: Endpoint) -> ICEPair? {
        guard let remote else { return nil }
        let session = ICEPair.Session(
            username: Array("\(remote.credentials.usernameFragment):\(localCredentials.usernameFragment)".utf8),
            key: Array(remote.credentials.password.utf8)
        )
        let pair = ICEPair(local, foundation: foundation(of: local), remote: candidate, at: endpoint, session)
        pair.priority = priority(pair)
        pair.heardAt = now
        if remote.takesPadding, local.transport == .udp {
            pair.pathMTU = PathMTUSearch(isIPv4: endpoint.address.isIPv4)
        }
        if pairs.count >= ICELimits.pairs {
            counters.pairsBeyondLimit &+= 1
            guard let idle = pairToReplace(by: pair) else { return nil }
            forget(idle)
        }
        let place = pairs.firstIndex { $0.priority < pair.priority } ?? pairs.endIndex
        pairs.insert(pair, at: place)
        permit(pair)
        return pair
    }

    func forget(_ pair: ICEPair) {
        for transaction in pair.transactions { checks[transaction] = nil }
        pairs.removeAll { $0 === pair }
        triggered.removeAll { $0 === pair }
        if nominated === pair { nominated = nil }
        pair.state = .failed
    }

    func fail(_ pair: ICEPair, _ failure: ICEPairFailure) {
        pair.state = .failed
        pair.failure = failure == .noAnswer && pair.isUnreachable ? .unreachable : failure
        pair.transmission = nil
        pair.nominatesNext = false
        pair.isNominated = false
        if nominated === pair { nominated = nil }
        guard pair.isOver else { return }
        for transaction in pair.transactions { checks[transaction] = nil }
        pair.transactions = []
        triggered.removeAll { $0 === pair }
        pair.isQueued = false
    }

    func priority(_ pair: ICEPair) -> UInt64 {
        let (ours, theirs) = (pair.local.priority, pair.remote.priority)
        return role == .controlling
            ? ICEPriority.pair(controlling: ours, controlled: theirs)
            : ICEPriority.pair(controlling: theirs, controlled: ours)
    }

    func sortPairs() { pairs.sort { $0.priority > $1.priority } }

    /// RFC 8445 section 7.3.1.1: priorities depend on the role.
    func takeRole(_ role: ICERole) {
        self.role = role
        nominated = nil
        for pair in pairs {
            pair.priority = priority(pair)
            pair.nominatesNext = false
            pair.nominatesOnSuccess = false
            pair.isNominated = false
            pair.nominationNumber = 0
        }
        sortPairs()
        actions.append(.role(role))
    }

    // MARK: Pacing

    /// Every Ta one check starts (RFC 8445 section 6.1.4.2).
    func pace() {
        guard now >= nextPace, let pair = nextToCheck() else { return }
        start(pair)
        nextPace = after(pacing)
    }

    /// Both sides keep to the larger of the values they have told, of which none means 50 ms (RFC 8839 section 5.5).
    private var pacing: UInt64 {
        let asked = min(remote?.pacing ?? ICELimits.pacingNanosecondsUsual, ICELimits.pacingNanosecondsMaximum)
        return max(configuration.pacing, asked, ICELimits.pacingNanosecondsMinimum)
    }

    var hasWork: Bool {
        let holds = holdsStreams
        return triggered.contains { $0.nominatesNext || $0.state == .waiting }
            || pairs.contains { $0.state == .waiting && !isHeld($0, holds) } || frozenToThaw(holds) != nil
    }

    private func nextToCheck() -> ICEPair? {
        // What has succeeded or failed since needs no check, unless it is to be nominated.
        triggered.removeAll { pair in
            let isDue = pair.state == .waiting || pair.state == .succeeded && pair.nominatesNext
            pair.isQueued = isDue
            return !isDue
        }
        if let proven = pairs.first(where: { ($0.state == .waiting || $0.state == .frozen) && isProven($0) }) {
            triggered.removeAll { $0 === proven }
            proven.isQueued = false
            proven.state = .waiting
            return proven
        }
        let holds = holdsStreams
        var next = triggered.first
        if selected != nil {
            // Data flows, so what could be better goes before what else the relayed pairs want.
            next =
                triggered.first { $0.relays == 0 }
                ?? pairs.first { $0.state == .waiting && $0.relays == 0 && !isHeld($0, holds) } ?? next
        }
        if let next {
            triggered.removeAll { $0 === next }
            next.isQueued = false
            return next
        }
        if let pair = relayedToTry() ?? pairs.first(where: { $0.state == .waiting && !isHeld($0, holds) }) {
            return pair
        }
        let pair = frozenToThaw(holds)
        pair?.state = .waiting
        return pair
    }

    /// Relayed pairs come last by priority, and are what works everywhere. Until something works every other turn is
    /// theirs, the first one too, so that data flows at once and the direct pairs have their time. Between two relays
    /// of one server the way is as short as by one of them, and open before either side has heard of the other: the
    /// address that both are to let in is the server's own. Otherwise the peer's relay has a public address; to it from
    /// a socket is the shorter way, and by our own relay the one that always exists.
    private func relayedToTry() -> ICEPair? {
        var turns = 0
        for pair in pairs {
            if pair.state == .succeeded { return nil }
            if pair.state == .waiting || pair.state == .frozen { continue }
            turns += pair.relays == 0 ? 1 : -1
        }
        guard turns >= 0 else { return nil }
        let waiting = pairs.filter { $0.state == .waiting && $0.remote.type == .relayed }
        return waiting.first(where: \.isWithinServer) ?? waiting.first { $0.local.type != .relayed } ?? waiting.first
    }

    private func frozenToThaw(_ holdsStreams: Bool) -> ICEPair? {
        guard pairs.contains(where: { $0.state == .frozen }) else { return nil }
        let busy = Set(pairs.filter { $0.state == .waiting || holdsOthersBack($0) }.map(\.foundation))
        return pairs.first {
            $0.state == .frozen && !busy.contains($0.foundation) && !isHeld($0, holdsStreams)
        }
    }

    /// RFC 8445 section 6.1.4.2 lets the others of a foundation wait for the end of the check, which comes after 23.5 s
    /// where there is no answer. All relays of a peer by one server are of one foundation, and one that is gone must
    /// not keep its successor: when the first transmission is not answered, the others have their turns.
    private func holdsOthersBack(_ pair: ICEPair) -> Bool {
        guard pair.state == .inProgress, let transmission = pair.transmission else { return false }
        return transmission.count <= 1 || pair.local.transport.isTCP
    }

    func enqueue(_ pair: ICEPair, first: Bool = false) {
        if pair.isQueued {
            guard first else { return }
            triggered.removeAll { $0 === pair }
        }
        pair.isQueued = true
        triggered.insert(pair, at: first ? 0 : triggered.endIndex)
    }

    // MARK: Checks

    private func start(_ pair: ICEPair) {
        if pair.state != .succeeded { pair.state = .inProgress }
        if role == .controlling, nominated == nil, isProven(pair) {
            // What it would have to prove first it has shown just now.
            number(pair)
            pair.nominatesNext = true
        }
        let nominates = pair.nominatesNext
        pair.nominatesNext = false
        let (transaction, bytes) = send(pair, nominating: nominates)
        // RFC 8445 section 14.3.
        let busy = UInt64(pairs.count { $0.state == .waiting || $0.state == .inProgress })
        let wait = max(configuration.minimumRetransmission, pacing &* busy)
        // What goes over TCP is retransmitted by TCP; only the whole time counts (RFC 8489 section 6.2.2).
        let isReliable = pair.local.transport.isTCP
        pair.transmission = ICEPair.Transmission(
            transaction: transaction,
            bytes: bytes,
            nominates: nominates,
            count: isReliable ? configuration.transmissions : 1,
            next: after(isReliable || configuration.transmissions <= 1 ? wait &* configuration.lastWaitMultiple : wait),
            initial: wait,
            wait: wait
        )
    }

    /// One check leaves now; without retransmission unless `start` sends it.
    @discardableResult
    func send(_ pair: ICEPair, nominating: Bool = false) -> (TransactionID, [UInt8]) {
        let transaction = cryptography.randomTransaction()
        let request = request(on: pair, nominating: nominating)
        let bytes = request.encoded(transaction, key: pair.key, with: cryptography)
        note(transaction, request, of: pair)
        transmit(pair, bytes)
        return (transaction, bytes)
    }

    func request(on pair: ICEPair, nominating: Bool) -> ICERequest {
        var request = ICERequest(
            username: pair.username,
            priority: pair.local.checkPriority,
            role: role,
            tieBreaker: tieBreaker
        )
        // A nomination is told with each check of its pair, so that the peer can tell it from one that is over.
        request.usesCandidate = role == .controlling && (nominating || nominated === pair)
        if request.usesCandidate, remote?.supportsRenomination == true { request.nomination = pair.nominationNumber }
        return request
    }

    /// The request may be answered from now on.
    func note(_ transaction: TransactionID, _ request: ICERequest, of pair: ICEPair) {
        checks[transaction] = ICECheck(
            pair: pair,
            sent: now,
            priority: request.priority,
            role: role,
            usesCandidate: request.usesCandidate
        )
        pair.transactions.append(transaction)
        if pair.transactions.count > ICELimits.transactionsPerPair {
            checks[pair.transactions.removeFirst()] = nil
        }
    }

    private func transmit(_ pair: ICEPair, _ bytes: [UInt8]) {
        pair.checksSent &+= 1
        if pair.isDialed { actions.append(.connect(base: pair.local.base, to: pair.remoteEndpoint)) }
        actions.append(.send(base: pair.local.base, to: pair.remoteEndpoint, bytes: bytes))
    }

    /// RFC 8489 section 6.2.1: the wait doubles, and the last is a multiple of the first.
    func retransmit() {
        for pair in pairs {
            guard var transmission = pair.transmission, now >= transmission.next else { continue }
            guard transmission.count < configuration.transmissions else {
                pair.transmission = nil
                if pair.state == .inProgress { fail(pair, .noAnswer) }
                continue
            }
            transmission.count += 1
            transmission.wait = transmission.wait &* 2
            let isLast = transmission.count == configuration.transmissions
            transmission.next = after(
                isLast ? transmission.initial &* configuration.lastWaitMultiple : transmission.wait
            )
            pair.transmission = transmission
            checks[transmission.transaction]?.isRetransmitted = true
            transmit(pair, transmission.bytes)
        }
    }

    static func isLinkLocal(_ address: IPAddress) -> Bool {
        !address.isIPv4 && address.high >> 54 == 0xFE80 >> 6
    }
}
