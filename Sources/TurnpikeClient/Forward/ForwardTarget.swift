import Traversal

/// Where a forwarded connection leads: a host and a port of it.
package struct ForwardTarget: Hashable, Sendable, CustomStringConvertible {
    /// An address in its canonical text, or a name in lower case.
    package let host: String
    package let port: UInt16

    /// A port of the machine itself, on whichever of its loopback addresses somebody listens.
    package init(loopbackPort port: UInt16) {
        host = Self.loopbackName
        self.port = port
    }

    /// - Parameter text: `HOST:PORT`, an IPv6 address in brackets.
    /// - Returns: nil for anything else, and for port 0.
    package init?(_ text: some StringProtocol) {
        guard let colon = text.lastIndex(of: ":"), let port = Self.port(text[text.index(after: colon)...]), port > 0,
            let host = Self.host(text[..<colon])
        else { return nil }
        (self.host, self.port) = (host, port)
    }

    /// Decimal digits alone.
    package static func port(_ text: some StringProtocol) -> UInt16? {
        guard 1...5 ~= text.utf8.count, text.utf8.allSatisfy({ 0x30...0x39 ~= $0 }) else { return nil }
        return UInt16(text)
    }

    /// - Returns: the host as `host` has it; nil for what is neither an address nor a name.
    package static func host(_ text: some StringProtocol) -> String? {
        if text.hasPrefix("[") {
            guard text.hasSuffix("]") else { return nil }
            let inside = text.dropFirst().dropLast()
            guard inside.contains(":"), let address = AddressText.address(inside) else { return nil }
            return AddressText.text(address)
        }
        if let address = AddressText.address(text), address.isIPv4 { return AddressText.text(address) }
        guard 1...nameBytes ~= text.utf8.count, text.utf8.allSatisfy(isOfName) else { return nil }
        // Digits that are no dotted quad: resolvers take some for an address all the same.
        if text.utf8.allSatisfy({ $0 == UInt8(ascii: ".") || 0x30...0x39 ~= $0 }) { return nil }
        return text.lowercased()
    }

    /// `127.0.0.1:80`, `[::1]:80`, `example.org:80`.
    package var description: String { host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)" }

    /// Whether it is on the machine itself by its very text; a name other than `localhost` is none.
    package var isLoopback: Bool { Self.loopbackHosts.contains(host) }

    /// What is connected to, in this order; nil where a name has to be looked up.
    var addresses: [IPAddress]? {
        if host == Self.loopbackName { return [IPAddress(v4: 0x7F00_0001), IPAddress(high: 0, low: 1)] }
        return AddressText.address(host).map { [$0] }
    }

    private static func isOfName(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"):
            true
        default: false
        }
    }

    private static let loopbackName = "localhost"
    private static let loopbackHosts: Set<String> = [loopbackName, "127.0.0.1", "::1"]
    /// RFC 1035 section 2.3.4, without the last dot.
    private static let nameBytes = 253
}
