import Foundation

/// The targets of Package.swift as they are written there.
struct Manifest {
    /// Names of the targets below Sources, each with the targets and products it depends on.
    private(set) var targets: [String: Set<String>] = [:]
    private(set) var testTargets: [String: Set<String>] = [:]

    init(_ source: String) {
        // Comments may hold brackets. The `//` of an address stands inside a line, never at its start.
        let code = source.lines.filter { !$0.drop(while: \.isWhitespace).hasPrefix("//") }.joined(separator: "\n")
        for kind in ["target", "executableTarget", "systemLibrary", "testTarget"] {
            var rest = code[...]
            while let start = rest.range(of: ".\(kind)(") {
                rest = rest[start.upperBound...]
                let body = Self.balanced(rest, "(", ")")
                guard let name = Self.strings(body).first else { continue }
                let dependencies = Self.dependencies(of: body)
                if kind == "testTarget" {
                    testTargets[name] = dependencies
                } else if let folder = Self.strings(body).first(where: { $0.hasPrefix("Tests/") }) {
                    // A program that tests run.
                    testTargets[String(folder.dropFirst(6).prefix { $0 != "/" })] = dependencies
                } else {
                    targets[name] = dependencies
                }
            }
        }
    }

    private static func dependencies(of body: Substring) -> Set<String> {
        guard let start = body.range(of: "dependencies:"), let bracket = body[start.upperBound...].firstIndex(of: "[")
        else { return [] }
        var list = String(balanced(body[body.index(after: bracket)...], "[", "]"))
        var names: Set<String> = []
        while let product = list.range(of: ".product(") {
            let arguments = balanced(list[product.upperBound...], "(", ")")
            if let name = strings(arguments).first { names.insert(name) }
            list.removeSubrange(product.lowerBound..<arguments.endIndex)
        }
        return names.union(strings(list[...]))
    }

    /// From the start of `text` to the bracket that closes one opened before it.
    private static func balanced(_ text: Substring, _ open: Character, _ close: Character) -> Substring {
        var depth = 1
        for index in text.indices {
            if text[index] == open { depth += 1 }
            if text[index] == close { depth -= 1 }
            if depth == 0 { return text[..<index] }
        }
        return text
    }

    /// The contents of the string literals in `text`; a manifest's have no escapes.
    private static func strings(_ text: Substring) -> [String] {
        text.split(separator: "\"", omittingEmptySubsequences: false).enumerated()
            .filter { $0.offset % 2 == 1 }
            .map { String($0.element) }
    }
}
