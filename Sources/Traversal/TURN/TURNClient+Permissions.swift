import STUN

/// Permissions (RFC 8656 section 9): which addresses may send to the relay.
extension TURNClient {
    struct Permission {
        /// Until then the server lets packets through; 0 before it has said so.
        var expiresAt: UInt64 = 0
        /// When it is asked for again; `.max` while it is.
        var refreshAt = UInt64.max
        var retries = 0

        mutating func postpone(until time: UInt64) { refreshAt = time }
    }

    /// A peer that the server does not relay to.
    struct Refusal {
        let failure: TURNFailure
        let endsAt: UInt64
    }

    /// Asks for permissions, each by itself, so that a peer whom the server refuses (RFC 8656 section 10.2: with all
    /// others of the request) delays no other. Those that are there already cost nothing. They are refreshed, in as few
    /// requests as they fit in, until `forget`; one that was refused is refused again for a minute without asking.
    package mutating func permit(_ peers: [IPAddress], now: UInt64, into actions: inout [TURNAction]) {
        guard phase == .live, let allocation else { return }
        var wanted: [IPAddress] = []
        for peer in peers where permissions[peer] == nil {
            if let failure = refusal(of: peer, now: now) {
                actions.append(.refused(peer, failure))
                continue
            }
            guard allocation.has(peer.family) else {
                actions.append(.refused(peer, failure(.peerFamilyMismatch, .createPermission)))
                continue
            }
            guard permissions.count < Limits.permissions else {
                actions.append(.refused(peer, failure(.tooManyRequests, .createPermission)))
                continue
            }
            permissions[peer] = Permission()
            for endpoint in channels.keys where endpoint.address == peer { channels[endpoint]?.isWanted = true }
            wanted.append(peer)
        }
        for peer in wanted where phase == .live { request(.permissions([peer]), now: now, into: &actions) }
    }

    /// Whether packets from that address come through.
    package func isPermitted(_ peer: IPAddress, now: UInt64) -> Bool {
        permissions[peer].map { $0.expiresAt > now } ?? false
    }

    /// Lets a permission, and the channels to its address, lapse.
    package mutating func forget(_ peer: IPAddress) {
        permissions[peer] = nil
        held.drop([peer])
        for endpoint in channels.keys where endpoint.address == peer { channels[endpoint]?.isWanted = false }
    }

    func refusal(of peer: IPAddress, now: UInt64) -> TURNFailure? {
        guard let refusal = refusals[peer], now < refusal.endsAt else { return nil }
        return refusal.failure
    }

    /// The server does not relay to that peer.
    mutating func refuse(_ peer: IPAddress, _ failure: TURNFailure, now: UInt64, into actions: inout [TURNAction]) {
        permissions[peer] = nil
        held.drop([peer])
        refusals = refusals.filter { now < $0.value.endsAt }
        if refusals.count >= Limits.permissions,
            let oldest = refusals.min(by: { ($0.value.endsAt, $0.key.low) < ($1.value.endsAt, $1.key.low) })
        {
            refusals[oldest.key] = nil
        }
        refusals[peer] = Refusal(failure: failure, endsAt: now.addingSaturated(Limits.refusalMemory))
        actions.append(.refused(peer, failure))
    }

    private mutating func ask(for peers: [IPAddress], now: UInt64, into actions: inout [TURNAction]) {
        for start in stride(from: 0, to: peers.count, by: Limits.permissionsPerRequest) {
            let part = Array(peers[start..<min(peers.count, start + Limits.permissionsPerRequest)])
            request(.permissions(part), now: now, into: &actions)
        }
    }

    mutating func permitted(_ peers: [IPAddress], now: UInt64, into actions: inout [TURNAction]) {
        var fresh: [IPAddress] = []
        for peer in peers {
            guard let old = permissions[peer] else { continue }
            if old.expiresAt <= now { fresh.append(peer) }
            permissions[peer] = Permission(
                expiresAt: now.addingSaturated(Limits.permissionLifetime),
                refreshAt: now.addingSaturated(Limits.permissionRefresh)
            )
        }
        guard !fresh.isEmpty else { return }
        actions.append(.permitted(fresh))
        flush(fresh, now: now, into: &actions)
    }

    mutating func notPermitted(
        _ peers: [IPAddress],
        _ failure: TURNFailure,
        now: UInt64,
        into actions: inout [TURNAction]
    ) {
        // One address that the server does not like fails all of its request (RFC 8656 section 10.2): each is asked for
        // alone.
        if peers.count > 1, failure.isRefusal {
            for peer in peers where permissions[peer] != nil && phase == .live {
                request(.permissions([peer]), now: now, into: &actions)
            }
            return
        }
        for peer in peers {
            guard var permission = permissions[peer] else { continue }
            // Without a word from the server it is asked for as long as the allocation lives.
            if failure.isServersWord { permission.retries += 1 }
            guard !failure.isRefusal, permission.retries <= Limits.retries else {
                refuse(peer, failure, now: now, into: &actions)
                continue
            }
            permission.refreshAt = now.addingSaturated(Limits.retryPause)
            permissions[peer] = permission
        }
    }

    var permissionDeadline: UInt64 { permissions.values.lazy.map(\.refreshAt).min() ?? .max }

    mutating func advancePermissions(now: UInt64, into actions: inout [TURNAction]) {
        guard permissionDeadline <= now else { return }
        let due = permissions.filter { $0.value.refreshAt <= now.addingSaturated(Limits.permissionBatching) }.keys
            .sorted { ($0.high, $0.low) < ($1.high, $1.low) }
        for peer in due { permissions[peer]?.refreshAt = .max }
        ask(for: due, now: now, into: &actions)
    }
}
