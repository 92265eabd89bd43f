/// FINGERPRINT: the CRC-32 of all that stands before it, XORed with "STUN" (RFC 8489 section 14.7).
package enum Fingerprint {
    /// - Parameter bytes: the message up to the FINGERPRINT attribute, whose length field already counts it.
    package static func value(of bytes: UnsafeRawBufferPointer) -> UInt32 {
        var crc = UInt32.max
        for byte in bytes {
            crc = table[Int(truncatingIfNeeded: (crc ^ UInt32(byte)) & 0xFF)] ^ crc >> 8
        }
        return ~crc ^ 0x5354_554E
    }

    /// The reflected polynomial of ITU V.42, one entry for each byte.
    private static let table: [UInt32] = (0..<256).map { index in
        (0..<8).reduce(UInt32(index)) { value, _ in
            value & 1 == 0 ? value >> 1 : value >> 1 ^ 0xEDB8_8320
        }
    }
}
