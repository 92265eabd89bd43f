import CUsrSCTP

extension DataChannelAssociation {
    /// Gives a message to a channel, whole or not at all.
    ///
    /// - Parameter isText: for UTF-8, which the peer's application gets as a string.
    package func send(_ message: UnsafeRawBufferPointer, isText: Bool = false, on id: UInt16) -> SendOutcome {
        guard phase == .open, let socket, let state = channels[id], state.phase == .open else { return .notOpen }
        guard message.count <= min(remoteMaxMessageBytes, options.sendBufferBytes) else { return .tooLong }
        // What waits of the establishment protocol goes first, so that no message overtakes its OPEN.
        guard waitingControl.isEmpty || !waitingControl.contains(where: { $0.stream == id }) else {
            channels[id]?.wasRefused = true
            hasRefused = true
            return .wouldBlock
        }
        let isEmpty = message.isEmpty
        let payload: PayloadProtocol = isText ? (isEmpty ? .emptyText : .text) : (isEmpty ? .emptyBinary : .binary)
        let framing = Framing(
            stream: id,
            payload: payload,
            isUnordered: !state.channel.isOrdered && state.isAcknowledged,
            reliability: state.channel.reliability
        )
        let failure = stack.run { state -> SCTPSocket.Failure? in
            let failure = Self.failure { () throws(SCTPSocket.Failure) in
                try isEmpty ? Self.sendZero(socket, framing) : socket.send(message, framing)
            }
            if failure == nil { isOutstanding = true }
            noteActivity(&state)
            return failure
        }
        switch failure?.code {
        case nil:
            unsent.add(isEmpty ? 1 : message.count, to: id)
            return .sent
        case EWOULDBLOCK, ENOBUFS, ENOMEM:
            channels[id]?.wasRefused = true
            hasRefused = true
            return .wouldBlock
        case EMSGSIZE: return .tooLong
        default: return .notOpen
        }
    }

    private static func sendZero(_ socket: SCTPSocket, _ framing: Framing) throws(SCTPSocket.Failure) {
        var zero: UInt8 = 0
        try withUnsafeBytes(of: &zero) { (bytes) throws(SCTPSocket.Failure) in try socket.send(bytes, framing) }
    }

    // MARK: What follows is called in SCTPStack.run.

    func sendControl(_ message: EstablishmentMessage, on id: UInt16) {
        waitingControl.append((id, message))
        sendWaitingControl()
    }

    /// Each stream's messages in order. One that is still being reset takes none, and holds up no other.
    private func sendWaitingControl() {
        guard let socket, !waitingControl.isEmpty else { return }
        var held: Set<UInt16> = []
        var refused: [UInt16] = []
        waitingControl.removeAll { stream, message in
            if held.contains(stream) { return false }
            let framing = Framing(stream: stream, payload: .establishment)
            let failure = message.bytes.withUnsafeBytes { bytes in
                Self.failure { () throws(SCTPSocket.Failure) in try socket.send(bytes, framing) }
            }
            switch failure?.code {
            case nil: isOutstanding = true
            case EWOULDBLOCK, ENOBUFS, ENOMEM:
                held.insert(stream)
                return false
            default: refused.append(stream)
            }
            return true
        }
        // The peer will not hear of the channel, so it is none.
        for stream in refused { close(stream, .local) }
    }

    /// Reads all that usrsctp has, and does what became possible.
    func settle(_ state: inout SCTPStack.State) {
        readAll(&state)
        if phase == .open, let socket {
            sendWaitingControl()
            if hasRefused, socket.isWritable { announceWritable() }
        }
        countUnsettled(&state)
    }

    private func announceWritable() {
        hasRefused = false
        // Whoever hears of it first takes the room that there is, so each is the first in its turn.
        let refused = channels.keys.filter { channels[$0]?.wasRefused == true }.sorted()
        let next = refused.firstIndex { $0 > lastWritable } ?? 0
        if next < refused.count { lastWritable = refused[next] }
        for id in refused[next...] + refused[..<next] {
            if waitingControl.contains(where: { $0.stream == id }) {
                hasRefused = true
                continue
            }
            channels[id]?.wasRefused = false
            if channels[id]?.phase == .open { emit(.writable(channel: id)) }
        }
    }

    private func readAll(_ state: inout SCTPStack.State) {
        while let socket, !holdUpReading() {
            let reading: SCTPSocket.Reading
            do throws(SCTPSocket.Failure) {
                reading = try socket.read(into: state.scratch)
            } catch {
                if error.code != EWOULDBLOCK { end(reason(errno: error.code), &state) }
                return
            }
            let bytes = UnsafeRawBufferPointer(rebasing: state.scratch[..<reading.count])
            if reading.info.is_notification {
                receiveNotification(bytes, &state)
            } else if reading.count == 0 {
                // The end of the stream. SHUTDOWN may still have to be acknowledged, which its own notification tells.
                return
            } else {
                receivePart(bytes, reading.info)
            }
        }
    }

    private func receivePart(_ part: UnsafeRawBufferPointer, _ info: turnpike_sctp_info) {
        let outcome = partialMessages.add(
            part,
            stream: info.stream,
            isUnordered: info.is_unordered,
            isEnd: info.is_end,
            limit: options.maxMessageBytes
        )
        switch outcome {
        case .incomplete: break
        case .tooLong: close(info.stream, .messageTooLong)
        case .complete(let bytes): receiveMessage(bytes, info)
        }
    }

    private func receiveMessage(_ bytes: [UInt8], _ info: turnpike_sctp_info) {
        guard let payload = PayloadProtocol(rawValue: info.payload_protocol) else { return }
        if payload == .establishment { return receiveControl(bytes, on: info.stream) }
        // Also while this end closes: the peer may not know yet (RFC 8831 section 6.7). Without a channel it goes
        // nowhere.
        guard let state = channels[info.stream], !state.incomingIsReset else { return }
        // RFC 8832 section 6: what comes on the channel acknowledges its OPEN as well.
        channels[info.stream]?.isAcknowledged = true
        let isText = payload == .text || payload == .emptyText
        let isEmpty = payload == .emptyText || payload == .emptyBinary
        emit(.message(channel: info.stream, bytes: isEmpty ? [] : bytes, isText: isText))
    }

    private func receiveNotification(_ bytes: UnsafeRawBufferPointer, _ state: inout SCTPStack.State) {
        var notification = turnpike_sctp_notification()
        guard turnpike_sctp_read_notification(bytes.baseAddress, bytes.count, &notification) else { return }
        switch Int32(notification.type) {
        case SCTP_ASSOC_CHANGE: changeAssociation(notification, &state)
        case SCTP_SHUTDOWN_EVENT: if phase == .open { phase = .shuttingDown }
        case SCTP_SENDER_DRY_EVENT: noteDry()
        case SCTP_PARTIAL_DELIVERY_EVENT: partialMessages.removeAll()
        case SCTP_STREAM_RESET_EVENT: receiveReset(bytes, Int32(notification.flags))
        default: break
        }
    }

    private func changeAssociation(_ change: turnpike_sctp_notification, _ state: inout SCTPStack.State) {
        switch Int32(change.state) {
        case SCTP_COMM_UP:
            if phase == .connecting { openAll(inbound: change.inbound_streams, outbound: change.outbound_streams) }
        case SCTP_SHUTDOWN_COMP: end(.shutdown, &state)
        case SCTP_RESTART: end(.abortedByPeer, &state)
        case SCTP_COMM_LOST, SCTP_CANT_STR_ASSOC:
            // Why is in the socket's error, which the next read gives.
            let next = socket.map { socket in
                Self.failure { () throws(SCTPSocket.Failure) in _ = try socket.read(into: state.scratch) }
            }
            end(reason(errno: (next ?? nil)?.code ?? ECONNRESET), &state)
        default: break
        }
    }

    /// usrsctp's errors of an association that ended: by the peer they are these two, otherwise it gave up.
    private func reason(errno code: Int32) -> AssociationCloseReason {
        code == ECONNRESET || code == ECONNREFUSED ? .abortedByPeer : .timedOut
    }

    private func noteDry() {
        // The word may be old: while nothing was read here more may have been sent.
        guard let socket, let status = socket.status, status.sstat_unackdata == 0 else { return }
        isOutstanding = false
        unsent.noteDry()
        for id in unsent.takeFallen() { emit(.bufferedAmountLow(channel: id)) }
    }

    private func receiveReset(_ bytes: UnsafeRawBufferPointer, _ flags: Int32) {
        var streams = [UInt16](repeating: 0, count: Int(options.streams))
        let count = turnpike_sctp_reset_streams(bytes.baseAddress, bytes.count, &streams, streams.count)
        streams.removeLast(max(0, streams.count - count))
        let isRefused = flags & (SCTP_STREAM_RESET_DENIED | SCTP_STREAM_RESET_FAILED) != 0
        noteReset(
            streams,
            isIncoming: flags & SCTP_STREAM_RESET_INCOMING_SSN != 0 || isRefused,
            isOutgoing: flags & SCTP_STREAM_RESET_OUTGOING_SSN != 0 || isRefused
        )
    }
}
