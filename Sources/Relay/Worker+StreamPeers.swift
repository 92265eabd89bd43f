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
            addFrame(verdict, payload + offset, bytes, isLast: offset &+ bytes == length, connection)
            offset &+= max(segment, 1)
        } while offset < length
    }

    private mutating func addFrame(
        _ verdict: Engine.PeerVerdict,
        _ payload: UnsafeMutableRawPointer,
        _ length: Int,
        isLast: Bool,
        _ connection: UInt32
    ) {
        if streamPartCount &+ 3 > TCPSocket.partsMax || streamByteCount &+ length > StreamLimits.bytesPerSend {
            flushStreamParts(connection)
        }
        // Each part has its header's room, and this frame's is that of its first.
        let header = streamHeaders + streamPartCount &* 64
        let headerLength: Int
        switch verdict {
        case .channel(let number):
            ChannelData.writeHeader(channel: number, length: UInt16(truncatingIfNeeded: length), at: header)
            headerLength = ChannelData.headerLength
        case .indication(let peer):
            headerLength = Engine.indicationHeaderLength(peer.family)
            // Attributes of more than 65,535 bytes cannot be written.
            guard length &+ headerLength <= 65_507 else {
                engine.counters.drop(.tooLarge)
                return
            }
            engine.writeIndicationHeader(peer: peer, length: length, at: header)
        case .drop:
            return
        }
        add(UnsafeRawBufferPointer(start: header, count: headerLength))
        // RFC 8656 section 12.5: on a stream, frames are padded to four bytes; with zeros (case PC-15).
        let padding = (4 &- length & 3) & 3
        if isLast {
            (payload + length).storeBytes(of: 0, as: UInt32.self)
            add(UnsafeRawBufferPointer(start: payload, count: length &+ padding))
        } else {
            add(UnsafeRawBufferPointer(start: payload, count: length))
            if padding > 0 {
                let zeros = header + headerLength
                zeros.storeBytes(of: 0, as: UInt32.self)
                add(UnsafeRawBufferPointer(start: zeros, count: padding))
            }
        }
        streamPacketCount &+= 1
        streamByteCount &+= length
    }

    private mutating func add(_ part: UnsafeRawBufferPointer) {
        (streamParts + streamPartCount).initialize(to: part)
        streamPartCount &+= 1
    }
}
