import Accounts
import Foundation
import OpenSSLCrypto

/// A password in the one form that client and server must agree on, byte for byte, before they hash it: the
/// OpaqueString profile of RFC 8265 section 4.2, which RFC 8489 section 9.2.2 asks for.
package struct Password: Sendable {
    /// UTF-8, 1...`bytesMax` bytes. Never logged and never stored.
    package let value: String

    /// - Throws: `CredentialError`, which does not repeat the password.
    package init(_ text: String) throws(CredentialError) {
        guard text.utf8.count <= Self.bytesMax else {
            throw CredentialError("the password has more than \(Self.bytesMax) bytes; give a shorter one")
        }
        var mapped = String.UnicodeScalarView()
        for scalar in text.unicodeScalars {
            switch scalar.properties.generalCategory {
            case .spaceSeparator:
                // Section 4.2.1, additional mapping: any space becomes U+0020.
                mapped.append(" ")
            case .control, .surrogate, .privateUse, .unassigned, .lineSeparator, .paragraphSeparator:
                throw CredentialError("the password contains a character that cannot be typed; leave it out")
            case .format where !Self.joiners.contains(scalar.value):
                throw CredentialError("the password contains an invisible character; leave it out")
            case _ where scalar.isIgnorable && !Self.joiners.contains(scalar.value):
                // RFC 8264 section 9.13: what a display may leave out, variation selectors and fillers among it.
                throw CredentialError("the password contains an invisible character; leave it out")
            default:
                mapped.append(scalar)
            }
        }
        // Section 4.2.1, normalization. The rules for single characters in context (RFC 8264 section 9) are left out:
        // they only refuse, and a password that a client has sent all along must not stop to work here.
        value = String(mapped).precomposedStringWithCanonicalMapping
        guard !value.isEmpty else {
            throw CredentialError("the password is empty; give one of at least one character")
        }
    }

    /// At least 128 bits of randomness (RFC 8489 section 9.2), in letters and digits that are hard to confuse.
    package static func generated() -> Password {
        Password(generated: SecretGenerator.text(characters: 26))
    }

    /// An upper estimate of the password's strength from its length and the kinds of characters in it: what it would be
    /// if it were random. A password below 128 bits by this measure is certainly weak; one above may be.
    package var estimatedBits: Int {
        var symbols = 0
        let scalars = value.unicodeScalars
        if scalars.contains(where: { ("a"..."z").contains($0) }) { symbols += 26 }
        if scalars.contains(where: { ("A"..."Z").contains($0) }) { symbols += 26 }
        if scalars.contains(where: { ("0"..."9").contains($0) }) { symbols += 10 }
        if scalars.contains(where: { $0.isASCII && !$0.properties.isAlphabetic && !("0"..."9").contains($0) }) {
            symbols += 33
        }
        if scalars.contains(where: { !$0.isASCII }) { symbols += 128 }
        guard symbols > 0 else { return 0 }
        return Int(Double(scalars.count) * log2(Double(symbols)))
    }

    package static let bytesMax = 1024
    package static let bitsRecommended = 128

    private init(generated value: String) {
        self.value = value
    }

    /// ZERO WIDTH NON-JOINER and JOINER, which some scripts need to be written at all.
    private static let joiners: [UInt32] = [0x200C, 0x200D]
}

extension Unicode.Scalar {
    fileprivate var isIgnorable: Bool {
        properties.isDefaultIgnorableCodePoint || properties.isNoncharacterCodePoint
    }
}

/// What the server keeps of a password (RFC 8489 section 18.5.1 for the keys, 14.4 for the user hash).
package enum CredentialDerivation {
    /// - Throws: `CredentialError` where the installed OpenSSL lacks a digest, as one in FIPS mode lacks MD5.
    package static func keys(
        name: AccountName,
        realm: Realm,
        password: Password
    ) throws(CredentialError) -> DerivedKeys {
        let owner = Array("\(name.value):\(realm.value)".utf8)
        let whole = owner + Array(":\(password.value)".utf8)
        let keys = DerivedKeys(
            md5Key: Digest.md5(whole),
            sha256Key: Digest.sha256(whole),
            userhash: Digest.sha256(owner)
        )
        guard keys.md5Key.count == 16, keys.sha256Key.count == 32, keys.userhash.count == 32 else {
            throw CredentialError(
                "the installed OpenSSL offers no MD5 or SHA-256; install one that is not limited to FIPS",
                isAboutInput: false
            )
        }
        return keys
    }
}

/// One line: what is wrong with a credential, and the mend.
package struct CredentialError: Error, Hashable, Sendable, CustomStringConvertible {
    package let message: String
    /// Whether what was typed is at fault; otherwise the machine is.
    package let isAboutInput: Bool

    package init(_ message: String, isAboutInput: Bool = true) {
        self.message = message
        self.isAboutInput = isAboutInput
    }

    package var description: String { message }
}
