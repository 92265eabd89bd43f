/// MESSAGE-INTEGRITY and MESSAGE-INTEGRITY-SHA256 (RFC 8489 sections 14.5 and 14.6).
package enum Integrity: Sendable {
    case sha1, sha256

    package var hash: HashAlgorithm { self == .sha1 ? .sha1 : .sha256 }
    package var attribute: AttributeType { self == .sha1 ? .messageIntegrity : .messageIntegritySHA256 }

    /// Whether the attribute of this kind that `message` carries was made with `key`. A value of another length than
    /// the hash's fails: TURN defines no truncation.
    package func verifies(
        _ message: MessageView,
        key: UnsafeRawBufferPointer,
        with cryptography: any Cryptography
    ) -> Bool {
        let offset = self == .sha1 ? message.messageIntegrityOffset : message.messageIntegritySHA256Offset
        guard offset != 0 else { return false }
        let value = message.integrityValue(at: offset)
        guard value.count == hash.length else { return false }
        return withUnsafeTemporaryAllocation(byteCount: 32, alignment: 8) { mac in
            compute(over: message.bytes.slice(0, offset), key: key, into: mac, with: cryptography)
            return cryptography.areEqual(UnsafeRawBufferPointer(mac).slice(0, hash.length), value)
        }
    }

    /// The MAC over a message up to this attribute, with the header's length counting this attribute and nothing after
    /// it.
    package func compute(
        over bytes: UnsafeRawBufferPointer,
        key: UnsafeRawBufferPointer,
        into mac: UnsafeMutableRawBufferPointer,
        with cryptography: any Cryptography
    ) {
        withUnsafeTemporaryAllocation(byteCount: MessageView.headerLength, alignment: 8) { header in
            header.copyMemory(from: bytes.slice(0, MessageView.headerLength))
            let length = bytes.count - MessageView.headerLength + 4 + hash.length
            header.store(UInt16(truncatingIfNeeded: length), at: 2)
            cryptography.authenticate(
                hash,
                key: key,
                first: UnsafeRawBufferPointer(header),
                second: bytes.slice(MessageView.headerLength, bytes.count - MessageView.headerLength),
                mac: mac
            )
        }
    }
}
