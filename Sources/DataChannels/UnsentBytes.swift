/// What of each stream was given to usrsctp and not sent yet: W3C's `bufferedAmount`.
///
/// usrsctp does not say. But every packet it sends passes here, and each DATA chunk with a new TSN is a part of a
/// message that was sent the first time.
struct UnsentBytes {
    private var counts: [UInt16: Int] = [:]
    private var highestTSN: UInt32?

    subscript(stream: UInt16) -> Int { counts[stream, default: 0] }

    mutating func add(_ bytes: Int, to stream: UInt16) { counts[stream, default: 0] += bytes }

    mutating func remove(_ stream: UInt16) { counts[stream] = nil }

    /// All was sent, or given up: messages that a channel's reliability ended before they were sent are found here.
    mutating func removeAll() { counts.removeAll(keepingCapacity: true) }

    /// Reads the chunks of an outgoing packet (RFC 9260 section 3).
    /// - Returns: each stream whose count fell, and the count before.
    mutating func observe(_ packet: [UInt8]) -> [(stream: UInt16, before: Int)] {
        var fallen: [(stream: UInt16, before: Int)] = []
        packet.withUnsafeBytes { packet in
            var offset = Self.headerBytes
            while offset + Self.chunkHeaderBytes <= packet.count {
                let length = Int(packet.bigEndian16(offset + 2))
                guard length >= Self.chunkHeaderBytes, offset + length <= packet.count else { return }
                if packet[offset] == Self.data, length >= Self.dataHeaderBytes {
                    let tsn = packet.bigEndian32(offset + 4)
                    let stream = packet.bigEndian16(offset + 8)
                    if isNew(tsn), let before = counts[stream] {
                        counts[stream] = max(0, before - (length - Self.dataHeaderBytes))
                        fallen.append((stream, before))
                    }
                }
                offset += (length + 3) & ~3
            }
        }
        return fallen
    }

    private mutating func isNew(_ tsn: UInt32) -> Bool {
        // Serial number arithmetic (RFC 9260 section 1.6).
        if let highestTSN, Int32(bitPattern: tsn &- highestTSN) <= 0 { return false }
        highestTSN = tsn
        return true
    }

    private static let headerBytes = 12
    private static let chunkHeaderBytes = 4
    private static let dataHeaderBytes = 16
    private static let data: UInt8 = 0
}

extension UnsafeRawBufferPointer {
    fileprivate func bigEndian16(_ offset: Int) -> UInt16 {
        UInt16(bigEndian: loadUnaligned(fromByteOffset: offset, as: UInt16.self))
    }

    fileprivate func bigEndian32(_ offset: Int) -> UInt32 {
        UInt32(bigEndian: loadUnaligned(fromByteOffset: offset, as: UInt32.self))
    }
}
