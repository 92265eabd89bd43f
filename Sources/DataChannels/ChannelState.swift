/// What an association keeps of a channel.
struct ChannelState {
    enum Phase {
        /// Waits for the association.
        case opening
        case open
        /// The stream is being reset in one direction or both.
        case closing
    }

    let channel: DataChannel
    /// Both ends opened it themselves, so no message of the establishment protocol is about it.
    let isNegotiated: Bool
    var phase: Phase
    /// Until the peer has shown that it knows the channel, its messages are ordered, so that none overtakes the OPEN
    /// (RFC 8832 section 6).
    var isAcknowledged: Bool
    var wasRefused = false
    var outgoingIsReset = false
    var incomingIsReset = false
    var closeReason = DataChannelCloseReason.peer
}

/// Messages that come in parts, because they are longer than one read or than what usrsctp holds back.
struct PartialMessages {
    /// A message can only be in one piece per stream and order.
    private struct Key: Hashable {
        let stream: UInt16
        let isUnordered: Bool
    }

    private var messages: [Key: [UInt8]] = [:]
    /// Those of which the rest is thrown away.
    private var skipped: Set<Key> = []

    enum Outcome {
        case incomplete
        case complete([UInt8])
        case tooLong
    }

    mutating func add(
        _ part: UnsafeRawBufferPointer,
        stream: UInt16,
        isUnordered: Bool,
        isEnd: Bool,
        limit: Int
    ) -> Outcome {
        let key = Key(stream: stream, isUnordered: isUnordered)
        if skipped.contains(key) {
            if isEnd { skipped.remove(key) }
            return .incomplete
        }
        var message = messages.removeValue(forKey: key) ?? []
        guard message.count + part.count <= limit, messages.count < DataChannelLimits.partialMessages else {
            if !isEnd { skipped.insert(key) }
            return .tooLong
        }
        message.append(contentsOf: part)
        if isEnd { return .complete(message) }
        messages[key] = message
        return .incomplete
    }

    /// The peer gave up the message that was coming in parts; there is one at most.
    mutating func removeAll() {
        messages.removeAll()
        skipped.removeAll()
    }

    mutating func remove(_ stream: UInt16) {
        for isUnordered in [false, true] {
            messages[Key(stream: stream, isUnordered: isUnordered)] = nil
            skipped.remove(Key(stream: stream, isUnordered: isUnordered))
        }
    }
}
