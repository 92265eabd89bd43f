import STUN

/// Channels (RFC 8656 section 12): four bytes before the data instead of thirty-six.
extension TURNClient {
    struct Channel {
        let number: UInt16
        /// Until then the server knows it; 0 before it has said so.
        var expiresAt: UInt64 = 0
        /// When it is bound again; `.max` while that is under way or not wanted.
        var refreshAt = UInt64.max
        /// Until then the pair stays as it is, whether bound or not (RFC 8656 section 12).
        var restsUntil: UInt64
        var lastUsedAt: UInt64
        /// False once its peer was forgotten.
        var isWanted = true
        /// The server does not bind it.
        var isRefused = false
        var isPending = true

        mutating func postpone(until time: UInt64) {
            isPending = false
            refreshAt = time
        }
    }

    /// Binds a channel to the peer, which also permits its address. Peers with traffic get one by themselves.
    package mutating func bindChannel(to peer: Endpoint, now: UInt64, into actions: inout [TURNAction]) {
        guard phase == .live, let allocation, allocation.has(peer.family), peer.port != 0 else { return }
        if let channel = channels[peer] {
            channels[peer]?.isWanted = true
            channels[peer]?.lastUsedAt = now
            // The same pair may be bound again at any time, while it rests too; that also permits a peer which was
            // forgotten meanwhile.
            guard !channel.isPending, channel.expiresAt <= now || permissions[peer.address] == nil else { return }
            channels[peer]?.isPending = true
            channels[peer]?.isRefused = false
            return request(.channel(channel.number, peer), now: now, into: &actions)
        }
        guard let number = freeNumber() else { return }
        channels[peer] = Channel(number: number, restsUntil: now.addingSaturated(Limits.channelRest), lastUsedAt: now)
        channelPeers[number] = peer
        request(.channel(number, peer), now: now, into: &actions)
    }

    mutating func bound(_ number: UInt16, _ peer: Endpoint, now: UInt64, into actions: inout [TURNAction]) {
        guard var channel = channels[peer], channel.number == number else { return }
        let isNew = channel.expiresAt <= now
        channel.expiresAt = now.addingSaturated(Limits.channelLifetime)
        channel.refreshAt = now.addingSaturated(Limits.channelRefresh)
        channel.restsUntil = channel.expiresAt.addingSaturated(Limits.channelRest)
        channel.isPending = false
        channels[peer] = channel
        // RFC 8656 section 12.2: it has made or refreshed the permission.
        if channel.isWanted, permissions[peer.address] != nil || permissions.count < Limits.permissions {
            let wasPermitted = isPermitted(peer.address, now: now)
            permissions[peer.address] = Permission(
                expiresAt: now.addingSaturated(Limits.permissionLifetime),
                refreshAt: now.addingSaturated(Limits.permissionRefresh)
            )
            if !wasPermitted { actions.append(.permitted([peer.address])) }
        }
        if isNew { actions.append(.channelBound(number, peer)) }
        flush([peer.address], now: now, into: &actions)
    }

    mutating func notBound(
        _ number: UInt16,
        _ peer: Endpoint,
        _ failure: TURNFailure,
        now: UInt64,
        into actions: inout [TURNAction]
    ) {
        guard var channel = channels[peer], channel.number == number else { return }
        // The pair rests all the same: an answer that was lost may have bound it.
        channel.isPending = false
        channel.isRefused = failure.isServersWord
        // What did not reach the server is tried again; only what it says itself is taken for its last word.
        channel.refreshAt = failure.isServersWord ? .max : now.addingSaturated(Limits.retryPause)
        channel.restsUntil = max(channel.restsUntil, now.addingSaturated(Limits.channelLifetime + Limits.channelRest))
        channels[peer] = channel
        if failure.reason == .forbidden || failure.reason == .peerFamilyMismatch {
            refuse(peer.address, failure, now: now, into: &actions)
        }
    }

    /// The number to send by, if the server knows it.
    func liveChannel(to peer: Endpoint, now: UInt64) -> UInt16? {
        guard let channel = channels[peer], channel.expiresAt > now else { return nil }
        return channel.number
    }

    var channelDeadline: UInt64 {
        channels.values.lazy.map { min($0.refreshAt, $0.isPending ? .max : $0.restsUntil) }.min() ?? .max
    }

    mutating func advanceChannels(now: UInt64, into actions: inout [TURNAction]) {
        guard phase == .live, channelDeadline <= now else { return }
        for (peer, channel) in channels.sorted(by: { $0.value.number < $1.value.number }) where phase == .live {
            if channel.restsUntil <= now, !channel.isPending {
                channels[peer] = nil
                channelPeers[channel.number] = nil
            } else if channel.refreshAt <= now {
                channels[peer]?.refreshAt = .max
                // One without traffic since it was bound last is let go; its permission stays.
                let isIdle = now &- channel.lastUsedAt >= Limits.channelRefresh
                guard channel.isWanted, !channel.isRefused, !isIdle else { continue }
                channels[peer]?.isPending = true
                request(.channel(channel.number, peer), now: now, into: &actions)
            }
        }
    }

    /// The next number that neither lives nor rests, so that none is used again soon.
    private mutating func freeNumber() -> UInt16? {
        guard channels.count < Limits.channels else { return nil }
        for _ in 0...Limits.channels {
            let number = nextChannel
            nextChannel = number == Limits.channelNumbers.upperBound ? Limits.channelNumbers.lowerBound : number + 1
            if channelPeers[number] == nil { return number }
        }
        return nil
    }
}
