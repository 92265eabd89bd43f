import LinuxIO
import OpenSSLCrypto
import STUN
import TURN

/// Clients by TCP: their connections, and what they send.
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
            if reserve.isLast(accepted) {
                tellShortage()
                TCPSocket.abort(descriptor)
                continue
            }
            guard streams.admits(client.address), PeerPolicy.acceptsClient(at: client.address),
                let tuple = listener.pointee.prepare(accepted, client: client)
            else {
                engine.counters.connectionsRefused &+= 1
                TCPSocket.abort(descriptor)
                continue
            }
            let moment = now.monotonicNanoseconds
            _ = insert(StreamConnection(descriptor, tuple, tls: nil, nowNanoseconds: moment))
        }
    }

    /// Takes a connection of a source that may have one more.
    /// - Returns: nil where it cannot be watched, and is closed.
    mutating func insert(_ connection: consuming StreamConnection) -> UInt32? {
        let descriptor = connection.descriptor.raw
        let number = streams.insert(connection)
        do throws(SystemCallError) {
            try host.watch(descriptor, .connection(number))
            return number
        } catch {
            host.tell("cannot watch connections: \(error); raise the limit on epoll watches")
            streams.remove(number)
            return nil
        }
    }

    /// No descriptor is left: the connection that waits is taken with the one kept for this, and closed, or epoll would
    /// tell of it for ever (case RE-03).
    private mutating func refuseForShortage(_ listener: Int32) {
        tellShortage()
        _ = reserve.refuse(at: listener)
    }

    private mutating func tellShortage() {
        engine.counters.connectionsRefused &+= 1
        host.tell("no descriptors are left: connections are refused; raise the limit on open files")
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
                // What a parked request leaves of it is kept by the session.
                session.receive(lending: bytes) { open($0, number) }
            } else {
                consume(number, bytes)
            }
            if handOverIfBound(number) || count < streamInput.count { return }
        }
    }

    /// Only here, where nothing reads from the connection any more: whoever gets it is another thread.
    /// - Returns: whether it is gone.
    private mutating func handOverIfBound(_ number: UInt32) -> Bool {
        guard streams.isUsed(number), streams[number].pointee.binding != nil else { return false }
        handOver(number)
        return true
    }

    /// Takes out of a TLS session what it holds for us and for the client.
    private mutating func open(_ session: TLSSession, _ number: UInt32) {
        while streams.isUsed(number), !streams[number].pointee.isParked {
            let count = session.read(into: streamPlain)
            guard count > 0 else { break }
            consume(number, UnsafeRawBufferPointer(rebasing: streamPlain[..<count]))
            // A record never holds more than fits, so without ciphertext there is none to ask for.
            guard session.hasInput else { break }
        }
        guard streams.isUsed(number) else { return }
        guard seal(session, number) else { return }
        if session.state == .closed || session.state == .failed { finish(number) }
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
                // Where the next frame would begin is unknown (case TF-05). Nothing is said: whoever sends this is no
                // client.
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
        guard stream.pointee.binding == nil else { return }
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
        request.bytes.withUnsafeBytes { give($0, request.tuple, request.route) }
        guard streams.isUsed(number), !handOverIfBound(number) else { return }
        if !streams[number].pointee.isParked { goOn(number) }
    }

    /// Goes on with what a connection has sent already.
    mutating func goOn(_ number: UInt32) {
        consume(number, UnsafeRawBufferPointer(start: nil, count: 0))
        guard streams.isUsed(number), !handOverIfBound(number), !streams[number].pointee.isParked else { return }
        if let session = streams[number].pointee.tls { open(session, number) }
        if streams.isUsed(number), !handOverIfBound(number) { rewatch(number) }
    }

    mutating func park(connection number: UInt32) {
        streams[number].pointee.isParked = true
        rewatch(number)
    }
}
