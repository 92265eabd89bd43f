import STUN

/// Mobility (RFC 8016), on the worker that has the allocation.
extension Engine {
    /// Takes a message of another worker, or of this one to itself.
    package mutating func receive(_ message: MoveMessage, at moment: Moment) -> MoveOutcome {
        switch message {
        case .asked(let request):
            asked(request, at: moment)
            return .nothing
        case .wanted(let path, let worker):
            wanted(path, worker, at: moment)
            return .nothing
        case .withdrawn(let path):
            if let mobile = mobiles[path.allocation], mobile.serial == path.serial,
                mobile.departure?.tuple == path.tuple
            {
                mobiles[path.allocation]?.departure = nil
            }
            return .nothing
        case .granted(let grant): return granted(grant)
        case .refused(let number, let tuple, let code): return refused(number, tuple, code)
        case .ended(let path): return ended(path)
        case .arrived(let moving): return arrived(moving, at: moment)
        }
    }

    /// Makes an allocation mobile: from now on it has a name and a ticket.
    mutating func makeMobile(_ index: UInt32) {
        let name = randomNumber()
        allocations[index].pointee.mobileName = name
        mobiles[name] = MobileAllocation(index: index, serial: randomNumber())
        mobileDirectory.set(name, worker: worker)
    }

    /// The ticket of an allocation; nil for one that is not mobile.
    func ticket(of index: UInt32) -> MobilityTicket? {
        let name = allocations[index].pointee.mobileName
        guard name != 0, let mobile = mobiles[name] else { return nil }
        return MobilityTicket(allocation: name, serial: mobile.serial)
    }

    /// An allocation ends: its tickets are worth nothing from now on, and who waits for it is told.
    mutating func forgetMobile(_ index: UInt32) {
        let name = allocations[index].pointee.mobileName
        guard name != 0, let mobile = mobiles.removeValue(forKey: name) else { return }
        mobileDirectory.remove(name)
        tellEnded(name, mobile)
    }

    private func tellEnded(_ name: UInt64, _ mobile: MobileAllocation) {
        guard let departure = mobile.departure else { return }
        let path = MovePath(allocation: name, serial: mobile.serial, tuple: departure.tuple)
        host.send(.ended(path), to: departure.worker)
    }

    /// RFC 8016 section 3.2.2, in its order; but for the old 5-tuple, which stays until data comes by the new one.
    private mutating func asked(_ request: MoveRequest, at moment: Moment) {
        let name = request.ticket.allocation
        guard var mobile = mobiles[name] else {
            // It has ended, or moved on since the directory was asked; perhaps to this very worker, which then has it
            // in its mailbox.
            guard let next = mobileDirectory.worker(of: name), request.hops < Limits.moveHops else {
                return refuse(request, .allocationMismatch)
            }
            var forwarded = request
            forwarded.hops += 1
            return host.send(.asked(forwarded), to: next)
        }
        let slot = allocations[mobile.index]
        // The old ticket is good for its Refresh again, in a new transaction too, and for nothing else.
        let isRepeated =
            request.ticket.serial == mobile.previousSerial && mobile.departure?.tuple == request.tuple
        guard request.ticket.serial == mobile.serial || isRepeated, request.tuple != slot.pointee.tuple,
            isRepeated || mobile.departure?.tuple != request.tuple
        else { return refuse(request, .badRequest) }
        guard users.name(slot.pointee.user) == request.user else { return refuse(request, .wrongCredentials) }
        guard let touched = legs(of: mobile.index, request.family) else {
            return refuse(request, .peerAddressFamilyMismatch)
        }
        // Ending it stays free to everyone, life does not: see `refresh`.
        guard request.wishedSeconds == 0 || !request.isOverQuota else {
            return refuse(request, .allocationQuotaReached)
        }
        if !isRepeated {
            tellEnded(name, mobile)
            mobile.previousSerial = mobile.serial
            mobile.serial = request.newSerial
        }
        mobile.departure = MobileAllocation.Departure(
            worker: request.worker,
            tuple: request.tuple,
            listener: request.listener
        )
        let path = MovePath(allocation: name, serial: mobile.serial, tuple: request.tuple)
        let index = mobile.index
        slot.pointee.lastTransaction = request.transaction
        slot.pointee.lastMethod = Method.refresh.rawValue
        slot.pointee.lastLifetimeSeconds = request.lifetimeSeconds
        if request.wishedSeconds == 0 {
            // Whoever asks hears of the end by the grant.
            let departure = mobile.departure
            mobile.departure = nil
            mobiles[name] = mobile
            close(index, primary: touched.primary, secondary: touched.secondary, .released, at: moment)
            if mobiles[name] != nil { mobiles[name]?.departure = departure }
        } else {
            mobiles[name] = mobile
            prolong(index, touched, request.lifetimeSeconds, request.hardDeadlineNanoseconds, at: moment)
            slot.pointee.ownBitsPerSecond = request.ownBitsPerSecond
            limitBandwidth(of: index)
        }
        host.send(
            .granted(
                MoveGrant(
                    request: request.number,
                    owner: worker,
                    path: path,
                    lifetimeSeconds: request.lifetimeSeconds,
                    isGone: mobiles[name] == nil
                )
            ),
            to: request.worker
        )
    }

    private func refuse(_ request: MoveRequest, _ code: ErrorCode) {
        host.send(.refused(request: request.number, request.tuple, code), to: request.worker)
    }

    private mutating func wanted(_ path: MovePath, _ worker: Int, at moment: Moment) {
        guard let mobile = mobiles[path.allocation], mobile.serial == path.serial,
            mobile.departure?.tuple == path.tuple
        else { return host.send(.ended(path), to: worker) }
        _ = depart(mobile.index, at: moment)
    }

    /// Sends an allocation to where its client has moved, if it has.
    mutating func depart(_ index: UInt32, at moment: Moment) -> Bool {
        let slot = allocations[index]
        let name = slot.pointee.mobileName
        guard name != 0, let mobile = mobiles[name], let departure = mobile.departure else { return false }
        mobiles[name] = nil
        keepUsage(of: index)
        let moving = MovingAllocation(
            record: slot.pointee,
            user: users.name(slot.pointee.user),
            permissions: permissions(of: index),
            channels: channels(of: index),
            path: MovePath(allocation: name, serial: mobile.serial, tuple: departure.tuple),
            previousSerial: mobile.previousSerial,
            listener: departure.listener,
            revocations: revocations
        )
        sweepChannels(of: index, at: moment, all: true)
        sweepPermissions(of: index, at: moment, all: true)
        if slot.pointee.primary.isOpen { host.disownRelay(slot.pointee.primary) }
        if slot.pointee.secondary.isOpen { host.disownRelay(slot.pointee.secondary) }
        // The quota goes with it: it is the user's, and counted once.
        vacate(index)
        // In this order: who finds the new worker in the directory writes to it behind the allocation.
        host.send(.arrived(moving), to: departure.worker)
        mobileDirectory.set(name, worker: departure.worker)
        return true
    }

    private func permissions(of index: UInt32) -> [Permission] {
        var list: [Permission] = []
        var current = allocations[index].pointee.firstPermission
        while current != noIndex {
            list.append(permissions[current].pointee)
            current = permissions[current].pointee.next
        }
        return list
    }

    private func channels(of index: UInt32) -> [Channel] {
        var places: [UInt32: UInt32] = [:]
        var current = allocations[index].pointee.firstPermission
        while current != noIndex {
            places[current] = UInt32(truncatingIfNeeded: places.count)
            current = permissions[current].pointee.next
        }
        var list: [Channel] = []
        current = allocations[index].pointee.firstChannel
        while current != noIndex {
            var channel = channels[current].pointee
            channel.permission = places[channel.permission] ?? noIndex
            list.append(channel)
            current = channel.next
        }
        return list
    }
}
