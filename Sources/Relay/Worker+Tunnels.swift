import LinuxIO
import OpenSSLCrypto
import STUN
import TURN

/// TCP relaying (RFC 6062): how peers' connections come and go, and how clients' are bound to them.
extension Worker {
    /// Does what the engine wants done for TCP allocations.
    mutating func settleEffects() {
        while engine.hasEffects {
            for effect in engine.takeEffects() {
                switch effect {
                case .connect(let key, let peer, let source): beginConnecting(key, to: peer, from: source)
                case .close(let key): cut(key)
                case .send(let message): deliver(message)
                }
            }
        }
    }

    private mutating func deliver(_ message: ClientMessage) {
        let route = ClientRoute(rawValue: message.listener)
        guard route.isConnection, streams.isUsed(route.connection),
            streams[route.connection].pointee.tuple == message.tuple
        else { return }
        if message.isAnswer { engine.counters.repliesSent &+= 1 }
        message.bytes.withUnsafeBytes {
            if message.isAnswer { engine.counters.control.count(answer: $0) }
            sendReply($0, connection: route.connection)
        }
    }

    // MARK: Peers

    private mutating func beginConnecting(_ key: PeerConnectionKey, to peer: Endpoint, from source: Endpoint) {
        guard streams.budget.hasRoomForTunnel else { return engine.peerConnectionFailed(key) }
        do throws(SystemCallError) {
            let descriptor = try TCPSocket.connect(to: peer.storage, from: source.storage)
            if reserve.isLast(descriptor.raw) {
                tellShortageOfPeers()
                return engine.peerConnectionFailed(key)
            }
            prepare(descriptor.raw)
            tunnels.insert(Tunnel(key, .connecting, peer: descriptor))
            if !watch(key) { engine.peerConnectionFailed(key) }
        } catch {
            if Errno.isDescriptorShortage(error.number) { tellShortageOfPeers() }
            engine.peerConnectionFailed(key)
        }
    }

    private func prepare(_ descriptor: Int32) {
        try? TCPSocket.setNoDelay(descriptor)
        try? TCPSocket.setKeepalive(descriptor, idleSeconds: 60, intervalSeconds: 15, probes: 4)
    }

    private mutating func finishConnecting(_ key: PeerConnectionKey) {
        guard TCPSocket.pendingError(tunnels[key].pointee.peer.descriptor) == 0 else {
            engine.peerConnectionFailed(key)
            return
        }
        tunnels[key].pointee.phase = .waiting
        _ = watch(key)
        engine.peerConnected(key, at: now)
    }

    /// Takes peers that have connected to a relayed address (RFC 6062 section 5.3).
    mutating func acceptPeers(_ allocation: UInt32) {
        host.nowNanoseconds = now.monotonicNanoseconds
        for isSecondary in [false, true] {
            var left = TunnelLimits.acceptsPerTurn
            while left > 0 {
                left &-= 1
                // What was to be done before may have closed the relay, or given a tunnel's number back.
                settleEffects()
                let listener = engine.relayDescriptor(of: allocation, isSecondary: isSecondary)
                guard listener >= 0 else { break }
                var source = AddressParts(high: 0, low: 0, isIPv4: true, port: 0)
                let accepted = TCPSocket.accept(listener, peer: &source)
                guard accepted >= 0 else {
                    if Errno.isDescriptorShortage(0 &- accepted) {
                        tellShortageOfPeers()
                        engine.counters.peerConnectionsRefused &+= 1
                        _ = reserve.refuse(at: listener)
                    }
                    break
                }
                let descriptor = FileDescriptor(owning: accepted)
                if reserve.isLast(accepted) {
                    tellShortageOfPeers()
                    engine.counters.peerConnectionsRefused &+= 1
                    TCPSocket.abort(descriptor)
                    continue
                }
                guard streams.budget.hasRoomForTunnel,
                    let key = engine.peerArrived(from: Endpoint(source), allocation: allocation, at: now)
                else {
                    engine.counters.peerConnectionsRefused &+= 1
                    TCPSocket.abort(descriptor)
                    continue
                }
                prepare(accepted)
                tunnels.insert(Tunnel(key, .waiting, peer: descriptor))
            }
        }
    }

    private func tellShortageOfPeers() {
        host.tell("no descriptors are left: connections of peers are refused; raise the limit on open files")
    }

    mutating func tunnelEvent(_ source: EventSource, _ events: EpollEvents) {
        let key = source.tunnel
        guard tunnels.holds(key) else { return }
        if tunnels[key].pointee.phase == .connecting {
            finishConnecting(key)
        } else {
            pump(key, isPeer: source.isTunnelPeer, events)
        }
    }

    /// Closes what the engine has ended. What the kernel has taken it still sends; where more waits, or would have
    /// come, a reset says that the stream is not whole.
    private mutating func cut(_ key: PeerConnectionKey) {
        guard tunnels.holds(key) else { return }
        let tunnel = tunnels[key]
        if !tunnel.pointee.peer.queue.isEmpty { tunnel.pointee.peer.abort() }
        if !tunnel.pointee.client.queue.isEmpty { tunnel.pointee.client.abort() }
        tunnels.remove(key)
    }

    // MARK: Clients

    /// Takes note that a connection asks to carry data. It is handed over when what it has sent behind the request is
    /// safe.
    mutating func bind(_ binding: ConnectionBinding, connection number: UInt32) {
        guard streams.isUsed(number) else { return }
        streams[number].pointee.binding = binding
        // Nothing behind the request may be taken for a frame.
        streams[number].pointee.isParked = true
    }

    /// Gives a connection to the worker that the CONNECTION-ID names, which may be this one.
    mutating func handOver(_ number: UInt32) {
        guard streams.isUsed(number), let binding = streams[number].pointee.binding else { return }
        let owner = engine.connectionIDs.owner(of: binding.id)
        // Two threads must never have a session in hand.
        guard colleagues.indices.contains(owner), streams[number].pointee.tls?.isLent != true else {
            return close(number)
        }
        streams[number].pointee.binding = nil
        // What it sealed into must not be shared by two threads.
        streams[number].pointee.tls?.use(nil)
        host.unwatch(streams[number].pointee.descriptor.raw)
        colleagues[owner].post(Handover(streams.take(number), binding))
    }

    /// Takes a connection: one that asks for a peer connection of this worker, or one that has made its TLS handshake.
    mutating func adopt(_ handover: Handover) {
        guard var connection = handover.take() else { return }
        connection.tls?.use(sealed)
        guard let binding = handover.binding else { return admit(connection) }
        settleEffects()
        engine.counters.repliesSent &+= 1
        guard let key = engine.claim(binding, at: now), tunnels.holds(key) else {
            binding.failure.withUnsafeBytes { engine.counters.control.count(answer: $0) }
            readmit(connection, binding.failure)
            return
        }
        let rest = connection.input.takeRest()
        let tls = connection.tls
        tunnels.join(key, TunnelSide(connection.descriptor.release(), connection.output), tls)
        begin(key, answer: binding.success, rest)
    }

    /// Begins with a client that has made its TLS handshake.
    private mutating func admit(_ connection: consuming StreamConnection) {
        // It was counted on its way.
        streams.budget.add(-1)
        guard streams.admits(connection.tuple.client.address) else {
            engine.counters.connectionsRefused &+= 1
            return
        }
        if let number = reopen(connection) { goOn(number) }
    }

    /// Goes on with a connection that got nothing, as the client it was before.
    private mutating func readmit(_ connection: consuming StreamConnection, _ answer: [UInt8]) {
        guard streams.admits(connection.tuple.client.address) else { return }
        connection.isParked = false
        guard let number = reopen(connection) else { return }
        answer.withUnsafeBytes { sendReply($0, connection: number) }
        if streams.isUsed(number) { goOn(number) }
    }

    /// Takes a connection in that was another thread's, with what the kernel has not taken there.
    private mutating func reopen(_ connection: consuming StreamConnection) -> UInt32? {
        connection.watched = .readable
        connection.deadlineNanoseconds = now.monotonicNanoseconds &+ StreamLimits.patienceNanoseconds
        guard let number = insert(connection) else { return nil }
        if !streams[number].pointee.output.isEmpty { noteBlocked(number) }
        return number
    }
}
