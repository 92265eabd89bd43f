import Foundation

/// Constructs that the sources must do without, each with its reason.
struct SourceRule: Sendable {
    let construct: String
    let reason: String
    /// A folder in which the construct has its place.
    var exempt: String?

    static let all = [
        SourceRule(construct: "try!", reason: "no input may crash the server; handle the error"),
        SourceRule(construct: "as!", reason: "no input may crash the server; use as? and handle nil"),
        SourceRule(construct: "fatalError(", reason: "no input may crash the server; return an error"),
        SourceRule(construct: "preconditionFailure(", reason: "no input may crash the server; return an error"),
        SourceRule(
            construct: "public",
            reason: "API across modules is `package`; only the client library is public",
            exempt: "Sources/TurnpikeClient/"
        ),
        SourceRule(construct: "memcmp(", reason: "a comparison of secrets takes constant time; use ConstantTime"),
        SourceRule(construct: "strcmp(", reason: "a comparison of secrets takes constant time; use ConstantTime"),
    ]

    /// Where the construct stands in code; the words of comments and strings do not count.
    func findings(path: String, blankedSource: String) -> [Finding] {
        if let exempt, path.hasPrefix(exempt) { return [] }
        return Search.words(construct, in: blankedSource).map {
            Finding(path: path, line: $0, problem: "\(construct): \(reason)")
        }
    }
}

enum Search {
    /// The lines on which `word` stands, not as the tail or the head of a longer name.
    static func words(_ word: String, in text: String) -> [Int] {
        guard text.contains(word) else { return [] }
        return text.lines.enumerated().filter { _, line in
            line.ranges(of: word).contains { range in
                let before = range.lowerBound == line.startIndex ? nil : line[line.index(before: range.lowerBound)]
                let after = range.upperBound == line.endIndex ? nil : line[range.upperBound]
                let endsInName = word.last?.isNameCharacter ?? false
                return !(before?.isNameCharacter ?? false) && !(endsInName && (after?.isNameCharacter ?? false))
            }
        }
        .map { $0.offset + 1 }
    }
}

extension Character {
    var isNameCharacter: Bool { isLetter || isNumber || self == "_" }
}

/// `nonisolated(unsafe)` and `@unchecked Sendable` switch the compiler's proof off; a comment beside them takes its
/// place.
enum UncheckedConcurrency {
    static let constructs = ["nonisolated(unsafe)", "@unchecked Sendable"]

    static func findings(path: String, source: String) -> [Finding] {
        let lines = source.lines
        return constructs.flatMap { construct in
            Search.words(construct, in: source.blanked).filter { line in
                let near = max(0, line - 4)..<min(lines.count, line + 3)
                return !lines[near].contains { $0.contains("//") }
            }
            .map { Finding(path: path, line: $0, problem: "\(construct) without a comment that says why it is safe") }
        }
    }
}

/// Case AU-21: what proves knowledge of a secret is compared in constant time, never by `==`, which stops at the first
/// difference and so tells how long the common start is.
enum SecretComparison {
    /// Names that look like secrets and are none, each with its reason.
    static let harmless = [
        "flowKey": "tells sockets and destinations apart within one worker",
        "openFlowKey": "tells sockets and destinations apart within one worker",
    ]

    static func findings(path: String, blankedSource: String) -> [Finding] {
        guard blankedSource.contains("==") || blankedSource.contains("!=") || blankedSource.contains("elementsEqual")
        else { return [] }
        return blankedSource.lines.enumerated().flatMap { number, line in
            comparisons(in: line).compactMap { comparison -> Finding? in
                // A literal on one side asks whether there is something, not whether it is right.
                if comparison.contains(where: isLiteral) { return nil }
                guard let name = comparison.compactMap(lastName).first(where: isSecret) else { return nil }
                let problem = "\(name) is compared by a method that leaks time; use ConstantTime.areEqual"
                return Finding(path: path, line: number + 1, problem: problem)
            }
        }
    }

    static func isSecret(_ name: String) -> Bool {
        guard harmless[name] == nil else { return false }
        let words: Set = [
            "mac", "hmac", "token", "secret", "secrets", "key", "keys", "password", "digest", "credential", "signature",
        ]
        return lastWord(of: name).map(words.contains) ?? false
    }

    /// The operands of every comparison on a line; one that is not on the line is empty.
    private static func comparisons(in line: Substring) -> [[Substring]] {
        var found: [[Substring]] = []
        for sign in ["==", "!=", ".elementsEqual("] {
            for range in line.ranges(of: sign) {
                let before = line[..<range.lowerBound].reversed().drop { $0 == " " }.prefix(while: isOperand)
                let after = line[range.upperBound...].drop { $0 == " " || $0 == "=" }.prefix(while: isOperand)
                found.append([Substring(String(before.reversed())), after])
            }
        }
        return found
    }

    private static func isOperand(_ character: Character) -> Bool {
        character.isNameCharacter || ".?![]\"".contains(character)
    }

    private static func isLiteral(_ operand: Substring) -> Bool {
        guard let first = operand.first else { return false }
        return first.isNumber || first == "." || first == "\"" || operand == "nil" || operand == "[]"
    }

    private static func lastName(_ operand: Substring) -> String? {
        operand.split { !$0.isNameCharacter }.last.map(String.init)
    }

    /// `mac` of `expectedMac`, `key` of `MD5_KEY`, `hmac` of `HMAC`.
    private static func lastWord(of name: String) -> String? {
        guard let tail = name.split(separator: "_").last else { return nil }
        let capital = tail.indices.last { index in
            tail[index].isUppercase && index > tail.startIndex && tail[tail.index(before: index)].isLowercase
        }
        return tail[(capital ?? tail.startIndex)...].lowercased()
    }
}

/// Case DB-01: every statement is a literal with `?` for its values.
enum BuiltStatement {
    /// What may stand after `sql:` other than a literal, with the reason.
    static let constants = ["migrations[next]": "one of Schema's own literals, chosen by number"]

    static func findings(path: String, source: String) -> [Finding] {
        var problems: [String.Index: String] = [:]
        for range in source.ranges(of: "sql:") {
            let rest = source[range.upperBound...].drop(while: \.isWhitespace)
            if rest.first == "\"" {
                problems[rest.startIndex] = problem(ofLiteral: rest)
            } else {
                let expression = rest.prefix { !",)\n".contains($0) }
                if constants[String(expression)] == nil {
                    problems[rest.startIndex] = "a statement comes from `\(expression)`; write it as a literal"
                }
            }
        }
        // A statement may also be put together first and handed over later.
        for verb in ["SELECT", "INSERT", "UPDATE", "DELETE", "PRAGMA", "CREATE", "DROP", "ALTER", "ATTACH"] {
            for range in source.ranges(of: "\"\(verb) ") {
                problems[range.lowerBound] = problem(ofLiteral: source[range.lowerBound...])
            }
        }
        return problems.sorted { $0.key < $1.key }.map {
            Finding(path: path, line: source.lineNumber(of: $0.key), problem: $0.value)
        }
    }

    /// - Parameter text: starts at the literal's first quote.
    private static func problem(ofLiteral text: Substring) -> String? {
        let quotes = text.hasPrefix("\"\"\"") ? "\"\"\"" : "\""
        let body = text.dropFirst(quotes.count)
        let end = body.range(of: quotes)
        if body[..<(end?.lowerBound ?? body.endIndex)].contains("\\(") {
            return "a value is pasted into a statement; bind it by ?"
        }
        let next = body[(end?.upperBound ?? body.endIndex)...].drop(while: \.isWhitespace).first
        return next == "+" ? "a statement is built from parts; write it as one literal" : nil
    }
}

/// A file that needs more than its lines is two files, unless a reason is listed here.
enum FileLength {
    static let linesMax = 400

    static let reasons: [String: String] = [:]

    static func findings(_ lengths: [String: Int], reasons: [String: String]) -> [Finding] {
        let long = lengths.filter { $0.value > linesMax && reasons[$0.key] == nil }.map { path, lines in
            Finding(
                path: path,
                line: lines,
                problem: "more than \(linesMax) lines; cut it by subject, or list a reason"
            )
        }
        let idle = reasons.keys.filter { lengths[$0, default: 0] <= linesMax }.map { path in
            Finding(path: path, line: lengths[path, default: 0], problem: "is listed as long and is not; strike it")
        }
        return long + idle
    }
}
