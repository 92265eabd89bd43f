import STUN
import Synchronization

/// The peer connections of TCP allocations: how they come, wait and end (RFC 6062 section 5).
extension Engine {
    /// Whether `takeEffects` has something to give.
    package var hasEffects: Bool { !effects.isEmpty }

    /// What is to be done, in order. To be asked after every call that may have changed a TCP allocation.
    package mutating func takeEffects() -> [StreamEffect] {
        defer { effects.removeAll(keepingCapacity: effects.capacity <= 64) }
        return effects
    }

    /// Whether the host's connection is still the one the engine means.
    package func isCurrent(_ key: PeerConnectionKey) -> Bool {
        peerConnectionByID[key.id] == key.number
    }

    /// The peer has taken the connection that `.connect` asked for.
    package mutating func peerConnected(_ key: PeerConnectionKey, at moment: Moment) {
        guard isCurrent(key), peerConnections[key.number].pointee.phase == .connecting else { return }
        let connection = peerConnections[key.number]
        connection.pointee.phase = .waiting
        connection.pointee.deadlineNanoseconds = moment.after(seconds: Limits.claimSeconds)
        schedule(connection.pointee.allocation, noLaterThan: connection.pointee.deadlineNanoseconds)
        if let answers = connectAnswers.removeValue(forKey: key.number) {
            send(answers.success, toClientOf: connection.pointee.allocation, isAnswer: true)
        }
    }

    /// It has not, or the connection could not be begun.
    package mutating func peerConnectionFailed(_ key: PeerConnectionKey) {
        guard isCurrent(key) else { return }
        end(key.number)
    }

    /// A peer has connected to a relayed address (RFC 6062 section 5.3).
    /// - Parameter source: as the kernel tells it.
    /// - Returns: nil where nobody permitted it, or there is no room: it is to be closed at once.
    package mutating func peerArrived(
        from source: Endpoint,
        allocation index: UInt32,
        at moment: Moment
    ) -> PeerConnectionKey? {
        guard configuration.relaysTCP, Int(index) < allocations.everUsed, allocations[index].pointee.isLive,
            allocations[index].pointee.isStream
        else { return nil }
        let peer = ownHost.canonicalSource(source)
        let permission = permission(index, peer.address)
        guard permission != noIndex,
            permissions[permission].pointee.expiryNanoseconds > moment.monotonicNanoseconds, mayConnect(peer)
        else { return nil }
        let deadline = moment.after(seconds: Limits.claimSeconds)
        guard let key = insertPeerConnection(peer, on: index, .waiting, deadline) else { return nil }
        schedule(index, noLaterThan: deadline)
        send(connectionAttempt(from: peer, key.id), toClientOf: index, isAnswer: false)
        return key
    }

    /// Gives a peer connection to the client's that asks for it.
    /// - Returns: nil unless it waits, and waits for this user.
    package mutating func claim(_ binding: ConnectionBinding, at moment: Moment) -> PeerConnectionKey? {
        guard let number = peerConnectionByID[binding.id] else { return nil }
        let connection = peerConnections[number]
        let allocation = allocations[connection.pointee.allocation]
        guard connection.pointee.phase == .waiting,
            connection.pointee.deadlineNanoseconds > moment.monotonicNanoseconds,
            users.name(allocation.pointee.user) == binding.user,
            isFresh(binding.borrowedNonce, of: allocation.pointee.tuple, at: moment)
        else { return nil }
        connection.pointee.phase = .bound
        connection.pointee.deadlineNanoseconds = .max
        allocation.pointee.unboundPeerConnections -= 1
        return PeerConnectionKey(number: number, id: binding.id)
    }

    /// Whether a nonce, if there is one to check, was made for that client, and not too long ago.
    private func isFresh(_ nonce: [UInt8]?, of tuple: FiveTuple, at moment: Moment) -> Bool {
        guard let nonce else { return true }
        return nonce.withUnsafeBytes {
            Nonce.check(
                $0,
                from: tuple.client,
                wallSeconds: moment.wallSeconds,
                lifetimeSeconds: configuration.nonceLifetimeSeconds,
                keys: configuration.nonceKeys,
                with: cryptography
            ) == .fresh
        }
    }

    /// The host has closed it, since both sides have said all or one has broken.
    package mutating func peerConnectionEnded(_ key: PeerConnectionKey) {
        guard isCurrent(key) else { return }
        removePeerConnection(key.number)
    }

    // MARK: What it carries

    /// How many bytes may be read now from either side for the other; `.max` for as many as there are. What does not
    /// pass yet stays where it is, since a stream can lose nothing.
    package func streamAllowance(of key: PeerConnectionKey, now: UInt64) -> Int {
        guard isCurrent(key) else { return 0 }
        let slot = allocations[peerConnections[key.number].pointee.allocation]
        guard slot.pointee.isLimited else { return .max }
        var free = slot.pointee.bandwidth.bytesFree(fullAtTicks: slot.pointee.fullAtTicks, now: now)
        let total = totalFullAtTicks.pointee.load(ordering: .relaxed)
        free = min(free, totalBandwidth.bytesFree(fullAtTicks: total, now: now))
        return Int(clamping: free)
    }

    /// Counts bytes that have been taken from one side for the other.
    package mutating func countStream(_ key: PeerConnectionKey, toPeer: Int = 0, toClient: Int = 0, now: UInt64) {
        let out = UInt64(clamping: toPeer)
        let back = UInt64(clamping: toClient)
        counters.streamBytesToPeers &+= out
        counters.streamBytesToClients &+= back
        guard isCurrent(key) else { return }
        let slot = allocations[peerConnections[key.number].pointee.allocation]
        slot.pointee.traffic.bytesToPeers &+= out
        slot.pointee.traffic.bytesToClient &+= back
        if slot.pointee.isLimited { charge(out &+ back, to: slot, now: now) }
    }

    // MARK: The table

    func peerConnection(of index: UInt32, _ peer: Endpoint) -> UInt32 {
        var current = allocations[index].pointee.firstPeerConnection
        while current != noIndex {
            if peerConnections[current].pointee.peer == peer { return current }
            current = peerConnections[current].pointee.next
        }
        return noIndex
    }

    mutating func insertPeerConnection(
        _ peer: Endpoint,
        on index: UInt32,
        _ phase: PeerConnection.Phase,
        _ deadline: UInt64
    ) -> PeerConnectionKey? {
        let slot = allocations[index]
        guard slot.pointee.peerConnectionCount < Limits.peerConnectionsPerAllocation,
            slot.pointee.unboundPeerConnections < Limits.unboundPeerConnectionsPerAllocation,
            peerConnections.count < peerConnections.capacity, let id = newConnectionID()
        else { return nil }
        let user = users.name(slot.pointee.user)
        let limit = Limits.peerConnectionsPerUser
        guard connectionQuota.reserve(user, userLimit: limit, totalLimit: 0) == .granted else { return nil }
        let record = PeerConnection(
            peer: peer,
            allocation: index,
            next: slot.pointee.firstPeerConnection,
            id: id,
            phase: phase,
            deadlineNanoseconds: deadline
        )
        guard let number = peerConnections.insert(record) else {
            connectionQuota.release(user)
            return nil
        }
        slot.pointee.firstPeerConnection = number
        slot.pointee.peerConnectionCount += 1
        slot.pointee.unboundPeerConnections += 1
        peerConnectionByID[id] = number
        counters.peerConnectionsMade &+= 1
        return PeerConnectionKey(number: number, id: id)
    }

    /// Ends peer connections whose time has passed, or all of them, or those of one family, or those the policy denies.
    mutating func sweepPeerConnections(of index: UInt32, where isOver: (PeerConnection) -> Bool) {
        var current = allocations[index].pointee.firstPeerConnection
        while current != noIndex {
            let record = peerConnections[current].pointee
            if isOver(record) { end(current) }
            current = record.next
        }
    }

    /// Closes it at the host, and tells the client where it waits for an answer.
    private mutating func end(_ number: UInt32) {
        let connection = peerConnections[number].pointee
        effects.append(.close(PeerConnectionKey(number: number, id: connection.id)))
        if let answers = connectAnswers.removeValue(forKey: number) {
            send(answers.failure, toClientOf: connection.allocation, isAnswer: true)
        }
        removePeerConnection(number)
    }

    private mutating func removePeerConnection(_ number: UInt32) {
        let record = peerConnections[number].pointee
        let slot = allocations[record.allocation]
        if slot.pointee.firstPeerConnection == number {
            slot.pointee.firstPeerConnection = record.next
        } else {
            var previous = slot.pointee.firstPeerConnection
            while previous != noIndex, peerConnections[previous].pointee.next != number {
                previous = peerConnections[previous].pointee.next
            }
            if previous != noIndex { peerConnections[previous].pointee.next = record.next }
        }
        slot.pointee.peerConnectionCount -= 1
        if record.phase != .bound { slot.pointee.unboundPeerConnections -= 1 }
        connectAnswers[number] = nil
        peerConnectionByID[record.id] = nil
        connectionQuota.release(users.name(slot.pointee.user))
        peerConnections.remove(number)
    }

    /// A number nobody can guess: within the 30 seconds it is good for, whoever knew it could take the connection.
    private func newConnectionID() -> UInt32? {
        for _ in 0..<Limits.connectionIDTries {
            var random: UInt32 = 0
            withUnsafeMutableBytes(of: &random) { cryptography.random($0) }
            if let id = connectionIDs.make(from: random), peerConnectionByID[id] == nil { return id }
        }
        return nil
    }

    private mutating func send(_ bytes: [UInt8], toClientOf index: UInt32, isAnswer: Bool) {
        let slot = allocations[index]
        effects.append(
            .send(
                ClientMessage(
                    listener: slot.pointee.listener,
                    tuple: slot.pointee.tuple,
                    bytes: bytes,
                    isAnswer: isAnswer
                )
            )
        )
    }

    /// ConnectionAttempt (RFC 6062 section 5.3).
    private func connectionAttempt(from peer: Endpoint, _ id: UInt32) -> [UInt8] {
        var random = (UInt64(0), UInt32(0))
        withUnsafeMutableBytes(of: &random) { cryptography.random($0) }
        var bytes = [UInt8](repeating: 0, count: 64)
        let length = bytes.withUnsafeMutableBytes { buffer in
            var builder = MessageBuilder(
                MessageType(.connectionAttempt, .indication),
                TransactionID(high: random.0, low: random.1),
                into: buffer
            )
            builder.append(.connectionID, id)
            builder.append(.xorPeerAddress, xor: peer)
            return builder.finish() ?? 0
        }
        bytes.removeLast(bytes.count - length)
        return bytes
    }
}
