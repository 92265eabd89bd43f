import STUN

/// What an operator sees of one allocation.
package struct AllocationDetails: Sendable {
    /// The slab's slot and which use of it: together they name the allocation for its life.
    package var index: UInt32
    package var generation: UInt32
    package var user: String
    package var client: Endpoint
    package var transport: ClientTransport
    package var relayed: [Endpoint]
    package var traffic: Traffic
    package var permissions: Int
    package var channels: Int
    package var ageSeconds: UInt64
    package var expiresInSeconds: UInt64
}

/// Part of a list of allocations.
package struct AllocationPage: Sendable {
    package var allocations: [AllocationDetails] = []
    /// Where the next page begins; nil behind the last.
    package var next: UInt32?

    package init() {}
}

extension Engine {
    /// Lists allocations from a slot on. It looks at so many slots and no more, so that packets do not wait for an
    /// operator.
    package func allocations(from first: UInt32, at moment: Moment) -> AllocationPage {
        var page = AllocationPage()
        let end = UInt32(truncatingIfNeeded: allocations.everUsed)
        var index = first
        while index < end, index &- first < Limits.slotsPerPage {
            if allocations[index].pointee.isLive { page.allocations.append(details(of: index, at: moment)) }
            index &+= 1
        }
        page.next = index < end ? index : nil
        return page
    }

    /// Ends one allocation, where it is still the one that was meant.
    package mutating func end(allocation index: UInt32, generation: UInt32, at moment: Moment) -> Bool {
        guard isCurrent(index, generation: generation) else { return false }
        close(index, primary: true, secondary: true, .killed, at: moment)
        return true
    }

    private func details(of index: UInt32, at moment: Moment) -> AllocationDetails {
        let slot = allocations[index]
        let now = moment.monotonicNanoseconds
        let legs = [slot.pointee.primary, slot.pointee.secondary].filter(\.isOpen)
        let expiry = legs.map(\.expiryNanoseconds).max() ?? now
        return AllocationDetails(
            index: index,
            generation: slot.pointee.generation,
            user: users.name(slot.pointee.user),
            client: slot.pointee.tuple.client,
            transport: slot.pointee.tuple.transport,
            relayed: legs.map(\.advertised),
            traffic: slot.pointee.traffic,
            permissions: Int(slot.pointee.permissionCount),
            channels: Int(slot.pointee.channelCount),
            ageSeconds: (now &- slot.pointee.createdNanoseconds) / 1_000_000_000,
            expiresInSeconds: expiry > now ? (expiry - now) / 1_000_000_000 : 0
        )
    }
}
