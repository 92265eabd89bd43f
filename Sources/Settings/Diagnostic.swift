/// One thing to say about the configuration: what is wrong, where, and the mend.
package struct Diagnostic: Sendable, Equatable, CustomStringConvertible {
    package enum Severity: String, Sendable {
        /// The configuration is refused.
        case error
        /// The configuration stands.
        case warning
    }

    package var severity: Severity
    /// One line; begins with the key it is about.
    package var message: String
    package var place: Place

    package init(severity: Severity, message: String, place: Place) {
        self.severity = severity
        self.message = message
        self.place = place
    }

    /// The file, where `place` is in one.
    package var file: String? {
        if case .file(let name, _, _) = place { name } else { nil }
    }

    /// Counted from 1; nil where the diagnostic is about no line.
    package var line: Int? {
        if case .file(_, let line, _) = place { line } else { nil }
    }

    /// Counted from 1 in Unicode scalars.
    package var column: Int? {
        if case .file(_, _, let column) = place { column } else { nil }
    }

    /// `turnpike.yml:12:3: error: relay.min_prot: unknown key; did you mean relay.min_port?`
    package var description: String { "\(place): \(severity.rawValue): \(message)" }
}

/// Where a value, or what is wrong with it, comes from.
package enum Place: Sendable, Equatable, CustomStringConvertible {
    case builtIn
    /// Line and column are counted from 1; nil where it is about the file as a whole.
    case file(name: String, line: Int?, column: Int?)
    case environment(name: String)
    /// `--set relay.min_port` or `--data-dir`.
    case flag(String)

    package var description: String {
        switch self {
        case .builtIn: "default"
        case .file(let name, let line?, let column?): "\(harmless(name)):\(line):\(column)"
        case .file(let name, let line?, nil): "\(harmless(name)):\(line)"
        case .file(let name, nil, _): harmless(name)
        case .environment(let name): "environment \(harmless(name))"
        case .flag(let flag): "flag \(flag)"
        }
    }

    /// The place as `config print` names it, where the column is noise.
    package var origin: String {
        if case .file(let name, let line, _) = self {
            return Place.file(name: name, line: line, column: nil).description
        }
        return description
    }
}

/// What is wrong with a value, to be put behind its key; `line` and `column` where they are not the value's own.
struct ValueProblem: Error {
    var message: String
    var line: Int?
    var column: Int?

    init(_ message: String, at raw: RawValue? = nil) {
        self.message = message
        self.line = raw?.line
        self.column = raw?.column
    }
}

/// Text from outside, quoted for one line of a message and cut where it is long.
func shown(_ text: String) -> String {
    let limit = 80
    let head = String(String.UnicodeScalarView(text.unicodeScalars.prefix(limit)))
    return "\"" + harmless(head) + (head.unicodeScalars.count < text.unicodeScalars.count ? "…\"" : "\"")
}

/// Text without anything that a terminal would act on or that would begin another line.
private func harmless(_ text: String) -> String {
    var result = ""
    for scalar in text.unicodeScalars {
        switch scalar.properties.generalCategory {
        case .control, .format, .lineSeparator, .paragraphSeparator, .privateUse, .unassigned, .surrogate:
            result += "\\u{\(String(scalar.value, radix: 16))}"
        default:
            result.unicodeScalars.append(scalar)
        }
    }
    return result
}
