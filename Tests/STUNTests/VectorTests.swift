import OpenSSLCrypto
import STUN
import Testing

/// SP-27: the published sample messages, read and written.
///
/// Two of RFC 5769's attributes are padded with spaces, where this builder pads with zeros. A receiver ignores padding,
/// but the MAC covers it, so the tests that build overwrite those bytes before the MAC is made.
@Suite struct VectorTests {
    private let cryptography: OpenSSLCryptography

    init() throws { cryptography = try OpenSSLCryptography() }

    private func verifies(_ integrity: Integrity, _ message: MessageView, _ key: [UInt8]) -> Bool {
        key.withUnsafeBytes { integrity.verifies(message, key: $0, with: cryptography) }
    }

    private func append(_ integrity: Integrity, _ key: [UInt8], to builder: inout MessageBuilder) {
        key.withUnsafeBytes { builder.append(integrity, key: $0, with: cryptography) }
    }

    private func longTermKey(_ hash: HashAlgorithm) -> [UInt8] {
        let text = Array("\(Vectors.username):\(Vectors.realm):\(Vectors.longTermPassword)".utf8)
        return hash == .md5 ? Digest.md5(text) : Digest.sha256(text)
    }

    @Test func sp27_rfc5769RequestParsesAndVerifies() throws {
        try parsing(Vectors.request) { message in
            #expect(message.type == MessageType(.binding, .request))
            #expect(message.transactionID == TransactionID(high: 0xB7E7_A701_BC34_D686, low: 0xFA87_DFAE))
            #expect(message.first(.software).map(Array.init) == Array("STUN test client".utf8))
            #expect(message.first(.username).map(Array.init) == Array("evtj:h6vY".utf8))
            #expect(message.first(AttributeType(rawValue: 0x0024))?.uint32(at: 0) == 0x6E00_01FF)
            #expect(message.first(AttributeType(rawValue: 0x8029))?.uint64(at: 0) == 0x932F_F9B1_5126_3B36)
            #expect(message.fingerprintOffset != 0)
            #expect(verifies(.sha1, message, Vectors.shortTermPassword))
            #expect(!verifies(.sha1, message, Array("another".utf8)))
            #expect(!verifies(.sha256, message, Vectors.shortTermPassword))
        }
    }

    @Test func sp27_rfc5769RequestIsBuiltByteForByte() throws {
        let identifier = TransactionID(high: 0xB7E7_A701_BC34_D686, low: 0xFA87_DFAE)
        let built = building(MessageType(.binding, .request), identifier) { builder, buffer in
            builder.append(.software, Array("STUN test client".utf8))
            builder.append(AttributeType(rawValue: 0x0024), 0x6E00_01FF as UInt32)
            builder.append(AttributeType(rawValue: 0x8029), 0x932F_F9B1_5126_3B36 as UInt64)
            builder.append(.username, Array("evtj:h6vY".utf8))
            for index in 1...3 { buffer[builder.count - index] = UInt8(ascii: " ") }
            append(.sha1, Vectors.shortTermPassword, to: &builder)
            builder.appendFingerprint()
        }
        #expect(built == Vectors.request)
    }

    @Test(arguments: [
        (Vectors.responseV4, Endpoint(address: IPAddress(v4: 0xC000_0201), port: 32_853)),
        (
            Vectors.responseV6,
            Endpoint(address: IPAddress(high: 0x2001_0DB8_1234_5678, low: 0x0011_2233_4455_6677), port: 32_853)
        ),
    ])
    func sp27_rfc5769ResponsesParseVerifyAndAreBuilt(_ vector: [UInt8], _ mapped: Endpoint) throws {
        let identifier = try parsing(vector) { message in
            #expect(message.type == MessageType(.binding, .successResponse))
            let value = try #require(message.first(.xorMappedAddress))
            #expect(AddressAttribute.decodeXOR(value, message.transactionID) == mapped)
            #expect(message.first(.software).map(Array.init) == Array("test vector".utf8))
            #expect(verifies(.sha1, message, Vectors.shortTermPassword))
            return message.transactionID
        }
        let built = building(MessageType(.binding, .successResponse), identifier) { builder, buffer in
            builder.append(.software, Array("test vector".utf8))
            buffer[builder.count - 1] = UInt8(ascii: " ")
            builder.append(.xorMappedAddress, xor: mapped)
            append(.sha1, Vectors.shortTermPassword, to: &builder)
            builder.appendFingerprint()
        }
        #expect(built == vector)
    }

    @Test func sp27_rfc5769LongTermRequestParsesVerifiesAndIsBuilt() throws {
        let nonce = Array("f//499k954d6OL34oL9FSTvy64sA".utf8)
        let identifier = try parsing(Vectors.longTermRequest) { message in
            #expect(message.first(.username).map(Array.init) == Array(Vectors.username.utf8))
            #expect(message.first(.nonce).map(Array.init) == nonce)
            #expect(message.first(.realm).map(Array.init) == Array(Vectors.realm.utf8))
            #expect(message.fingerprintOffset == 0)
            #expect(verifies(.sha1, message, longTermKey(.md5)))
            return message.transactionID
        }
        let built = building(MessageType(.binding, .request), identifier) { builder, _ in
            builder.append(.username, Array(Vectors.username.utf8))
            builder.append(.nonce, nonce)
            builder.append(.realm, Array(Vectors.realm.utf8))
            append(.sha1, longTermKey(.md5), to: &builder)
        }
        #expect(built == Vectors.longTermRequest)
    }

    @Test func sp27_rfc8489UserhashRequestParsesVerifiesAndIsBuilt() throws {
        let nonce = Array("obMatJos2AAACf//499k954d6OL34oL9FSTvy64sA".utf8)
        let userhash = Digest.sha256(Array("\(Vectors.username):\(Vectors.realm)".utf8))
        let identifier = try parsing(Vectors.userhashRequest) { message in
            #expect(message.first(.userhash).map(Array.init) == userhash)
            #expect(message.first(.nonce).map(Array.init) == nonce)
            #expect(message.first(.passwordAlgorithm).map(Array.init) == [0, 2, 0, 0])
            #expect(message.messageIntegrityOffset == 0)
            #expect(verifies(.sha256, message, longTermKey(.sha256)))
            #expect(!verifies(.sha256, message, longTermKey(.md5)))
            return message.transactionID
        }
        let built = building(MessageType(.binding, .request), identifier) { builder, _ in
            builder.append(.userhash, userhash)
            builder.append(.nonce, nonce)
            builder.append(.realm, Array(Vectors.realm.utf8))
            builder.append(.passwordAlgorithm, [0, 2, 0, 0])
            append(.sha256, longTermKey(.sha256), to: &builder)
        }
        #expect(built == Vectors.userhashRequest)
    }

    @Test func everyBitOfASignedVectorCounts() throws {
        // Flipping any bit that the MAC covers must break it, or break the message; the length field is covered too.
        let end = try parsing(Vectors.longTermRequest) { $0.messageIntegrityOffset + 24 }
        for bit in 0..<(end * 8) {
            var bytes = Vectors.longTermRequest
            bytes[bit / 8] ^= 1 << (bit % 8)
            let accepted = (try? parsing(bytes) { verifies(.sha1, $0, longTermKey(.md5)) }) ?? false
            #expect(!accepted, "bit \(bit)")
        }
    }
}
