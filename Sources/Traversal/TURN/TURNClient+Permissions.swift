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

    /// Asks for permissions, all in as few requests as they fit in. Those that are there already cost nothing. They are
    /// refreshed until `forget`.
    package mutating func permit(_ peers: [IPAddress], now: UInt64, into actions: inout [TURNAction]) {
        guard phase == .live, let allocation else { return }
        var wanted: [IPAddress] = []
        for peer in peers where permissions[peer] == nil {
            guard allocation.has(peer.family) else {
                actions.append(.refused(peer, failure(.peerFamilyMismatch, .createPermission)))
                continue
            }
            guard permissions.count < Limits.permissions else {
                actions.append(.refused(peer, failure(.tooManyRequests, .createPermission)))
                continue
            }
            permissions[peer] = Permission()
            wanted.append(peer)
        }
        ask(for: wanted, now: now, into: &actions)
    }

    /// Whether packets from that address come through.
    package func isPermitted(_ peer: IPAddress, now: UInt64) -> Bool {
        permissions[peer].map { $0.expiresAt > now } ?? false
    }

    /// Lets a permission, and the channels to its address, lapse.
    package mutating func forget(_ peer: IPAddress) {
        permissions[peer] = nil
        for endpoint in channels.keys where endpoint.address == peer { channels[endpoint]?.isWanted = false }
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
                expiresAt: after(Limits.permissionLifetime, now),
                refreshAt: after(Limits.permissionRefresh, now)
            )
        }
        if !fresh.isEmpty { actions.append(.permitted(fresh)) }
    }

    mutating func notPermitted(
        _ peers: [IPAddress],
        _ failure: TURNFailure,
        now: UInt64,
        into actions: inout [TURNAction]
    ) {
        // One address that the server does not like fails all of its request (RFC 8656 section 10.2): each is asked for
        // alone.
        if peers.count > 1, failure.retryAfterSeconds == nil {
            for peer in peers where permissions[peer] != nil && phase == .live {
                request(.permissions([peer]), now: now, into: &actions)
            }
            return
        }
        for peer in peers {
            guard var permission = permissions[peer] else { continue }
            permission.retries += 1
            let mayPass = failure.retryAfterSeconds != nil && permission.retries <= Limits.retries
            guard mayPass else {
                permissions[peer] = nil
                actions.append(.refused(peer, failure))
                continue
            }
            permission.refreshAt = after(Limits.retryPause, now)
            permissions[peer] = permission
        }
    }

    var permissionDeadline: UInt64 { permissions.values.lazy.map(\.refreshAt).min() ?? .max }

    mutating func advancePermissions(now: UInt64, into actions: inout [TURNAction]) {
        guard permissionDeadline <= now else { return }
        let due = permissions.filter { $0.value.refreshAt <= after(Limits.permissionBatching, now) }.keys
            .sorted { ($0.high, $0.low) < ($1.high, $1.low) }
        for peer in due { permissions[peer]?.refreshAt = .max }
        ask(for: due, now: now, into: &actions)
    }
}
