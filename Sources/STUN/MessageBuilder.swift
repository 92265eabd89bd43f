/// Writes a STUN message into bytes that the caller owns. An attribute that does not fit is left out and makes `finish`
/// return nil, so a writer needs no check after every line.
package struct MessageBuilder {
    package let transactionID: TransactionID
    /// Bytes written so far.
    package private(set) var count: Int

    private let bytes: UnsafeMutableRawBufferPointer
    private var overflowed = false

    package init(_ type: MessageType, _ transactionID: TransactionID, into bytes: UnsafeMutableRawBufferPointer) {
        self.bytes = bytes
        self.transactionID = transactionID
        self.count = MessageView.headerLength
        guard bytes.count >= MessageView.headerLength else {
            overflowed = true
            return
        }
        bytes.store(type.rawValue, at: 0)
        bytes.store(UInt16(0), at: 2)
        bytes.store(MessageView.magicCookie, at: 4)
        bytes.store(transactionID.high, at: 8)
        bytes.store(transactionID.low, at: 16)
    }

    package mutating func append(_ type: AttributeType, _ value: UnsafeRawBufferPointer) {
        guard let space = reserve(type, value.count) else { return }
        space.copyMemory(from: value)
    }

    package mutating func append(_ type: AttributeType, _ value: [UInt8]) {
        value.withUnsafeBytes { append(type, $0) }
    }

    package mutating func append(_ type: AttributeType, _ value: UInt32) {
        reserve(type, 4)?.store(value, at: 0)
    }

    package mutating func append(_ type: AttributeType, _ value: UInt64) {
        reserve(type, 8)?.store(value, at: 0)
    }

    package mutating func append(_ type: AttributeType, xor endpoint: Endpoint) {
        guard let space = reserve(type, AddressAttribute.valueLength(endpoint.family)) else { return }
        _ = AddressAttribute.encodeXOR(endpoint, transactionID, into: space)
    }

    package mutating func append(_ type: AttributeType, plain endpoint: Endpoint) {
        guard let space = reserve(type, AddressAttribute.valueLength(endpoint.family)) else { return }
        _ = AddressAttribute.encode(endpoint, into: space)
    }

    /// ERROR-CODE without a reason phrase: nobody reads it, and it makes an unauthenticated answer longer than it need
    /// be (RFC 8489 section 14.8).
    package mutating func append(error code: ErrorCode) {
        append(.errorCode, UInt32(code.rawValue / 100) << 8 | UInt32(code.rawValue % 100))
    }

    /// ADDRESS-ERROR-CODE: the family that could not be had, and why (RFC 8656 section 18.12).
    package mutating func append(addressError code: ErrorCode, family: AddressFamily) {
        append(
            .addressErrorCode,
            UInt32(family.rawValue) << 24 | UInt32(code.rawValue / 100) << 8 | UInt32(code.rawValue % 100)
        )
    }

    /// UNKNOWN-ATTRIBUTES: two bytes for each type (RFC 8489 section 14.13).
    package mutating func append(unknown types: some Collection<AttributeType>) {
        guard let space = reserve(.unknownAttributes, types.count * 2) else { return }
        for (index, type) in types.enumerated() { space.store(type.rawValue, at: index * 2) }
    }

    /// PADDING: zeros, so that a large answer carries nothing of anybody's (RFC 5780 section 7.6).
    package mutating func append(paddingBytes count: Int) {
        reserve(.padding, count)?.initializeMemory(as: UInt8.self, repeating: 0)
    }

    /// Must be followed by nothing but the other integrity attribute and FINGERPRINT.
    package mutating func append(
        _ integrity: Integrity,
        key: UnsafeRawBufferPointer,
        with cryptography: any Cryptography
    ) {
        let before = count
        guard let space = reserve(integrity.attribute, integrity.hash.length) else { return }
        integrity.compute(
            over: UnsafeRawBufferPointer(bytes).slice(0, before),
            key: key,
            into: space,
            with: cryptography
        )
    }

    /// Must be the last.
    package mutating func appendFingerprint() {
        let before = count
        guard let space = reserve(.fingerprint, 4) else { return }
        // The header's length counts FINGERPRINT before its value is computed (RFC 8489 section 14.7).
        writeLength()
        space.store(Fingerprint.value(of: UnsafeRawBufferPointer(bytes).slice(0, before)), at: 0)
    }

    /// Writes the header's length.
    /// - Returns: the message's length in bytes, or nil when something did not fit.
    package func finish() -> Int? {
        guard !overflowed else { return nil }
        writeLength()
        return count
    }

    private func writeLength() {
        bytes.store(UInt16(truncatingIfNeeded: count - MessageView.headerLength), at: 2)
    }

    /// Writes the attribute's header and its zeroed padding, and gives the place of its value.
    private mutating func reserve(_ type: AttributeType, _ length: Int) -> UnsafeMutableRawBufferPointer? {
        let padded = (length + 3) & ~3
        let end = count + 4 + padded
        guard !overflowed, length <= Int(UInt16.max), end <= bytes.count,
            end - MessageView.headerLength <= Int(UInt16.max)
        else {
            overflowed = true
            return nil
        }
        bytes.store(type.rawValue, at: count)
        bytes.store(UInt16(truncatingIfNeeded: length), at: count + 2)
        // Padding is zero, so that nothing another client left in the buffer goes out with it.
        if padded != length { bytes.store(UInt32(0), at: count + 4 + padded - 4) }
        let space = UnsafeMutableRawBufferPointer(rebasing: bytes[(count + 4)..<(count + 4 + length)])
        count = end
        return space
    }
}
