import OpenSSLCrypto

/// Random text that a person can read out and type.
package enum SecretGenerator {
    /// A shared secret of 260 bits: more than the 160 that HMAC-SHA1 can use.
    package static func sharedSecret() -> String { text(characters: 52) }

    /// Five random bits a character.
    static func text(characters count: Int) -> String {
        // 32 symbols divide 256, so taking five bits of a byte favours none.
        let symbols = Array(alphabet)
        return String(SecureRandom.bytes(count).map { symbols[Int($0 & 31)] })
    }

    /// Small letters and digits without l, o, 0 and 1, which look like each other.
    private static let alphabet = "abcdefghijkmnpqrstuvwxyz23456789"
}
