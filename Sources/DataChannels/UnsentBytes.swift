/// What of each stream was given to usrsctp and not sent yet: W3C's `bufferedAmount`.
///
/// usrsctp does not say. But every packet it sends passes here, and each DATA chunk with a new TSN is a part of a
/// message that was sent the first time.
struct UnsentBytes {
    private struct Count {
        var bytes = 0
        var lowThreshold = 0
    }

    private var counts: [UInt16: Count] = [:]
    private var highestTSN: UInt32?
    /// Streams whose count fell to their threshold.
    private var fallen: [UInt16] = []

    subscript(stream: UInt16) -> Int { counts[stream]?.bytes ?? 0 }

    mutating func add(_ bytes: Int, to stream: UInt16) { counts[stream, default: Count()].bytes += bytes }

    mutating func setLowThreshold(_ bytes: Int, of stream: UInt16) {
        counts[stream, default: Count()].lowThreshold = bytes
    }

    mutating func remove(_ stream: UInt16) {
        counts[stream] = nil
        fallen.removeAll { $0 == stream }
    }

    mutating func removeAll() { self = UnsentBytes() }

    /// All was sent, or given up: messages that a channel's reliability ended before they were sent are found here.
    mutating func noteDry() {
        for (stream, count) in counts where count.bytes > 0 { lower(stream, by: count.bytes) }
    }

    /// Reads the chunks of an outgoing packet (RFC 9260 section 3).
    mutating func observe(_ packet: UnsafeRawBufferPointer) {
        var offset = Self.headerBytes
        while offset + Self.chunkHeaderBytes <= packet.count {
            let length = Int(packet.bigEndian16(offset + 2))
            guard length >= Self.chunkHeaderBytes, offset + length <= packet.count else { return }
            if packet[offset] == Self.data, length >= Self.dataHeaderBytes, isNew(packet.bigEndian32(offset + 4)) {
                // What opens a channel is no part of its messages.
                let isMessage = packet.bigEndian32(offset + 12) != PayloadProtocol.establishment.rawValue
                if isMessage { lower(packet.bigEndian16(offset + 8), by: length - Self.dataHeaderBytes) }
            }
            offset += (length + 3) & ~3
        }
    }

    /// The streams whose counts fell to their thresholds since the last call, the lowest first.
    mutating func takeFallen() -> [UInt16] {
        if fallen.isEmpty { return [] }
        defer { fallen = [] }
        return fallen.sorted()
    }

    private mutating func lower(_ stream: UInt16, by bytes: Int) {
        guard let count = counts[stream], count.bytes > 0 else { return }
        let left = max(0, count.bytes - bytes)
        counts[stream]?.bytes = left
        if count.bytes > count.lowThreshold, left <= count.lowThreshold, !fallen.contains(stream) {
            fallen.append(stream)
        }
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
