import LinuxIO
import STUN
import TURN

/// From clients to peers, and answers to clients.
extension Worker {
    /// Takes a batch from a listener. Data for peers gathers in `toPeers` and leaves at the end, one call for each
    /// relay socket.
    mutating func receiveFromClients(_ number: Int) {
        guard number < listenerCount else { return }
        let descriptor = listeners[number].descriptor.raw
        let count = fromClients.receive(fd: descriptor, at: 0, count: Self.clientSlots)
        guard count > 0 else { return }
        dtls.openedUsed = 0
        let isWildcard = listeners[number].isWildcard
        let takesClear = !listeners[number].isDTLSOnly
        let route = ClientRoute(listener: number)
        var server = listeners[number].endpoint
        var slot = 0
        while slot < count {
            defer { slot &+= 1 }
            let length = fromClients.length(slot)
            let segment = fromClients.segmentBytes(slot)
            let payload = UnsafeMutableRawPointer(fromClients.payload(slot))
            if isWildcard {
                let local = fromClients.local(slot)
                server.address = IPAddress(high: local.high, low: local.low, isIPv4: local.isIPv4)
            }
            let tuple = FiveTuple(
                client: Endpoint(fromClients.source(slot)),
                server: server,
                transport: .udp
            )
            if fromClients.isTruncated(slot) {
                countArrival(1, length)
                engine.counters.drop(.truncated)
                continue
            }
            // Looked up when the first ChannelData is met, and again behind a message, which may have made or ended it.
            var allocation: UInt32?
            var offset = 0
            // One turn even for an empty datagram, which has to be counted.
            repeat {
                let bytes = UnsafeRawBufferPointer(
                    start: payload + offset,
                    count: min(segment, length &- offset)
                )
                countArrival(1, bytes.count)
                if takesClear, bytes.count > 0,
                    ChannelData.isChannel(firstByte: bytes[0], wide: engine.configuration.acceptsWideChannels)
                {
                    let found = allocation ?? engine.allocation(of: tuple)
                    allocation = found
                    settle(
                        engine.channelData(bytes, allocation: found, now: now.monotonicNanoseconds),
                        bytes,
                        tuple,
                        route
                    )
                } else {
                    receiveOther(bytes, tuple, listener: number)
                    allocation = nil
                }
                offset &+= max(segment, 1)
            } while offset < length
        }
        flushPeers()
    }

    @inline(__always)
    private mutating func countArrival(_ packets: UInt64, _ bytes: Int) {
        engine.counters.packetsIn &+= packets
        engine.counters.bytesIn &+= UInt64(truncatingIfNeeded: bytes)
    }

    /// What is not ChannelData: STUN, or nothing of ours.
    mutating func receiveMessage(_ bytes: UnsafeRawBufferPointer, _ tuple: FiveTuple, _ route: ClientRoute) {
        guard bytes.count >= MessageView.headerLength else {
            engine.counters.drop(.tooShort)
            return
        }
        guard bytes[0] < 4 else {
            engine.counters.drop(.unknownFirstByte)
            return
        }
        // A request may close a relay socket, or open one that gets its number: what waits for the old one leaves
        // first. Send indications (0x0016) are data and change nothing.
        if bytes[1] != 0x16 || bytes[0] != 0 {
            if toPeers.hasEntries { flushPeers() }
            // Credentials and nonces follow the wall clock; data does not.
            now.wallSeconds = WallClock.seconds()
        }
        if repliesUsed == Self.replySlots { flushClients() }
        host.nowNanoseconds = now.monotonicNanoseconds
        let reply = UnsafeMutableRawBufferPointer(rebasing: replies[reply(Self.replyBytes)])
        let verdict = engine.receive(
            bytes,
            from: tuple,
            listener: route.rawValue,
            at: now,
            reply: reply
        )
        settle(verdict, bytes, tuple, route)
    }

    /// Does what the engine decided about one datagram.
    @inline(__always)
    mutating func settle(
        _ verdict: Verdict,
        _ bytes: UnsafeRawBufferPointer,
        _ tuple: FiveTuple,
        _ route: ClientRoute
    ) {
        switch verdict {
        case .forward(let forward):
            guard let base = bytes.baseAddress else { return }
            if forward.dontFragment {
                sendUnfragmented(forward, base)
            } else {
                if toPeers.isFull { flushPeers() }
                toPeers.append(forward, base + forward.offset)
            }
        case .drop(let reason):
            if reason == .noAllocation, engine.isArriving(tuple) {
                hold(bytes, tuple, route)
            } else {
                engine.counters.drop(reason)
            }
        case .handled:
            engine.counters.stunHandled &+= 1
        case .reply(let length):
            engine.counters.stunHandled &+= 1
            engine.counters.repliesSent &+= 1
            sendReply(length, tuple, route)
        case .replyElsewhere(let length, let origin, let destination):
            engine.counters.stunHandled &+= 1
            sendReply(length, from: origin, to: destination)
        case .bind(let binding):
            engine.counters.stunHandled &+= 1
            if route.isConnection { bind(binding, connection: route.connection) }
        case .needsCredentials(let query):
            park(query, bytes, tuple, route)
        case .needsOwner(let request, let owner):
            ask(request, owner, bytes, tuple, route)
        case .arriving:
            hold(bytes, tuple, route)
        }
    }

    /// Sends what lies in the reply buffer in use, by whichever way the client has.
    mutating func sendReply(_ length: Int, _ tuple: FiveTuple, _ route: ClientRoute) {
        if route.isConnection {
            sendReply(UnsafeRawBufferPointer(rebasing: replies[reply(length)]), connection: route.connection)
        } else if route.isSession {
            sendReply(UnsafeRawBufferPointer(rebasing: replies[reply(length)]), session: route.session)
        } else {
            sendReply(length, tuple, route.listener)
        }
    }

    private mutating func sendReply(_ length: Int, _ tuple: FiveTuple, _ listener: Int) {
        guard let base = replies.baseAddress else { return }
        let start = UnsafeRawPointer(base + repliesUsed &* Self.replyBytes)
        repliesUsed &+= 1
        sendWhole(start, length, tuple, listener)
    }

    /// Has a datagram leave that is no data: it stays where it is until the flush.
    mutating func sendWhole(_ start: UnsafeRawPointer, _ length: Int, _ tuple: FiveTuple, _ listener: Int) {
        address.pointee = tuple.client.storage
        // Answers are not runs: each is a message of its own.
        if !listeners[listener].outgoing.begin(to: address, source: localAddress(tuple, listener)) {
            flushListener(listener)
            guard listeners[listener].outgoing.begin(to: address, source: localAddress(tuple, listener)) else { return }
        }
        _ = listeners[listener].outgoing.append(start, length)
        listeners[listener].repliesWaiting &+= 1
    }

    /// Sends an answer of NAT discovery by the socket that has its origin; what cannot be sent was a request handled.
    private mutating func sendReply(_ length: Int, from origin: Endpoint, to destination: Endpoint) {
        var index = 0
        while index < listenerCount {
            let endpoint = listeners[index].endpoint
            if endpoint == origin
                || listeners[index].isWildcard && endpoint.port == origin.port
                    && endpoint.address.isIPv4 == origin.address.isIPv4
            {
                engine.counters.repliesSent &+= 1
                sendReply(length, FiveTuple(client: destination, server: origin, transport: .udp), index)
                return
            }
            index &+= 1
        }
    }

    /// The first bytes of the reply buffer in use.
    func reply(_ length: Int) -> Range<Int> {
        (repliesUsed &* Self.replyBytes)..<(repliesUsed &* Self.replyBytes &+ length)
    }

    @inline(__always)
    func localAddress(_ tuple: FiveTuple, _ listener: Int) -> LocalAddress {
        guard listeners[listener].isWildcard else { return .unspecified }
        let server = tuple.server.address
        return LocalAddress(high: server.high, low: server.low, isIPv4: server.isIPv4)
    }

    // MARK: Requests that wait for the account store

    private mutating func park(
        _ query: CredentialQuery,
        _ bytes: UnsafeRawBufferPointer,
        _ tuple: FiveTuple,
        _ route: ClientRoute
    ) {
        let outcome = parked.add(query, ParkedRequest(bytes: Array(bytes), tuple: tuple, route: route))
        if outcome == .first { host.ask(query, worker: number) }
        if outcome == .full {
            engine.counters.drop(.parkingFull)
        } else if route.isConnection {
            park(connection: route.connection)
        }
    }

    /// Gives a request to the engine once more, now that the answer is in its cache.
    mutating func replay(_ request: ParkedRequest) {
        if request.route.isConnection { return resume(request) }
        if request.route.isSession { return resumeSession(request) }
        request.bytes.withUnsafeBytes { give($0, request.tuple, request.route) }
    }

    // MARK: Out

    mutating func flushPeers() {
        toPeers.flush(&engine.counters)
    }

    private mutating func sendUnfragmented(_ forward: Forward, _ base: UnsafeRawPointer) {
        flushPeers()
        let isIPv4 = forward.destination.address.isIPv4
        try? UDPSocket.setPathMTUDiscovery(forward.descriptor, isIPv4: isIPv4, .do)
        toPeers.append(forward, base + forward.offset)
        flushPeers()
        let isTooLong = toPeers.lastErrno == Errno.messageTooLong
        try? UDPSocket.setPathMTUDiscovery(forward.descriptor, isIPv4: isIPv4, .ofRelay(isIPv4: isIPv4))
        // What is longer than the path is known to take has not left, and the kernel says so in place of a router.
        if isTooLong { receivePeerErrors(forward.allocation, forward.descriptor, sentTo: forward.destination) }
    }

    /// Sends all that waits for clients. The slots and reply buffers it lay in are free afterwards.
    mutating func flushClients() {
        var index = 0
        while index < listenerCount {
            flushListener(index)
            index &+= 1
        }
        repliesUsed = 0
        slotsHeld = 0
        dtls.sealedUsed = 0
    }

    mutating func flushListener(_ index: Int) {
        guard listeners[index].outgoing.count > 0 else { return }
        let result = listeners[index].outgoing.flush(fd: listeners[index].descriptor.raw)
        let replies = listeners[index].repliesWaiting
        let bytes = listeners[index].bytesWaiting
        listeners[index].repliesWaiting = 0
        listeners[index].bytesWaiting = 0
        if result.refusalErrno == Errno.inputOutput { listeners[index].allowsSegments = false }
        // Answers were counted as handled when they were made; what is left is data. Losses are told of data first,
        // since answers are few and short.
        let lost = result.droppedBusy &+ result.droppedError
        let data = max(result.sent &+ lost &- replies, 0)
        let lostData = min(lost, data)
        let busy = min(result.droppedBusy, lostData)
        engine.counters.packetsToClients &+= UInt64(truncatingIfNeeded: data &- lostData)
        engine.counters.bytesToClients &+= UInt64(truncatingIfNeeded: bytes)
        engine.counters.drop(.sendQueueFull, UInt64(truncatingIfNeeded: busy))
        engine.counters.drop(.sendFailed, UInt64(truncatingIfNeeded: lostData &- busy))
    }
}
