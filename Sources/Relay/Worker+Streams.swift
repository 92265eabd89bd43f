import LinuxIO
import OpenSSLCrypto
import STUN
import TURN

/// Clients by TCP.
extension Worker {
    // MARK: Coming and going

    mutating func accept(_ number: Int) {
        guard number < streamListenerCount else { return }
        let listener = streamListeners + number
        var left = StreamLimits.acceptsPerTurn
        while left > 0 {
            left &-= 1
            var peer = AddressParts(high: 0, low: 0, isIPv4: true, port: 0)
            let accepted = TCPSocket.accept(listener.pointee.descriptor.raw, peer: &peer)
            if accepted < 0 {
                if Errno.isDescriptorShortage(0 &- accepted) { refuseForShortage(listener.pointee.descriptor.raw) }
                return
            }
            let descriptor = FileDescriptor(owning: accepted)
            let client = Endpoint(peer)
            engine.counters.connectionsAccepted &+= 1
            let isTLS = listener.pointee.isTLS
            guard streams.admits(client.address), PeerPolicy.acceptsClient(at: client.address),
                !isTLS || streams.handshaking < StreamLimits.handshakes,
                let server = try? Endpoint(TCPSocket.localAddress(accepted)),
                let session = newSession(isTLS)
            else {
                engine.counters.connectionsRefused &+= 1
                TCPSocket.abort(descriptor)
                continue
            }
            try? TCPSocket.setNoDelay(accepted)
            try? TCPSocket.setKeepalive(accepted, idleSeconds: 60, intervalSeconds: 15, probes: 4)
            let connection = StreamConnection(
                descriptor,
                FiveTuple(client: client, server: server, transport: isTLS ? .tls : .tcp),
                tls: session.tls,
                nowNanoseconds: now.monotonicNanoseconds,
                deadlineNanoseconds: now.monotonicNanoseconds &+ StreamLimits.patienceNanoseconds
            )
            let number = streams.insert(connection)
            do throws(SystemCallError) {
                try host.watch(accepted, .connection(number))
            } catch {
                host.tell("cannot watch connections: \(error); raise the limit on epoll watches")
                streams.remove(number)
            }
        }
    }

    private struct NewSession {
        let tls: TLSSession?
    }

    /// - Returns: nil where TLS is wanted and cannot be had.
    private func newSession(_ isTLS: Bool) -> NewSession? {
        guard isTLS else { return NewSession(tls: nil) }
        guard let certificate, let session = try? TLSSession(certificate) else { return nil }
        return NewSession(tls: session)
    }

    /// No descriptor is left: the connection that waits is taken with the one kept for this, and closed, or epoll would tell
    /// of it for ever (case RE-03).
    private mutating func refuseForShortage(_ listener: Int32) {
        engine.counters.connectionsRefused &+= 1
        host.tell("no descriptors are left: connections are refused; raise the limit on open files")
        _ = reserve.refuse(at: listener)
    }

    /// Ends a connection and what its client held.
    mutating func close(_ number: UInt32) {
        guard streams.isUsed(number) else { return }
        host.nowNanoseconds = now.monotonicNanoseconds
        flushPeers()
        engine.disconnect(streams[number].pointee.tuple, at: now)
        streams.remove(number)
    }

    /// Sends what waits and then ends; at once where nothing does.
    private mutating func finish(_ number: UInt32) {
        let stream = streams[number]
        host.nowNanoseconds = now.monotonicNanoseconds
        engine.disconnect(stream.pointee.tuple, at: now)
        if let session = stream.pointee.tls {
            session.shutdown()
            guard seal(session, number) else { return }
        }
        guard !stream.pointee.output.isEmpty else {
            close(number)
            return
        }
        stream.pointee.isFinishing = true
        stream.pointee.deadlineNanoseconds = now.monotonicNanoseconds &+ StreamLimits.patienceNanoseconds
        rewatch(number)
    }

    // MARK: In

    mutating func connectionEvent(_ number: UInt32, _ events: EpollEvents) {
        guard streams.isUsed(number) else { return }
        if events.contains(.writable) { drain(number) }
        guard streams.isUsed(number), !streams[number].pointee.isFinishing else { return }
        if streams[number].pointee.isParked {
            // It is not read from, so epoll would tell of its end again and again.
            if events.contains(.error) || events.contains(.hangUp) { close(number) }
            return
        }
        if events.contains(.readable) || events.contains(.error) || events.contains(.hangUp) { read(number) }
    }

    private mutating func read(_ number: UInt32) {
        if streams[number].pointee.isHandshaking {
            // epoll tells again of those whose turn has not come.
            guard handshakesLeft > 0 else { return }
            handshakesLeft &-= 1
        }
        var left = StreamLimits.readsPerTurn
        while left > 0, streams.isUsed(number), !streams[number].pointee.isParked {
            left &-= 1
            let count = TCPSocket.receive(streams[number].pointee.descriptor.raw, into: streamInput)
            if count == 0 {
                finish(number)
                return
            }
            if count < 0 {
                if count != Int(0 &- Errno.tryAgain) { close(number) }
                return
            }
            let bytes = UnsafeRawBufferPointer(rebasing: streamInput[..<count])
            if let session = streams[number].pointee.tls {
                session.receive(bytes)
                open(session, number)
            } else {
                consume(number, bytes)
            }
            if count < streamInput.count { return }
        }
    }

    /// Takes out of a TLS session what it holds for us and for the client.
    private mutating func open(_ session: TLSSession, _ number: UInt32) {
        while streams.isUsed(number), !streams[number].pointee.isParked {
            let count = session.read(into: streamPlain)
            guard count > 0 else { break }
            consume(number, UnsafeRawBufferPointer(rebasing: streamPlain[..<count]))
        }
        guard streams.isUsed(number) else { return }
        let stream = streams[number]
        if stream.pointee.isHandshaking, session.state == .established {
            stream.pointee.isHandshaking = false
            streams.handshaking -= 1
            stream.pointee.deadlineNanoseconds = now.monotonicNanoseconds &+ StreamLimits.patienceNanoseconds
        }
        guard seal(session, number) else { return }
        if session.state == .closed || session.state == .failed { finish(number) }
    }

    /// Hands ciphertext to the connection.
    /// - Returns: false when that has closed it.
    private mutating func seal(_ session: TLSSession, _ number: UInt32) -> Bool {
        let stream = streams[number]
        var acceptance = SendQueue.Acceptance.written
        session.takeOutput { bytes in
            acceptance = stream.pointee.output.send(bytes, on: stream.pointee.descriptor.raw)
            return bytes.count
        }
        settle(acceptance, number)
        return streams.isUsed(number)
    }

    /// Handles the frames in what was kept and in `input`.
    private mutating func consume(_ number: UInt32, _ input: UnsafeRawBufferPointer) {
        let route = ClientRoute(connection: number)
        let stream = streams[number]
        let tuple = stream.pointee.tuple
        let wide = engine.configuration.acceptsWideChannels
        var rest = input
        frames: while !stream.pointee.isParked {
            switch stream.pointee.input.next(&rest, acceptsWideChannels: wide) {
            case .incomplete:
                break frames
            case .desynchronised:
                // Where the next frame would begin is unknown (case TF-05). Nothing is said: whoever sends this is no client.
                engine.counters.packetsIn &+= 1
                engine.counters.drop(.desynchronised)
                close(number)
                return
            case .frame(let frame):
                engine.counters.packetsIn &+= 1
                engine.counters.bytesIn &+= UInt64(truncatingIfNeeded: frame.count)
                stream.pointee.deadlineNanoseconds = now.monotonicNanoseconds &+ StreamLimits.patienceNanoseconds
                if frame[0] & 0xC0 == 0x40 {
                    let allocation = engine.allocation(of: tuple)
                    settle(
                        engine.channelData(frame, allocation: allocation, now: now.monotonicNanoseconds),
                        frame,
                        tuple,
                        route
                    )
                } else {
                    receiveMessage(frame, tuple, route)
                }
                // An answer that did not fit has closed the connection.
                guard streams.isUsed(number) else { return }
            }
        }
        // Data on its way to peers lies where it was received.
        flushPeers()
        let wasWhole = stream.pointee.input.count == 0
        stream.pointee.input.keep(rest)
        // Half a frame has so long to become a whole one, however slowly it comes.
        // Without an allocation the deadline is that of the connection, which no half frame moves (case RE-05).
        if wasWhole, stream.pointee.input.count > 0, engine.allocation(of: tuple) != noIndex {
            stream.pointee.deadlineNanoseconds = now.monotonicNanoseconds &+ StreamLimits.patienceNanoseconds
        }
    }

    /// Goes on after the account store has answered: with the request that waited, and with what came behind it.
    mutating func resume(_ request: ParkedRequest) {
        let number = request.route.connection
        guard streams.isUsed(number), streams[number].pointee.tuple == request.tuple else {
            engine.counters.drop(.clientGone)
            return
        }
        streams[number].pointee.isParked = false
        request.bytes.withUnsafeBytes { receiveMessage($0, request.tuple, request.route) }
        guard streams.isUsed(number), !streams[number].pointee.isParked else { return }
        consume(number, UnsafeRawBufferPointer(start: nil, count: 0))
        guard streams.isUsed(number), !streams[number].pointee.isParked else { return }
        if let session = streams[number].pointee.tls { open(session, number) }
        if streams.isUsed(number) { rewatch(number) }
    }

    mutating func park(connection number: UInt32) {
        streams[number].pointee.isParked = true
        rewatch(number)
    }

    // MARK: Out

    /// Sends an answer. A client that leaves no room for one does not read, and is closed.
    mutating func sendReply(_ bytes: UnsafeRawBufferPointer, connection number: UInt32) {
        guard streams.isUsed(number) else { return }
        let stream = streams[number]
        if let session = stream.pointee.tls {
            if session.write(bytes) { _ = seal(session, number) } else { close(number) }
            return
        }
        settle(stream.pointee.output.send(bytes, on: stream.pointee.descriptor.raw), number)
    }

    /// Sends frames that lie in `streamParts`, all or none, and empties it.
    mutating func flushStreamParts(_ number: UInt32) {
        guard streamPartCount > 0 else { return }
        let packets = UInt64(truncatingIfNeeded: streamPacketCount)
        let bytes = UInt64(truncatingIfNeeded: streamByteCount)
        let parts = UnsafeBufferPointer(start: streamParts, count: streamPartCount)
        streamPartCount = 0
        streamPacketCount = 0
        streamByteCount = 0
        guard streams.isUsed(number), !streams[number].pointee.isFinishing else {
            engine.counters.drop(.clientGone, packets)
            return
        }
        let stream = streams[number]
        // Data leaves room for answers: on a slow line it fills the queue, and a Refresh must get through all the same.
        guard
            stream.pointee.output.count <= SendQueue.limitBytes - StreamLimits.replyReserveBytes
                - StreamLimits.bytesPerSend,
            stream.pointee.output.isEmpty || streams.budget.hasQueueRoom
        else {
            engine.counters.drop(.sendQueueFull, packets)
            return
        }
        let acceptance =
            if let session = stream.pointee.tls {
                send(parts, by: session, number)
            } else {
                stream.pointee.output.send(parts, on: stream.pointee.descriptor.raw)
            }
        switch acceptance {
        case .written:
            engine.counters.packetsToClients &+= packets
            engine.counters.bytesToClients &+= bytes
        case .queued:
            engine.counters.packetsToClients &+= packets
            engine.counters.bytesToClients &+= bytes
            noteBlocked(number)
        case .full:
            engine.counters.drop(.sendQueueFull, packets)
        case .failed:
            engine.counters.drop(.sendFailed, packets)
            close(number)
        }
    }

    /// Seals frames into records. Nothing is sealed that the queue has no room for, since a record cannot be left out.
    private mutating func send(
        _ parts: UnsafeBufferPointer<UnsafeRawBufferPointer>,
        by session: TLSSession,
        _ number: UInt32
    ) -> SendQueue.Acceptance {
        let stream = streams[number]
        guard stream.pointee.output.count &+ 2 &* StreamLimits.bytesPerSend < SendQueue.limitBytes else { return .full }
        var used = 0
        for part in parts {
            if used &+ part.count > streamPlain.count {
                guard session.write(UnsafeRawBufferPointer(rebasing: streamPlain[..<used])) else { return .failed(0) }
                used = 0
            }
            UnsafeMutableRawBufferPointer(rebasing: streamPlain[used..<(used &+ part.count)]).copyMemory(from: part)
            used &+= part.count
        }
        guard session.write(UnsafeRawBufferPointer(rebasing: streamPlain[..<used])) else { return .failed(0) }
        var acceptance = SendQueue.Acceptance.written
        session.takeOutput { bytes in
            acceptance = stream.pointee.output.send(bytes, on: stream.pointee.descriptor.raw)
            return bytes.count
        }
        // Sealed and not sent: the records that follow could not be opened.
        return acceptance == .full ? .failed(0) : acceptance
    }

    private mutating func settle(_ acceptance: SendQueue.Acceptance, _ number: UInt32) {
        switch acceptance {
        case .written: break
        case .queued: noteBlocked(number)
        case .full, .failed: close(number)
        }
    }

    private mutating func noteBlocked(_ number: UInt32) {
        let stream = streams[number]
        if stream.pointee.blockedSinceNanoseconds == .max {
            stream.pointee.blockedSinceNanoseconds = now.monotonicNanoseconds
        }
        streams.noteQueue(number)
        rewatch(number)
    }

    private mutating func drain(_ number: UInt32) {
        let stream = streams[number]
        let before = stream.pointee.output.count
        switch stream.pointee.output.flush(stream.pointee.descriptor.raw) {
        case .drained:
            streams.noteQueue(number)
            stream.pointee.blockedSinceNanoseconds = .max
            if stream.pointee.isFinishing { close(number) } else { rewatch(number) }
        case .blocked:
            if stream.pointee.output.count < before {
                stream.pointee.blockedSinceNanoseconds = now.monotonicNanoseconds
            }
        case .failed:
            close(number)
        }
    }

    /// Has epoll watch for what the connection waits for.
    private mutating func rewatch(_ number: UInt32) {
        let stream = streams[number]
        var wanted: EpollEvents = []
        if !stream.pointee.isParked, !stream.pointee.isFinishing { wanted.insert(.readable) }
        if !stream.pointee.output.isEmpty { wanted.insert(.writable) }
        guard wanted != stream.pointee.watched else { return }
        stream.pointee.watched = wanted
        host.rewatch(stream.pointee.descriptor.raw, wanted, .connection(number))
    }
}
