import HTTPTypes

/// The head of an HTTP/1.1 request, read by the letter of RFC 9112: whatever two parsers could read differently is
/// refused, so that nothing in front of this server can be made to see other requests than it does (cases WS-14,
/// WS-15).
struct RequestHead {
    let request: HTTPRequest
    /// Bytes of the body that follow.
    let bodyBytes: Int
    let keepsAlive: Bool

    enum Outcome {
        /// No end yet.
        case incomplete
        /// `count` bytes were the head.
        case complete(RequestHead, count: Int)
        case refused(Refusal)
    }

    /// Why a request is answered with an error and the connection closed.
    struct Refusal: Error, Equatable {
        let status: Int
        let detail: String

        static func malformed(_ detail: String) -> Refusal { Refusal(status: 400, detail: detail) }
        static let tooLarge = Refusal(status: 431, detail: "the request's head is too large")
    }
}

/// Reads heads that come in pieces. Each byte is looked at once, and nothing is kept but places.
struct RequestHeadReader {
    private var scanned = 0
    private var lineStart = 0
    private var lines: [Range<Int>] = []

    /// - Parameter bytes: everything that has come since the last head, longer with each call.
    mutating func read(_ bytes: UnsafeRawBufferPointer) -> RequestHead.Outcome {
        while scanned < bytes.count {
            let byte = bytes[scanned]
            if byte == 0x0A {
                guard scanned > lineStart, bytes[scanned - 1] == 0x0D else {
                    return .refused(.malformed("a line ends without CR"))
                }
                let line = lineStart..<(scanned - 1)
                lineStart = scanned + 1
                scanned += 1
                if line.isEmpty {
                    let count = scanned
                    defer { self = RequestHeadReader() }
                    do throws(RequestHead.Refusal) {
                        return .complete(try RequestHead(bytes, lines), count: count)
                    } catch {
                        return .refused(error)
                    }
                }
                lines.append(line)
                guard lines.count <= GatewayLimits.headerFields + 1 else { return .refused(.tooLarge) }
                continue
            }
            if scanned > lineStart, bytes[scanned - 1] == 0x0D {
                return .refused(.malformed("a CR stands alone"))
            }
            guard byte != 0 else { return .refused(.malformed("a NUL stands in the head")) }
            scanned += 1
            guard scanned - lineStart <= GatewayLimits.headLineBytes + 1, scanned <= GatewayLimits.headBytes else {
                return .refused(.tooLarge)
            }
        }
        return .incomplete
    }
}

extension RequestHead {
    fileprivate init(_ bytes: UnsafeRawBufferPointer, _ lines: [Range<Int>]) throws(Refusal) {
        guard let first = lines.first else { throw .malformed("there is no request line") }
        let (method, target, minor) = try Self.requestLine(UnsafeRawBufferPointer(rebasing: bytes[first]))
        var fields = HTTPFields()
        var facts = Facts()
        for line in lines.dropFirst() {
            let (name, value) = try Self.field(UnsafeRawBufferPointer(rebasing: bytes[line]))
            try facts.note(name, value)
            fields.append(HTTPField(name: name, value: value))
        }
        // RFC 9112 section 3.2: exactly one, in HTTP/1.1.
        guard facts.hosts == 1 || (minor == 0 && facts.hosts == 0) else {
            throw .malformed("there has to be one Host")
        }
        if facts.hasTransferCoding {
            // RFC 9112 section 6.1: with Content-Length it smells of smuggling. Alone it is only more than this server
            // reads.
            guard facts.contentLength == nil else { throw .malformed("Transfer-Encoding and Content-Length") }
            throw Refusal(status: 411, detail: "a body needs a Content-Length")
        }
        let length = facts.contentLength ?? 0
        let takesBody = method == .post || method == .put || method == .patch || method == .delete
        guard length == 0 || takesBody else { throw .malformed("a body on \(method.rawValue)") }
        guard length <= GatewayLimits.bodyBytes else {
            throw Refusal(status: 413, detail: "the body is larger than \(GatewayLimits.bodyBytes) bytes")
        }
        request = HTTPRequest(
            method: method,
            scheme: nil,
            authority: fields[Self.host],
            path: target,
            headerFields: fields
        )
        bodyBytes = length
        keepsAlive = facts.keepsAlive ?? (minor == 1)
    }

    private static let host = HTTPField.Name("Host") ?? .accept

    /// What of the fields decides where the request ends.
    private struct Facts {
        var hosts = 0
        var contentLength: Int?
        var hasTransferCoding = false
        var keepsAlive: Bool?

        mutating func note(_ name: HTTPField.Name, _ value: String) throws(Refusal) {
            switch name.canonicalName {
            case "host":
                hosts += 1
            case "content-length":
                guard contentLength == nil else { throw .malformed("there are two Content-Lengths") }
                // More digits than any length that is taken; no sign, no list, no space.
                guard !value.isEmpty, value.utf8.allSatisfy({ (0x30...0x39).contains($0) }) else {
                    throw .malformed("Content-Length is no number")
                }
                contentLength = value.utf8.count <= 12 ? Int(value) ?? Int.max : Int.max
            case "transfer-encoding":
                hasTransferCoding = true
            case "connection":
                let options = value.lowercased().split(separator: ",").map { $0.trimmingBlanks }
                if options.contains("close") { keepsAlive = false }
                if options.contains("keep-alive"), keepsAlive == nil { keepsAlive = true }
            default:
                break
            }
        }
    }

    /// RFC 9112 section 3: method SP request-target SP HTTP-version.
    private static func requestLine(
        _ line: UnsafeRawBufferPointer
    ) throws(Refusal) -> (HTTPRequest.Method, String, minor: Int) {
        let parts = line.split(separator: 0x20, omittingEmptySubsequences: false)
        guard parts.count == 3 else { throw .malformed("the request line has not three parts") }
        guard parts[0].count <= 16, parts[0].allSatisfy(isToken),
            let method = HTTPRequest.Method(rawValue: String(decoding: parts[0], as: UTF8.self))
        else { throw .malformed("the method is no token") }
        let version = String(decoding: parts[2], as: UTF8.self)
        guard version == "HTTP/1.1" || version == "HTTP/1.0" else {
            guard version.utf8.count == 8, version.hasPrefix("HTTP/"), version.utf8.dropFirst(6).first == 0x2E else {
                throw .malformed("the version is none")
            }
            throw Refusal(status: 505, detail: "this server speaks HTTP/1.1")
        }
        // Origin form alone (section 3.2.1): nobody has reason to take this server for a proxy.
        guard parts[1].first == 0x2F, parts[1].allSatisfy({ $0 > 0x20 && $0 < 0x7F && $0 != 0x23 }) else {
            throw .malformed("the request target is no path")
        }
        return (method, String(decoding: parts[1], as: UTF8.self), version.utf8.last == 0x31 ? 1 : 0)
    }

    private static func field(_ line: UnsafeRawBufferPointer) throws(Refusal) -> (HTTPField.Name, String) {
        // A line that begins with a blank continues the one before it in the obsolete folding of section 5.2; its name
        // is then no token.
        guard let colon = line.firstIndex(of: 0x3A), colon > 0, line[..<colon].allSatisfy(isToken),
            let name = HTTPField.Name(String(decoding: line[..<colon], as: UTF8.self))
        else { throw .malformed("a header field has no name") }
        var value = line[(colon + 1)...]
        while let first = value.first, first == 0x20 || first == 0x09 { value = value.dropFirst() }
        while let last = value.last, last == 0x20 || last == 0x09 { value = value.dropLast() }
        guard value.allSatisfy({ $0 >= 0x20 && $0 != 0x7F || $0 == 0x09 }) else {
            throw .malformed("a header field has a control character")
        }
        return (name, String(decoding: value, as: UTF8.self))
    }

    /// RFC 9110 section 5.6.2.
    private static func isToken(_ byte: UInt8) -> Bool {
        switch byte {
        case 0x30...0x39, 0x41...0x5A, 0x61...0x7A: true
        case 0x21, 0x23, 0x24, 0x25, 0x26, 0x27, 0x2A, 0x2B, 0x2D, 0x2E, 0x5E, 0x5F, 0x60, 0x7C, 0x7E: true
        default: false
        }
    }
}

extension StringProtocol {
    /// Without the blanks that may stand around the members of a list (RFC 9110 section 5.6.1).
    var trimmingBlanks: String {
        var bytes = Array(utf8)[...]
        while let first = bytes.first, first == 0x20 || first == 0x09 { bytes = bytes.dropFirst() }
        while let last = bytes.last, last == 0x20 || last == 0x09 { bytes = bytes.dropLast() }
        return String(decoding: bytes, as: UTF8.self)
    }
}
