import ArgumentParser
import Foundation

/// How a list or a single thing is written.
enum OutputFormat: String, CaseIterable, ExpressibleByArgument {
    case text
    case json
}

/// How a credential is written; `env` is what a peer sources.
enum CredentialFormat: String, CaseIterable, ExpressibleByArgument {
    case text
    case json
    case env
}

/// Rows below each other, in columns as wide as their widest cell.
enum Table {
    static func text(_ rows: [[String]]) -> String {
        let columns = rows.map(\.count).max() ?? 0
        let widths = (0..<columns).map { column in rows.map { column < $0.count ? $0[column].count : 0 }.max() ?? 0 }
        return rows.map { row in
            let cells = row.enumerated().map { index, cell in
                index == row.count - 1
                    ? cell : cell + String(repeating: " ", count: max(0, widths[index] - cell.count))
            }
            return cells.joined(separator: "  ") + "\n"
        }
        .joined()
    }
}

enum JSON {
    /// Keys in the order of the alphabet, times as ISO 8601 text, absent values as null.
    static func text(_ value: some Encodable) throws -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        return String(decoding: try encoder.encode(value), as: UTF8.self) + "\n"
    }
}

enum Timestamp {
    /// `2026-11-22T12:43:20Z`.
    static func text(seconds: Int64) -> String {
        Date(timeIntervalSince1970: TimeInterval(seconds)).formatted(.iso8601)
    }
}
