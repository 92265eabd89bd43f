import Foundation

/// How values of one kind are written: read from text with every rule that needs no other key, and shown again.
struct ValueForm<Value: Sendable>: Sendable {
    let read: @Sendable (RawValue) throws(ValueProblem) -> Value
    let show: @Sendable (Value) -> SettingValue
}

/// A value as `config print` shows it, in the form in which the file would hold it.
package enum SettingValue: Sendable, Equatable {
    case bool(Bool)
    case integer(Int)
    case text(String)
    case list([String])
}

extension ValueForm<Bool> {
    static let bool = ValueForm(
        read: { raw throws(ValueProblem) in
            let expected = "true or false"
            let text = try raw.single(expected: expected)
            switch text.lowercased() {
            case "true", "yes", "on": return true
            case "false", "no", "off": return false
            default: throw ValueProblem("\(shown(text)) is neither true nor false; write one of them", at: raw)
            }
        },
        show: { .bool($0) }
    )
}

extension ValueForm<Int> {
    /// A whole number in decimal digits.
    static func integer(_ range: ClosedRange<Int>) -> ValueForm {
        ValueForm(
            read: { raw throws(ValueProblem) in
                try number(raw, in: range, expected: "a number from \(range.lowerBound) to \(range.upperBound)")
            },
            show: { .integer($0) }
        )
    }

    /// `90s`, `10m`, `24h`, `7d`, `1h30m`; a bare number is seconds.
    static func duration(_ rangeSeconds: ClosedRange<Int>) -> ValueForm {
        let bounds =
            "from \(DurationText.text(rangeSeconds.lowerBound)) to \(DurationText.text(rangeSeconds.upperBound))"
        return ValueForm(
            read: { raw throws(ValueProblem) in
                let text = try raw.single(expected: "a duration such as 90s, 10m, 24h or 7d, \(bounds)")
                guard let seconds = DurationText.seconds(text) else {
                    throw ValueProblem(
                        "\(shown(text)) is no duration; write one such as 90s, 10m, 24h or 1h30m",
                        at: raw
                    )
                }
                guard rangeSeconds.contains(seconds) else {
                    throw ValueProblem("\(shown(text)) is out of range; write a duration \(bounds)", at: raw)
                }
                return seconds
            },
            show: { .text(DurationText.text($0)) }
        )
    }
}

extension ValueForm<UInt16> {
    /// A port from `lowest` to 65535.
    static func port(from lowest: UInt16) -> ValueForm {
        ValueForm(
            read: { raw throws(ValueProblem) in
                let range = Int(lowest)...65535
                // The range makes the conversion exact.
                return UInt16(
                    truncatingIfNeeded: try number(raw, in: range, expected: "a port from \(lowest) to 65535")
                )
            },
            show: { .integer(Int($0)) }
        )
    }
}

extension ValueForm<Settings.WorkerCount> {
    /// Threads of one kind.
    static func threads(_ range: ClosedRange<Int>) -> ValueForm {
        ValueForm(
            read: { raw throws(ValueProblem) in
                let expected = "auto, or a number from \(range.lowerBound) to \(range.upperBound)"
                if try raw.single(expected: expected) == "auto" { return .auto }
                return .count(try number(raw, in: range, expected: expected))
            },
            show: { count in
                switch count {
                case .auto: .text("auto")
                case .count(let count): .integer(count)
                }
            }
        )
    }
}

extension ValueForm where Value: RawRepresentable & CaseIterable, Value.RawValue == String {
    /// One word of several.
    static var choice: ValueForm {
        ValueForm(
            read: { raw throws(ValueProblem) in
                let words = Value.allCases.map(\.rawValue).joined(separator: ", ")
                let text = try raw.single(expected: "one of \(words)")
                guard let value = Value(rawValue: text) else {
                    throw ValueProblem("\(shown(text)) is not known here; write one of \(words)", at: raw)
                }
                return value
            },
            show: { .text($0.rawValue) }
        )
    }
}

extension ValueForm<String> {
    static let realm = ValueForm(
        read: { raw throws(ValueProblem) in
            let text = try raw.single(expected: "a name such as example.org")
            // RFC 8489 section 14.9: fewer than 128 characters. A quote or a backslash cannot stand in a realm-value of
            // RFC 3261 unescaped, and clients disagree on how they hash it then.
            guard text.unicodeScalars.count < 128 else {
                throw ValueProblem("has \(text.unicodeScalars.count) characters; write at most 127", at: raw)
            }
            let isPlain = text.unicodeScalars.allSatisfy {
                $0 != "\"" && $0 != "\\" && $0.properties.generalCategory != .control
            }
            guard isPlain else {
                throw ValueProblem("\(shown(text)) has a quote, backslash or control character; leave it out", at: raw)
            }
            return text
        },
        show: { .text($0) }
    )

    /// A path. In the file it is absolute, because the file does not know where the server is started; a flag or
    /// variable may hold a relative one, for the loader to complete.
    static let path = ValueForm(
        read: { raw throws(ValueProblem) in
            let text = try raw.single(expected: "an absolute path")
            guard !text.unicodeScalars.contains(where: { $0.properties.generalCategory == .control }) else {
                throw ValueProblem("\(shown(text)) has a control character, which no path should", at: raw)
            }
            guard text.utf8.count < 4096 else {
                throw ValueProblem("has \(text.utf8.count) bytes; the system takes paths of at most 4095", at: raw)
            }
            if case .scalar = raw.shape, !text.hasPrefix("/") {
                throw ValueProblem("\(shown(text)) is a relative path; write one that begins with /", at: raw)
            }
            return text
        },
        show: { .text($0) }
    )
}

extension ValueForm<[String]> {
    /// RFC 6454 section 6.2: scheme, host, and the port where it is not the scheme's own. They are compared byte for
    /// byte, so that one in another form would never match.
    private static func isOrigin(_ text: String) -> Bool {
        guard let separator = text.range(of: "://") else { return false }
        let (scheme, host) = (text[..<separator.lowerBound], text[separator.upperBound...])
        let isPlain = { (byte: UInt8) in
            switch byte {
            case 0x61...0x7A, 0x30...0x39, 0x2D, 0x2E, 0x3A, 0x5B, 0x5D, 0x2B, 0x5F: true
            default: false
            }
        }
        guard !scheme.isEmpty, !host.isEmpty, (scheme + host).utf8.allSatisfy(isPlain) else { return false }
        return !(scheme == "https" && host.hasSuffix(":443")) && !(scheme == "http" && host.hasSuffix(":80"))
    }

    static let origins = ValueForm(
        read: { raw throws(ValueProblem) in
            var origins: [String] = []
            for item in try raw.items(expected: "origins") {
                let text = try item.single(expected: "an origin such as https://example.org")
                guard isOrigin(text) else {
                    throw ValueProblem(
                        "\(shown(text)) is no origin as a browser sends it; write one such as https://example.org, in "
                            + "small letters, with the port if it is not the usual one, and nothing behind it",
                        at: item
                    )
                }
                origins.append(text)
            }
            return origins
        },
        show: { .list($0) }
    )
}

/// Durations as text, both ways.
enum DurationText {
    /// Nil when the text is no duration. Units come in falling order, each at most once.
    static func seconds(_ text: String) -> Int? {
        if let plain = digits(text[...]) { return plain }
        var total = 0
        var rest = text[...]
        var units = units[...]
        while !rest.isEmpty {
            let number = rest.prefix { $0.isASCII && $0.isNumber }
            rest = rest.dropFirst(number.count)
            guard let count = digits(number), let symbol = rest.popFirst(),
                let unit = units.first(where: { $0.symbol == symbol })
            else { return nil }
            units = units.drop { $0.symbol != symbol }.dropFirst()
            let (part, tooLarge) = count.multipliedReportingOverflow(by: unit.seconds)
            let (sum, sumTooLarge) = total.addingReportingOverflow(part)
            guard !tooLarge, !sumTooLarge else { return nil }
            total = sum
        }
        return text.isEmpty ? nil : total
    }

    /// The shortest exact form; never in days, so that 24h stays 24h.
    static func text(_ seconds: Int) -> String {
        var rest = seconds
        var text = ""
        for unit in units.dropFirst() where rest >= unit.seconds {
            text += "\(rest / unit.seconds)\(unit.symbol)"
            rest %= unit.seconds
        }
        return text.isEmpty ? "0s" : text
    }

    private static let units: [(symbol: Character, seconds: Int)] = [("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)]

    /// Twelve digits are far beyond any range, and far from overflow.
    private static func digits(_ text: Substring) -> Int? {
        guard (1...12).contains(text.utf8.count), text.utf8.allSatisfy({ (0x30...0x39).contains($0) }) else {
            return nil
        }
        return Int(text)
    }
}

private func number(_ raw: RawValue, in range: ClosedRange<Int>, expected: String) throws(ValueProblem) -> Int {
    let text = try raw.single(expected: expected)
    let digits = text.hasPrefix("-") ? text.dropFirst() : text[...]
    guard !digits.isEmpty, digits.utf8.allSatisfy({ (0x30...0x39).contains($0) }) else {
        throw ValueProblem("\(shown(text)) is no whole number; write \(expected)", at: raw)
    }
    // A leading zero means octal to YAML 1.1 and nothing to YAML 1.2, so it is not guessed at.
    guard digits.utf8.count == 1 || !digits.hasPrefix("0") else {
        throw ValueProblem("\(shown(text)) begins with a zero; write \(expected), without it", at: raw)
    }
    guard let value = Int(text), range.contains(value) else {
        throw ValueProblem("\(shown(text)) is out of range; write \(expected)", at: raw)
    }
    return value
}

extension ValueForm<String?> {
    /// A path, or null for none.
    static let optionalPath = ValueForm(
        read: { raw throws(ValueProblem) in
            switch raw.shape {
            case .null: return nil
            default: return raw.asksForNothing ? nil : try ValueForm<String>.path.read(raw)
            }
        },
        show: { .text($0 ?? "null") }
    )

    /// A name of the DNS, or null for none.
    static let optionalHostName = ValueForm(
        read: { raw throws(ValueProblem) in
            if case .null = raw.shape { return nil }
            if raw.asksForNothing { return nil }
            let text = try raw.single(expected: "a name such as turn.example.org")
            guard HostAddress(text) == nil else {
                throw ValueProblem("\(shown(text)) is an address; write it as external_address", at: raw)
            }
            guard HostNameText.isValid(text) else {
                throw ValueProblem(
                    "\(shown(text)) is no host name; write one such as turn.example.org: letters, digits and "
                        + "hyphens, in parts of at most 63 with dots between them, and other letters as xn-- has them",
                    at: raw
                )
            }
            return text.lowercased()
        },
        show: { .text($0 ?? "null") }
    )
}

/// Host names as RFC 1123 section 2.1 has them.
enum HostNameText {
    static func isValid(_ text: String) -> Bool {
        // RFC 1035 section 2.3.4 bounds names and labels.
        guard (1...253).contains(text.utf8.count) else { return false }
        let labels = text.utf8.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false)
        // A last label of digits alone would be read as an address (WHATWG URL, "ends in a number").
        return labels.allSatisfy(isLabel) && labels.last?.allSatisfy(isDigit) == false
    }

    private static func isLabel(_ label: String.UTF8View.SubSequence) -> Bool {
        guard (1...63).contains(label.count), label.first != hyphen, label.last != hyphen else { return false }
        return label.allSatisfy { isDigit($0) || isLetter($0) || $0 == hyphen }
    }

    private static func isDigit(_ byte: UInt8) -> Bool { (0x30...0x39).contains(byte) }

    private static func isLetter(_ byte: UInt8) -> Bool { (0x61...0x7A).contains(byte | 0x20) }

    private static let hyphen = UInt8(ascii: "-")
}
