import OpenSSLCrypto
import STUN
import TestSupport
import Testing

/// The one cryptography there is, against published values and in the order a worker would use it.
@Suite struct CryptographyTests {
    private let cryptography: OpenSSLCryptography

    init() throws { cryptography = try OpenSSLCryptography() }

    private func mac(_ hash: HashAlgorithm, _ key: [UInt8], _ first: [UInt8], _ second: [UInt8] = []) -> [UInt8] {
        var output = [UInt8](repeating: 0, count: 32)
        output.withUnsafeMutableBytes { output in
            key.withUnsafeBytes { key in
                first.withUnsafeBytes { first in
                    second.withUnsafeBytes { second in
                        cryptography.authenticate(hash, key: key, first: first, second: second, mac: output)
                    }
                }
            }
        }
        return Array(output.prefix(hash.length))
    }

    @Test func macsAreThePublishedOnes() {
        // RFC 2202 and RFC 4231, test case 2; and empty key and message.
        let text = Array("what do ya want for nothing?".utf8)
        let key = Array("Jefe".utf8)
        for _ in 0..<3 {
            #expect(mac(.sha1, key, text) == hex("effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"))
            #expect(mac(.sha1, [], []) == hex("fbdb1d1b18aa6c08324b7d64b71fb76370690e1d"))
            #expect(
                mac(.sha256, key, Array(text.prefix(5)), Array(text.dropFirst(5)))
                    == hex("5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843")
            )
            #expect(
                mac(.sha256, [], []) == hex("b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad")
            )
        }
    }

    @Test func theOneShotsAndTheWorkersAgree() {
        for length in [0, 1, 63, 64, 65, 200] {
            let bytes = (0..<length).map { UInt8(truncatingIfNeeded: $0 &* 37) }
            #expect(mac(.sha1, bytes, bytes) == HMAC.sha1(key: bytes, message: bytes))
            #expect(mac(.sha256, bytes, bytes) == HMAC.sha256(key: bytes, message: bytes))
            for (hash, expected) in [(HashAlgorithm.md5, Digest.md5(bytes)), (.sha256, Digest.sha256(bytes))] {
                var output = [UInt8](repeating: 0, count: hash.length)
                output.withUnsafeMutableBytes { output in
                    bytes.withUnsafeBytes { cryptography.digest(hash, message: $0, output: output) }
                }
                #expect(output == expected)
            }
        }
        #expect(Digest.md5([]) == hex("d41d8cd98f00b204e9800998ecf8427e"))
    }

    @Test func randomBytesDoNotRepeatAcrossThePoolsEdges() {
        var seen: Set<[UInt8]> = []
        for round in 0..<4_000 {
            // Sizes that do not divide the pool, and now and then one that is larger than it.
            var bytes = [UInt8](repeating: 0, count: round % 1_000 == 0 ? 5_000 : 12 + round % 7)
            bytes.withUnsafeMutableBytes { cryptography.random($0) }
            seen.insert(Array(bytes.suffix(12)))
        }
        #expect(seen.count == 4_000)
        var none: [UInt8] = []
        none.withUnsafeMutableBytes { cryptography.random($0) }
        #expect(SecureRandom.bytes(0).isEmpty && SecureRandom.bytes(3).count == 3)
    }

    @Test func comparisonSeesEveryBitAndTheLength() {
        func areEqual(_ first: [UInt8], _ second: [UInt8]) -> Bool {
            first.withUnsafeBytes { first in second.withUnsafeBytes { ConstantTime.areEqual(first, $0) } }
        }
        let bytes = SecureRandom.bytes(20)
        #expect(areEqual(bytes, bytes) && areEqual([], []))
        #expect(!areEqual(bytes, []) && !areEqual(bytes, Array(bytes.dropLast())))
        for bit in 0..<160 {
            var other = bytes
            other[bit / 8] ^= 1 << (bit % 8)
            #expect(!areEqual(bytes, other))
        }
    }
}
