import Foundation
import NIOCore
import Synchronization

/// A whole response, small enough to be made before it is sent.
package struct HTTPAnswer: Sendable {
    var status: Int
    /// Name and value; what is missing of `HTTPAnswer.standing` is added.
    var fields: [(name: String, value: String)] = []
    var body = ByteBuffer()
    /// Whether the connection ends with it.
    var closes = false

    /// An error as RFC 9457 has it.
    /// - Parameter detail: for a person: what was wrong and the mend. Without it, the status says all there is to know.
    package static func problem(
        _ status: Int,
        _ detail: String? = nil,
        fields: [(name: String, value: String)] = [],
        closes: Bool = false
    ) -> HTTPAnswer {
        let problem = ProblemDetails(title: reason(status), status: status, detail: detail)
        return HTTPAnswer(
            status: status,
            fields: [("Content-Type", "application/problem+json")] + fields,
            body: JSONText.buffer(problem),
            closes: closes
        )
    }

    /// The bytes to send.
    /// - Parameters:
    ///   - hasBody: false in answer to HEAD.
    ///   - keepsAlive: whether the connection lives on.
    func bytes(hasBody: Bool, keepsAlive: Bool, _ allocator: ByteBufferAllocator) -> ByteBuffer {
        var bytes = allocator.buffer(capacity: 512 + (hasBody ? body.readableBytes : 0))
        bytes.writeString("HTTP/1.1 \(status) \(Self.reason(status))\r\n")
        for field in fields { bytes.writeString("\(field.name): \(field.value)\r\n") }
        for field in Self.standing where !fields.contains(where: { $0.name == field.name }) {
            bytes.writeString("\(field.name): \(field.value)\r\n")
        }
        bytes.writeString("Date: \(HTTPDate.current)\r\n")
        // RFC 9110 section 8.6: a 204 must not have it.
        if status != 204 { bytes.writeString("Content-Length: \(body.readableBytes)\r\n") }
        bytes.writeString("Connection: \(keepsAlive ? "keep-alive" : "close")\r\n\r\n")
        if hasBody { bytes.writeImmutableBuffer(body) }
        return bytes
    }

    /// What every response says, unless it says something else: nothing here may be framed, guessed at, kept or
    /// referred to.
    private static let standing: [(name: String, value: String)] = [
        ("Cache-Control", "no-store"),
        ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"),
        ("Cross-Origin-Opener-Policy", "same-origin"),
        ("Referrer-Policy", "no-referrer"),
        ("X-Content-Type-Options", "nosniff"),
        ("X-Frame-Options", "DENY"),
    ]

    static func reason(_ status: Int) -> String {
        switch status {
        case 200: "OK"
        case 201: "Created"
        case 202: "Accepted"
        case 204: "No Content"
        case 400: "Bad Request"
        case 401: "Unauthorized"
        case 403: "Forbidden"
        case 404: "Not Found"
        case 405: "Method Not Allowed"
        case 408: "Request Timeout"
        case 409: "Conflict"
        case 411: "Length Required"
        case 413: "Content Too Large"
        case 415: "Unsupported Media Type"
        case 422: "Unprocessable Content"
        case 426: "Upgrade Required"
        case 429: "Too Many Requests"
        case 431: "Request Header Fields Too Large"
        case 500: "Internal Server Error"
        case 503: "Service Unavailable"
        case 505: "HTTP Version Not Supported"
        default: "Status \(status)"
        }
    }
}

/// RFC 9457. `type` is left out, which means `about:blank`: the status says what kind of problem it is.
struct ProblemDetails: Codable, Sendable {
    let title: String
    let status: Int
    let detail: String?
}

/// JSON as the API writes it.
enum JSONText {
    static func buffer(_ value: some Encodable) -> ByteBuffer {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        // What is encoded here are values of our own without a float: it cannot fail.
        guard let data = try? encoder.encode(value) else { return ByteBuffer(string: "{}") }
        return ByteBuffer(bytes: data)
    }

    static func bytes(_ value: some Encodable) -> [UInt8] { Array(buffer(value).readableBytesView) }
}

/// `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110 section 5.6.7), made once a second.
enum HTTPDate {
    static var current: String {
        let seconds = Int64(Date().timeIntervalSince1970)
        return cache.withLock { cache in
            if cache.seconds != seconds { cache = (seconds, text(seconds)) }
            return cache.text
        }
    }

    private static let cache = Mutex<(seconds: Int64, text: String)>((-1, ""))

    static func text(_ seconds: Int64) -> String {
        let days = seconds.quotientAndRemainder(dividingBy: 86_400)
        // Civil date from a count of days, in eras of 400 years that begin on 1 March.
        let shifted = days.quotient + 719_468
        let dayOfEra = shifted % 146_097
        let yearOfEra = (dayOfEra - dayOfEra / 1_460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let shiftedMonth = (5 * dayOfYear + 2) / 153
        let day = dayOfYear - (153 * shiftedMonth + 2) / 5 + 1
        let month = shiftedMonth < 10 ? shiftedMonth + 3 : shiftedMonth - 9
        let year = yearOfEra + shifted / 146_097 * 400 + (month <= 2 ? 1 : 0)
        let clock = [days.remainder / 3_600, days.remainder / 60 % 60, days.remainder % 60].map(twoDigits)
        let weekday = weekdays[Int((days.quotient + 4) % 7)]
        return "\(weekday), \(twoDigits(day)) \(months[Int(month) - 1]) \(year) \(clock.joined(separator: ":")) GMT"
    }

    private static func twoDigits(_ number: Int64) -> String { number < 10 ? "0\(number)" : "\(number)" }

    private static let weekdays = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"]
    private static let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
}
