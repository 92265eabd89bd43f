import STUN

/// Cuts what comes by a stream into STUN messages and ChannelData, wherever TCP has split it (RFC 8656 section 12.5).
struct FrameBuffer {
    /// What is not yet a whole frame.
    private var bytes: [UInt8] = []
    private var start = 0

    /// Adds bytes and takes every frame that is whole.
    /// - Parameter hasChannels: before there is an allocation there is no channel, so that a server of another
    ///   protocol, whose text may look like ChannelData, is found out at once.
    /// - Returns: false when no frame can begin like this. Where the next one would is unknown, so the stream is lost.
    mutating func append(
        _ chunk: UnsafeRawBufferPointer,
        hasChannels: Bool,
        _ body: (UnsafeRawBufferPointer) -> Void
    ) -> Bool {
        bytes.append(contentsOf: chunk)
        var isGood = true
        bytes.withUnsafeBytes { all in
            while isGood {
                let rest = all.slice(start, all.count - start)
                if !hasChannels, let first = rest.first, first & 0xC0 != 0 {
                    isGood = false
                    return
                }
                switch Self.next(rest) {
                case .frame(let length, let consumed):
                    body(rest.slice(0, length))
                    start += consumed
                case .incomplete: return
                case .desynchronised: isGood = false
                }
            }
        }
        // Half a frame of at most 64 KiB moves to the front.
        bytes.removeFirst(start)
        start = 0
        return isGood
    }

    mutating func reset() {
        bytes = []
        start = 0
    }

    private enum Outcome {
        case frame(length: Int, consumed: Int)
        case incomplete
        case desynchronised
    }

    private static func next(_ rest: UnsafeRawBufferPointer) -> Outcome {
        guard let first = rest.first else { return .incomplete }
        if first & 0xC0 == 0 {
            guard rest.count >= 4 else { return .incomplete }
            let body = Int(rest.uint16(at: 2))
            guard body & 3 == 0 else { return .desynchronised }
            guard rest.count >= 8 else { return .incomplete }
            guard rest.uint32(at: 4) == MessageView.magicCookie else { return .desynchronised }
            let length = MessageView.headerLength + body
            return rest.count >= length ? .frame(length: length, consumed: length) : .incomplete
        }
        guard ChannelData.isChannel(firstByte: first, wide: false) else { return .desynchronised }
        guard rest.count >= ChannelData.headerLength else { return .incomplete }
        let length = ChannelData.headerLength + Int(rest.uint16(at: 2))
        // Padded to four bytes, which the length does not count.
        let consumed = (length + 3) & ~3
        return rest.count >= consumed ? .frame(length: length, consumed: consumed) : .incomplete
    }
}
