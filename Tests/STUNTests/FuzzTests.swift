import OpenSSLCrypto
import STUN
import TestSupport
import Testing

/// SP-13, SP-28, and mutations of good messages: the parser agrees with a slow one written from the text, and never
/// traps.
@Suite struct FuzzTests {
    @Test(arguments: 0...7)
    func sp13_aShiftedBufferGivesTheSameMessage(_ shift: Int) throws {
        let cryptography = try OpenSSLCryptography()
        for vector in Vectors.all {
            let here = try parsing(vector) { Snapshot($0) }
            let shifted = [UInt8](repeating: 0xEE, count: shift) + vector + [0xEE]
            try shifted.withUnsafeBytes { buffer in
                let message = try MessageView(buffer.slice(shift, vector.count))
                #expect(Snapshot(message) == here)
                let key = Vectors.shortTermPassword
                let verifies = key.withUnsafeBytes { Integrity.sha1.verifies(message, key: $0, with: cryptography) }
                #expect(
                    verifies
                        == (try parsing(vector) { message in
                            key.withUnsafeBytes { Integrity.sha1.verifies(message, key: $0, with: cryptography) }
                        })
                )
            }
        }
    }

    @Test func sp28_decodingAndEncodingReachAFixedPoint() throws {
        for vector in Vectors.all {
            let once = try reencode(vector)
            #expect(try reencode(once) == once)
            #expect(try parsing(once) { Snapshot($0).attributes } == parsing(vector) { Snapshot($0).attributes })
        }
    }

    @Test func mutatedMessagesAreReadAsTheSlowParserReadsThem() throws {
        var generator = SeededGenerator(for: "mutatedMessagesAreReadAsTheSlowParserReadsThem")
        let cryptography = try OpenSSLCryptography()
        var accepted = 0
        for round in 0..<fuzzRounds(20_000) {
            var bytes = Vectors.all.randomElement(using: &generator) ?? []
            for _ in 0..<Int.random(in: 1...4, using: &generator) { mutate(&bytes, &generator) }
            if Bool.random(using: &generator) { repair(&bytes) }
            let expected = SlowParser.attributes(of: bytes)
            let found = try? parsing(bytes) { message -> Snapshot in
                Vectors.shortTermPassword.withUnsafeBytes { key in
                    _ = Integrity.sha1.verifies(message, key: key, with: cryptography)
                    _ = Integrity.sha256.verifies(message, key: key, with: cryptography)
                }
                for type in UInt16(0)...0x2F { _ = message.first(AttributeType(rawValue: type)) }
                return Snapshot(message)
            }
            if found?.attributes != expected {
                Issue.record("seed \(generator.seed), round \(round): \(bytes) reads \(String(describing: found))")
                return
            }
            if found != nil {
                accepted += 1
                let once = try reencode(bytes)
                #expect(try reencode(once) == once, "seed \(generator.seed), round \(round)")
            }
        }
        // A fuzzer whose messages are all refused at the door would show nothing.
        #expect(accepted > 100)
    }

    @Test func randomBytesNeverTrap() {
        var generator = SeededGenerator(for: "randomBytesNeverTrap")
        for round in 0..<fuzzRounds(20_000) {
            var bytes = (0..<Int.random(in: 0...96, using: &generator)).map { _ in
                UInt8.random(in: .min ... .max, using: &generator)
            }
            // Every other one has a good header, so that its attributes are read.
            if round % 2 == 0, bytes.count >= 20 {
                bytes.replaceSubrange(..<8, with: hex("0003 0000 2112a442"))
                repair(&bytes)
            }
            #expect((refusal(of: bytes) == nil) == (SlowParser.attributes(of: bytes) != nil))
            bytes.withUnsafeBytes { buffer in
                _ = AddressAttribute.decode(buffer)
                if let data = ChannelData(buffer) { #expect(data.length + 4 <= buffer.count) }
            }
        }
    }

    /// Writes what a message says anew: its visible attributes, its MACs as they are, and FINGERPRINT.
    private func reencode(_ bytes: [UInt8]) throws -> [UInt8] {
        let rebuilt = try parsing(bytes) { message in
            building(message.type, message.transactionID, capacity: 70_000) { builder, _ in
                var iterator = message.attributes
                while let attribute = iterator.next() { builder.append(attribute.type, attribute.value) }
                if message.messageIntegrityOffset != 0 {
                    builder.append(.messageIntegrity, message.integrityValue(at: message.messageIntegrityOffset))
                }
                if message.messageIntegritySHA256Offset != 0 {
                    builder.append(
                        .messageIntegritySHA256,
                        message.integrityValue(at: message.messageIntegritySHA256Offset)
                    )
                }
                if message.fingerprintOffset != 0 { builder.appendFingerprint() }
            }
        }
        return try #require(rebuilt)
    }

    private func mutate(_ bytes: inout [UInt8], _ generator: inout SeededGenerator) {
        guard !bytes.isEmpty else { return }
        let place = Int.random(in: 0..<bytes.count, using: &generator)
        switch Int.random(in: 0..<7, using: &generator) {
        case 0: bytes[place] = UInt8.random(in: .min ... .max, using: &generator)
        case 1: bytes[place] ^= 1 << UInt8.random(in: 0..<8, using: &generator)
        case 2: bytes.removeLast(Int.random(in: 1...min(12, bytes.count), using: &generator))
        case 3:
            bytes += (0..<Int.random(in: 1...12, using: &generator)).map { _ in
                UInt8.random(in: .min ... .max, using: &generator)
            }
        case 4:
            let word = place & ~3
            let types = hex("0006 0008 0014 0015 001c 001e 8028 0012 000d 8022")
            let choice = Int.random(in: 0..<(types.count / 2), using: &generator) * 2
            guard word >= 20, word + 4 <= bytes.count else { return }
            bytes.replaceSubrange(
                word..<(word + 4),
                with: [types[choice], types[choice + 1], 0, UInt8.random(in: 0...40, using: &generator)]
            )
        case 5:
            let word = place & ~3
            guard word >= 20 else { return }
            bytes.insert(contentsOf: hex("8022 0000"), at: word)
        default:
            let interesting: [UInt8] = [0x00, 0x01, 0x03, 0x04, 0x7F, 0x80, 0xFC, 0xFD, 0xFE, 0xFF]
            bytes[place] = interesting.randomElement(using: &generator) ?? 0
        }
    }

    /// Gives a mutated message a right length and, where its end looks like one, a right FINGERPRINT, so that it comes
    /// far.
    private func repair(_ bytes: inout [UInt8]) {
        guard bytes.count >= 20 else { return }
        bytes[2] = UInt8(truncatingIfNeeded: (bytes.count - 20) >> 8)
        bytes[3] = UInt8(truncatingIfNeeded: bytes.count - 20)
        let end = bytes.count - 8
        guard end >= 20, Array(bytes[end..<(end + 4)]) == hex("8028 0004") else { return }
        let value = SlowParser.crc(Array(bytes[..<end])) ^ 0x5354_554E
        bytes.replaceSubrange((end + 4)..., with: withUnsafeBytes(of: value.bigEndian, Array.init))
    }
}

/// What a message says, free of its buffer.
private struct Snapshot: Equatable {
    struct Attribute: Equatable {
        var type: UInt16
        var value: [UInt8]
    }

    var type: UInt16
    var high: UInt64
    var low: UInt32
    var attributes: [Attribute] = []

    init(_ message: MessageView) {
        type = message.type.rawValue
        high = message.transactionID.high
        low = message.transactionID.low
        var iterator = message.attributes
        while let attribute = iterator.next() {
            attributes.append(Attribute(type: attribute.type.rawValue, value: Array(attribute.value)))
        }
    }
}

/// The structure rules of RFC 8489 sections 5, 6.3, 14, 14.5 to 14.7, over plain arrays and one bit at a time.
private enum SlowParser {
    /// The attributes a handler may see, or nil when the bytes are no message.
    static func attributes(of bytes: [UInt8]) -> [Snapshot.Attribute]? {
        guard bytes.count >= 20, bytes[0] < 64, Array(bytes[4..<8]) == [0x21, 0x12, 0xA4, 0x42] else { return nil }
        let length = Int(bytes[2]) * 256 + Int(bytes[3])
        guard length % 4 == 0, length + 20 == bytes.count else { return nil }
        var attributes: [Snapshot.Attribute] = []
        var rest = Array(bytes[20...])
        var isVisible = true
        var hasEnded = false
        while !rest.isEmpty {
            guard !hasEnded, rest.count >= 4 else { return nil }
            let type = UInt16(rest[0]) * 256 + UInt16(rest[1])
            let size = Int(rest[2]) * 256 + Int(rest[3])
            guard rest.count >= 4 + size else { return nil }
            let value = Array(rest[4..<(4 + size)])
            let before = Array(bytes[..<(bytes.count - rest.count)])
            rest = Array(rest.dropFirst(4 + size))
            let padding = (4 - size % 4) % 4
            guard rest.count >= padding else { return nil }
            rest = Array(rest.dropFirst(padding))
            switch type {
            case 0x8028:
                let crc = crc(before) ^ 0x5354_554E
                guard value == withUnsafeBytes(of: crc.bigEndian, Array.init) else { return nil }
                hasEnded = true
                isVisible = false
            case 0x0008, 0x001C: isVisible = false
            default: if isVisible { attributes.append(Snapshot.Attribute(type: type, value: value)) }
            }
        }
        return attributes
    }

    static func crc(_ bytes: [UInt8]) -> UInt32 {
        var remainder = UInt32.max
        for byte in bytes {
            for bit in 0..<8 {
                let feedback = remainder & 1 ^ UInt32(byte >> UInt8(bit)) & 1
                remainder = remainder >> 1 ^ (feedback == 1 ? 0xEDB8_8320 : 0)
            }
        }
        return ~remainder
    }
}
