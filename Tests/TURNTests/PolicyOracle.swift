/// The peer address table as text, decided by comparing strings of bits. It is slow, shares nothing with `PeerPolicy`,
/// and follows the table row by row.
enum PolicyOracle {
    enum Rule {
        /// Opened by no setting.
        case never
        /// Opened by an operator's allow.
        case deny
        /// Decided by the IPv4 address in the last 32 bits, and open where that one is.
        case decode
        /// The same, but closed even where that one is open, unless an operator allows it.
        case decodeAndDeny
    }

    struct Row {
        var id: String
        var prefixes: [String]
        var rule: Rule
    }

    static let rows: [Row] = [
        Row(id: "PA-01", prefixes: ["0.0.0.0/8"], rule: .never),
        Row(id: "PA-02", prefixes: ["10.0.0.0/8"], rule: .deny),
        Row(id: "PA-03", prefixes: ["100.64.0.0/10"], rule: .deny),
        Row(id: "PA-04", prefixes: ["127.0.0.0/8"], rule: .never),
        Row(id: "PA-05", prefixes: ["169.254.0.0/16"], rule: .never),
        Row(id: "PA-06", prefixes: ["172.16.0.0/12"], rule: .deny),
        Row(id: "PA-07", prefixes: ["192.0.0.0/24"], rule: .deny),
        Row(id: "PA-08", prefixes: ["192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24"], rule: .deny),
        Row(id: "PA-09", prefixes: ["192.31.196.0/24", "192.52.193.0/24", "192.175.48.0/24"], rule: .deny),
        Row(id: "PA-10", prefixes: ["192.88.99.0/24"], rule: .deny),
        Row(id: "PA-11", prefixes: ["192.168.0.0/16"], rule: .deny),
        Row(id: "PA-12", prefixes: ["198.18.0.0/15"], rule: .deny),
        Row(id: "PA-13", prefixes: ["224.0.0.0/4"], rule: .never),
        Row(id: "PA-14", prefixes: ["240.0.0.0/4"], rule: .never),
        Row(id: "PA-15", prefixes: ["255.255.255.255/32"], rule: .never),
        Row(id: "PA-16", prefixes: ["168.63.129.16/32", "fd00:ec2::254/128", "fd20:ce::254/128"], rule: .never),
        Row(id: "PA-17", prefixes: ["::/128"], rule: .never),
        Row(id: "PA-18", prefixes: ["::1/128"], rule: .never),
        Row(id: "PA-19", prefixes: ["::ffff:0:0/96"], rule: .never),
        Row(id: "PA-20", prefixes: ["::/96"], rule: .never),
        Row(id: "PA-21", prefixes: ["::ffff:0:0:0/96"], rule: .decodeAndDeny),
        Row(id: "PA-22", prefixes: ["64:ff9b::/96"], rule: .decode),
        Row(id: "PA-23", prefixes: ["64:ff9b:1::/48"], rule: .deny),
        Row(id: "PA-25", prefixes: ["100::/64", "100:0:0:1::/64"], rule: .deny),
        Row(id: "PA-27", prefixes: ["2001::/32"], rule: .never),
        Row(id: "PA-26", prefixes: ["2001::/23"], rule: .deny),
        Row(id: "PA-28", prefixes: ["2001:1::1/128", "2001:1::2/128", "2001:1::3/128"], rule: .deny),
        Row(id: "PA-29", prefixes: ["2001:2::/48", "2001:3::/32", "2001:4:112::/48"], rule: .deny),
        Row(id: "PA-30", prefixes: ["2001:10::/28", "2001:20::/28", "2001:30::/28"], rule: .deny),
        Row(id: "PA-31", prefixes: ["2001:db8::/32", "3fff::/20"], rule: .deny),
        Row(id: "PA-32", prefixes: ["2002::/16"], rule: .never),
        Row(id: "PA-33", prefixes: ["2620:4f:8000::/48"], rule: .deny),
        Row(id: "PA-34", prefixes: ["5f00::/16"], rule: .deny),
        Row(id: "PA-35", prefixes: ["fc00::/7"], rule: .deny),
        Row(id: "PA-36", prefixes: ["fe80::/10"], rule: .never),
        Row(id: "PA-37", prefixes: ["fec0::/10"], rule: .never),
        Row(id: "PA-38", prefixes: ["ff00::/8"], rule: .never),
    ]

    /// The address as 32 or 128 digits of 0 and 1.
    static func bits(_ text: String) -> String {
        func digits(_ number: Int, _ width: Int) -> String {
            let binary = String(number, radix: 2)
            return String(repeating: "0", count: width - binary.count) + binary
        }
        guard text.contains(":") else {
            return text.split(separator: ".").map { digits(Int($0) ?? 0, 8) }.joined()
        }
        var text = text
        if let dot = text.firstIndex(of: "."), let colon = text[..<dot].lastIndex(of: ":") {
            // A dotted tail, as two groups.
            let tail = bits(String(text[text.index(after: colon)...]))
            let groups = [tail.prefix(16), tail.suffix(16)].map { String(Int($0, radix: 2) ?? 0, radix: 16) }
            text = String(text[...colon]) + groups.joined(separator: ":")
        }
        let halves = text.components(by: "::")
        let parts = halves.map { $0.split(separator: ":").map { digits(Int($0, radix: 16) ?? 0, 16) } }
        guard parts.count == 2 else { return parts[0].joined() }
        let missing = 8 - parts[0].count - parts[1].count
        return (parts[0] + Array(repeating: digits(0, 16), count: missing) + parts[1]).joined()
    }

    /// Those digits as text that the C library reads.
    static func text(_ bits: String) -> String {
        let digits = Array(bits)
        func numbers(_ width: Int) -> [Int] {
            stride(from: 0, to: digits.count, by: width).map { Int(String(digits[$0..<($0 + width)]), radix: 2) ?? 0 }
        }
        guard digits.count == 128 else { return numbers(8).map { String($0) }.joined(separator: ".") }
        return numbers(16).map { String($0, radix: 16) }.joined(separator: ":")
    }

    static func isInside(_ bits: String, _ prefix: String) -> Bool {
        let parts = prefix.split(separator: "/")
        let network = self.bits(String(parts[0]))
        return network.count == bits.count && bits.hasPrefix(network.prefix(Int(parts[1]) ?? 0))
    }

    /// Whether a relay may talk to it.
    static func allows(_ bits: String, allowing operatorAllows: [String] = []) -> Bool {
        let rules = rows.filter { $0.prefixes.contains { isInside(bits, $0) } }.map(\.rule)
        if rules.contains(.never) { return false }
        let isAllowed = operatorAllows.contains { isInside(bits, $0) }
        let tail = String(bits.suffix(32))
        if rules.contains(.decode) { return allows(tail, allowing: operatorAllows) }
        if rules.contains(.decodeAndDeny) || isISATAP(bits) {
            return isAllowed && allows(tail, allowing: operatorAllows)
        }
        return isAllowed || !rules.contains(.deny)
    }

    /// PA-39: the identifier 0:5efe or 200:5efe before the last 32 bits.
    static func isISATAP(_ bits: String) -> Bool {
        guard bits.count == 128 else { return false }
        let identifier = bits.dropFirst(64).prefix(32)
        return ["0:5efe", "200:5efe"].contains { identifier == self.bits("::" + $0).suffix(32) }
    }

    /// First, middle and last address of a prefix, one within each half, and the neighbours on both sides.
    static func samples(_ prefix: String) -> [String] {
        let parts = prefix.split(separator: "/")
        let network = bits(String(parts[0]))
        let head = String(network.prefix(Int(parts[1]) ?? 0))
        let free = network.count - head.count
        var samples = ["0", "1"].map { head + String(repeating: $0, count: free) }
        let ends = samples
        if free > 1 {
            samples.append(head + "1" + String(repeating: "0", count: free - 1))
            samples.append(head + "0" + String(repeating: "1", count: free - 1))
            samples.append(head + String(repeating: "01", count: free).prefix(free))
        }
        samples += [step(ends[0], up: false), step(ends[1], up: true)].compactMap { $0 }
        return samples
    }

    /// The next address up or down, by hand; nil at the end of the space.
    static func step(_ bits: String, up: Bool) -> String? {
        var digits = Array(bits)
        let (turns, stays): (Character, Character) = up ? ("1", "0") : ("0", "1")
        for index in digits.indices.reversed() {
            if digits[index] == stays {
                digits[index] = turns
                return String(digits)
            }
            digits[index] = stays
        }
        return nil
    }
}

extension String {
    fileprivate func components(by separator: String) -> [String] {
        guard let range = firstRange(of: separator) else { return [self] }
        return [String(self[..<range.lowerBound]), String(self[range.upperBound...])]
    }
}
