import Yams

/// A value as it was written, before its key gives it a meaning.
struct RawValue: Sendable {
    enum Shape: Sendable {
        /// One YAML scalar.
        case scalar(String)
        /// What an environment variable or flag holds: a scalar, or a list by commas or in YAML's brackets.
        case text(String)
        /// Elements are scalars, or one of the shapes below where the file holds something that is no value at all.
        case list([RawValue])
        case mapping
        case null
    }

    /// Lists are searched entry by entry, here for duplicates and later for peers. Larger ones belong in a firewall.
    static let maxItems = 4096

    var shape: Shape
    var line: Int?
    var column: Int?

    init(text: String) {
        shape = .text(text)
    }

    /// A YAML node. Lists inside lists are not descended into: no key holds one.
    init(_ node: Node) {
        self.init(node, isElement: false)
    }

    private init(_ node: Node, isElement: Bool) {
        line = node.mark?.line
        column = node.mark?.column
        switch node {
        case .scalar(let scalar):
            let isNull = scalar.style == .plain && ["", "~", "null", "Null", "NULL"].contains(scalar.string)
            shape = isNull ? .null : .scalar(scalar.string)
        case .sequence(let sequence):
            shape = .list(isElement ? [] : sequence.map { RawValue($0, isElement: true) })
        case .mapping, .alias:
            shape = .mapping
        }
    }

    private init(item: String, of list: RawValue) {
        shape = .scalar(item)
        line = list.line
        column = list.column
    }

    /// The one value this is. Throws where it is none or several; `expected` says what to write instead.
    func single(expected: String) throws(ValueProblem) -> String {
        switch shape {
        case .scalar(let text), .text(let text):
            guard !text.isEmpty else { throw ValueProblem("is empty; write \(expected)", at: self) }
            return text
        case .list: throw ValueProblem("is a list, where one value belongs; write \(expected)", at: self)
        case .mapping: throw ValueProblem("is a mapping, where one value belongs; write \(expected)", at: self)
        case .null: throw ValueProblem("has no value; write \(expected), or remove the line", at: self)
        }
    }

    /// The values of a list, each a scalar; one value alone is a list of one.
    func items(expected: String) throws(ValueProblem) -> [RawValue] {
        let items: [RawValue]
        switch shape {
        case .scalar: items = [self]
        case .text(let text): items = Self.parts(text).map { RawValue(item: $0, of: self) }
        case .list(let elements): items = elements
        case .mapping: throw ValueProblem("is a mapping, where a list belongs; write a list of \(expected)", at: self)
        case .null: throw ValueProblem("has no value; write [] for none, or remove the line", at: self)
        }
        guard items.count <= Self.maxItems else {
            throw ValueProblem("has \(items.count) entries; write at most \(Self.maxItems)", at: self)
        }
        return items
    }

    /// True for what turns nothing on: nothing at all, an empty list, false, zero.
    var asksForNothing: Bool {
        switch shape {
        case .null: true
        case .list(let elements): elements.isEmpty
        case .mapping: false
        case .scalar(let text), .text(let text):
            ["false", "no", "off", "0", "null", "~", "", "[]"].contains(text.lowercased())
        }
    }

    /// `a, b` and `[a, b]`, with or without quotes. What starts with `[` is brackets around a list only where it also
    /// ends with `]`: `[::]:3478` does not.
    private static func parts(_ text: String) -> [String] {
        var inner = text[...]
        if text.hasPrefix("["), text.hasSuffix("]"), text.count >= 2 {
            inner = inner.dropFirst().dropLast()
        }
        let items = inner.split(separator: ",", omittingEmptySubsequences: false).map(trimmed)
        // A comma at the end is not another, empty item.
        let kept = items.last == "" ? items.dropLast() : items[...]
        return kept.map { item in
            for quote in ["\"", "'"] where item.count >= 2 && item.hasPrefix(quote) && item.hasSuffix(quote) {
                return String(item.dropFirst().dropLast())
            }
            return String(item)
        }
    }

    private static func trimmed(_ text: Substring) -> Substring {
        let front = text.drop(while: \.isWhitespace)
        return front.lastIndex { !$0.isWhitespace }.map { front[...$0] } ?? front
    }
}
