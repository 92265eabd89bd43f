import STUN

/// Data to peers and from them.
extension TURNClient {
    package enum SendOutcome: Equatable, Sendable {
        case sent
        /// The peer's address has no permission yet. One has been asked for; the newest few datagrams of each peer are
        /// kept and go out with `.permitted`, if that comes within two seconds.
        case awaitsPermission
        /// The server has refused this peer within the last minute.
        case refused
        case noAllocation
        case familyUnavailable
        case tooLong
    }

    /// Sends a datagram to a peer, by its channel if there is one.
    package mutating func send(
        _ data: UnsafeRawBufferPointer,
        to peer: Endpoint,
        now: UInt64,
        into actions: inout [TURNAction]
    ) -> SendOutcome {
        guard phase == .live, let allocation else { return .noAllocation }
        guard allocation.has(peer.family), peer.port != 0 else { return .familyUnavailable }
        guard data.count <= Limits.datagramBytes else { return .tooLong }
        guard isPermitted(peer.address, now: now) else {
            if refusal(of: peer.address, now: now) != nil { return .refused }
            permit([peer.address], now: now, into: &actions)
            // No permission is under way where there are too many.
            guard permissions[peer.address] != nil else { return .refused }
            held.hold(data, to: peer, now: now)
            return .awaitsPermission
        }
        relay(data, to: peer, now: now, into: &actions)
        return .sent
    }

    /// Sends what has waited for these addresses.
    mutating func flush(_ peers: [IPAddress], now: UInt64, into actions: inout [TURNAction]) {
        for (peer, bytes) in held.take(peers, now: now) {
            bytes.withUnsafeBytes { relay($0, to: peer, now: now, into: &actions) }
        }
    }

    private mutating func relay(
        _ data: UnsafeRawBufferPointer,
        to peer: Endpoint,
        now: UInt64,
        into actions: inout [TURNAction]
    ) {
        if let number = liveChannel(to: peer, now: now) {
            channels[peer]?.lastUsedAt = now
            return emit(channelData(number, data), now: now, into: &actions)
        }
        let id = cryptography.randomTransaction()
        let bytes = build(MessageType(.send, .indication), id, capacity: data.count + 64) { builder in
            builder.append(.xorPeerAddress, xor: peer)
            if configuration.prohibitsFragments, !leavesOut.contains(.dontFragment) {
                builder.append(.dontFragment, [])
            }
            builder.append(.data, data)
        }
        emit(bytes, now: now, into: &actions)
        countDatagram(peer, now: now, into: &actions)
    }

    private func channelData(_ number: UInt16, _ data: UnsafeRawBufferPointer) -> [UInt8] {
        let length = ChannelData.headerLength + data.count
        // RFC 8656 section 12.5: padded to four bytes on a stream; by UDP it need not be. Pion's server reads DTLS as
        // if it were a stream, too.
        let total = configuration.transport == .udp ? length : (length + 3) & ~3
        return [UInt8](unsafeUninitializedCapacity: total) { buffer, count in
            let bytes = UnsafeMutableRawBufferPointer(buffer)
            guard let start = bytes.baseAddress else { return }
            ChannelData.writeHeader(channel: number, length: UInt16(truncatingIfNeeded: data.count), at: start)
            UnsafeMutableRawBufferPointer(rebasing: bytes[ChannelData.headerLength...]).copyBytes(from: data)
            for index in length..<total { bytes[index] = 0 }
            count = total
        }
    }

    mutating func takeChannelData(_ bytes: UnsafeRawBufferPointer, now: UInt64, into actions: inout [TURNAction]) {
        guard phase == .live, let header = ChannelData(bytes), let peer = channelPeers[header.channel],
            let channel = channels[peer], channel.isPending || channel.expiresAt > now,
            // A channel that is being bound permits its peer with the answer; any other has to have been permitted.
            channel.isPending || permissions[peer.address] != nil
        else {
            ignored &+= 1
            return
        }
        channels[peer]?.lastUsedAt = now
        actions.append(.received(Array(bytes.slice(ChannelData.headerLength, header.length)), from: peer))
    }

    /// Data that came for us, or an ICMP error about what we sent (RFC 8656 section 11.6).
    mutating func takeIndication(_ message: MessageView, now: UInt64, into actions: inout [TURNAction]) {
        // Nothing but a permission makes a server relay; what comes from where none was asked for was made up on the
        // way. The answer that grants one may come after the first data.
        guard phase == .live, let value = message.first(.xorPeerAddress),
            let peer = AddressAttribute.decodeXOR(value, message.transactionID), permissions[peer.address] != nil
        else {
            ignored &+= 1
            return
        }
        if let icmp = message.first(.icmp), icmp.count == 8 {
            // RFC 8656 section 18.13: after two bytes of nothing, seven bits of type and nine of code.
            let (type, code) = (icmp.uint16(at: 2) >> 9, icmp.uint16(at: 2) & 0x1FF)
            actions.append(.peerError(peer, type: UInt8(type), code: UInt8(truncatingIfNeeded: code)))
            return
        }
        guard let data = message.first(.data) else {
            ignored &+= 1
            return
        }
        actions.append(.received(Array(data), from: peer))
        countDatagram(peer, now: now, into: &actions)
    }

    /// Binds a channel once there is traffic that is worth it.
    private mutating func countDatagram(_ peer: Endpoint, now: UInt64, into actions: inout [TURNAction]) {
        guard configuration.bindsChannels, channels[peer].map({ !$0.isPending && !$0.isRefused }) ?? true
        else { return }
        if datagrams.count >= Limits.channels, datagrams[peer] == nil { datagrams = [:] }
        let count = datagrams[peer, default: 0] + 1
        datagrams[peer] = count
        guard count >= Limits.datagramsBeforeChannel else { return }
        datagrams[peer] = nil
        bindChannel(to: peer, now: now, into: &actions)
    }
}
