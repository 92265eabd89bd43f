import Foundation
import Logging

/// One line for each event, as text for people or as JSON for machines. Whatever came from outside is escaped, so that
/// no name or realm can start a line of its own or turn the terminal around.
struct LineLogHandler: LogHandler {
    enum Form: Sendable {
        case text, json
    }

    var metadata: Logger.Metadata = [:]
    var logLevel: Logger.Level
    private let form: Form
    private let sink: LogSink

    init(form: Form, level: Logger.Level, sink: LogSink) {
        self.form = form
        self.sink = sink
        logLevel = level
    }

    subscript(metadataKey key: String) -> Logger.MetadataValue? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        let fields = metadata.merging(event.metadata ?? [:]) { _, new in new }.sorted { $0.key < $1.key }
        let time = Self.timestamp()
        switch form {
        case .text:
            var line = "\(time) \(event.level) \(Self.escaped(event.message.description))"
            for (key, value) in fields { line += " \(key)=\(Self.textual(value))" }
            sink.write(line)
        case .json:
            var line = "{\"time\":\"\(time)\",\"level\":\"\(event.level)\",\"message\":"
            line += Self.quoted(event.message.description)
            for (key, value) in fields { line += ",\(Self.quoted(key)):\(Self.json(value))" }
            sink.write(line + "}")
        }
    }

    private static func timestamp() -> String {
        Date.now.formatted(Date.ISO8601FormatStyle(includingFractionalSeconds: true))
    }

    private static func textual(_ value: Logger.MetadataValue) -> String {
        if case .array(let values) = value { return values.map(textual).joined(separator: ",") }
        let text = escaped("\(value)")
        return text.contains(" ") || text.isEmpty ? "\"\(text)\"" : text
    }

    /// Numbers stay numbers.
    private static func json(_ value: Logger.MetadataValue) -> String {
        switch value {
        case .string(let text): return quoted(text)
        case .stringConvertible(let value):
            switch value {
            case is any BinaryInteger, is Bool: return "\(value)"
            default: return quoted("\(value)")
            }
        case .array(let values): return "[" + values.map(json).joined(separator: ",") + "]"
        case .dictionary(let values):
            return "{"
                + values.sorted { $0.key < $1.key }.map { "\(quoted($0.key)):\(json($0.value))" }
                .joined(separator: ",") + "}"
        }
    }

    private static func quoted(_ text: String) -> String { "\"\(escaped(text))\"" }

    /// Escapes as JSON does, and besides every character that is not there to be seen.
    static func escaped(_ text: String) -> String {
        var output = ""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"": output += "\\\""
            case "\\": output += "\\\\"
            case _ where isInvisible(scalar):
                for unit in UTF16.encode(scalar)?.map({ $0 }) ?? [] {
                    let digits = String(unit, radix: 16)
                    output += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
                }
            default: output.unicodeScalars.append(scalar)
            }
        }
        return output
    }

    private static func isInvisible(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar.properties.generalCategory {
        case .control, .format, .lineSeparator, .paragraphSeparator, .privateUse, .surrogate, .unassigned: true
        default: false
        }
    }
}
