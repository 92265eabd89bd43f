/// A STUN message lying in bytes that the caller owns. Making one checks the whole structure; reading from it
/// afterwards neither allocates nor fails.
///
///     0      2      4              8                      20
///     ├─type─┼length┼ 2112A442 ────┼─ transaction id ─────┼─ attributes: type length value pad …
package struct MessageView {
    /// Exactly the message: 20 bytes and the attributes.
    package let bytes: UnsafeRawBufferPointer
    package let type: MessageType
    package let transactionID: TransactionID
    /// Where each integrity attribute begins, or 0 where there is none.
    package let messageIntegrityOffset: Int
    package let messageIntegritySHA256Offset: Int
    /// Where FINGERPRINT begins, or 0. It has been verified.
    package let fingerprintOffset: Int
    /// Where the attributes end that a handler may see. What follows an integrity attribute is covered by no MAC, so
    /// it must be ignored (RFC 8489 section 14.5).
    package let visibleEnd: Int

    package static let headerLength = 20
    package static let magicCookie: UInt32 = 0x2112_A442

    /// Parses one whole datagram, or one whole frame of a stream.
    package init(_ bytes: UnsafeRawBufferPointer) throws(MalformedMessage) {
        guard bytes.count >= Self.headerLength else { throw .tooShort }
        guard let type = MessageType(rawValue: bytes.uint16(at: 0)) else { throw .notSTUN }
        guard bytes.uint32(at: 4) == Self.magicCookie else { throw .wrongCookie }
        let length = Int(bytes.uint16(at: 2))
        // RFC 8489 section 5: attributes are padded to four bytes, so the last two bits of the length are zero.
        guard length & 3 == 0, length == bytes.count - Self.headerLength else { throw .wrongLength }

        var integrity = 0
        var integritySHA256 = 0
        var fingerprint = 0
        var visibleEnd = bytes.count
        var offset = Self.headerLength
        while offset < bytes.count {
            // RFC 8489 section 14.7: FINGERPRINT is the last attribute.
            guard fingerprint == 0 else { throw .wrongFingerprint }
            guard bytes.count - offset >= 4 else { throw .truncatedAttribute }
            let valueLength = Int(bytes.uint16(at: offset + 2))
            let next = offset + 4 + (valueLength + 3) & ~3
            guard next <= bytes.count else { throw .truncatedAttribute }
            switch AttributeType(rawValue: bytes.uint16(at: offset)) {
            case .fingerprint:
                guard valueLength == 4, next == bytes.count,
                    bytes.uint32(at: offset + 4) == Fingerprint.value(of: bytes.slice(0, offset))
                else { throw .wrongFingerprint }
                fingerprint = offset
                visibleEnd = min(visibleEnd, offset)
            case .messageIntegrity where integrity == 0 && integritySHA256 == 0:
                integrity = offset
                visibleEnd = min(visibleEnd, offset)
            case .messageIntegritySHA256 where integritySHA256 == 0:
                integritySHA256 = offset
                visibleEnd = min(visibleEnd, offset)
            default:
                break
            }
            offset = next
        }
        self.bytes = bytes
        self.type = type
        self.transactionID = TransactionID(high: bytes.uint64(at: 8), low: bytes.uint32(at: 16))
        self.messageIntegrityOffset = integrity
        self.messageIntegritySHA256Offset = integritySHA256
        self.fingerprintOffset = fingerprint
        self.visibleEnd = visibleEnd
    }

    package var hasIntegrity: Bool { messageIntegrityOffset != 0 || messageIntegritySHA256Offset != 0 }

    /// The attributes a handler may see, in order.
    package var attributes: AttributeIterator {
        AttributeIterator(bytes: bytes, offset: Self.headerLength, end: visibleEnd)
    }

    /// The value of the first attribute of that type. When a type stands twice only the first counts
    /// (RFC 8489 section 14).
    package func first(_ type: AttributeType) -> UnsafeRawBufferPointer? {
        var iterator = attributes
        while let attribute = iterator.next() {
            if attribute.type == type { return attribute.value }
        }
        return nil
    }

    /// The value of the integrity attribute at `offset`, which parsing found there.
    package func integrityValue(at offset: Int) -> UnsafeRawBufferPointer {
        bytes.slice(offset + 4, Int(bytes.uint16(at: offset + 2)))
    }
}

/// Why bytes are no STUN message.
package enum MalformedMessage: Error, Hashable, Sendable {
    case tooShort, notSTUN, wrongCookie, wrongLength, truncatedAttribute, wrongFingerprint
}

package struct Attribute {
    package let type: AttributeType
    /// Without the padding.
    package let value: UnsafeRawBufferPointer
}

/// Walks attributes whose structure has been checked.
package struct AttributeIterator: IteratorProtocol {
    let bytes: UnsafeRawBufferPointer
    var offset: Int
    let end: Int

    package mutating func next() -> Attribute? {
        guard offset < end else { return nil }
        let length = Int(bytes.uint16(at: offset + 2))
        let attribute = Attribute(
            type: AttributeType(rawValue: bytes.uint16(at: offset)),
            value: bytes.slice(offset + 4, length)
        )
        offset += 4 + (length + 3) & ~3
        return attribute
    }
}
