import STUN

extension ICEAgent {
    /// The candidate as a description or a candidate line has it.
    package func signaled(_ local: ICELocalCandidate) -> ICECandidate {
        // RFC 6544 section 4.5: nobody can connect to an active candidate, so it has the port that discards.
        let port = local.transport == .tcpActive ? 9 : local.endpoint.port
        var candidate = ICECandidate(
            foundation: foundation(of: local),
            transport: local.transport,
            priority: local.priority,
            address: .ip(local.endpoint.address.withoutLink),
            port: port,
            type: local.type,
            related: local.related
        )
        candidate.usernameFragment = localCredentials.usernameFragment
        return candidate
    }

    func foundation(of local: ICELocalCandidate) -> String {
        let key = foundationKey(local)
        if let number = foundations[key] { return String(number) }
        // Bounded by the candidates: a key is made only for one that was let in, or is about to be.
        if foundations.count >= 4 * ICELimits.localCandidates { forgetFoundations() }
        foundationCount += 1
        foundations[key] = foundationCount
        return String(foundationCount)
    }

    /// Those of networks that this machine has left. Where it comes back to one, the checks of before say nothing of
    /// those to come, and must not hold them back: a number is not given twice.
    private func forgetFoundations() {
        let inUse = Set(locals.map(foundationKey))
        foundations = foundations.filter { inUse.contains($0.key) }
    }

    private func foundationKey(_ local: ICELocalCandidate) -> FoundationKey {
        FoundationKey(
            type: local.type,
            base: local.baseEndpoint.address.withoutLink,
            server: local.server,
            isTCP: local.transport.isTCP
        )
    }

    func insert(_ candidate: ICELocalCandidate) -> ICECandidate? {
        // Peers tell no links, and what they tell is compared with this.
        var local = candidate
        local.endpoint.address = local.endpoint.address.withoutLink
        local.baseEndpoint.address = local.baseEndpoint.address.withoutLink
        let isThere = locals.contains {
            $0.base == local.base && $0.endpoint == local.endpoint && $0.type == local.type
                && $0.transport == local.transport
        }
        guard !isThere else { return nil }
        // A port for TCP has a candidate for each way of connecting.
        let isSecond = locals.contains {
            $0.base == local.base && $0.isBase && ($0.transport == local.transport || $0.endpoint != local.endpoint)
        }
        if local.isBase, isSecond {
            counters.candidatesOfOtherAddresses &+= 1
            return nil
        }
        if local.type == .serverReflexive {
            // The NAT has rebound: what the server saw of the base before leads nowhere.
            locals.removeAll {
                $0.type == .serverReflexive && $0.base == local.base && $0.server == local.server
                    && $0.transport == local.transport
            }
        }
        guard locals.count < ICELimits.localCandidates else {
            counters.candidatesBeyondLimit &+= 1
            return nil
        }
        locals.append(local)
        for candidate in remotes { formPair(local, candidate) }
        return signaled(local)
    }

    func discard(_ base: ICEBase) {
        locals.removeAll { $0.base == base }
        forgetFoundations()
        permits.removeAll { $0.base == base }
        refusals.removeAll { $0.base == base }
        for pair in pairs where pair.local.base == base { fail(pair, .baseRemoved) }
        if let pair = previous?.pair, pair.local.base == base { fail(pair, .baseRemoved) }
    }

    /// What checks leave from on this base. Reflexive candidates are replaced by their base (RFC 8445 section 6.1.2.4);
    /// one whose base was not named stands for it.
    func sender(on base: ICEBase, _ transport: ICETransport) -> ICELocalCandidate? {
        let alike = locals.lazy.filter { $0.base == base && $0.transport == transport }
        return alike.first(where: \.isBase) ?? alike.first
    }

    func isStream(_ base: ICEBase) -> Bool { locals.first { $0.base == base }?.transport.isTCP ?? false }

    // MARK: The peer's

    func meet(_ parameters: ICERemoteParameters) {
        let isNew = remote == nil
        remote = parameters
        // RFC 8445 section 6.1.1: opposite a lite agent a full one controls.
        if parameters.isLite, role == .controlled { takeRole(.controlling) }
        guard isNew else { return }
        checkingSince = now
        if streamsAt == nil { streamsAt = after(configuration.streamDelay) }
        let fragment = parameters.credentials.usernameFragment
        func isOfSession(_ candidate: ICECandidate) -> Bool { (candidate.usernameFragment ?? fragment) == fragment }
        counters.candidatesIgnored &+= UInt64(remotes.count { !isOfSession($0) } + named.count { !isOfSession($0) })
        remotes.removeAll { !isOfSession($0) }
        named.removeAll { !isOfSession($0) }
        let endpoints = Set(remotes.compactMap(\.endpoint))
        toldAt = toldAt.filter { endpoints.contains($0.key) }
        lookups.removeAll { lookup in !named.contains { $0.address == .name(lookup.name) } }
        for local in locals {
            for candidate in remotes { formPair(local, candidate) }
        }
        for check in early where check.fragment.elementsEqual(fragment.utf8) {
            process(check.request, on: check.base, from: check.source)
        }
        early = []
    }

    func hear(of candidate: ICECandidate) {
        guard candidate.component == 1 else {
            counters.candidatesIgnored &+= 1
            return
        }
        if let remote, let fragment = candidate.usernameFragment, fragment != remote.credentials.usernameFragment {
            // Of a session that is over, or has not begun (RFC 8838 section 11).
            counters.candidatesIgnored &+= 1
            return
        }
        guard case .name(let name) = candidate.address else { return learn(candidate) }
        guard Self.isMulticastName(name) else {
            counters.candidatesIgnored &+= 1
            return
        }
        guard named.count < ICELimits.names else {
            counters.candidatesBeyondLimit &+= 1
            return
        }
        guard !named.contains(candidate) else { return }
        named.append(candidate)
        guard !lookups.contains(where: { $0.name == name }) else { return }
        lookups.append(NameLookup(name: name))
        actions.append(.resolve(name: name))
    }

    /// A name of the link's own (RFC 6762 section 3), as browsers put it in an address' place. RFC 8839 section 5.1
    /// allows others as well; for those a peer could have this host ask the name service whatever it likes, so that its
    /// owner learns who is called, and no implementation sends one.
    private static func isMulticastName(_ name: String) -> Bool {
        let labels = name.lowercased().split(separator: ".", omittingEmptySubsequences: false)
        return labels.last == "local" && labels.count >= 2 && !labels.contains("")
    }

    func resolved(_ name: String, _ address: IPAddress?) {
        guard let address else {
            guard let index = lookups.firstIndex(where: { $0.name == name && $0.nextAt == nil }) else { return }
            if lookups[index].count < ICELimits.lookups {
                lookups[index].nextAt = after(ICELimits.lookupPause)
            } else {
                lookups.remove(at: index)
            }
            return
        }
        lookups.removeAll { $0.name == name }
        let found = named.filter { $0.address == .name(name) }
        named.removeAll { $0.address == .name(name) }
        for var candidate in found {
            candidate.address = .ip(address.withoutLink)
            learn(candidate)
        }
    }

    /// A host whose mDNS name nobody knew may just have been slow to claim it.
    func lookAgain() {
        for index in lookups.indices where lookups[index].nextAt.map({ now >= $0 }) ?? false {
            lookups[index].count += 1
            lookups[index].nextAt = nil
            actions.append(.resolve(name: lookups[index].name))
        }
    }

    /// Takes a signaled candidate with an address.
    private func learn(_ candidate: ICECandidate) {
        guard let endpoint = candidate.endpoint, Self.isUsable(endpoint.address) else {
            counters.candidatesIgnored &+= 1
            return
        }
        // A connection that came in was taken for an active candidate's; now it is known what it was.
        func isAlike(_ other: ICECandidate) -> Bool {
            let isSame = other.transport == candidate.transport
            let hasConnected = other.type == .peerReflexive && other.transport == .tcpActive
            return isSame || hasConnected && candidate.transport.isTCP
        }
        let isKnown = { (other: ICECandidate) in other.endpoint == endpoint && isAlike(other) }
        if let index = remotes.firstIndex(where: isKnown) {
            // RFC 8838 section 11.4: what checks have shown before is now signaled, and has its own type and priority.
            guard remotes[index].type == .peerReflexive, candidate.type != .peerReflexive else { return }
            remotes[index] = candidate
            for pair in pairs where pair.remoteEndpoint == endpoint && isAlike(pair.remote) {
                pair.remote = candidate
                pair.priority = priority(pair)
            }
            sortPairs()
            // A check has shown it to one base; to the others it is new.
            for local in locals { formPair(local, candidate) }
            return
        }
        guard makeRoomForRemote() else {
            counters.candidatesBeyondLimit &+= 1
            return
        }
        add(candidate, at: endpoint)
        for local in locals { formPair(local, candidate) }
    }

    /// The candidate a check came from, known or new (RFC 8445 section 7.3.1.3).
    func remoteCandidate(at source: Endpoint, _ transport: ICETransport, priority: UInt32) -> ICECandidate? {
        if let known = remotes.first(where: { $0.endpoint == source && $0.transport == transport }) { return known }
        guard makeRoomForRemote() else {
            counters.candidatesBeyondLimit &+= 1
            return nil
        }
        learnedCount &+= 1
        let candidate = ICECandidate(
            foundation: "prflx\(learnedCount)",
            transport: transport,
            priority: priority,
            address: .ip(source.address),
            port: source.port,
            type: .peerReflexive
        )
        add(candidate, at: source)
        return candidate
    }

    /// Unspecified, multicast and broadcast addresses are nobody's.
    private static func isUsable(_ address: IPAddress) -> Bool {
        if address.isIPv4 {
            return address.v4 >> 24 != 0 && address.v4 < 0xE000_0000
        }
        return !(address.high == 0 && address.low == 0) && address.high >> 56 != 0xFF
    }
}
