/// Builds a page of metrics in Prometheus' text format, version 0.0.4.
package struct MetricsText: Sendable {
    package enum Kind: String, Sendable { case counter, gauge }

    package private(set) var text = ""
    private var family = ""

    package init() {}

    /// Begins a metric; the samples that follow are its own.
    ///
    /// - Parameters:
    ///   - name: letters, digits and `_`. That of a counter ends in `_total`.
    ///   - help: one line for a person.
    package mutating func begin(_ name: String, _ kind: Kind, _ help: String) {
        begin(name, kind.rawValue, help)
    }

    private mutating func begin(_ name: String, _ kind: String, _ help: String) {
        family = name
        text += "# HELP \(name) \(Self.escaped(help, quotes: false))\n# TYPE \(name) \(kind)\n"
    }

    package mutating func sample(_ value: UInt64, _ labels: KeyValuePairs<String, String> = [:]) {
        line(family, "\(value)", labels)
    }

    package mutating func sample(_ value: Int, _ labels: KeyValuePairs<String, String> = [:]) {
        line(family, "\(value)", labels)
    }

    package mutating func sample(_ value: Double, _ labels: KeyValuePairs<String, String> = [:]) {
        line(family, "\(value)", labels)
    }

    /// A metric with one sample.
    package mutating func gauge(_ name: String, _ help: String, _ value: Int) {
        begin(name, .gauge, help)
        sample(value)
    }

    /// Likewise.
    package mutating func counter(_ name: String, _ help: String, _ value: UInt64) {
        begin(name, .counter, help)
        sample(value)
    }

    /// A histogram.
    ///
    /// - Parameters:
    ///   - bounds: rising upper bounds.
    ///   - counts: how many fell to each bound and not to the one below, and at last those beyond all.
    ///   - sum: of all that was observed.
    package mutating func histogram(_ name: String, _ help: String, bounds: [Double], counts: [UInt64], sum: Double) {
        begin(name, "histogram", help)
        var total: UInt64 = 0
        for (index, count) in counts.enumerated() {
            total &+= count
            let bound = index < bounds.count ? "\(bounds[index])" : "+Inf"
            line(name + "_bucket", "\(total)", ["le": bound])
        }
        line(name + "_sum", "\(sum)", [:])
        line(name + "_count", "\(total)", [:])
    }

    private mutating func line(_ name: String, _ value: String, _ labels: KeyValuePairs<String, String>) {
        text += name
        if !labels.isEmpty {
            let list = labels.map { "\($0.key)=\"\(Self.escaped($0.value, quotes: true))\"" }
            text += "{" + list.joined(separator: ",") + "}"
        }
        text += " \(value)\n"
    }

    /// A backslash and a line's end are written with a backslash, and in a label the quote too.
    private static func escaped(_ text: String, quotes: Bool) -> String {
        guard text.utf8.contains(where: { $0 == 0x5C || $0 == 0x0A || $0 == 0x22 }) else { return text }
        var result = ""
        for character in text.unicodeScalars {
            switch character {
            case "\\": result += "\\\\"
            case "\n": result += "\\n"
            case "\"" where quotes: result += "\\\""
            default: result.unicodeScalars.append(character)
            }
        }
        return result
    }
}
