import STUN

/// The packets' way through the engine. Nothing here allocates, counts a reference, takes a lock or logs.
extension Engine {
    /// ChannelData from a client (RFC 8656 section 12.6).
    package mutating func channelData(
        _ datagram: UnsafeRawBufferPointer,
        allocation index: UInt32,
        now: UInt64
    ) -> Verdict {
        guard index != noIndex else { return .drop(.noAllocation) }
        guard let header = ChannelData(datagram) else { return .drop(.badChannelData) }
        let slot = allocations[index]
        var found = slot.pointee.lastChannelFromClient
        if found == noIndex || channels[found].pointee.number != header.channel {
            found = channel(index, number: header.channel)
            guard found != noIndex else { return .drop(.unboundChannel) }
            slot.pointee.lastChannelFromClient = found
        }
        let channel = channels[found]
        guard channel.pointee.expiryNanoseconds > now else { return .drop(.unboundChannel) }
        let permission = permissions[channel.pointee.permission]
        guard permission.pointee.expiryNanoseconds > now else { return .drop(.noPermission) }
        // A relay of ours that was there when the channel was bound may have gone, and its port be another service's.
        if permission.pointee.isOwnHost, !host.isLiveRelay(channel.pointee.peer) { return .drop(.deniedPeer) }
        guard mayPass(header.length, of: index, now: now) else { return .drop(.overBandwidth) }
        slot.pointee.traffic.packetsToPeers &+= 1
        slot.pointee.traffic.bytesToPeers &+= UInt64(truncatingIfNeeded: header.length)
        return .forward(
            Forward(
                allocation: index,
                descriptor: channel.pointee.descriptor,
                destination: channel.pointee.destination,
                offset: ChannelData.headerLength,
                length: header.length,
                dontFragment: false
            )
        )
    }

    /// A Send indication (RFC 8656 section 11.2). It is not authenticated; the permission is what lets it through.
    mutating func sendIndication(_ message: MessageView, from tuple: FiveTuple, at moment: Moment) -> Verdict {
        let index = allocation(of: tuple)
        guard index != noIndex else { return isArriving(tuple) ? .arriving : .drop(.noAllocation) }
        // RFC 6062 has no Send: data goes over connections of its own.
        guard !allocations[index].pointee.isStream else { return .drop(.badIndication) }
        var peerValue: UnsafeRawBufferPointer?
        var data: UnsafeRawBufferPointer?
        var dontFragment = false
        var iterator = message.attributes
        while let attribute = iterator.next() {
            switch attribute.type {
            case .xorPeerAddress: if peerValue == nil { peerValue = attribute.value }
            case .data: if data == nil { data = attribute.value }
            case .dontFragment: dontFragment = true
            default:
                if attribute.type.isComprehensionRequired { return .drop(.badIndication) }
            }
        }
        guard let peerValue, let data, let start = data.baseAddress, let base = message.bytes.baseAddress,
            let peer = AddressAttribute.decodeXOR(peerValue, message.transactionID)
        else { return .drop(.badIndication) }
        let permission = permission(index, peer.address)
        guard permission != noIndex,
            permissions[permission].pointee.expiryNanoseconds > moment.monotonicNanoseconds
        else { return .drop(.noPermission) }
        guard mayReach(peer, isOwnHost: permissions[permission].pointee.isOwnHost) else { return .drop(.deniedPeer) }
        guard let leg = leg(of: index, peer.family) else { return .drop(.noPermission) }
        guard mayPass(data.count, of: index, now: moment.monotonicNanoseconds) else { return .drop(.overBandwidth) }
        let slot = allocations[index]
        slot.pointee.traffic.packetsToPeers &+= 1
        slot.pointee.traffic.bytesToPeers &+= UInt64(truncatingIfNeeded: data.count)
        return .forward(
            Forward(
                allocation: index,
                descriptor: leg.descriptor,
                destination: ownHost.destination(for: peer),
                offset: base.distance(to: start),
                length: data.count,
                dontFragment: dontFragment
            )
        )
    }

    /// How what a peer has sent goes to the client.
    package enum PeerVerdict {
        /// As ChannelData with that number.
        case channel(UInt16)
        /// As a Data indication from that peer.
        case indication(Endpoint)
        case drop(DropReason)
    }

    /// Datagrams from a peer on a relay socket (RFC 8656 sections 11.3 and 12.7).
    /// - Parameter run: from one source. When not all of it may go to the client it is shortened to what may, and the
    ///   rest is counted as dropped here; when none may, it stays, and the verdict is about all of it.
    package mutating func peerData(
        from source: Endpoint,
        allocation index: UInt32,
        run: inout PayloadRun,
        now: UInt64
    ) -> PeerVerdict {
        let slot = allocations[index]
        let last = slot.pointee.lastChannelFromPeer
        if last != noIndex, channels[last].pointee.destination == source,
            channels[last].pointee.expiryNanoseconds > now,
            permissions[channels[last].pointee.permission].pointee.expiryNanoseconds > now,
            !permissions[channels[last].pointee.permission].pointee.isOwnHost
        {
            guard take(&run, toClientOf: index, now: now) else { return .drop(.overBandwidth) }
            return .channel(channels[last].pointee.number)
        }
        let peer = ownHost.canonicalSource(source)
        let permission = permission(index, peer.address)
        guard permission != noIndex, permissions[permission].pointee.expiryNanoseconds > now else {
            return .drop(.peerNotPermitted)
        }
        if permissions[permission].pointee.isOwnHost, !host.isLiveRelay(peer), !host.hasJustClosed(peer, at: now) {
            return .drop(.peerNotPermitted)
        }
        // What may not be sent to is not heard either (case AM-13).
        if Limits.isDenied(peerPort: peer.port) { return .drop(.deniedPeer) }
        guard take(&run, toClientOf: index, now: now) else { return .drop(.overBandwidth) }
        let found = channel(index, peer: peer)
        if found != noIndex, channels[found].pointee.expiryNanoseconds > now {
            slot.pointee.lastChannelFromPeer = found
            return .channel(channels[found].pointee.number)
        }
        return .indication(peer)
    }

    /// Counts a run that goes to the client, or as much of it as the limits let pass.
    /// - Returns: false when they let nothing pass.
    @inline(__always)
    private mutating func take(_ run: inout PayloadRun, toClientOf index: UInt32, now: UInt64) -> Bool {
        let slot = allocations[index]
        if slot.pointee.isLimited {
            let passing = limited(run, of: index, now: now)
            guard passing.packets > 0 else { return false }
            counters.drop(.overBandwidth, run.packets &- passing.packets)
            run = passing
        }
        slot.pointee.traffic.packetsToClient &+= run.packets
        slot.pointee.traffic.bytesToClient &+= run.bytes
        return true
    }

    /// Bytes a Data indication puts before its data, for a peer of that family.
    @inline(__always)
    package static func indicationHeaderLength(_ family: AddressFamily) -> Int { family == .ipv4 ? 36 : 48 }

    /// Writes what stands before the data of a Data indication (RFC 8656 section 11.4).
    ///
    ///     header 20 │ XOR-PEER-ADDRESS 4 + 8 or 20 │ DATA 4 │ data, padded to four bytes
    package func writeIndicationHeader(
        peer: Endpoint,
        length: Int,
        at start: UnsafeMutableRawPointer
    ) {
        let headerLength = Self.indicationHeaderLength(peer.family)
        let header = UnsafeMutableRawBufferPointer(start: start, count: headerLength)
        let total = headerLength - MessageView.headerLength + (length + 3) & ~3
        var random = (UInt64(0), UInt32(0))
        withUnsafeMutableBytes(of: &random) { cryptography.random($0) }
        let transaction = TransactionID(high: random.0, low: random.1)
        header.store(UInt16(0x0017), at: 0)  // Data indication
        header.store(UInt16(truncatingIfNeeded: total), at: 2)
        header.store(MessageView.magicCookie, at: 4)
        header.store(transaction.high, at: 8)
        header.store(transaction.low, at: 16)
        header.store(AttributeType.xorPeerAddress.rawValue, at: 20)
        let space = UnsafeMutableRawBufferPointer(rebasing: header[24...])
        let valueLength = AddressAttribute.encodeXOR(peer, transaction, into: space)
        header.store(UInt16(truncatingIfNeeded: valueLength), at: 22)
        header.store(AttributeType.data.rawValue, at: headerLength - 4)
        header.store(UInt16(truncatingIfNeeded: length), at: headerLength - 2)
    }

    /// Whether datagrams may go to this port of a permitted address. On this host nothing but a live relay may be
    /// reached, and never a listener: two that talk to each other through relays would be a loop (case AM-10).
    @inline(__always)
    func mayReach(_ peer: Endpoint, isOwnHost: Bool) -> Bool {
        guard !Limits.isDenied(peerPort: peer.port), !ownHost.isListener(peer) else { return false }
        return !isOwnHost || host.isLiveRelay(peer)
    }
}
