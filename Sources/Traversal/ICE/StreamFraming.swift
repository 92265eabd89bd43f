import STUN

/// Datagrams in a stream, each behind its length in two bytes (RFC 4571 section 2): what ICE sends over TCP (RFC 6544
/// section 3), checks and data alike.
package struct StreamFraming: Sendable {
    /// What is not yet a whole datagram.
    private var bytes: [UInt8] = []
    private let limitBytes: Int

    /// - Parameter limitBytes: the longest datagram that is taken. What is held is never more than that and one chunk.
    package init(limitBytes: Int = 65_535) { self.limitBytes = limitBytes }

    /// - Returns: the datagram as it goes into the stream; nil for one that the length has no room for.
    package static func frame(_ datagram: UnsafeRawBufferPointer) -> [UInt8]? {
        guard let length = UInt16(exactly: datagram.count) else { return nil }
        var framed: [UInt8] = []
        framed.reserveCapacity(2 + datagram.count)
        framed.append(UInt8(length >> 8))
        framed.append(UInt8(length & 0xFF))
        framed.append(contentsOf: datagram)
        return framed
    }

    /// Adds what came by the stream, in whatever pieces, and hands over each datagram that is whole.
    /// - Returns: false when a longer one than the limit is announced. The stream is of no more use then.
    package mutating func append(_ chunk: UnsafeRawBufferPointer, _ body: (UnsafeRawBufferPointer) -> Void) -> Bool {
        bytes.append(contentsOf: chunk)
        var start = 0
        let isGood = bytes.withUnsafeBytes { all in
            while all.count - start >= 2 {
                let length = Int(all.uint16(at: start))
                guard length <= limitBytes else { return false }
                guard all.count - start - 2 >= length else { break }
                // An empty frame carries nothing, which RFC 4571 section 2 allows.
                if length > 0 { body(all.slice(start + 2, length)) }
                start += 2 + length
            }
            return true
        }
        bytes.removeFirst(isGood ? start : bytes.count)
        return isGood
    }
}
