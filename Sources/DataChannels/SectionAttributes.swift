/// One line: a letter, `=`, and the value.
struct DescriptionLine {
    let number: Int
    let type: Character
    let value: Substring

    func failure(_ problem: String) -> SessionDescriptionError {
        SessionDescriptionError(line: number, problem: problem)
    }

    /// - Throws: unless the value has as many words as asked for.
    func words(_ counts: ClosedRange<Int>, _ form: String) throws(SessionDescriptionError) -> [Substring] {
        let words = value.split(separator: " ", omittingEmptySubsequences: false)
        guard counts ~= words.count, !words.contains("") else { throw failure("is not of the form \(form)") }
        return words
    }
}

/// What the `a=` lines of a section say, or those above all sections.
struct SectionAttributes {
    struct Port {
        let value: UInt16
    }

    private(set) var mid: String?
    private(set) var isBundleOnly = false
    private(set) var sctpPort: Port?
    private(set) var maxMessageBytes: Int?
    private var iceUfrag: String?
    private var icePassword: String?
    private var iceOptions: [String]?
    private var setup: TransportDescription.Setup?
    private var fingerprints: [CertificateFingerprint] = []
    private var candidates: [String] = []
    private var hasAllCandidates = false

    mutating func parse(_ line: DescriptionLine) throws(SessionDescriptionError) {
        let parts = line.value.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
        let value = parts.count > 1 ? parts[1] : ""
        switch parts.first {
        case "mid": try Self.set(&mid, try Self.token(value, 1...SessionDescriptionLimits.midBytes, line), line)
        case "bundle-only": isBundleOnly = true
        case "ice-ufrag": try Self.set(&iceUfrag, try Self.iceText(value, atLeast: 4, line), line)
        case "ice-pwd": try Self.set(&icePassword, try Self.iceText(value, atLeast: 22, line), line)
        case "ice-options": try parseOptions(value, line)
        case "setup":
            guard let role = TransportDescription.Setup(rawValue: String(value)) else {
                throw line.failure("setup is active, passive, actpass or holdconn, not \(value)")
            }
            try Self.set(&setup, role, line)
        case "fingerprint": try parseFingerprint(value, line)
        case "sctp-port":
            guard let port = UInt16(value) else { throw line.failure("\(value) is no SCTP port") }
            try Self.set(&sctpPort, Port(value: port), line)
        case "max-message-size": try Self.set(&maxMessageBytes, try Self.messageSize(value, line), line)
        case "candidate":
            guard candidates.count < SessionDescriptionLimits.candidates else {
                throw line.failure("is one candidate too many: at most \(SessionDescriptionLimits.candidates) are read")
            }
            candidates.append(String(line.value))
        case "end-of-candidates": hasAllCandidates = true
        default: break
        }
    }

    /// - Parameter above: where to look for what this section leaves out, the nearest first.
    func transport(
        for line: DescriptionLine,
        above: [SectionAttributes]
    ) throws(SessionDescriptionError) -> TransportDescription {
        let all = [self] + above
        guard let ufrag = all.lazy.compactMap(\.iceUfrag).first, let password = all.lazy.compactMap(\.icePassword).first
        else { throw line.failure("the section has no ice-ufrag or no ice-pwd") }
        guard let fingerprints = all.lazy.map(\.fingerprints).first(where: { !$0.isEmpty }) else {
            throw line.failure("the section has no fingerprint, so the peer could not be told from others")
        }
        var transport = TransportDescription(
            iceUfrag: ufrag,
            icePassword: password,
            iceOptions: all.lazy.compactMap(\.iceOptions).first ?? [],
            // RFC 4145 section 4: who says nothing is active in an offer; RFC 8842 section 5.2 wants it said.
            setup: all.lazy.compactMap(\.setup).first ?? .either,
            fingerprints: fingerprints
        )
        let candidates = all.first { !$0.candidates.isEmpty }
        transport.candidates = candidates?.candidates ?? []
        transport.hasAllCandidates = candidates?.hasAllCandidates ?? all.contains(where: \.hasAllCandidates)
        return transport
    }

    private static func set<Value>(
        _ property: inout Value?,
        _ value: Value,
        _ line: DescriptionLine
    ) throws(SessionDescriptionError) {
        guard property == nil else { throw line.failure("says again what stands above it") }
        property = value
    }

    private mutating func parseOptions(_ value: Substring, _ line: DescriptionLine) throws(SessionDescriptionError) {
        // RFC 8839 section 5.6 separates them by blanks, libdatachannel by commas.
        let options = value.split { $0 == " " || $0 == "," }.map(String.init)
        guard options.count <= SessionDescriptionLimits.iceOptions else {
            throw line.failure("has \(options.count) options: at most \(SessionDescriptionLimits.iceOptions) are read")
        }
        iceOptions = (iceOptions ?? []) + options.filter { !(iceOptions ?? []).contains($0) }
        iceOptions = iceOptions.map { Array($0.prefix(SessionDescriptionLimits.iceOptions)) }
    }

    private mutating func parseFingerprint(_ value: Substring, _ line: DescriptionLine) throws(SessionDescriptionError)
    {
        guard fingerprints.count < SessionDescriptionLimits.fingerprints else {
            throw line.failure(
                "is one too many: at most \(SessionDescriptionLimits.fingerprints) fingerprints are read"
            )
        }
        guard let fingerprint = CertificateFingerprint(value) else {
            throw line.failure("is no fingerprint: a hash function, a blank, and bytes in hexadecimal with colons")
        }
        fingerprints.append(fingerprint)
    }

    /// RFC 8839 section 5.4.
    private static func iceText(
        _ value: Substring,
        atLeast least: Int,
        _ line: DescriptionLine
    ) throws(SessionDescriptionError) -> String {
        let limit = SessionDescriptionLimits.credentialBytes
        guard least...limit ~= value.utf8.count, value.utf8.allSatisfy(\.isICECharacter) else {
            throw line.failure("has to have \(least) to \(limit) letters, digits, + and /")
        }
        return String(value)
    }

    private static func token(
        _ value: Substring,
        _ length: ClosedRange<Int>,
        _ line: DescriptionLine
    ) throws(SessionDescriptionError) -> String {
        guard length ~= value.utf8.count, value.utf8.allSatisfy({ 0x21...0x7E ~= $0 }) else {
            throw line.failure("has to have \(length.lowerBound) to \(length.upperBound) characters without blanks")
        }
        return String(value)
    }

    /// RFC 8841 section 6.1: 0 stands for any size. A number past what fits means as much.
    private static func messageSize(_ value: Substring, _ line: DescriptionLine) throws(SessionDescriptionError) -> Int
    {
        let digits = UInt8(ascii: "0")...UInt8(ascii: "9")
        guard 1...20 ~= value.utf8.count, value.utf8.allSatisfy({ digits ~= $0 }) else {
            throw line.failure("\(value) is no number of bytes")
        }
        let size = Int(value) ?? .max
        return size == 0 ? .max : size
    }
}

extension UInt8 {
    fileprivate var isICECharacter: Bool {
        switch self {
        case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "A")...UInt8(ascii: "Z"): true
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "+"), UInt8(ascii: "/"): true
        default: false
        }
    }
}
