import STUN

/// ChannelBind (RFC 8656 section 12.2) and the table of channels.
extension Engine {
    mutating func channelBind(
        _ request: Request,
        _ authentication: Authentication,
        _ reply: UnsafeMutableRawBufferPointer
    ) -> Verdict {
        let index: UInt32
        switch owned(request, authentication) {
        case .failure(let code): return fail(request, code.value, authentication, reply)
        case .success(let found): index = found
        }
        // There are no channels in RFC 6062: what is bound there is a connection.
        guard !allocations[index].pointee.isStream else { return fail(request, .forbidden, authentication, reply) }
        guard let numberValue = request.message.first(.channelNumber), numberValue.count == 4,
            let peerValue = request.message.first(.xorPeerAddress),
            let peer = AddressAttribute.decodeXOR(peerValue, request.message.transactionID),
            peer.port != 0
        else { return fail(request, .badRequest, authentication, reply) }
        let number = numberValue.uint16(at: 0)
        let range = configuration.acceptsWideChannels ? Limits.wideChannels : Limits.channels
        guard range.contains(number) else { return fail(request, .badRequest, authentication, reply) }
        if isRetransmission(request, of: index), channel(index, number: number) != noIndex {
            return bound(request, authentication, reply)
        }
        guard let leg = leg(of: index, peer.family) else {
            return fail(request, .peerAddressFamilyMismatch, authentication, reply)
        }
        let decision = configuration.policy.decide(peer.address)
        let isOwnHost = decision == .ownHost
        guard decision != .denied, mayReach(peer, isOwnHost: isOwnHost)
        else { return fail(request, .forbidden, authentication, reply) }

        sweepChannels(of: index, at: request.moment)
        let byNumber = channel(index, number: number)
        let byPeer = channel(index, peer: peer)
        // A number stays with its peer, and a peer with its number, while the binding lives.
        guard byNumber == byPeer else { return fail(request, .badRequest, authentication, reply) }
        guard admit([peer.address], to: index, at: request.moment),
            byNumber != noIndex || channels.count < channels.capacity,
            let permission = install(peer.address, isOwnHost: isOwnHost, on: index, at: request.moment)
        else { return fail(request, .insufficientCapacity, authentication, reply) }
        let expiry = request.moment.after(seconds: Limits.channelLifetimeSeconds)
        if byNumber != noIndex {
            channels[byNumber].pointee.expiryNanoseconds = expiry
        } else {
            bind(number, to: peer, permission, leg.descriptor, on: index, expiry)
        }
        schedule(index, noLaterThan: expiry)
        note(request, index)
        return bound(request, authentication, reply)
    }

    private func bound(
        _ request: Request,
        _ authentication: Authentication,
        _ reply: UnsafeMutableRawBufferPointer
    ) -> Verdict {
        var builder = success(request, reply)
        return finish(&builder, request, authentication)
    }

    private mutating func bind(
        _ number: UInt16,
        to peer: Endpoint,
        _ permission: UInt32,
        _ descriptor: Int32,
        on index: UInt32,
        _ expiry: UInt64
    ) {
        let slot = allocations[index]
        let record = Channel(
            peer: peer,
            destination: ownHost.destination(for: peer),
            allocation: index,
            permission: permission,
            next: slot.pointee.firstChannel,
            number: number,
            descriptor: descriptor,
            expiryNanoseconds: expiry
        )
        guard let new = channels.insert(record) else { return }
        slot.pointee.firstChannel = new
        slot.pointee.channelCount += 1
        permissions[permission].pointee.channels += 1
        channelByNumber.insert(hash(index, channel: number), new)
        channelByPeer.insert(hash(index, peer), new)
    }

    @inline(__always)
    func channel(_ allocation: UInt32, number: UInt16) -> UInt32 {
        var probe = channelByNumber.probe(hash(allocation, channel: number))
        while let index = channelByNumber.next(&probe) {
            let slot = channels[index]
            if slot.pointee.allocation == allocation, slot.pointee.number == number { return index }
        }
        return noIndex
    }

    @inline(__always)
    func channel(_ allocation: UInt32, peer: Endpoint) -> UInt32 {
        var probe = channelByPeer.probe(hash(allocation, peer))
        while let index = channelByPeer.next(&probe) {
            let slot = channels[index]
            if slot.pointee.allocation == allocation, slot.pointee.peer == peer { return index }
        }
        return noIndex
    }

    /// Removes channels whose time has passed, or all of them, or those that leave by one relay socket.
    mutating func sweepChannels(
        of index: UInt32,
        at moment: Moment,
        all: Bool = false,
        descriptor: Int32? = nil
    ) {
        let slot = allocations[index]
        var previous = noIndex
        var current = slot.pointee.firstChannel
        while current != noIndex {
            let record = channels[current].pointee
            if all || record.descriptor == descriptor || record.expiryNanoseconds <= moment.monotonicNanoseconds {
                if previous == noIndex {
                    slot.pointee.firstChannel = record.next
                } else {
                    channels[previous].pointee.next = record.next
                }
                channelByNumber.remove(hash(index, channel: record.number), current)
                channelByPeer.remove(hash(index, record.peer), current)
                permissions[record.permission].pointee.channels -= 1
                channels.remove(current)
                slot.pointee.channelCount -= 1
            } else {
                previous = current
            }
            current = record.next
        }
        slot.pointee.lastChannelFromClient = noIndex
        slot.pointee.lastChannelFromPeer = noIndex
    }
}
