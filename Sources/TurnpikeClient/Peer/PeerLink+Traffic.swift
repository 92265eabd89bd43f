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

    func noteUnreachable(_ peer: Endpoint, from base: ICEBase) { agent.noteUnreachable(peer, from: base) }

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
            if !isUnsent { unanswered.clear() }
            becomeSecure()
            association?.receive(UnsafeRawBufferPointer(rebasing: context.opened[..<count]))
            count = dtls.read(into: context.opened)
        }
        isTaken = isTaken || dtls.state != .established
        if isTaken { agent.noteReceived(on: base, from: source, now: now) }
        settle()
        return isTaken
    }

    /// The first path is there: the client's end begins (RFC 8842 section 5.3), and what waited goes.
    func beginHandshake() {
        guard let dtls, agent.path != nil else { return }
        if dtlsRole == .client, dtls.state == .handshaking, !dtls.hasOutput { dtls.advance() }
        let waiting = waitingRecords
        waitingRecords = []
        for record in waiting { record.withUnsafeBytes(transmit) }
        sendRecords()
        noteDeadlineMoved()
    }

    /// Moves everything that waits between DTLS, the association and the path.
    func pump() {
        sendRecords()
        guard let dtls else { return }
        switch dtls.state {
        case .handshaking: return
        case .established: becomeSecure()
        case .closed: return finish(phase == .closing ? .closed : .closedByPeer)
        case .failed:
            // What is left to send is the alert, which tells the peer.
            return finish(.failed(.encryption, Self.explanation(dtls)))
        }
        guard let association else { return }
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

    /// DTLS stands: SCTP begins on both sides (RFC 8831 section 6.2).
    private func becomeSecure() {
        guard let dtls, dtls.state == .established, association == nil, let data = remoteData else { return }
        var options = DataChannelOptions()
        options.remotePort = data.sctpPort
        options.packetLimitBytes = DTLSSession.plaintextLimitBytes(packetLimitBytes: ClientLimits.datagramBytes)
        if isTurnpikePeer { options.retransmissions = ClientLimits.retransmissions }
        options.remoteMaxMessageBytes = data.maxMessageBytes
        do throws(DataChannelError) {
            let wake = wake
            let association = try DataChannelAssociation(dtlsRole, options: options) { wake.raise() }
            self.association = association
            try association.connect()
        } catch {
            return finish(.failed(.limit, error.description))
        }
        emit(.secured)
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
        while let packet = association.nextPacket() {
            let count = packet.withUnsafeBytes { dtls.seal($0, into: context.sealed) }
            guard count > 0 else { continue }
            let record = UnsafeRawBufferPointer(rebasing: context.sealed[..<count])
            unanswered.append(record, now: now)
            transmit(record)
        }
    }

    func sendRecords() {
        guard let dtls else { return }
        while dtls.hasOutput {
            let count = dtls.takeOutput(into: context.sealed)
            guard count > 0 else { return }
            let record = UnsafeRawBufferPointer(rebasing: context.sealed[..<count])
            guard wantsEnvelopes, let fragment = remoteData?.transport.iceUfrag else {
                transmit(record)
                continue
            }
            let sender = agent.localCredentials.usernameFragment
            HandshakeEnvelope.seal(record, to: fragment, from: sender, context.network.cryptography)
                .withUnsafeBytes(transmit)
        }
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
            // It goes when there is a path; DTLS would wait a second.
            let isHandshake = dtls?.state == .handshaking || association == nil
            if !isHandshake { isUnsent = true }
            if isHandshake, waitingRecords.count < ClientLimits.waitingRecords {
                waitingRecords.append([UInt8](record))
            }
            return
        }
        context.router.send(record, to: path.remote, on: path.base, for: self)
        if agent.noteSent(now: now) { noteDeadlineMoved() }
    }

    private static func explanation(_ dtls: DTLSSession) -> String {
        "the encrypted connection failed (\(dtls.failure ?? "for no known reason")); if it says certificate, the peer "
            + "is not the one that signed the description"
    }
}
