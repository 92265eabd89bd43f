import STUN

/// What this agent wants of its relays: which addresses they let in, and which they do not.
extension ICEAgent {
    /// A permission that was asked for and not given back.
    struct Permit {
        let base: ICEBase
        let peer: IPAddress
        /// Since when no pair needs it; nil while one does.
        var unusedSince: UInt64?
    }

    struct Refusal {
        let base: ICEBase
        let peer: IPAddress
        let endsAt: UInt64
    }

    /// Permissions that were asked for, and neither given back nor refused.
    package var permissionsHeld: Int { permits.count }

    /// A new pair of a relay: asks for the permission that its checks need, once for all pairs with that address.
    func permit(_ pair: ICEPair) {
        guard pair.local.type == .relayed else { return }
        let (base, peer) = (pair.local.base, pair.remoteEndpoint.address)
        if refusals.contains(where: { $0.base == base && $0.peer == peer && now < $0.endsAt }) {
            return fail(pair, .forbidden)
        }
        if let index = permits.firstIndex(where: { $0.base == base && $0.peer == peer }) {
            permits[index].unusedSince = nil
            return
        }
        if permits.count >= ICELimits.permits {
            // Pairs may have given way to newer ones since the last look.
            markUnused()
            if let idle = permits.firstIndex(where: { $0.unusedSince != nil }) { release(permits.remove(at: idle)) }
        }
        permits.append(Permit(base: base, peer: peer))
        counters.permissionsAsked &+= 1
        actions.append(.permit(base: base, peer: pair.remoteEndpoint))
    }

    func refused(_ peer: IPAddress, on base: ICEBase) {
        permits.removeAll { $0.base == base && $0.peer == peer }
        refusals.removeAll { $0.endsAt <= now || $0.base == base && $0.peer == peer }
        if refusals.count >= ICELimits.permits { refusals.removeFirst() }
        refusals.append(Refusal(base: base, peer: peer, endsAt: after(ICELimits.refusalMemory)))
        for pair in pairs + (previous?.pair.map { [$0] } ?? [])
        where pair.local.base == base && pair.remoteEndpoint.address == peer && !pair.isOver {
            fail(pair, .forbidden)
        }
    }

    /// Gives back what no pair has needed for as long as the peer's checks may still come (RFC 8863 section 4), which
    /// only a permission lets through. After a restart the new session has as long to ask for the same again.
    func settlePermits() {
        guard !permits.isEmpty else { return }
        markUnused()
        while let index = permits.firstIndex(where: { releaseTime(of: $0).map { now >= $0 } ?? false }) {
            release(permits.remove(at: index))
        }
    }

    private func markUnused() {
        let inUse = pairs + (previous?.pair.map { [$0] } ?? [])
        for index in permits.indices {
            let permit = permits[index]
            let isNeeded = inUse.contains {
                $0.state != .failed && $0.local.base == permit.base && $0.remoteEndpoint.address == permit.peer
            }
            permits[index].unusedSince = isNeeded ? nil : permit.unusedSince ?? now
        }
    }

    /// An agent that has failed waits for nobody.
    func releaseTime(of permit: Permit) -> UInt64? {
        permit.unusedSince.map { $0.addingSaturated(state == .failed ? 0 : configuration.patience) }
    }

    func releaseAll() {
        for permit in permits { release(permit) }
        permits = []
    }

    private func release(_ permit: Permit) {
        counters.permissionsReleased &+= 1
        actions.append(.release(base: permit.base, peer: permit.peer))
    }
}
