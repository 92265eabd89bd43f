import LinuxIO
import STUN
import TURN

/// From peers to clients.
extension Worker {
    /// Takes a few datagrams from a relay socket, puts a header before each where it lies, and hands them to the
    /// client's listener, which sends at the end of the turn.
    mutating func receiveFromPeers(_ allocation: UInt32, isSecondary: Bool) {
        let descriptor = engine.relayDescriptor(of: allocation, isSecondary: isSecondary)
        // An event of this turn for a relay that a request of this turn has closed.
        guard descriptor >= 0 else { return }
        if slotsHeld &+ Self.peerBatch > Self.peerSlots { flushClients() }
        let first = slotsHeld
        let count = fromPeers.receive(fd: descriptor, at: first, count: Self.peerBatch)
        guard count > 0 else { return }
        slotsHeld = first &+ count
        let client = engine.client(of: allocation)
        var slot = first
        let route = ClientRoute(rawValue: client.listener)
        while slot < first &+ count {
            relayToClient(slot, allocation, client.tuple, route)
            slot &+= 1
        }
        if route.isConnection { flushStreamParts(route.connection) }
    }

    private mutating func relayToClient(_ slot: Int, _ allocation: UInt32, _ tuple: FiveTuple, _ route: ClientRoute) {
        var length = fromPeers.length(slot)
        let segment = fromPeers.segmentBytes(slot)
        let packets = segment > 0 && length > segment ? (length &+ segment &- 1) / segment : 1
        engine.counters.packetsIn &+= UInt64(truncatingIfNeeded: packets)
        engine.counters.bytesIn &+= UInt64(truncatingIfNeeded: length)
        if fromPeers.isTruncated(slot) {
            engine.counters.drop(.truncated, UInt64(truncatingIfNeeded: packets))
            return
        }
        var passing = PayloadRun(
            packets: UInt64(truncatingIfNeeded: packets),
            bytes: UInt64(truncatingIfNeeded: length),
            segmentBytes: UInt64(truncatingIfNeeded: segment)
        )
        let verdict = engine.peerData(
            from: Endpoint(fromPeers.source(slot)),
            allocation: allocation,
            run: &passing,
            now: now.monotonicNanoseconds
        )
        length = Int(truncatingIfNeeded: passing.bytes)
        let payload = UnsafeMutableRawPointer(fromPeers.payload(slot))
        if route.isConnection {
            relayToStream(verdict, payload, length, segment, packets, route.connection)
            return
        }
        if route.isSession {
            relayToSession(verdict, payload, length, segment, packets, route.session)
            return
        }
        let listener = route.listener
        address.pointee = tuple.client.storage
        let run = ClientRun(
            listener: listener,
            source: localAddress(tuple, listener),
            flowKey: UInt64(allocation) &+ 1
        )
        switch verdict {
        case .drop(let reason):
            engine.counters.drop(reason, UInt64(truncatingIfNeeded: packets))
        case .channel(let number):
            if packets == 1 {
                // The header goes into the headroom, so the datagram leaves in one piece.
                let start = payload - ChannelData.headerLength
                guard fits(length, ChannelData.headerLength) else { return }
                ChannelData.writeHeader(channel: number, length: UInt16(truncatingIfNeeded: length), at: start)
                add(run, nil, 0, start, length &+ ChannelData.headerLength, payloadBytes: length)
                return
            }
            var offset = 0
            while offset < length {
                let bytes = min(segment, length &- offset)
                // The headroom of every segment but the first is another's data.
                if let header = headerSpace(listener) {
                    ChannelData.writeHeader(channel: number, length: UInt16(truncatingIfNeeded: bytes), at: header)
                    add(run, header, ChannelData.headerLength, payload + offset, bytes, payloadBytes: bytes)
                }
                offset &+= segment
            }
        case .indication(let peer):
            var offset = 0
            repeat {
                let bytes = min(segment, length &- offset)
                addIndication(run, peer, payload + offset, bytes, isLast: offset &+ bytes == length)
                offset &+= max(segment, 1)
            } while offset < length
        }
    }

    private struct ClientRun {
        let listener: Int
        let source: LocalAddress
        let flowKey: UInt64
    }

    /// - Parameter payloadBytes: what of it is counted as relayed: neither headers nor padding.
    @inline(__always)
    private mutating func add(
        _ run: ClientRun,
        _ header: UnsafeRawPointer?,
        _ headerLength: Int,
        _ payload: UnsafeRawPointer,
        _ length: Int,
        payloadBytes: Int
    ) {
        let listener = run.listener
        listeners[listener].bytesWaiting &+= payloadBytes
        if listeners[listener].outgoing.addRun(
            to: address,
            source: run.source,
            header: header,
            headerLength: headerLength,
            payload: payload,
            length: length,
            flowKey: run.flowKey,
            allowSegments: listeners[listener].allowsSegments
        ) {
            return
        }
        // A header that was written into the batch would be given away by the flush, so room was made before it; what
        // is full here is a batch of datagrams whose headers lie in front of them.
        flushListener(listener)
        _ = listeners[listener].outgoing.addRun(
            to: address,
            source: run.source,
            header: header,
            headerLength: headerLength,
            payload: payload,
            length: length,
            flowKey: run.flowKey,
            allowSegments: listeners[listener].allowsSegments
        )
    }

    /// Room for a header that stays until the flush, with room for its datagram too.
    private mutating func headerSpace(_ listener: Int, parts: Int = 2) -> UnsafeMutableRawPointer? {
        if !listeners[listener].outgoing.hasRoom(parts: parts) { flushListener(listener) }
        return listeners[listener].outgoing.headerSpace().map { UnsafeMutableRawPointer($0) }
    }

    /// Sends data as a Data indication. Its length is padded to four bytes with zeros (RFC 8489 section 14).
    private mutating func addIndication(
        _ run: ClientRun,
        _ peer: Endpoint,
        _ payload: UnsafeMutableRawPointer,
        _ length: Int,
        isLast: Bool
    ) {
        let headerLength = Engine.indicationHeaderLength(peer.family)
        guard fits(length, headerLength) else { return }
        let padding = (4 &- length & 3) & 3
        if padding == 0 || isLast {
            // Behind the last datagram of a slot is room for the padding.
            (payload + length).storeBytes(of: 0, as: UInt32.self)
            guard let header = headerSpace(run.listener) else { return }
            engine.writeIndicationHeader(peer: peer, length: length, at: header)
            add(run, header, headerLength, payload, length &+ padding, payloadBytes: length)
            return
        }
        // Between merged datagrams is no room: the padding is a part of its own, and the datagram a message of its own.
        // It lies behind the header, whose space is longer than any.
        guard let header = headerSpace(run.listener, parts: 3) else { return }
        engine.writeIndicationHeader(peer: peer, length: length, at: header)
        let zeros = header + headerLength
        zeros.storeBytes(of: 0, as: UInt32.self)
        let listener = run.listener
        guard listeners[listener].outgoing.begin(to: address, source: run.source),
            listeners[listener].outgoing.append(header, headerLength),
            listeners[listener].outgoing.append(payload, length),
            listeners[listener].outgoing.append(zeros, padding)
        else {
            engine.counters.drop(.sendQueueFull)
            return
        }
        listeners[listener].bytesWaiting &+= length
    }

    /// Whether a datagram still is one with its header before it; the longest there are do not.
    private mutating func fits(_ length: Int, _ headerLength: Int) -> Bool {
        guard length &+ headerLength <= 65_507 else {
            engine.counters.drop(.tooLarge)
            return false
        }
        return true
    }
}
