extension DataChannelAssociation {
    /// Opens a channel; `channelOpened` follows, and messages may be sent from then on.
    ///
    /// - Returns: the channel, whose id was chosen unless it is a negotiated one.
    package func openChannel(_ configuration: DataChannelConfiguration) throws(DataChannelError) -> DataChannel {
        guard phase != .closed, phase != .shuttingDown else { throw .closed }
        guard channels.count < options.channelLimit else { throw .tooManyChannels(limit: options.channelLimit) }
        for name in [configuration.label, configuration.subprotocol]
        where name.utf8.count > DataChannelLimits.nameBytes {
            throw .nameTooLong(bytes: name.utf8.count, limit: DataChannelLimits.nameBytes)
        }
        let channel = DataChannel(
            id: try chooseID(configuration),
            label: configuration.label,
            subprotocol: configuration.subprotocol,
            isOrdered: configuration.isOrdered,
            reliability: configuration.reliability,
            priority: configuration.priority
        )
        let isNegotiated = configuration.negotiatedID != nil
        channels[channel.id] = ChannelState(
            channel: channel,
            isNegotiated: isNegotiated,
            phase: .opening,
            isAcknowledged: isNegotiated
        )
        answeredResets.remove(channel.id)
        if phase == .open {
            stack.run { state in
                open(channel.id)
                noteActivity(&state)
            }
        }
        return channel
    }

    private func chooseID(_ configuration: DataChannelConfiguration) throws(DataChannelError) -> UInt16 {
        if let id = configuration.negotiatedID {
            guard id < streamLimit else { throw .idTooHigh(id, limit: streamLimit) }
            guard channels[id] == nil else { throw .idInUse(id) }
            return id
        }
        let free = stride(from: isOurs(0) ? 0 : 1, to: Int(streamLimit), by: 2).first { channels[UInt16($0)] == nil }
        guard let free else { throw .tooManyChannels(limit: Int(streamLimit) / 2) }
        return UInt16(free)
    }

    /// Whether this end chooses the id: the DTLS client has the even ones (RFC 8832 section 6).
    private func isOurs(_ id: UInt16) -> Bool { id.isMultiple(of: 2) == (role == .client) }

    /// Resets the channel's stream once its messages are through (RFC 8831 section 6.7); `channelClosed` follows.
    package func closeChannel(_ id: UInt16) {
        stack.run { state in
            close(id, .local)
            settle(&state)
            noteActivity(&state)
        }
    }

    /// Below which of its bytes a channel announces `bufferedAmountLow`; 0 at first.
    package func setBufferedAmountLowThreshold(_ bytes: Int, of id: UInt16) {
        if channels[id] != nil { unsent.setLowThreshold(bytes, of: id) }
    }

    /// Bytes given to a channel and not sent the first time yet.
    package func bufferedAmount(of id: UInt16) -> Int { unsent[id] }

    /// Channels that are not closed yet.
    package var channelCount: Int { channels.count }

    // MARK: What follows is called in SCTPStack.run.

    /// The association stands: what was opened before is told to the peer.
    func openAll(inbound: UInt16, outbound: UInt16) {
        streamLimit = min(inbound, outbound)
        phase = .open
        // Of the association that the peer's INIT may have made in place of the first.
        if packetLimitBytes != options.packetLimitBytes, let socket {
            _ = Self.failure { () throws(SCTPSocket.Failure) in
                try socket.setPacketLimit(packetLimitBytes, isConnected: true)
            }
        }
        if let segmentLimitBytes, let socket {
            _ = Self.failure { () throws(SCTPSocket.Failure) in try socket.setSegmentLimit(segmentLimitBytes) }
        }
        emit(.opened)
        for id in channels.keys.sorted() { open(id) }
    }

    private func open(_ id: UInt16) {
        guard let state = channels[id], state.phase == .opening else { return }
        guard id < streamLimit else {
            channels[id] = nil
            unsent.remove(id)
            emit(.channelClosed(channel: id, .peer))
            return
        }
        channels[id]?.phase = .open
        emit(.channelOpened(state.channel, byPeer: false))
        if !state.isNegotiated { sendControl(.open(state.channel), on: id) }
    }

    func close(_ id: UInt16, _ reason: DataChannelCloseReason) {
        guard let state = channels[id], state.phase != .closing else { return }
        channels[id]?.closeReason = reason
        guard state.phase == .open else {
            channels[id] = nil
            unsent.remove(id)
            emit(.channelClosed(channel: id, reason))
            return
        }
        channels[id]?.phase = .closing
        closing.insert(id)
        // On a stream that is being reset there is never room for it.
        waitingControl.removeAll { $0.stream == id }
        reset(id)
    }

    private func reset(_ id: UInt16) {
        guard let socket else { return }
        let failure = Self.failure { () throws(SCTPSocket.Failure) in try socket.resetOutgoing(id) }
        guard failure != nil, channels[id] != nil else { return }
        // The peer cannot reset streams, or the association is ending: nothing will come of it.
        channels[id]?.outgoingIsReset = true
        channels[id]?.incomingIsReset = true
        removeIfReset(id)
    }

    private func removeIfReset(_ id: UInt16) {
        guard let state = channels[id], state.outgoingIsReset, state.incomingIsReset else { return }
        channels[id] = nil
        closing.remove(id)
        unsent.remove(id)
        partialMessages.remove(id)
        waitingControl.removeAll { $0.stream == id }
        emit(.channelClosed(channel: id, state.closeReason))
    }

    /// A reset went through, or was refused for good.
    func noteReset(_ streams: [UInt16], isIncoming: Bool, isOutgoing: Bool) {
        // RFC 6525 section 4.1: no stream stands for all of them.
        for id in streams.isEmpty ? channels.keys.sorted() : streams {
            guard let state = channels[id] else {
                if isIncoming { answerReset(id) }
                continue
            }
            // A late word about the channel that had the id before says nothing of this one.
            if isOutgoing, state.phase == .closing { channels[id]?.outgoingIsReset = true }
            if isIncoming {
                channels[id]?.incomingIsReset = true
                // RFC 8831 section 6.7: the peer closes, so this end does as well.
                if state.phase == .open { close(id, .peer) }
            }
            removeIfReset(id)
        }
    }

    /// The peer closes what there is no channel for here: a negotiated one that only it opened.
    private func answerReset(_ id: UInt16) {
        guard answeredResets.remove(id) == nil, id < streamLimit else { return }
        refuse(id)
    }

    private func refuse(_ id: UInt16) {
        answeredResets.insert(id)
        reset(id)
    }

    func receiveControl(_ bytes: [UInt8], on id: UInt16) {
        switch EstablishmentMessage(bytes, id: id) {
        case .acknowledgement: channels[id]?.isAcknowledged = true
        case .open(let channel): accept(channel)
        case nil: if channels[id] == nil { refuse(id) }
        }
    }

    private func accept(_ channel: DataChannel) {
        // The peer uses an id again once it has seen this end's reset, of which the word back may be late or lost.
        if let old = channels[channel.id], old.phase == .closing, old.incomingIsReset {
            channels[channel.id]?.outgoingIsReset = true
            removeIfReset(channel.id)
        }
        // A channel with the id exists: RFC 8832 section 6 leaves it alone where the OPEN is at fault.
        guard channels[channel.id] == nil else { return }
        guard !isOurs(channel.id), channel.id < streamLimit, channels.count < options.channelLimit, phase == .open
        else { return refuse(channel.id) }
        answeredResets.remove(channel.id)
        channels[channel.id] = ChannelState(channel: channel, isNegotiated: false, phase: .open, isAcknowledged: true)
        emit(.channelOpened(channel, byPeer: true))
        sendControl(.acknowledgement, on: channel.id)
    }
}
