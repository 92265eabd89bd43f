import Foundation

/// The name of a user or of a shared secret, in the form in which it is stored, shown and sent.
///
/// 1...255 bytes of UTF-8 in NFC. A name has no `:`, which ends the expiry of a time-limited username; no `/`, which
/// ends the user's name in a peer id; no whitespace and nothing invisible, so that two names that look alike are alike;
/// and does not start with `-`, so that no command line takes it for an option.
package struct AccountName: Hashable, Sendable, CustomStringConvertible {
    package let value: String

    /// - Throws: `invalidName`, saying which rule the text breaks.
    package init(_ text: String) throws(AccountError) {
        let text = text.precomposedStringWithCanonicalMapping
        guard !text.isEmpty else {
            throw AccountError(.invalidName, "the name is empty; give one of 1 to \(AccountLimits.nameBytesMax) bytes")
        }
        guard text.utf8.count <= AccountLimits.nameBytesMax else {
            throw AccountError(
                .invalidName,
                "the name has \(text.utf8.count) bytes; give one of at most \(AccountLimits.nameBytesMax)"
            )
        }
        if let scalar = text.unicodeScalars.first(where: Self.isForbidden) {
            throw AccountError(
                .invalidName,
                "the name \(text.quotedForMessage) contains \(scalar.nameForMessage); "
                    + "leave out spaces, invisible characters, ':' and '/'"
            )
        }
        guard !text.hasPrefix("-") else {
            throw AccountError(
                .invalidName,
                "the name \(text.quotedForMessage) starts with '-'; start it with another character"
            )
        }
        value = text
    }

    package var description: String { value }

    /// Whether the text is the name byte for byte. Strings compare by canonical equivalence: a name in another spelling
    /// would be equal to a user's and yet not be found in the store, which looks for bytes.
    package func isSpelled(_ text: String) -> Bool { value.utf8.elementsEqual(text.utf8) }

    private static func isForbidden(_ scalar: Unicode.Scalar) -> Bool {
        scalar == ":" || scalar == "/" || scalar.properties.isWhitespace || scalar.isInvisible
    }
}

/// An authentication realm (RFC 8489 section 9.2.2): 1...127 characters that may stand inside a quoted string.
package struct Realm: Hashable, Sendable, CustomStringConvertible {
    package let value: String

    /// - Throws: `invalidRealm`, saying which rule the text breaks.
    package init(_ text: String) throws(AccountError) {
        let text = text.precomposedStringWithCanonicalMapping
        let count = text.unicodeScalars.count
        guard (1...AccountLimits.realmCharactersMax).contains(count) else {
            throw AccountError(
                .invalidRealm,
                "the realm has \(count) characters; give one of 1 to \(AccountLimits.realmCharactersMax)"
            )
        }
        // RFC 8489 section 14.9: only what a quoted string may hold, without the quotes.
        if let scalar = text.unicodeScalars.first(where: { $0 == "\"" || $0 == "\\" || $0.isInvisible }) {
            throw AccountError(
                .invalidRealm,
                "the realm \(text.quotedForMessage) contains \(scalar.nameForMessage); "
                    + "leave out quotes, backslashes and invisible characters"
            )
        }
        value = text
    }

    package var description: String { value }
}

extension Unicode.Scalar {
    /// Whether a terminal would not show the character as one of its own.
    fileprivate var isInvisible: Bool {
        switch properties.generalCategory {
        case .control, .format, .surrogate, .privateUse, .unassigned, .lineSeparator, .paragraphSeparator: true
        default: properties.isDefaultIgnorableCodePoint
        }
    }

    fileprivate var escapedForTerminal: String {
        isInvisible ? "\\u{" + String(value, radix: 16, uppercase: true) + "}" : String(self)
    }

    fileprivate var nameForMessage: String {
        if isASCII && value > 0x20 && value < 0x7F { return "'\(self)'" }
        if self == " " { return "a space" }
        let digits = String(value, radix: 16, uppercase: true)
        return "U+" + String(repeating: "0", count: Swift.max(0, 4 - digits.count)) + digits
    }
}

extension String {
    /// The text in single quotes, with everything that could disturb a terminal or break the line escaped, and cut to
    /// a length that leaves room for the rest of the message.
    package var quotedForMessage: String {
        var result = "'"
        for (index, scalar) in unicodeScalars.enumerated() {
            if index == 64 {
                result += "…"
                break
            }
            result += scalar.escapedForTerminal
        }
        return result + "'"
    }

    /// The text with everything that could disturb a terminal or break the line escaped.
    package var escapedForTerminal: String { unicodeScalars.map(\.escapedForTerminal).joined() }
}
