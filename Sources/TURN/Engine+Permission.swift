import STUN

/// CreatePermission (RFC 8656 section 10.2) and the table of permissions.
extension Engine {
    mutating func createPermission(
        _ request: Request,
        _ authentication: Authentication,
        _ reply: UnsafeMutableRawBufferPointer
    ) -> Verdict {
        let index: UInt32
        switch owned(request, authentication) {
        case .failure(let code): return fail(request, code.value, authentication, reply)
        case .success(let found): index = found
        }
        if isRetransmission(request, of: index) { return permitted(request, authentication, reply) }
        var peers: [(address: IPAddress, isOwnHost: Bool)] = []
        var iterator = request.message.attributes
        while let attribute = iterator.next() {
            guard attribute.type == .xorPeerAddress else { continue }
            guard peers.count < Limits.addressesPerRequest,
                let peer = AddressAttribute.decodeXOR(attribute.value, request.message.transactionID)
            else { return fail(request, .badRequest, authentication, reply) }
            guard leg(of: index, peer.family) != nil else {
                return fail(request, .peerAddressFamilyMismatch, authentication, reply)
            }
            // All or nothing: one address that is denied refuses the request (RFC 8656 section 10.2).
            switch configuration.policy.decide(peer.address) {
            case .denied: return fail(request, .forbidden, authentication, reply)
            case .allowed: peers.append((peer.address, false))
            case .ownHost: peers.append((peer.address, true))
            }
        }
        guard !peers.isEmpty else { return fail(request, .badRequest, authentication, reply) }
        guard admit(Set(peers.map(\.address)), to: index, at: request.moment) else {
            return fail(request, .insufficientCapacity, authentication, reply)
        }
        for peer in peers { _ = install(peer.address, isOwnHost: peer.isOwnHost, on: index, at: request.moment) }
        note(request, index)
        return permitted(request, authentication, reply)
    }

    private func permitted(
        _ request: Request,
        _ authentication: Authentication,
        _ reply: UnsafeMutableRawBufferPointer
    ) -> Verdict {
        var builder = success(request, reply)
        return finish(&builder, request, authentication)
    }

    @inline(__always)
    func permission(_ allocation: UInt32, _ address: IPAddress) -> UInt32 {
        var probe = permissionByAddress.probe(hash(allocation, address))
        while let index = permissionByAddress.next(&probe) {
            let slot = permissions[index]
            if slot.pointee.allocation == allocation, slot.pointee.address == address { return index }
        }
        return noIndex
    }

    /// Whether the allocation may have these peers besides the ones it has: its own cap, the pace at which new
    /// addresses may come, and the worker's table. Takes from the pace what it grants.
    mutating func admit(_ addresses: Set<IPAddress>, to index: UInt32, at moment: Moment) -> Bool {
        // One that has lapsed and that no channel holds is as good as gone: the sweep below removes it.
        let new = addresses.count(where: {
            let found = permission(index, $0)
            return found == noIndex
                || permissions[found].pointee.expiryNanoseconds <= moment.monotonicNanoseconds
                    && permissions[found].pointee.channels == 0
        })
        guard new > 0 else { return true }
        sweepPermissions(of: index, at: moment)
        let slot = allocations[index]
        let limit = configuration.permissionsPerAllocation
        fullestPermissions = max(fullestPermissions, Int(slot.pointee.permissionCount) + new)
        guard limit == 0 || Int(slot.pointee.permissionCount) + new <= limit,
            Int(slot.pointee.permissionCount) + new <= Int(UInt16.max),
            permissions.count + new <= permissions.capacity
        else { return false }
        return takePeerTokens(new, of: index, at: moment)
    }

    /// Takes from the pace at which an allocation may name new peers.
    /// - Returns: false, with nothing taken, where it has named too many of late.
    func takePeerTokens(_ new: Int, of index: UInt32, at moment: Moment) -> Bool {
        let slot = allocations[index]
        let elapsed = moment.monotonicNanoseconds &- slot.pointee.permissionTokensAtNanoseconds
        // Thousandths of a token for each nanosecond, computed so that no product wraps.
        let earned = min(elapsed / 1_000_000, 1 << 32) * Limits.newPermissionsPerSecond
        let tokens = min(slot.pointee.permissionTokens + earned, permissionBurst)
        guard tokens >= UInt64(new) * 1_000 else { return false }
        slot.pointee.permissionTokens = tokens - UInt64(new) * 1_000
        slot.pointee.permissionTokensAtNanoseconds = moment.monotonicNanoseconds
        return true
    }

    /// What a full token bucket for new peer addresses holds, in thousandths: an allocation may fill its table at once.
    var permissionBurst: UInt64 {
        let limit = configuration.permissionsPerAllocation
        return UInt64(limit > 0 ? min(limit, Int(UInt16.max)) : Int(UInt16.max)) * 1_000
    }

    /// Makes or renews a permission that `admit` let in.
    mutating func install(
        _ address: IPAddress,
        isOwnHost: Bool,
        on index: UInt32,
        at moment: Moment
    ) -> UInt32? {
        let expiry = moment.after(seconds: Limits.permissionLifetimeSeconds)
        let existing = permission(index, address)
        if existing != noIndex {
            permissions[existing].pointee.expiryNanoseconds = expiry
            permissions[existing].pointee.isOwnHost = isOwnHost
            schedule(index, noLaterThan: expiry)
            return existing
        }
        let slot = allocations[index]
        let record = Permission(
            address: address,
            allocation: index,
            next: slot.pointee.firstPermission,
            isOwnHost: isOwnHost,
            expiryNanoseconds: expiry
        )
        guard let new = permissions.insert(record) else { return nil }
        slot.pointee.firstPermission = new
        slot.pointee.permissionCount += 1
        permissionByAddress.insert(hash(index, address), new)
        schedule(index, noLaterThan: expiry)
        return new
    }

    /// Removes permissions whose time has passed and that no channel holds.
    mutating func sweepPermissions(of index: UInt32, at moment: Moment, all: Bool = false) {
        let slot = allocations[index]
        var previous = noIndex
        var current = slot.pointee.firstPermission
        while current != noIndex {
            let record = permissions[current].pointee
            if all || record.expiryNanoseconds <= moment.monotonicNanoseconds && record.channels == 0 {
                if previous == noIndex {
                    slot.pointee.firstPermission = record.next
                } else {
                    permissions[previous].pointee.next = record.next
                }
                permissionByAddress.remove(hash(index, record.address), current)
                permissions.remove(current)
                slot.pointee.permissionCount -= 1
            } else {
                previous = current
            }
            current = record.next
        }
    }

    /// The open leg of an allocation with that family.
    @inline(__always)
    func leg(of index: UInt32, _ family: AddressFamily) -> RelayLeg? {
        let slot = allocations[index]
        if slot.pointee.primary.isOpen, slot.pointee.primary.advertised.family == family {
            return slot.pointee.primary
        }
        if slot.pointee.secondary.isOpen, slot.pointee.secondary.advertised.family == family {
            return slot.pointee.secondary
        }
        return nil
    }
}
