/// Colours of a terminal, or none.
package struct Style: Sendable {
    let isColoured: Bool

    package init(isColoured: Bool) {
        self.isColoured = isColoured
    }

    func good(_ text: String) -> String { wrapped(text, "32") }
    func bad(_ text: String) -> String { wrapped(text, "31") }
    func warning(_ text: String) -> String { wrapped(text, "33") }
    func bold(_ text: String) -> String { wrapped(text, "1") }
    func faint(_ text: String) -> String { wrapped(text, "2") }

    private func wrapped(_ text: String, _ code: String) -> String {
        isColoured && !text.isEmpty ? "\u{1B}[\(code)m\(text)\u{1B}[0m" : text
    }
}

extension Console {
    /// Colours, where a person looks and has not asked to be spared them (no-color.org).
    var style: Style {
        let isWanted = environment["NO_COLOR", default: ""].isEmpty && environment["TERM"] != "dumb"
        return Style(isColoured: outputIsTerminal && isWanted)
    }
}

extension String {
    /// The text with everything that could disturb a terminal or break the line escaped: servers have their say here.
    var escapedForTerminal: String {
        unicodeScalars.map { scalar in
            switch scalar.properties.generalCategory {
            case .control, .format, .lineSeparator, .paragraphSeparator, .privateUse, .surrogate, .unassigned:
                "\\u{" + String(scalar.value, radix: 16, uppercase: true) + "}"
            default: String(scalar)
            }
        }
        .joined()
    }
}
