import STUN

/// What ends: by time, by an operator, by a change of policy.
extension Engine {
    /// Sweeps one allocation whose timer has come, and asks the host for the next one. A timer of an earlier use of the
    /// slot finds nothing to do.
    package mutating func expire(allocation index: UInt32, at moment: Moment) {
        guard Int(index) < allocations.everUsed, allocations[index].pointee.isLive else { return }
        let slot = allocations[index]
        slot.pointee.timerSecond = .max
        let now = moment.monotonicNanoseconds
        close(
            index,
            primary: slot.pointee.primary.isOpen && slot.pointee.primary.expiryNanoseconds <= now,
            secondary: slot.pointee.secondary.isOpen && slot.pointee.secondary.expiryNanoseconds <= now,
            .expired,
            at: moment
        )
        guard slot.pointee.isLive else { return }
        sweepChannels(of: index, at: moment)
        sweepPermissions(of: index, at: moment)
        sweepPeerConnections(of: index) { $0.deadlineNanoseconds <= now }
        if slot.pointee.primary.isOpen { schedule(index, noLaterThan: slot.pointee.primary.expiryNanoseconds) }
        if slot.pointee.secondary.isOpen { schedule(index, noLaterThan: slot.pointee.secondary.expiryNanoseconds) }
        var current = slot.pointee.firstPermission
        while current != noIndex {
            // A lapsed permission that a channel holds waits for the channel's end.
            let expiry = permissions[current].pointee.expiryNanoseconds
            if expiry > now { schedule(index, noLaterThan: expiry) }
            current = permissions[current].pointee.next
        }
        current = slot.pointee.firstChannel
        while current != noIndex {
            schedule(index, noLaterThan: channels[current].pointee.expiryNanoseconds)
            current = channels[current].pointee.next
        }
        current = slot.pointee.firstPeerConnection
        while current != noIndex {
            let deadline = peerConnections[current].pointee.deadlineNanoseconds
            if deadline != .max { schedule(index, noLaterThan: deadline) }
            current = peerConnections[current].pointee.next
        }
    }

    /// Ends every allocation of a user and forgets his credentials, as when he is removed or disabled.
    /// - Parameter end: what is said of it in the log.
    package mutating func revoke(user name: String, _ end: AllocationEnd = .revoked, at moment: Moment) {
        credentials.forget(name)
        revocations &+= 1
        if recentlyRevoked.count == Limits.revocationsRemembered { recentlyRevoked.removeFirst() }
        recentlyRevoked.append(name)
        guard let number = users.number(of: name) else { return }
        for index in liveAllocations() where allocations[index].pointee.user == number {
            close(index, primary: true, secondary: true, end, at: moment)
        }
    }

    /// Ends what a client held whose connection is gone (RFC 8656 section 3.2: its 5-tuple is).
    package mutating func disconnect(_ tuple: FiveTuple, at moment: Moment) {
        let index = allocation(of: tuple)
        guard index != noIndex else { return forgetArrival(at: tuple) }
        // RFC 8016 section 3.2.2: a client that has moved gives up the old 5-tuple by closing its connection, too.
        guard !depart(index, at: moment) else { return }
        close(index, primary: true, secondary: true, .disconnected, at: moment)
    }

    /// Forgets what is cached of a user.
    package mutating func forget(user name: String) { credentials.forget(name) }

    /// Forgets what is cached of a user whose record has changed, and holds what he has to what it says: the bandwidth
    /// at once, and an end that has come nearer. One that is farther away counts from the next Refresh on.
    package mutating func change(_ terms: UserTerms, at moment: Moment) {
        credentials.forget(terms.name)
        guard let number = users.number(of: terms.name) else { return }
        let deadline = deadline(ofExpirySeconds: terms.expiresAtSeconds, moment)
        for index in liveAllocations() where allocations[index].pointee.user == number {
            let slot = allocations[index]
            slot.pointee.ownBitsPerSecond = terms.bitsPerSecond
            limitBandwidth(of: index)
            guard deadline < slot.pointee.hardDeadlineNanoseconds else { continue }
            slot.pointee.hardDeadlineNanoseconds = deadline
            slot.pointee.primary.expiryNanoseconds = min(slot.pointee.primary.expiryNanoseconds, deadline)
            slot.pointee.secondary.expiryNanoseconds = min(slot.pointee.secondary.expiryNanoseconds, deadline)
            schedule(index, noLaterThan: deadline)
        }
    }

    /// Forgets all that is cached of the account store.
    package mutating func forgetAllUsers() { credentials.forgetAll() }

    /// Takes an answer of the account store.
    package mutating func learn(_ query: CredentialQuery, _ record: UserRecord?) {
        credentials.store(record, for: query)
    }

    /// Users whose keys are cached here.
    package var cachedUserCount: Int { credentials.knownCount }

    /// Names of the users who hold allocations here.
    package func activeUsers() -> Set<String> {
        Set(liveAllocations().map { users.name(allocations[$0].pointee.user) })
    }

    /// Takes a new configuration. Permissions to peers that it denies end at once, and what it says of this host's own
    /// addresses counts for permissions and channels that stand.
    package mutating func reconfigure(_ new: Configuration, at moment: Moment) {
        configuration = new
        ownHost = OwnHost(new)
        let bandwidth = Bandwidth(bitsPerSecond: new.bitsPerSecondTotal)
        if bandwidth.bitsPerSecond != totalBandwidth.bitsPerSecond { total.reset() }
        totalBandwidth = bandwidth
        for index in liveAllocations() {
            limitBandwidth(of: index)
            var current = allocations[index].pointee.firstPermission
            while current != noIndex {
                let decision = new.policy.decide(permissions[current].pointee.address)
                if decision == .denied { permissions[current].pointee.expiryNanoseconds = 0 }
                permissions[current].pointee.isOwnHost = decision == .ownHost
                current = permissions[current].pointee.next
            }
            sweepPeerConnections(of: index) { new.policy.decide($0.peer.address) == .denied }
            current = allocations[index].pointee.firstChannel
            while current != noIndex {
                channels[current].pointee.destination = ownHost.destination(for: channels[current].pointee.peer)
                current = channels[current].pointee.next
            }
        }
    }

    /// Ends everything.
    package mutating func closeAll(_ end: AllocationEnd, at moment: Moment) {
        for index in liveAllocations() { close(index, primary: true, secondary: true, end, at: moment) }
    }

    private func liveAllocations() -> [UInt32] {
        (0..<UInt32(allocations.everUsed)).filter { allocations[$0].pointee.isLive }
    }

    /// Closes one leg or both; with the last one the allocation goes.
    mutating func close(
        _ index: UInt32,
        primary: Bool,
        secondary: Bool,
        _ end: AllocationEnd,
        at moment: Moment
    ) {
        guard primary || secondary else { return }
        let slot = allocations[index]
        let keepsPrimary = slot.pointee.primary.isOpen && !primary
        let keepsSecondary = slot.pointee.secondary.isOpen && !secondary
        if !keepsPrimary, !keepsSecondary {
            remove(index, end, at: moment)
        } else {
            let leg = keepsPrimary ? slot.pointee.secondary : slot.pointee.primary
            guard leg.isOpen else { return }
            sweepChannels(of: index, at: moment, descriptor: leg.descriptor)
            sweepPeerConnections(of: index) { $0.peer.family == leg.advertised.family }
            host.closeRelay(leg)
            if keepsPrimary { slot.pointee.secondary = .none } else { slot.pointee.primary = .none }
        }
    }

    private mutating func remove(_ index: UInt32, _ end: AllocationEnd, at moment: Moment) {
        let slot = allocations[index]
        host.report(.ended(summary(of: index, at: moment), end))
        countEnd(of: slot.pointee, at: moment)
        keepUsage(of: index)
        sweepChannels(of: index, at: moment, all: true)
        // RFC 6062 section 5.5: data connections end with their allocation.
        sweepPeerConnections(of: index) { _ in true }
        sweepPermissions(of: index, at: moment, all: true)
        if slot.pointee.primary.isOpen { host.closeRelay(slot.pointee.primary) }
        if slot.pointee.secondary.isOpen { host.closeRelay(slot.pointee.secondary) }
        quota.release(users.name(slot.pointee.user))
        forgetMobile(index)
        vacate(index)
    }

    mutating func countEnd(of record: Allocation, at moment: Moment) {
        // The clock of another worker, where it was made, may be a moment ahead.
        let now = max(moment.monotonicNanoseconds, record.createdNanoseconds)
        counters.control.countAllocation(nanoseconds: now &- record.createdNanoseconds)
    }

    /// Frees the record of an allocation whose permissions, channels and sockets have gone.
    mutating func vacate(_ index: UInt32) {
        let slot = allocations[index]
        host.scheduleExpiry(allocation: index, atSecond: .max)
        allocationByTuple.remove(hash(slot.pointee.tuple), index)
        users.release(slot.pointee.user)
        slot.pointee.isLive = false
        slot.pointee.primary = .none
        slot.pointee.secondary = .none
        allocations.remove(index)
    }

    /// Brings the allocation's timer forward to that time if it is later now.
    func schedule(_ index: UInt32, noLaterThan nanoseconds: UInt64) {
        // Rounded up: a timer that came early would find nothing expired.
        let second = nanoseconds / 1_000_000_000 + 1
        let slot = allocations[index]
        guard second < slot.pointee.timerSecond else { return }
        slot.pointee.timerSecond = second
        host.scheduleExpiry(allocation: index, atSecond: second)
    }

    func summary(of index: UInt32, at moment: Moment) -> AllocationSummary {
        let slot = allocations[index]
        let leg = slot.pointee.primary.isOpen ? slot.pointee.primary : slot.pointee.secondary
        return AllocationSummary(
            user: users.name(slot.pointee.user),
            client: slot.pointee.tuple.client,
            relayed: leg.advertised,
            traffic: slot.pointee.traffic,
            durationSeconds: (moment.monotonicNanoseconds &- slot.pointee.createdNanoseconds) / 1_000_000_000
        )
    }
}
