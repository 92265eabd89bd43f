import STUN

/// Takes in allocations from other workers.
extension Engine {
    mutating func arrived(_ moving: MovingAllocation, at moment: Moment) -> MoveOutcome {
        let tuple = moving.path.tuple
        guard let arrival = arrivals[tuple], arrival.path == moving.path else {
            // The new 5-tuple has gone after the client had left the old one.
            end(moving, .disconnected, at: moment)
            return .release(tuple, request: nil)
        }
        arrivals[tuple] = nil
        if wasRevoked(moving) {
            end(moving, .revoked, at: moment)
        } else if !install(moving, at: moment) {
            end(moving, .disconnected, at: moment)
        }
        return .release(tuple, request: arrival.waiting)
    }

    /// Whether its user was revoked here already and there not yet, when the allocation left.
    private func wasRevoked(_ moving: MovingAllocation) -> Bool {
        guard revocations > moving.revocations else { return false }
        let missed = revocations - moving.revocations
        // More than are remembered: then any user may be among them.
        guard missed <= UInt64(recentlyRevoked.count) else { return true }
        return recentlyRevoked.suffix(Int(missed)).contains(moving.user)
    }

    /// - Returns: false when a table is full, or the sockets cannot be watched.
    private mutating func install(_ moving: MovingAllocation, at moment: Moment) -> Bool {
        guard permissions.count + moving.permissions.count <= permissions.capacity,
            channels.count + moving.channels.count <= channels.capacity,
            allocation(of: moving.path.tuple) == noIndex
        else { return false }
        var record = moving.record
        record.tuple = moving.path.tuple
        record.listener = moving.listener
        record.firstPermission = noIndex
        record.firstChannel = noIndex
        record.permissionCount = 0
        record.channelCount = 0
        record.lastChannelFromClient = noIndex
        record.lastChannelFromPeer = noIndex
        record.timerSecond = .max
        record.reported = record.traffic
        let isFirstUse = allocations.count == allocations.everUsed
        guard let index = allocations.insert(record) else { return false }
        let slot = allocations[index]
        slot.pointee.generation = isFirstUse ? 1 : nextGeneration(index)
        guard adopt(slot.pointee.primary, index, isSecondary: false) else {
            allocations.remove(index)
            return false
        }
        guard adopt(slot.pointee.secondary, index, isSecondary: true) else {
            if record.primary.isOpen { host.disownRelay(record.primary) }
            allocations.remove(index)
            return false
        }
        slot.pointee.user = users.retain(moving.user)
        slot.pointee.isLive = true
        mobiles[moving.path.allocation] = MobileAllocation(
            index: index,
            serial: moving.path.serial,
            previousSerial: moving.previousSerial,
            arrivedWith: moving.previousSerial
        )
        allocationByTuple.insert(hash(record.tuple), index)
        limitBandwidth(of: index)
        install(moving.permissions, moving.channels, on: index)
        if record.primary.isOpen { schedule(index, noLaterThan: record.primary.expiryNanoseconds) }
        if record.secondary.isOpen { schedule(index, noLaterThan: record.secondary.expiryNanoseconds) }
        host.report(.moved(summary(of: index, at: moment)))
        return true
    }

    private func adopt(_ leg: RelayLeg, _ index: UInt32, isSecondary: Bool) -> Bool {
        guard leg.isOpen else { return true }
        return host.adoptRelay(leg, allocation: index, isSecondary: isSecondary)
    }

    /// The policy is asked again: it may have changed while the allocation was on its way, when no reload could reach
    /// it.
    private mutating func install(_ moved: [Permission], _ bindings: [Channel], on index: UInt32) {
        let slot = allocations[index]
        var places: [UInt32] = []
        for var permission in moved {
            let decision = configuration.policy.decide(permission.address)
            if decision == .denied { permission.expiryNanoseconds = 0 }
            permission.isOwnHost = decision == .ownHost
            permission.allocation = index
            permission.channels = 0
            permission.next = slot.pointee.firstPermission
            guard let new = permissions.insert(permission) else { return }
            slot.pointee.firstPermission = new
            slot.pointee.permissionCount += 1
            permissionByAddress.insert(hash(index, permission.address), new)
            places.append(new)
            schedule(index, noLaterThan: permission.expiryNanoseconds)
        }
        for var channel in bindings {
            guard Int(channel.permission) < places.count else { continue }
            channel.permission = places[Int(channel.permission)]
            channel.destination = ownHost.destination(for: channel.peer)
            channel.allocation = index
            channel.next = slot.pointee.firstChannel
            guard let new = channels.insert(channel) else { return }
            slot.pointee.firstChannel = new
            slot.pointee.channelCount += 1
            permissions[channel.permission].pointee.channels += 1
            channelByNumber.insert(hash(index, channel: channel.number), new)
            channelByPeer.insert(hash(index, channel.peer), new)
            schedule(index, noLaterThan: channel.expiryNanoseconds)
        }
    }

    /// Ends an allocation that found no place here. What it has carried was told where it left.
    private mutating func end(_ moving: MovingAllocation, _ end: AllocationEnd, at moment: Moment) {
        let record = moving.record
        let leg = record.primary.isOpen ? record.primary : record.secondary
        let summary = AllocationSummary(
            user: moving.user,
            client: moving.path.tuple.client,
            relayed: leg.advertised,
            traffic: record.traffic,
            durationSeconds: (moment.monotonicNanoseconds &- record.createdNanoseconds) / 1_000_000_000
        )
        host.report(.ended(summary, end))
        countEnd(of: record, at: moment)
        if record.primary.isOpen { host.closeRelay(record.primary) }
        if record.secondary.isOpen { host.closeRelay(record.secondary) }
        quota.release(moving.user)
        mobileDirectory.remove(moving.path.allocation)
    }
}
