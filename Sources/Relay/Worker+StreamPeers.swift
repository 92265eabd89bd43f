import LinuxIO
import STUN
import TURN

/// From peers to clients by TCP.
extension Worker {
    /// Puts what a relay socket gave, one datagram or several merged, into frames, and gathers them in `streamParts`.
    mutating func relayToStream(
        _ verdict: Engine.PeerVerdict,
        _ payload: UnsafeMutableRawPointer,
        _ length: Int,
        _ segment: Int,
        _ packets: Int,
        _ connection: UInt32
    ) {
        if case .drop(let reason) = verdict {
            engine.counters.drop(reason, UInt64(truncatingIfNeeded: packets))
            return
        }
        var offset = 0
        repeat {
            let bytes = min(segment, length &- offset)
            addFrame(
                verdict,
                payload + offset,
                bytes,
                isFirst: offset == 0,
                isLast: offset &+ bytes == length,
                connection
            )
            offset &+= max(segment, 1)
        } while offset < length
    }

    /// - Parameters:
    ///   - isFirst: Whether the payload has its slot's headroom before it.
    ///   - isLast: Whether the payload has its slot's tailroom behind it.
    private mutating func addFrame(
        _ verdict: Engine.PeerVerdict,
        _ payload: UnsafeMutableRawPointer,
        _ length: Int,
        isFirst: Bool,
        isLast: Bool,
        _ connection: UInt32
    ) {
        if streamPartCount &+ 3 > TCPSocket.partsMax || streamByteCount &+ length > StreamLimits.bytesPerSend {
            flushStreamParts(connection)
        }
        let headerLength: Int
        switch verdict {
        case .channel: headerLength = ChannelData.headerLength
        case .indication(let peer): headerLength = Engine.indicationHeaderLength(peer.family)
        case .drop: return
        }
        // In front of the payload where there is room, so that the frame is one part. Else each part has room for a
        // header, and this frame's is that of its first.
        let header = isFirst ? payload - headerLength : streamHeaders + streamPartCount &* 64
        switch verdict {
        case .channel(let number):
            ChannelData.writeHeader(channel: number, length: UInt16(truncatingIfNeeded: length), at: header)
        case .indication(let peer):
            // Attributes of more than 65,535 bytes cannot be written.
            guard length &+ headerLength <= 65_507 else {
                engine.counters.drop(.tooLarge)
                return
            }
            engine.writeIndicationHeader(peer: peer, length: length, at: header)
        case .drop:
            return
        }
        if !isFirst { add(header, headerLength) }
        let start = isFirst ? header : payload
        let bytes = isFirst ? headerLength &+ length : length
        // RFC 8656 section 12.5: on a stream, frames are padded to four bytes; with zeros (case PC-15).
        let padding = (4 &- length & 3) & 3
        if isLast {
            (payload + length).storeBytes(of: 0, as: UInt32.self)
            add(start, bytes &+ padding)
        } else {
            add(start, bytes)
            if padding > 0 {
                let zeros = streamHeaders + (streamPartCount &* 64)
                zeros.storeBytes(of: 0, as: UInt32.self)
                add(zeros, padding)
            }
        }
        streamFrameEnds[streamPacketCount] = UInt8(truncatingIfNeeded: streamPartCount)
        streamPacketCount &+= 1
        streamByteCount &+= length
    }

    private mutating func add(_ start: UnsafeRawPointer, _ count: Int) {
        (streamParts + streamPartCount).initialize(to: UnsafeRawBufferPointer(start: start, count: count))
        streamPartCount &+= 1
    }
}
