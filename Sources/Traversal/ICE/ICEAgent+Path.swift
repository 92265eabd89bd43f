import STUN

extension ICEAgent {
    /// Where data goes; nil while it can go nowhere.
    package var path: ICEPath? {
        selected.map { describe($0) }
    }

    private func describe(_ pair: ICEPair) -> ICEPath {
        ICEPath(
            base: pair.local.base,
            remote: pair.remoteEndpoint,
            localType: pair.mappedType,
            remoteType: pair.remote.type,
            transport: pair.local.transport,
            isNominated: pair.isNominated,
            overheadBytes: max(
                pair.local.overheadBytes,
                // The peer's relay adds as much on its way to the peer.
                pair.remote.type == .relayed ? ICELimits.relayOverheadBytes : 0
            )
        )
    }

    /// While there is no path yet: a way on which the peer waits for data. It leads from one relay of a server to
    /// another, of which the peer's has let ours in, or no check could have come from there. That is the peer's own
    /// wish to be sent something, given to its relay, so that a few datagrams ahead of the answer to our check reach
    /// nobody who did not ask for them.
    package var pathAhead: ICEPath? {
        guard selected == nil, previous == nil else { return nil }
        let heard = pairs.first {
            $0.isWithinServer && $0.requests > 0 && $0.isPending && $0.remote.type == .relayed
        }
        return heard.map { describe($0) }
    }

    /// Of the path, smoothed; nil while none was measured.
    package var roundTripNanoseconds: UInt64? {
        selected.flatMap { $0.liveness.roundTrip > 0 ? $0.liveness.roundTrip : nil }
    }

    /// The last path went with its socket or relay, and there may soon be another one in its place.
    package var hasLostBase: Bool { lostBaseAt != nil }

    /// There was a path, and none that answers is known at the moment.
    package var isInDoubt: Bool {
        guard hasStood, state != .closed else { return false }
        guard let selected, selected.isAlive else { return true }
        guard let since = selected.liveness.probing?.since else { return false }
        return now >= since && now - since >= max(configuration.probeSpacing, selected.liveness.roundTrip &* 2)
    }

    /// The path leads by a relay, and what went by it should have been answered by now: the relay may be gone.
    package var doubtsRelay: Bool {
        if isInDoubt { return true }
        guard let selected, selected.relays > 0, let silentSince else { return false }
        let patience = configuration.relayDoubt.addingSaturated(selected.liveness.roundTrip &* 2)
        return now >= silentSince.addingSaturated(patience)
    }

    /// Tells the path whenever its value is another: another pair, or more known of the same one.
    func announcePath() {
        let path = path
        guard path != announced else { return }
        if let pair = selected, pair.local.type == .relayed,
            path?.base != announced?.base || path?.remote != announced?.remote
        {
            actions.append(.bindChannel(base: pair.local.base, peer: pair.remoteEndpoint))
        }
        announced = path
        actions.append(.path(path))
    }

    /// Data leaves by `best` because `left` has died. A peer that numbers nominations follows them. One that does not
    /// keeps to the pair it has, of the nominated ones the first by priority (RFC 8445 section 8.1.1), until consent is
    /// over: nothing but a restart moves it.
    func noteFallback(from left: ICEPair, to best: ICEPair) {
        guard let remote, !remote.supportsRenomination, left !== previous?.pair,
            left.state != .succeeded || !left.isAlive
        else { return }
        let follows = role == .controlling ? best.priority > left.priority : best.isNominated
        guard !follows else { return }
        hasFallenBack = true
        actions.append(.restartWanted)
    }

    /// A pair is over (RFC 7675 section 5.1), and no check of this session brings it back. Data flows; but without the
    /// restart there would be no direct path again, or nothing to fall back to.
    func noteLoss(of pair: ICEPair) {
        guard let selected, selected.isAlive, pair !== previous?.pair else { return }
        let others = pairs.filter { $0 !== selected && ($0.isAlive || $0.isPending) }
        let isReplaced = selected.relays <= pair.relays || others.contains { $0.relays <= pair.relays }
        if !isReplaced || others.isEmpty { actions.append(.restartWanted) }
    }

    /// The pair of this session that is the one in use since before the restart. After a fallback it is known to work,
    /// and the peer waits for it.
    func isProven(_ pair: ICEPair) -> Bool {
        guard hurries, let old = previous?.pair, old.isAlive else { return false }
        return pair.local.base == old.local.base && pair.remoteEndpoint == old.remoteEndpoint
    }
}

extension ICEPath {
    /// The longest datagram that goes by this path in one piece, if every link on the way carries packets of
    /// `linkBytes`: by default those that IPv6 asks of every link (RFC 8200 section 5), which tunnels keep to as well.
    package func datagramBytes(linkBytes: Int = 1_280) -> Int {
        // IP and UDP. The way to a relay may be of the other family than the relayed address.
        let headers = remote.address.isIPv4 && overheadBytes == 0 ? 28 : 48
        return max(0, linkBytes - headers - overheadBytes)
    }
}

extension ICELocalCandidate {
    /// The relayed candidates of an allocation: one for each of its families, each with a base of its own, since a
    /// check leaves from one address.
    /// - Parameters:
    ///   - bases: a number for the relayed address of each family, all of one and the same allocation.
    ///   - server: where the allocation is.
    package static func relayed(
        _ allocation: TURNAllocation,
        at server: Endpoint,
        by transport: TURNConfiguration.Transport,
        localPreference: UInt16 = .max,
        bases: (AddressFamily) -> ICEBase
    ) -> [ICELocalCandidate] {
        allocation.relayed.map { endpoint in
            var candidate = ICELocalCandidate(
                base: bases(endpoint.family),
                type: .relayed,
                endpoint: endpoint,
                server: server.address,
                localPreference: localPreference,
                related: allocation.mapped
            )
            candidate.overheadBytes = transport.overheadBytes
            return candidate
        }
    }
}

extension TURNConfiguration.Transport {
    /// What this way to a relay adds to a datagram. A stream cuts its bytes as it likes.
    package var overheadBytes: Int {
        switch self {
        case .udp: ICELimits.relayOverheadBytes
        // A record's header, nonce and tag (RFC 6347 section 4.1, RFC 5288 section 3).
        case .dtls: ICELimits.relayOverheadBytes + 37
        case .tcp, .tls: 0
        }
    }
}
