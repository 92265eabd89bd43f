import DataChannels
import OpenSSLCrypto
import Traversal

extension PeerLink: PathUser {
    func receiveCheck(_ bytes: UnsafeRawBufferPointer, on base: ICEBase, from source: Endpoint) -> Bool {
        var isTaken = false
        ice { agent, now, actions in
            isTaken = agent.receive(bytes, on: base, from: source, now: now, into: &actions)
        }
        return isTaken
    }

    var isSecure: Bool { dtls?.state == .established }

    func noteUnreachable(_ peer: Endpoint, from base: ICEBase) {
        if agent.noteUnreachable(peer, from: base) { noteDeadlineMoved() }
    }

    func noteStream(isOpen: Bool, with peer: Endpoint, on base: ICEBase) {
        if isOpen { return agent.noteConnected(peer, on: base, now: now) }
        ice { agent, now, actions in agent.noteDisconnected(peer, from: base, now: now, into: &actions) }
    }

    func receiveRecord(_ bytes: UnsafeRawBufferPointer, on base: ICEBase, from source: Endpoint) -> Bool {
        guard let dtls, phase != .ended else { return false }
        if dtls.state == .handshaking, wantsEnvelopes, Self.isOfHandshake(bytes) { return false }
        return take(bytes, on: base, from: source, isForHandshake: dtls.state == .handshaking)
    }

    func receiveEnvelope(_ record: UnsafeRawBufferPointer, on base: ICEBase, from source: Endpoint) {
        guard dtls != nil, phase != .ended else { return }
        _ = take(record, on: base, from: source, isForHandshake: true)
    }

    private func take(
        _ bytes: UnsafeRawBufferPointer,
        on base: ICEBase,
        from source: Endpoint,
        isForHandshake: Bool
    ) -> Bool {
        // A peer that has moved is heard by its new path while nothing reaches it by this side's.
        let isByPath = agent.path.map { $0.base == base && $0.remote == source } ?? false
        let isHeard = isByPath || unanswered.isFull && !agent.isInDoubt
        let isTaken = open(bytes, isForHandshake: isForHandshake, isAnswer: isHeard)
        if isTaken, agent.noteReceived(on: base, from: source, now: now) { noteDeadlineMoved() }
        settle()
        return isTaken
    }

    /// - Parameter isAnswer: whether it shows that what was sent arrives.
    /// - Returns: whether it was of this connection.
    func open(_ bytes: UnsafeRawBufferPointer, isForHandshake: Bool, isAnswer: Bool = false) -> Bool {
        guard let dtls else { return false }
        var isTaken = isForHandshake
        var count: Int
        if isForHandshake {
            dtls.receive(bytes)
            noteDeadlineMoved()
            count = dtls.read(into: context.opened)
        } else {
            count = dtls.open(bytes, into: context.opened)
        }
        while count > 0 {
            isTaken = true
            // What never went the peer does not have, whatever it says.
            if isAnswer, !isUnsent { unanswered.clear() }
            becomeSecure()
            association?.receive(UnsafeRawBufferPointer(rebasing: context.opened[..<count]))
            count = dtls.read(into: context.opened)
        }
        return isTaken || dtls.state != .established
    }

    /// The first path is there: the client's end begins (RFC 8842 section 5.3), and what waited goes.
    func beginHandshake() {
        guard agent.path != nil else { return }
        hasHadPath = true
        guard let dtls else { return }
        if dtlsRole == .client, dtls.state == .handshaking, !dtls.hasOutput { dtls.advance() }
        sendWaiting()
        sendRecords()
        noteDeadlineMoved()
    }

    /// Moves everything that waits between DTLS, the association and the path.
    func pump() {
        sendRecords()
        lookAhead()
        guard let dtls else { return }
        switch dtls.state {
        case .handshaking: guard dtls.maySeal else { return }
        case .established: becomeSecure()
        case .closed: return finish(phase == .closing ? .closed : .closedByPeer)
        case .failed:
            // What is left to send is the alert, which tells the peer.
            return finish(.failed(.encryption, Self.explanation(dtls)))
        }
        guard let association else { return }
        // An association that stands by signaling has nothing to tell before there is a way to the peer.
        guard hasHadPath || carried.isPathAheadTold else { return sendPackets() }
        association.isPaused = isReadingHeld
        while let event = association.nextEvent() {
            emit(.channels(event))
            if case .closed(let reason) = event { return end(reason) }
            // The program may hold up reading only once it has seen what there is.
            if case .message = event {
                goOn()
                break
            }
        }
        sendPackets()
    }

    /// DTLS stands: SCTP begins on both sides (RFC 8831 section 6.2), unless it stood before.
    private func becomeSecure() {
        guard let dtls, dtls.state == .established, !hasToldSecured, let data = remoteData else { return }
        hasToldSecured = true
        if association == nil {
            do throws(DataChannelError) {
                let association = try makeAssociation(dtlsRole, data)
                self.association = association
                try association.connect()
            } catch {
                return finish(.failed(.limit, error.description))
            }
        }
        emit(.secured)
    }

    func makeAssociation(
        _ role: DataChannelAssociation.Role,
        _ data: DataSection?
    ) throws(DataChannelError) -> DataChannelAssociation {
        var options = DataChannelOptions()
        options.packetLimitBytes = packetLimitBytes(for: data)
        if let data {
            options.remotePort = data.sctpPort
            options.remoteMaxMessageBytes = data.maxMessageBytes
        }
        // What was prepared is taken by programs of this library alone.
        let isOfLibrary = data?.transport.iceOptions.contains(HandshakeEnvelope.option) ?? true
        if isOfLibrary { options.retransmissions = ClientLimits.retransmissions }
        let wake = wake
        context.tellTime()
        let association = try DataChannelAssociation(role, options: options) { wake.raise() }
        try association.setSegmentLimit(segmentLimitBytes)
        return association
    }

    private func end(_ reason: AssociationCloseReason) {
        switch reason {
        case .shutdown, .aborted: finish(phase == .closing ? .closed : .closedByPeer)
        case .abortedByPeer: finish(phase == .closing ? .closed : .closedByPeer)
        case .timedOut: finish(.failed(.noPath, "the peer did not answer on any path"))
        }
    }

    // MARK: Out

    func sendPackets() {
        guard let association, let dtls else { return }
        // What follows the last early record waits for the end of the handshake.
        while dtls.maySeal || dtls.state != .handshaking, let packet = association.nextPacket() {
            let count = packet.withUnsafeBytes { dtls.seal($0, into: context.sealed) }
            guard count > 0 else { continue }
            let record = UnsafeRawBufferPointer(rebasing: context.sealed[..<count])
            unanswered.append(record, now: now)
            // Of another connection's handshake over the same relays an early record has the same number.
            if dtls.state == .handshaking, count <= ClientLimits.handshakeBytes {
                send(ofHandshake: record)
            } else {
                transmit(record)
            }
        }
    }

    func sendRecords() {
        guard let dtls else { return }
        var flight: [[UInt8]] = []
        while dtls.hasOutput {
            let count = dtls.takeOutput(into: context.sealed)
            guard count > 0 else { break }
            let record = UnsafeRawBufferPointer(rebasing: context.sealed[..<count])
            if carried.isAgreed, agent.path == nil, Self.isOfHandshake(record) { flight.append([UInt8](record)) }
            send(ofHandshake: record)
        }
        tell(flight)
    }

    func send(ofHandshake record: UnsafeRawBufferPointer) {
        guard wantsEnvelopes, let fragment = remoteData?.transport.iceUfrag else { return transmit(record) }
        let sender = agent.localCredentials.usernameFragment
        HandshakeEnvelope.seal(record, to: fragment, from: sender, context.network.cryptography)
            .withUnsafeBytes(transmit)
    }

    func sendWaiting() {
        let waiting = waitingRecords
        waitingRecords = []
        for record in waiting { record.withUnsafeBytes(transmit) }
    }

    /// There is another path, after silence on the one before or after none.
    func sendUnanswered() {
        guard association != nil, isUnsent || unanswered.areOverdue(now: now) else { return }
        isUnsent = false
        let records = unanswered
        records.forEach(transmit)
    }

    /// The peer tells by their envelopes which connection the records of a handshake are for.
    private var wantsEnvelopes: Bool { isTurnpikePeer }

    /// ChangeCipherSpec and Handshake (RFC 5246 section 6.2.1).
    private static func isOfHandshake(_ record: UnsafeRawBufferPointer) -> Bool {
        record.first == 20 || record.first == 22
    }

    private func transmit(_ record: UnsafeRawBufferPointer) {
        guard let path = agent.path else {
            if transmitAhead(record) { return }
            // It goes when there is a path. Of data SCTP sends again what is lost; the first would cost its longest
            // time, and a record of the handshake the second that DTLS waits.
            let isHandshake = dtls?.state == .handshaking || association == nil
            if hasHadPath, !isHandshake { isUnsent = true }
            if isHandshake || !hasHadPath, waitingRecords.count < ClientLimits.waitingRecords {
                waitingRecords.append([UInt8](record))
            }
            return
        }
        send(record, to: path.remote, on: path.base)
        if agent.noteSent(record.count, now: now) { noteDeadlineMoved() }
    }

    private static func explanation(_ dtls: DTLSSession) -> String {
        "the encrypted connection failed (\(dtls.failure ?? "for no known reason")); if it says certificate, the peer "
            + "is not the one that signed the description"
    }
}
