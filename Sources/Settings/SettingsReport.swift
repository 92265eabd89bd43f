/// The configuration in effect, as `turnpike config print` gives it.
package struct SettingsReport: Sendable {
    package var origins: [SettingOrigin]

    package init(_ outcome: SettingsOutcome) {
        origins = outcome.origins
    }

    /// One line a key, `key = value   # origin`, with the origins below each other.
    package var text: String {
        let heads = origins.map { "\($0.key) = \($0.value)" }
        // A long list does not push every other origin to the right.
        let width = heads.map(\.count).filter { $0 <= 60 }.max() ?? 0
        return zip(heads, origins).map { head, origin in
            head + String(repeating: " ", count: max(0, width - head.count)) + "   # \(origin.origin)\n"
        }
        .joined()
    }

    /// An object of dotted keys, each with `value` and `origin`, in the order of keys.
    package var json: String {
        let lines = origins.map { origin in
            "  \(Self.quoted(origin.key)): {\"value\": \(Self.json(origin.value)), "
                + "\"origin\": \(Self.quoted(origin.origin))}"
        }
        return "{\n" + lines.joined(separator: ",\n") + "\n}\n"
    }

    private static func json(_ value: SettingValue) -> String {
        switch value {
        case .bool(let value): String(value)
        case .integer(let value): String(value)
        case .text(let value): quoted(value)
        case .list(let values): "[" + values.map(quoted).joined(separator: ", ") + "]"
        }
    }

    fileprivate static func quoted(_ text: String) -> String {
        var result = "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"": result += "\\\""
            case "\\": result += "\\\\"
            case "\u{00}"..."\u{1F}", "\u{7F}"..."\u{9F}", "\u{2028}", "\u{2029}":
                let digits = String(scalar.value, radix: 16)
                result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result + "\""
    }
}

extension SettingValue: CustomStringConvertible {
    /// As YAML: what is printed can be written in the file. Words that YAML or a reader could take for something else
    /// are quoted.
    package var description: String {
        switch self {
        case .bool(let value): String(value)
        case .integer(let value): String(value)
        case .text(let value): Self.isPlain(value) ? value : SettingsReport.quoted(value)
        case .list(let values): "[" + values.map(SettingsReport.quoted).joined(separator: ", ") + "]"
        }
    }

    private static func isPlain(_ text: String) -> Bool {
        guard let first = text.utf8.first, first != UInt8(ascii: "-") else { return false }
        return text.utf8.allSatisfy { byte in
            (0x30...0x39).contains(byte) || (0x41...0x5A).contains(byte) || (0x61...0x7A).contains(byte)
                || "-_./".utf8.contains(byte)
        }
    }
}
