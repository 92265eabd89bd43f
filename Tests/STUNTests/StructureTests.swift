import STUN
import TestSupport
import Testing

/// SP-02 to SP-10 and SP-19: what is no message is refused, and nothing reads past its end.
@Suite struct StructureTests {
    private static let header = hex("0001 0000 2112a442 000102030405060708090a0b")

    /// A Binding request with these bytes as its attributes, its length field as it should be unless given.
    private func message(_ attributes: [UInt8], length: Int? = nil) -> [UInt8] {
        var bytes = Self.header + attributes
        let field = length ?? attributes.count
        bytes[2] = UInt8(truncatingIfNeeded: field >> 8)
        bytes[3] = UInt8(truncatingIfNeeded: field)
        return bytes
    }

    private func fingerprinted(_ attributes: [UInt8]) -> [UInt8] {
        var bytes = message(attributes, length: attributes.count + 8)
        let value = bytes.withUnsafeBytes { Fingerprint.value(of: $0) }
        bytes += hex("8028 0004") + withUnsafeBytes(of: value.bigEndian, Array.init)
        return bytes
    }

    @Test func sp02_fewerThanTwentyBytesAreTooShort() {
        for count in 0..<20 {
            #expect(refusal(of: Array(repeating: 0, count: count)) == .tooShort)
            #expect(refusal(of: Array(Vectors.request.prefix(count))) == .tooShort)
        }
    }

    @Test func sp03_aLeadingBitOutsideStunIsRefused() {
        for first in UInt8(0x40)...0xFF {
            var bytes = Self.header
            bytes[0] = first
            #expect(refusal(of: bytes) == .notSTUN)
        }
    }

    @Test func sp04_anotherCookieIsRefused() {
        for offset in 4..<8 {
            var bytes = Self.header
            bytes[offset] ^= 1
            #expect(refusal(of: bytes) == .wrongCookie)
        }
    }

    @Test func sp05_aLengthThatIsNoMultipleOfFourIsRefused() {
        for length in [1, 2, 3, 5, 6, 7] {
            #expect(refusal(of: message(Array(repeating: 0, count: length))) == .wrongLength)
            #expect(refusal(of: message([], length: length)) == .wrongLength)
        }
    }

    @Test func sp06_aLengthThatIsNotTheDatagramsIsRefused() {
        let attribute = hex("8022 0004 61626364")
        #expect(refusal(of: message(attribute)) == nil)
        #expect(refusal(of: message(attribute, length: 12)) == .wrongLength)
        #expect(refusal(of: message(attribute, length: 4)) == .wrongLength)
        #expect(refusal(of: message(attribute, length: 0)) == .wrongLength)
        #expect(refusal(of: message(attribute) + [0, 0, 0, 0]) == .wrongLength)
    }

    @Test func sp07_theGreatestLengthOverTwentyBytesIsRefused() {
        #expect(refusal(of: message([], length: 0xFFFC)) == .wrongLength)
        #expect(refusal(of: message([], length: 0xFFFF)) == .wrongLength)
    }

    @Test func sp08_anAttributeThatRunsPastTheEndIsRefused() {
        #expect(refusal(of: message(hex("8022 0005 61626364"))) == .truncatedAttribute)
        #expect(refusal(of: message(hex("8022 0001"))) == .truncatedAttribute)
        #expect(refusal(of: message(hex("0006 0004 61626364 8022 0009 61626364"))) == .truncatedAttribute)
    }

    @Test func sp09_bytesLeftBehindTheLastAttributeAreRefused() {
        // With a length field that tells of them, and with one that does not.
        for left in 1...3 {
            let bytes = hex("8022 0004 61626364") + Array(repeating: 0, count: left)
            #expect(refusal(of: message(bytes)) == .wrongLength)
            #expect(refusal(of: message(bytes, length: 8)) == .wrongLength)
        }
    }

    @Test func sp10_anAttributeLengthThatWouldWrapSixteenBitsIsRefused() {
        for length in 0xFFFD...0xFFFF {
            let bytes = hex("8022") + [UInt8(length >> 8), UInt8(length & 0xFF)]
            #expect(refusal(of: message(bytes)) == .truncatedAttribute)
            // As large as a message can be: the padded end is still past it.
            let large = bytes + Array(repeating: 0, count: 0xFFFC - bytes.count)
            #expect(refusal(of: message(large)) == .truncatedAttribute)
        }
        // The largest value that does fit.
        let fits = hex("8022 fff8") + Array(repeating: 7, count: 0xFFF8)
        #expect(throws: Never.self) {
            try parsing(message(fits)) { #expect($0.first(.software)?.count == 0xFFF8) }
        }
    }

    @Test func sp19_aBadMisplacedOrDoubledFingerprintIsRefused() throws {
        let good = fingerprinted(hex("8022 0004 61626364"))
        try parsing(good) { #expect($0.fingerprintOffset == 28) }
        for bit in 0..<32 {
            var bytes = good
            bytes[bytes.count - 4 + bit / 8] ^= 1 << (bit % 8)
            #expect(refusal(of: bytes) == .wrongFingerprint)
        }
        for offset in [1, 8, 19, 24] {
            var bytes = good
            bytes[offset] ^= 0x10
            #expect(refusal(of: bytes) == .wrongFingerprint)
        }
        // Followed by another attribute, and by itself.
        let notLast = Array(good.dropFirst(20)) + hex("8022 0000")
        #expect(refusal(of: message(notLast)) == .wrongFingerprint)
        let twice = Array(good.dropFirst(20)) + Array(good.suffix(8))
        #expect(refusal(of: message(twice)) == .wrongFingerprint)
        for length in [0, 3] {
            #expect(
                refusal(of: message(hex("8028") + [0, UInt8(length)] + (length == 0 ? [] : [0, 0, 0, 0])))
                    == .wrongFingerprint
            )
        }
    }

    @Test func sp18_attributesBehindAnIntegrityAttributeAreInvisible() throws {
        let macs = [
            hex("0008 0014") + Array(repeating: 1, count: 20), hex("001c 0020") + Array(repeating: 2, count: 32),
        ]
        for mac in macs {
            let bytes = message(hex("000d 0004 00000001") + mac + hex("000d 0004 00000002 0012 0008 0001000001020304"))
            try parsing(bytes) { message in
                var iterator = message.attributes
                var types: [AttributeType] = []
                while let attribute = iterator.next() { types.append(attribute.type) }
                #expect(types == [.lifetime])
                #expect(message.first(.lifetime)?.uint32(at: 0) == 1)
                #expect(message.first(.xorPeerAddress) == nil)
                #expect(message.hasIntegrity)
            }
        }
        // Both kinds are found when SHA-256 stands second, with something smuggled between them.
        try parsing(message(macs[0] + hex("000d 0004 00000002") + macs[1])) { message in
            #expect(message.messageIntegrityOffset == 20)
            #expect(message.messageIntegritySHA256Offset == 52)
            #expect(message.first(.lifetime) == nil)
        }
        // MESSAGE-INTEGRITY behind the SHA-256 one is none (RFC 8489 section 14.6).
        try parsing(message(macs[1] + macs[0])) { #expect($0.messageIntegrityOffset == 0) }
        // Of two of a kind the first counts.
        try parsing(message(macs[0] + macs[0])) { #expect($0.messageIntegrityOffset == 20) }
        try parsing(message(macs[1] + macs[1])) { #expect($0.messageIntegritySHA256Offset == 20) }
    }

    @Test func theFirstOfTwoAttributesCounts() throws {
        try parsing(message(hex("000d 0004 00000001 000d 0004 00000002"))) {
            #expect($0.first(.lifetime)?.uint32(at: 0) == 1)
        }
    }

    @Test func sp14_sixteenThousandEmptyAttributesAreWalkedOnce() throws {
        let bytes = message(Array(repeating: hex("8022 0000"), count: 16_000).flatMap { $0 })
        try parsing(bytes) { message in
            var iterator = message.attributes
            var count = 0
            while iterator.next() != nil { count += 1 }
            #expect(count == 16_000)
            #expect(message.first(.lifetime) == nil)
        }
    }
}
