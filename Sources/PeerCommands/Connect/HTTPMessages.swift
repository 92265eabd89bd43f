import Foundation

/// What matters of a request's head.
struct HTTPRequest {
    let method: String
    /// Without the query.
    let path: String
    private let host: String
    private let hasOrigin: Bool

    /// - Returns: nil for what is no head of HTTP/1.
    init?(_ head: String) {
        let lines = head.components(separatedBy: "\r\n")
        let words = lines[0].split(separator: " ", omittingEmptySubsequences: false)
        guard words.count == 3, words[2].hasPrefix("HTTP/1."), words[1].hasPrefix("/") else { return nil }
        method = String(words[0])
        path = String(words[1].prefix { $0 != "?" })
        var fields: [String: String] = [:]
        for line in lines.dropFirst() {
            guard let colon = line.firstIndex(of: ":") else { return nil }
            fields[line[..<colon].lowercased()] =
                line[line.index(after: colon)...].trimmingCharacters(in: .whitespaces)
        }
        host = fields["host"] ?? ""
        let site = fields["sec-fetch-site"] ?? "none"
        hasOrigin = fields["origin"] != nil || !["none", "same-origin"].contains(site)
    }

    /// By an address or `localhost`, and not by a page of another origin.
    var isFromHere: Bool {
        let name = host.hasPrefix("[") ? host.prefix { $0 != "]" } + "]" : host.prefix { $0 != ":" }
        let isNamed = name == "localhost" || name == "[::1]" || name.allSatisfy { $0.isNumber || $0 == "." }
        return isNamed && !name.isEmpty && !hasOrigin
    }
}

/// An answer in JSON, after which the connection ends.
struct HTTPAnswer: Sendable {
    let status: Int
    private let body: String

    init(_ status: Int, json body: String) {
        (self.status, self.body) = (status, body)
    }

    /// As the original told of failures.
    init(_ status: Int, error: String) {
        let text = try? JSON.text(Failure(success: false, error: error))
        self.init(status, json: text ?? "{}\n")
    }

    var bytes: [UInt8] {
        let lines = [
            "HTTP/1.1 \(status) \(Self.phrases[status] ?? "Error")", "Content-Type: application/json",
            "Content-Length: \(body.utf8.count)", "Cache-Control: no-store", "X-Content-Type-Options: nosniff",
            "Connection: close", "", body,
        ]
        return Array(lines.joined(separator: "\r\n").utf8)
    }

    private struct Failure: Encodable {
        let success: Bool
        let error: String
    }

    private static let phrases = [
        200: "OK", 400: "Bad Request", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed",
        500: "Internal Server Error",
    ]
}
