import LinuxIO
import OpenSSLCrypto
import STUN
import TURN

/// What goes through tunnels. Bytes are read into memory that all share and sent from there; only what the kernel does
/// not take is copied.
extension Worker {
    /// A client's connection has been bound: it is told so, and what it sent behind its request goes to the peer.
    mutating func begin(_ key: PeerConnectionKey, answer: [UInt8], _ rest: [UInt8]) {
        let session = tunnels[key].pointee.tls
        session?.staysOpenToWrite = true
        answer.withUnsafeBytes { send($0, toClientOf: key) }
        if !rest.isEmpty { rest.withUnsafeBytes { relay($0, toPeerOf: key) } }
        // What the session has opened already, no event will tell of.
        if let session { open(session, key) }
        readPeer(key)
        settle(key)
    }

    mutating func pump(_ key: PeerConnectionKey, isPeer: Bool, _ events: EpollEvents) {
        if events.contains(.writable) { drain(key, isPeer: isPeer) }
        if events.contains(.readable) || events.contains(.error) || events.contains(.hangUp) {
            if isPeer { readPeer(key) } else { readClient(key) }
        }
        settle(key)
    }

    /// Goes on with streams that a limit of bandwidth has held back.
    mutating func resumeThrottled() {
        guard !throttled.isEmpty, now.monotonicNanoseconds >= throttledUntilNanoseconds else { return }
        throttledUntilNanoseconds = now.monotonicNanoseconds &+ TunnelLimits.throttleNanoseconds
        let keys = throttled
        throttled.removeAll(keepingCapacity: true)
        // Whoever reads first may take all there is, so each has its turn at that: the tunnels, and the sides of each.
        throttleTurn &+= 1
        for place in keys.indices {
            let key = keys[(place &+ throttleTurn / 2) % keys.count]
            guard tunnels.holds(key) else { continue }
            tunnels[key].pointee.isThrottled = false
            if throttleTurn.isMultiple(of: 2) { readClient(key) }
            readPeer(key)
            readClient(key)
            settle(key)
        }
    }

    // MARK: In

    private mutating func readClient(_ key: PeerConnectionKey) {
        var left = TunnelLimits.readsPerTurn
        while left > 0, let bytes = read(key, isPeer: false) {
            left &-= 1
            if let session = tunnels[key].pointee.tls {
                session.receive(bytes)
                open(session, key)
            } else {
                relay(bytes, toPeerOf: key)
            }
        }
    }

    private mutating func readPeer(_ key: PeerConnectionKey) {
        var left = TunnelLimits.readsPerTurn
        while left > 0, let bytes = read(key, isPeer: true) {
            left &-= 1
            engine.countStream(key, toClient: bytes.count, now: now.monotonicNanoseconds)
            send(bytes, toClientOf: key)
        }
    }

    /// - Returns: nil when there is nothing to read now, or nothing may be read: the other side has not taken what it
    ///   was sent, or a limit of bandwidth is reached.
    private mutating func read(_ key: PeerConnectionKey, isPeer: Bool) -> UnsafeRawBufferPointer? {
        let tunnel = tunnels[key]
        guard tunnel.pointee.phase == .joined, tunnel.pointee.broken == nil, !tunnel.pointee.isThrottled else {
            return nil
        }
        let hasEnded = isPeer ? tunnel.pointee.peer.hasEnded : tunnel.pointee.client.hasEnded
        guard !hasEnded, isPeer ? tunnel.pointee.client.queue.isEmpty : tunnel.pointee.peer.queue.isEmpty else {
            return nil
        }
        let allowance = engine.streamAllowance(of: key, now: now.monotonicNanoseconds)
        guard allowance >= TunnelLimits.leastRead else {
            tunnel.pointee.isThrottled = true
            throttled.append(key)
            return nil
        }
        let room = UnsafeMutableRawBufferPointer(rebasing: streamInput[..<min(allowance, streamInput.count)])
        let descriptor = isPeer ? tunnel.pointee.peer.descriptor : tunnel.pointee.client.descriptor
        let count = TCPSocket.receive(descriptor, into: room)
        if count > 0 { return UnsafeRawBufferPointer(rebasing: room[..<count]) }
        if count == 0 {
            if isPeer { tunnel.pointee.peer.hasEnded = true } else { tunnel.pointee.client.hasEnded = true }
        } else if count != Int(0 &- Errno.tryAgain) {
            tunnel.pointee.broken = isPeer ? .peer : .client
        }
        return nil
    }

    /// Takes out of a TLS session what it holds for the peer and for the client.
    private mutating func open(_ session: TLSSession, _ key: PeerConnectionKey) {
        while tunnels[key].pointee.broken == nil {
            let count = session.read(into: streamPlain)
            guard count > 0 else { break }
            relay(UnsafeRawBufferPointer(rebasing: streamPlain[..<count]), toPeerOf: key)
        }
        seal(session, key)
        if session.hasHeardClose { tunnels[key].pointee.client.hasEnded = true }
        if session.state == .failed, tunnels[key].pointee.broken == nil { tunnels[key].pointee.broken = .client }
    }

    // MARK: Out

    private mutating func relay(_ bytes: UnsafeRawBufferPointer, toPeerOf key: PeerConnectionKey) {
        engine.countStream(key, toPeer: bytes.count, now: now.monotonicNanoseconds)
        let tunnel = tunnels[key]
        switch tunnel.pointee.peer.queue.send(bytes, on: tunnel.pointee.peer.descriptor) {
        case .written, .queued: break
        case .full, .failed: tunnel.pointee.broken = .peer
        }
    }

    private mutating func send(_ bytes: UnsafeRawBufferPointer, toClientOf key: PeerConnectionKey) {
        let tunnel = tunnels[key]
        if let session = tunnel.pointee.tls {
            if session.write(bytes) { seal(session, key) } else { tunnel.pointee.broken = .client }
            return
        }
        switch tunnel.pointee.client.queue.send(bytes, on: tunnel.pointee.client.descriptor) {
        case .written, .queued: break
        case .full, .failed: tunnel.pointee.broken = .client
        }
    }

    /// Hands ciphertext to the client's connection.
    private mutating func seal(_ session: TLSSession, _ key: PeerConnectionKey) {
        let tunnel = tunnels[key]
        var acceptance = SendQueue.Acceptance.written
        session.takeOutput { bytes in
            acceptance = tunnel.pointee.client.queue.send(bytes, on: tunnel.pointee.client.descriptor)
            return bytes.count
        }
        switch acceptance {
        case .written, .queued: break
        // A record that is left out makes those behind it unreadable.
        case .full, .failed: tunnel.pointee.broken = .client
        }
    }

    /// Sends what waits for one side, and then reads the other again, for which no event need come.
    private mutating func drain(_ key: PeerConnectionKey, isPeer: Bool) {
        let tunnel = tunnels[key]
        let progress =
            isPeer
            ? tunnel.pointee.peer.queue.flush(tunnel.pointee.peer.descriptor)
            : tunnel.pointee.client.queue.flush(tunnel.pointee.client.descriptor)
        switch progress {
        case .drained: if isPeer { readClient(key) } else { readPeer(key) }
        case .blocked: break
        case .failed: tunnel.pointee.broken = isPeer ? .peer : .client
        }
    }

    // MARK: Ends

    /// Draws the conclusions: passes an end on, closes what is over, and watches for what the tunnel waits for.
    private mutating func settle(_ key: PeerConnectionKey) {
        let tunnel = tunnels[key]
        switch tunnel.pointee.broken {
        case .peer:
            guard tunnel.pointee.client.queue.isEmpty else { break }
            tunnel.pointee.client.abort()
            return finish(key)
        case .client:
            guard tunnel.pointee.peer.queue.isEmpty else { break }
            tunnel.pointee.peer.abort()
            return finish(key)
        case nil:
            passOnEnds(key)
            if tunnel.pointee.broken != nil { return settle(key) }
            if tunnel.pointee.peer.isShut, tunnel.pointee.client.isShut { return finish(key) }
        }
        if !watch(key) {
            tunnel.pointee.peer.abort()
            tunnel.pointee.client.abort()
            finish(key)
        }
    }

    /// A side that will send nothing more may still be sent to: its end goes to the other side behind what it sent.
    private mutating func passOnEnds(_ key: PeerConnectionKey) {
        let tunnel = tunnels[key]
        if tunnel.pointee.client.hasEnded, tunnel.pointee.peer.queue.isEmpty, !tunnel.pointee.peer.isShut {
            try? TCPSocket.shutdownWriting(tunnel.pointee.peer.descriptor)
            tunnel.pointee.peer.isShut = true
        }
        guard tunnel.pointee.peer.hasEnded, !tunnel.pointee.client.isShut else { return }
        if let session = tunnel.pointee.tls {
            session.shutdown()
            seal(session, key)
        }
        guard tunnel.pointee.client.queue.isEmpty else { return }
        try? TCPSocket.shutdownWriting(tunnel.pointee.client.descriptor)
        tunnel.pointee.client.isShut = true
    }

    private mutating func finish(_ key: PeerConnectionKey) {
        engine.peerConnectionEnded(key)
        tunnels.remove(key)
    }

    /// Has epoll watch for what the tunnel waits for. A side that is not watched at all cannot be told of again and
    /// again.
    /// - Returns: false where the kernel refuses to.
    mutating func watch(_ key: PeerConnectionKey) -> Bool {
        let tunnel = tunnels[key]
        var peer: EpollEvents = tunnel.pointee.phase == .connecting ? .writable : []
        var client: EpollEvents = []
        if tunnel.pointee.phase == .joined, tunnel.pointee.broken == nil, !tunnel.pointee.isThrottled {
            if !tunnel.pointee.peer.hasEnded, tunnel.pointee.client.queue.isEmpty { peer.insert(.readable) }
            if !tunnel.pointee.client.hasEnded, tunnel.pointee.peer.queue.isEmpty { client.insert(.readable) }
        }
        if !tunnel.pointee.peer.queue.isEmpty, tunnel.pointee.broken != .peer { peer.insert(.writable) }
        if !tunnel.pointee.client.queue.isEmpty, tunnel.pointee.broken != .client { client.insert(.writable) }
        return host.watch(&tunnel.pointee.peer, for: peer, .tunnel(key, isPeer: true))
            && host.watch(&tunnel.pointee.client, for: client, .tunnel(key, isPeer: false))
    }
}

extension WorkerHost {
    /// - Returns: false where the kernel refuses to watch.
    fileprivate func watch(_ side: inout TunnelSide, for events: EpollEvents, _ source: EventSource) -> Bool {
        guard events != side.watched else { return true }
        let wasWatched = side.watched != []
        side.watched = events
        if events == [] {
            unwatch(side.descriptor)
        } else if wasWatched {
            rewatch(side.descriptor, events, source)
        } else {
            do throws(SystemCallError) {
                try watch(side.descriptor, source, events)
            } catch {
                tell("cannot watch connections: \(error); raise the limit on epoll watches")
                return false
            }
        }
        return true
    }
}
