/// What peers and rooms may be called.
///
/// A name is kept and shown as it was given. It has nothing in it that cannot be seen, so that what looks like one name
/// is one; two spellings of the same characters (Unicode canonical equivalence) are the same name, which is how
/// `String` compares.
enum Name {
    static func check(_ name: String, _ field: StaticString) throws(Refusal) {
        let isPlain = name.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7F }
        if isPlain { return }
        let scalars = name.unicodeScalars
        guard scalars.first != " ", scalars.last != " ", !scalars.contains(where: isForbidden) else {
            throw Refusal(.badMessage, "\(field) must not have invisible characters or begin or end with a space")
        }
    }

    /// Whether the id is the user's: `NAME` or `NAME/` and more.
    static func isPeerID(_ id: String, of user: String) -> Bool {
        let bytes = id.utf8
        guard let slash = bytes.firstIndex(of: UInt8(ascii: "/")) else { return id == user }
        // Cut between scalars, so both parts are text.
        return id[..<slash] == user[...] && bytes.index(after: slash) < bytes.endIndex
    }

    /// The user's name in a username: a time-limited one is `<expiry>:<name>`.
    static func user(ofUsername username: String) -> (name: String, expirySeconds: Int64?) {
        let parts = username.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
        guard parts.count == 2, let expiry = Int64(parts[0]), expiry >= 0 else { return (username, nil) }
        return (String(parts[1]), expiry)
    }

    private static func isForbidden(_ scalar: Unicode.Scalar) -> Bool {
        if scalar == " " { return false }
        switch scalar.properties.generalCategory {
        case .control, .format, .surrogate, .privateUse, .unassigned, .lineSeparator, .paragraphSeparator,
            .spaceSeparator:
            return true
        default: return scalar.properties.isDefaultIgnorableCodePoint
        }
    }
}
