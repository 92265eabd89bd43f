import Foundation

/// What a Swift file declares for other packages.
struct PublicSymbol: Hashable {
    /// Without arguments, as in `connectToPeer`.
    let name: String
    let line: Int
    let isDocumented: Bool

    /// What stands in a file behind `public`, and the cases of its public enumerations.
    static func all(in source: String) -> [PublicSymbol] {
        let raw = source.lines
        var symbols: [PublicSymbol] = []
        // For each brace that is open, whether it is a public enumeration's.
        var braces: [Bool] = []
        for (number, line) in source.blanked.lines.enumerated() {
            let words = line.split { !$0.isLetter && !$0.isNumber && $0 != "_" && $0 != "@" }.map(String.init)
            let isPublic = words.contains("public") && !words.contains("import")
            let isCase = braces.last == true && words.first == "case"
            if isPublic || isCase {
                let isDocumented = hasComment(above: number, in: raw)
                for name in isCase ? caseNames(line) : [name(words)] {
                    symbols.append(PublicSymbol(name: name, line: number + 1, isDocumented: isDocumented))
                }
            }
            for character in line {
                if character == "{" { braces.append(isPublic && words.contains("enum")) }
                if character == "}" { _ = braces.popLast() }
            }
        }
        return symbols
    }

    private static func name(_ words: [String]) -> String {
        for word in ["func", "var", "let", "class", "struct", "enum", "actor", "protocol", "typealias", "case"] {
            if let place = words.lastIndex(of: word), place + 1 < words.count, words[place + 1] != "func" {
                return words[place + 1]
            }
        }
        return words.first { $0 == "init" || $0 == "subscript" } ?? words.joined(separator: " ")
    }

    /// `case a, b(Int), c = "d"` has three names.
    private static func caseNames(_ line: Substring) -> [String] {
        var depth = 0
        var names = [""]
        for character in line.drop(while: \.isWhitespace).dropFirst(5) {
            if character == "(" { depth += 1 }
            if depth == 0 {
                if character == "," { names.append("") } else { names[names.count - 1].append(character) }
            }
            if character == ")" { depth -= 1 }
        }
        return names.map { name in
            String(name.drop(while: \.isWhitespace).prefix { $0.isLetter || $0.isNumber || $0 == "_" })
        }
    }

    private static func hasComment(above number: Int, in lines: [Substring]) -> Bool {
        var number = number - 1
        while number >= 0 {
            let line = lines[number].drop(while: \.isWhitespace)
            guard line.hasPrefix("@") else { return line.hasPrefix("///") }
            number -= 1
        }
        return false
    }
}

/// Code of documents.
enum CodeBlocks {
    /// The fenced blocks of a Markdown page in that language, each with the line that it begins on.
    static func fenced(_ language: String, in page: String) -> [(line: Int, code: [Substring])] {
        var blocks: [(line: Int, code: [Substring])] = []
        var isInside = false
        for (number, line) in page.lines.enumerated() {
            if line.hasPrefix("```") {
                if line == "```" + language { blocks.append((number + 1, [])) }
                isInside = line == "```" + language
            } else if isInside {
                blocks[blocks.count - 1].code.append(line)
            }
        }
        return blocks
    }

    /// What is indented in the documentation comments of a Swift file.
    static func commented(in source: String) -> [(line: Int, code: [Substring])] {
        var blocks: [(line: Int, code: [Substring])] = []
        var isInside = false
        var before: Substring = ""
        for (number, line) in source.lines.enumerated() {
            let text = line.drop(while: \.isWhitespace)
            // A paragraph is before it; what is indented below a parameter goes on with that.
            let isCode = text.hasPrefix("///     ") && (isInside || before == "///")
            before = text
            if isCode {
                if !isInside { blocks.append((number + 1, [])) }
                blocks[blocks.count - 1].code.append(text.dropFirst(8))
            }
            isInside = isCode
        }
        return blocks
    }

    /// Whether the lines of a block stand one behind the other in a file, whatever the indentation. Blank lines and
    /// imports do not count.
    static func holds(_ file: String, _ code: [Substring]) -> Bool {
        let wanted = lines(code)
        let present = lines(file.lines)
        guard !wanted.isEmpty, wanted.count <= present.count else { return false }
        return (0...present.count - wanted.count).contains { start in
            present[start..<start + wanted.count].elementsEqual(wanted)
        }
    }

    private static func lines(_ code: [Substring]) -> [String] {
        code.map { $0.trimmingCharacters(in: .whitespaces) }.filter { !$0.isEmpty && !$0.hasPrefix("import ") }
    }
}
