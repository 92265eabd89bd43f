/// A server's address as people write it: RFC 7064 and RFC 7065, and `host:port`.
package struct ServerURL: Sendable, Hashable, CustomStringConvertible {
    package enum Scheme: String, Sendable, Hashable {
        case stun, turn, turns, ws, wss
    }

    package enum Transport: String, Sendable, Hashable {
        case udp, tcp
    }

    package var scheme: Scheme
    /// A name or an address, without brackets.
    package var host: String
    package var port: UInt16
    /// What `?transport=` says.
    package var transport: Transport?
    /// Of a WebSocket: with the query, from the first slash on.
    package var path = ""

    /// - Parameter usual: what stands for an address without a scheme.
    /// - Throws: what is wrong, and the mend.
    package init(_ text: String, usual: Scheme) throws(ServerURLProblem) {
        var rest = text.trimmingBlanks[...]
        guard !rest.isEmpty else { throw ServerURLProblem("it is empty; write \(Self.form(usual))") }
        let isWebSocket = usual == .ws || usual == .wss
        scheme = usual
        if let (found, tail) = Self.splitScheme(rest) {
            let allowed: Set<Scheme> =
                isWebSocket ? [.ws, .wss] : usual == .stun ? [.stun] : [.turn, .turns]
            guard allowed.contains(found) else {
                throw ServerURLProblem("\(text) is none of that kind; write \(Self.form(usual))")
            }
            (scheme, rest) = (found, tail)
        }
        if rest.hasPrefix("//") { rest = rest.dropFirst(2) }
        if isWebSocket, let slash = rest.firstIndex(where: { $0 == "/" || $0 == "?" }) {
            path = rest[slash] == "/" ? String(rest[slash...]) : "/" + rest[slash...]
            rest = rest[..<slash]
        } else if let mark = rest.firstIndex(of: "?") {
            transport = try Self.transport(rest[mark...].dropFirst())
            rest = rest[..<mark]
        }
        (host, port) = try Self.hostAndPort(rest, scheme, text)
        if isWebSocket, path.isEmpty { path = "/signal" }
    }

    package var description: String {
        let name = host.contains(":") ? "[\(host)]" : host
        let slashes = scheme == .ws || scheme == .wss ? "//" : ""
        return
            "\(scheme.rawValue):\(slashes)\(name):\(port)\(transport.map { "?transport=\($0.rawValue)" } ?? "")\(path)"
    }

    private static func splitScheme(_ text: Substring) -> (Scheme, Substring)? {
        guard let colon = text.firstIndex(of: ":") else { return nil }
        guard let scheme = Scheme(rawValue: text[..<colon].lowercased()) else { return nil }
        return (scheme, text[text.index(after: colon)...])
    }

    private static func transport(_ query: Substring) throws(ServerURLProblem) -> Transport {
        let parts = query.split(separator: "=", maxSplits: 1)
        guard parts.count == 2, parts[0] == "transport", let transport = Transport(rawValue: parts[1].lowercased())
        else { throw ServerURLProblem("?\(query) is not known; write ?transport=udp or ?transport=tcp") }
        return transport
    }

    private static func hostAndPort(
        _ text: Substring,
        _ scheme: Scheme,
        _ whole: String
    ) throws(ServerURLProblem) -> (String, UInt16) {
        var host = text
        var port: Substring?
        if text.hasPrefix("[") {
            guard let end = text.firstIndex(of: "]") else {
                throw ServerURLProblem("\(whole) has a bracket that does not close; write [address]:port")
            }
            host = text[text.index(after: text.startIndex)..<end]
            let tail = text[text.index(after: end)...]
            guard tail.isEmpty || tail.hasPrefix(":") else {
                throw ServerURLProblem("\(whole) has something behind the bracket; write [address]:port")
            }
            port = tail.isEmpty ? nil : tail.dropFirst()
        } else if let colon = text.lastIndex(of: ":") {
            guard text[..<colon].lastIndex(of: ":") == nil else {
                throw ServerURLProblem("\(whole) has too many colons; write an IPv6 address as [address]:port")
            }
            (host, port) = (text[..<colon], text[text.index(after: colon)...])
        }
        let isPlain = host.utf8.allSatisfy { 0x21...0x7E ~= $0 && $0 != UInt8(ascii: "/") && $0 != UInt8(ascii: "@") }
        guard !host.isEmpty, host.utf8.count <= 255, isPlain else {
            throw ServerURLProblem("\(whole) names no host; write \(form(scheme))")
        }
        guard let port else { return (String(host), usualPort(scheme)) }
        guard let number = UInt16(port), number > 0 else {
            throw ServerURLProblem("\(port) is no port; write a number from 1 to 65535")
        }
        return (String(host), number)
    }

    private static func usualPort(_ scheme: Scheme) -> UInt16 {
        switch scheme {
        case .stun, .turn: 3_478
        case .turns: 5_349
        case .ws: 80
        case .wss: 8_443
        }
    }

    private static func form(_ scheme: Scheme) -> String {
        switch scheme {
        case .stun: "stun:host:3478"
        case .turn: "turn:host:3478"
        case .turns: "turns:host:5349"
        case .ws, .wss: "wss://host:8443/signal"
        }
    }
}

/// What is wrong with a server's address, and the mend.
package struct ServerURLProblem: Error, Sendable, Hashable, CustomStringConvertible {
    package let description: String

    init(_ description: String) { self.description = description }
}

extension StringProtocol {
    /// Without blanks at both ends.
    var trimmingBlanks: String {
        func isBlank(_ character: Character) -> Bool { character.isWhitespace }
        return String(drop(while: isBlank).reversed().drop(while: isBlank).reversed())
    }
}
