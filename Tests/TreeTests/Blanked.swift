extension String {
    /// Swift or C source with the contents of comments and string literals turned to spaces, so that a search for a
    /// construct does not find a sentence about it. Lines keep their numbers and columns. The code inside an
    /// interpolation is blanked with its string.
    var blanked: String {
        var scanner = BlankingScanner(Array(utf8))
        return scanner.run()
    }
}

private struct BlankingScanner {
    private static let threeQuotes = Array("\"\"\"".utf8)[...]

    private let source: [UInt8]
    private var output: [UInt8]
    private var index = 0

    init(_ source: [UInt8]) {
        self.source = source
        output = source
    }

    mutating func run() -> String {
        while index < source.count {
            if starts("//") {
                blank { $0.index >= $0.source.count || $0.source[$0.index] == UInt8(ascii: "\n") }
            } else if starts("/*") {
                blank { $0.starts("*/") }
            } else if let hashes = rawStringHashes() {
                let quotes = source[(index + hashes)...].prefix(3) == Self.threeQuotes ? 3 : 1
                index += hashes + quotes
                let end = String(repeating: "\"", count: quotes) + String(repeating: "#", count: hashes)
                blankString(end: end, isRaw: hashes > 0)
                index += end.count
            } else {
                index += 1
            }
        }
        return String(decoding: output, as: UTF8.self)
    }

    /// How many `#` stand before the quote of a string literal that begins here.
    private func rawStringHashes() -> Int? {
        var hashes = 0
        while index + hashes < source.count, source[index + hashes] == UInt8(ascii: "#") { hashes += 1 }
        guard index + hashes < source.count, source[index + hashes] == UInt8(ascii: "\"") else { return nil }
        return hashes
    }

    private func starts(_ text: String) -> Bool { source[index...].starts(with: text.utf8) }

    private mutating func blank(until isEnd: (Self) -> Bool) {
        while index < source.count, !isEnd(self) { erase() }
    }

    private mutating func blankString(end: String, isRaw: Bool) {
        var depth = 0
        while index < source.count {
            if depth == 0, starts(end) { return }
            if !isRaw, source[index] == UInt8(ascii: "\\"), index + 1 < source.count {
                if source[index + 1] == UInt8(ascii: "(") { depth += 1 }
                erase()
                erase()
                continue
            }
            // A string inside an interpolation may hold quotes and brackets of its own.
            if depth > 0 {
                if source[index] == UInt8(ascii: "\"") {
                    erase()
                    blankString(end: "\"", isRaw: false)
                } else if source[index] == UInt8(ascii: "(") {
                    depth += 1
                } else if source[index] == UInt8(ascii: ")") {
                    depth -= 1
                }
            }
            erase()
        }
    }

    private mutating func erase() {
        guard index < source.count else { return }
        if source[index] != UInt8(ascii: "\n") { output[index] = UInt8(ascii: " ") }
        index += 1
    }
}
