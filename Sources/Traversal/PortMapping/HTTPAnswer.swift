import STUN

/// Where a device is spoken with over HTTP: an IPv4 address, a port and a path, nothing else.
struct HTTPLocation: Hashable {
    var endpoint: Endpoint
    /// From the first slash on, with the query.
    var path: String

    /// - Parameter text: `http://192.168.1.1:5000/desc.xml`. A device that has a name instead of an address, or wants
    ///   something else than HTTP, is none that a home router is.
    init?(_ text: String) {
        guard text.utf8.count <= PortMappingLimits.pathBytes, text.lowercased().hasPrefix("http://") else { return nil }
        let rest = text.dropFirst("http://".count)
        let slash = rest.firstIndex(of: "/") ?? rest.endIndex
        let authority = rest[..<slash].split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
        guard let host = authority.first, let address = AddressText.address(host), address.isIPv4 else { return nil }
        let port = authority.count == 2 ? UInt16(authority[1]) : 80
        guard let port, port != 0, Self.isPlain(rest[slash...]) else { return nil }
        endpoint = Endpoint(address: address, port: port)
        path = slash == rest.endIndex ? "/" : String(rest[slash...])
    }

    /// What a description calls by that text (RFC 3986 section 5.2, as far as routers go).
    /// - Returns: nil for what is on another host: nobody is to be told to speak with others.
    func resolving(_ text: String) -> HTTPLocation? {
        guard text.utf8.count <= PortMappingLimits.pathBytes, Self.isPlain(text[...]), !text.isEmpty else { return nil }
        if text.contains("://") {
            guard let other = HTTPLocation(text), other.endpoint.address == endpoint.address else { return nil }
            return other
        }
        var other = self
        if text.hasPrefix("/") {
            other.path = text
        } else {
            let directory = path.prefix { $0 != "?" }
            guard let slash = directory.lastIndex(of: "/") else { return nil }
            other.path = directory[...slash] + text
        }
        return other.path.utf8.count <= PortMappingLimits.pathBytes ? other : nil
    }

    /// It goes into a request's first line.
    private static func isPlain(_ text: Substring) -> Bool { text.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7F } }
}

/// An answer by HTTP/1.1 (RFC 9112) while it comes, bounded in all that it may have.
struct HTTPAnswer {
    enum State: Equatable {
        case incomplete
        case complete(status: UInt16, body: [UInt8])
        /// It is no HTTP, or longer than anybody needs.
        case bad
    }

    private enum Framing { case head, length(Int), chunked, toEnd }

    private var bytes: [UInt8] = []
    private var framing = Framing.head
    private var status: UInt16 = 0
    private var bodyStart = 0
    private var interims = 0
    private var chunkReadings = 0
    private(set) var state = State.incomplete

    mutating func take(_ more: UnsafeRawBufferPointer) {
        guard state == .incomplete else { return }
        guard bytes.count + more.count <= PortMappingLimits.answerBytes else { return state = .bad }
        let before = bytes.count
        bytes += more
        if case .head = framing { readHead(from: max(0, before - 3)) }
        guard state == .incomplete else { return }
        switch framing {
        case .length(let count) where bytes.count - bodyStart >= count: finish(bytes[bodyStart..<(bodyStart + count)])
        // The last chunk is looked for only where it may be, so that a byte at a time costs no more than all at once.
        case .chunked where bytes.suffix(5) == Self.lastChunk && chunkReadings < PortMappingLimits.chunkReadings:
            chunkReadings += 1
            takeChunks(isClosed: false)
        default: break
        }
    }

    /// The connection has ended.
    mutating func close() {
        guard state == .incomplete else { return }
        switch framing {
        case .head: state = .bad
        // Routers cut their answers short, and what is there may be enough.
        case .length, .toEnd: finish(bytes[bodyStart...])
        case .chunked: takeChunks(isClosed: true)
        }
    }

    private static let lastChunk = Array("0\r\n\r\n".utf8)

    private mutating func readHead(from start: Int) {
        let end = Array("\r\n\r\n".utf8)
        var index = start
        while index + 4 <= bytes.count, bytes[index..<(index + 4)] != end[...] { index += 1 }
        guard index + 4 <= bytes.count else {
            if bytes.count > PortMappingLimits.headBytes { state = .bad }
            return
        }
        let lines = String(decoding: bytes[..<index], as: UTF8.self).split(separator: "\r\n")
        let words = lines.first?.split(separator: " ", maxSplits: 2) ?? []
        guard words.count >= 2, words[0].hasPrefix("HTTP/1."), let code = UInt16(words[1]), (100...599).contains(code)
        else { return state = .bad }
        bodyStart = index + 4
        // An interim answer goes before the one that counts (RFC 9110 section 15.2).
        if code < 200 {
            interims += 1
            guard interims <= PortMappingLimits.interimAnswers else { return state = .bad }
            bytes.removeFirst(bodyStart)
            return readHead(from: 0)
        }
        status = code
        framing = .toEnd
        for line in lines.dropFirst() {
            let parts = line.split(separator: ":", maxSplits: 1)
            guard parts.count == 2 else { continue }
            let value = parts[1].drop { $0 == " " || $0 == "\t" }
            switch parts[0].lowercased() {
            case "content-length":
                guard let count = Int(value), count >= 0, count <= PortMappingLimits.answerBytes else {
                    return state = .bad
                }
                if case .toEnd = framing { framing = .length(count) }
            case "transfer-encoding" where value.lowercased().hasPrefix("chunked"): framing = .chunked
            default: break
            }
        }
    }

    private mutating func takeChunks(isClosed: Bool) {
        var body: [UInt8] = []
        var index = bodyStart
        while let end = bytes[index...].firstIndex(of: UInt8(ascii: "\n")) {
            let digits = bytes[index..<end].prefix { $0 != UInt8(ascii: ";") && $0 != UInt8(ascii: "\r") }
            guard let count = Int(String(decoding: digits, as: UTF8.self), radix: 16), count >= 0,
                count <= PortMappingLimits.answerBytes
            else { return state = .bad }
            if count == 0 { return finish(body[...]) }
            let (start, stop) = (end + 1, end + 1 + count)
            guard stop <= bytes.count else { break }
            body += bytes[start..<stop]
            index = min(stop + 2, bytes.count)
        }
        if isClosed { finish(body[...]) }
    }

    private mutating func finish(_ body: ArraySlice<UInt8>) {
        state = .complete(status: status, body: Array(body))
        bytes = []
    }
}
