import STUN

/// What stands at the start of a stream's unread bytes.
package enum FrameOutcome: Equatable, Sendable {
    /// A whole STUN message or ChannelData frame. Its first `length` bytes are the message; the frame takes `consumed`
    /// bytes of the stream, more than `length` where ChannelData is padded.
    case frame(length: Int, consumed: Int)
    /// Nothing new can be said before there are `needed` bytes in all, counted from the start of the frame.
    case incomplete(needed: Int)
    /// No frame can begin like this. Where the next one would begin is unknown, so the connection must be closed.
    case desynchronised
}

/// Cuts a byte stream into STUN messages and ChannelData frames. Holds nothing: the caller owns the bytes.
package enum StreamFramer {
    /// The longest STUN message: its header and the greatest length that is a multiple of four. No ChannelData frame
    /// is as long.
    package static let longestFrameBytes = MessageView.headerLength + 65_532

    /// Looks at the frame that begins with the first of `bytes`.
    ///
    /// - Parameters:
    ///   - bytes: The unread part of the stream, of any length.
    ///   - isFirst: Whether nothing came before on this connection. A client without an allocation has no channel, so
    ///     that its first frame is a STUN message; text protocols, whose first letter looks like a channel, end there.
    ///   - acceptsWideChannels: Whether channels of 0x5000...0x7FFF, which RFC 5766 allowed, are taken.
    package static func next(
        _ bytes: UnsafeRawBufferPointer,
        isFirst: Bool = false,
        acceptsWideChannels: Bool
    ) -> FrameOutcome {
        guard let first = bytes.first else { return .incomplete(needed: ChannelData.headerLength) }
        if first & 0xC0 == 0 { return message(bytes) }
        guard !isFirst, ChannelData.isChannel(firstByte: first, wide: acceptsWideChannels) else {
            return .desynchronised
        }
        return channelData(bytes)
    }

    private static func message(_ bytes: UnsafeRawBufferPointer) -> FrameOutcome {
        guard bytes.count >= 4 else { return .incomplete(needed: 4) }
        let bodyLength = Int(bytes.uint16(at: 2))
        // RFC 8489 section 5: the last two bits of the length are zero, and the cookie follows. Both are looked at as
        // soon as they are there, for on a stream there is no next datagram to begin anew with.
        guard bodyLength & 3 == 0 else { return .desynchronised }
        guard bytes.count >= 8 else { return .incomplete(needed: 8) }
        guard bytes.uint32(at: 4) == MessageView.magicCookie else { return .desynchronised }
        let length = MessageView.headerLength + bodyLength
        guard bytes.count >= length else { return .incomplete(needed: length) }
        return .frame(length: length, consumed: length)
    }

    private static func channelData(_ bytes: UnsafeRawBufferPointer) -> FrameOutcome {
        guard bytes.count >= ChannelData.headerLength else { return .incomplete(needed: ChannelData.headerLength) }
        // The sums are made of Int, so that a length of 65,535 gives 65,540 and not what is left of it in 16 bits.
        let length = ChannelData.headerLength + Int(bytes.uint16(at: 2))
        // RFC 8656 section 12.5: over TCP and TLS the frame is padded to four bytes, and the length does not say so.
        let consumed = (length + 3) & ~3
        guard bytes.count >= consumed else { return .incomplete(needed: consumed) }
        return .frame(length: length, consumed: consumed)
    }
}
