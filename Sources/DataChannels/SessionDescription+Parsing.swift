/// What is wrong with an SDP.
package struct SessionDescriptionError: Error, Equatable, CustomStringConvertible {
    /// Counted from 1; 0 for what no single line is to blame for.
    package let line: Int
    package let problem: String

    package var description: String { line == 0 ? "SDP: \(problem)" : "SDP line \(line): \(problem)" }
}

extension SessionDescription {
    /// Reads an offer or an answer.
    ///
    /// - Throws: for what is no SDP, is longer than `SessionDescriptionLimits` allow, or describes data channels that
    ///   could not be used. What is about audio and video is not looked into.
    package init(parsing text: String) throws(SessionDescriptionError) {
        var parser = SessionDescriptionParser()
        self = try parser.parse(text)
    }
}

private struct SessionDescriptionParser {
    private var session = SectionAttributes()
    private var sections: [SectionParser] = []
    private var bundle: [String] = []
    private var isICELite = false
    private var pacingMilliseconds: UInt32?

    mutating func parse(_ text: String) throws(SessionDescriptionError) -> SessionDescription {
        let lines = try split(text)
        let (sessionID, version) = try parseHead(lines)
        for line in lines.dropFirst(3) { try parse(line) }
        guard lines.contains(where: { $0.type == "t" }) else {
            throw SessionDescriptionError(line: 0, problem: "has no t= line")
        }
        guard !sections.isEmpty else {
            throw SessionDescriptionError(line: 0, problem: "describes no media: no m= line")
        }
        try checkMids()
        // RFC 9143 section 7: what the sections of a bundle have in common may stand in its first one alone.
        let tagged = bundle.first.flatMap { mid in sections.first { $0.attributes.mid == mid } }?.attributes
        var described: [SessionDescription.Section] = []
        for section in sections {
            let isBundled = section.attributes.mid.map { bundle.contains($0) } ?? false
            var result = try section.describe(
                session: session,
                tagged: isBundled ? tagged : nil,
                isICELite: isICELite
            )
            if case .data(var data) = result {
                data.transport.pacingMilliseconds = pacingMilliseconds
                result = .data(data)
            }
            described.append(result)
        }
        var description = SessionDescription(sessionID: sessionID, version: version, sections: described)
        description.isBundled = description.data.map { bundle.contains($0.mid) } ?? false
        return description
    }

    private func split(_ text: String) throws(SessionDescriptionError) -> [DescriptionLine] {
        let bytes = text.utf8.count
        guard bytes <= SessionDescriptionLimits.textBytes else {
            let limit = SessionDescriptionLimits.textBytes
            throw SessionDescriptionError(line: 0, problem: "has \(bytes) bytes: at most \(limit) are read")
        }
        // RFC 8866 section 9 wants CR LF and asks to take LF alone. To Swift CR LF is one character.
        var parts = text.utf8.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
        if parts.last?.isEmpty == true { parts.removeLast() }
        var lines: [DescriptionLine] = []
        for (index, part) in parts.enumerated() {
            let line = part.last == UInt8(ascii: "\r") ? part.dropLast() : part
            func failure(_ problem: String) -> SessionDescriptionError {
                SessionDescriptionError(line: index + 1, problem: problem)
            }
            guard index < SessionDescriptionLimits.lines else {
                throw failure("is one too many: at most \(SessionDescriptionLimits.lines) are read")
            }
            guard line.count <= SessionDescriptionLimits.lineBytes else {
                throw failure("has \(line.count) bytes: at most \(SessionDescriptionLimits.lineBytes) are read")
            }
            guard !line.contains(where: { $0 < 0x20 && $0 != 0x09 || $0 == 0x7F }) else {
                throw failure("has a control character")
            }
            guard let letter = line.first, UInt8(ascii: "a")...UInt8(ascii: "z") ~= letter,
                line.dropFirst().first == UInt8(ascii: "=")
            else { throw failure("does not begin with a letter and an equals sign") }
            let type = Character(Unicode.Scalar(letter))
            lines.append(DescriptionLine(number: index + 1, type: type, value: Substring(line.dropFirst(2))))
        }
        return lines
    }

    /// The three lines that every description begins with.
    private func parseHead(_ lines: [DescriptionLine]) throws(SessionDescriptionError) -> (UInt64, UInt64) {
        for (index, type) in (["v", "o", "s"] as [Character]).enumerated() {
            guard lines.indices.contains(index), lines[index].type == type else {
                throw SessionDescriptionError(line: index + 1, problem: "is not the \(type)= line")
            }
        }
        guard lines[0].value == "0" else { throw lines[0].failure("names version \(lines[0].value): only 0 is known") }
        let origin = try lines[1].words(6...6, "o=USERNAME SESSION VERSION IN IP4|IP6 ADDRESS")
        guard let sessionID = UInt64(origin[1]), let version = UInt64(origin[2]) else {
            throw lines[1].failure("has a session or a version that is no number of 64 bits")
        }
        return (sessionID, version)
    }

    private mutating func parse(_ line: DescriptionLine) throws(SessionDescriptionError) {
        switch line.type {
        case "m":
            guard sections.count < SessionDescriptionLimits.sections else {
                throw line.failure("is one section too many: at most \(SessionDescriptionLimits.sections) are read")
            }
            sections.append(try SectionParser(line))
        case "a":
            if sections.isEmpty {
                try parseSessionAttribute(line)
            } else {
                try sections[sections.count - 1].attributes.parse(line)
            }
        // They belong above the first section, and say nothing here.
        case "t", "r", "z", "u", "e", "p":
            guard sections.isEmpty else { throw line.failure("a \(line.type)= line stands below an m= line") }
        case "i", "c", "b", "k": break
        default: throw line.failure("no line of SDP begins with \(line.type)=")
        }
    }

    private mutating func parseSessionAttribute(_ line: DescriptionLine) throws(SessionDescriptionError) {
        let words = line.value.split(separator: " ")
        switch words.first {
        case "group:BUNDLE":
            if bundle.isEmpty { bundle = words.dropFirst().map(String.init) }
        case "ice-lite": isICELite = true
        case let word? where word.hasPrefix("ice-pacing:"):
            let value = word.dropFirst(11)
            guard pacingMilliseconds == nil, let pacing = UInt32(value), value.first != "+" else {
                throw line.failure("is no number of milliseconds, or the second one")
            }
            pacingMilliseconds = pacing
        default: try session.parse(line)
        }
    }

    private func checkMids() throws(SessionDescriptionError) {
        var seen: Set<String> = []
        for section in sections {
            guard let mid = section.attributes.mid else { continue }
            guard seen.insert(mid).inserted else {
                throw section.line.failure("another section has mid \(mid) as well")
            }
        }
    }
}

/// A section while it is read.
private struct SectionParser {
    let line: DescriptionLine
    private let media: Substring
    private let port: UInt16
    private let protocolName: Substring
    private let formats: [Substring]
    var attributes = SectionAttributes()

    init(_ line: DescriptionLine) throws(SessionDescriptionError) {
        let words = try line.words(4...512, "m=MEDIA PORT PROTOCOL FORMAT…")
        // A port may be followed by how many there are (RFC 8866 section 5.14).
        guard let port = words[1].split(separator: "/").first.flatMap({ UInt16($0) }) else {
            throw line.failure("\(words[1]) is no port")
        }
        self.line = line
        media = words[0]
        self.port = port
        protocolName = words[2]
        formats = Array(words[3...])
    }

    func describe(
        session: SectionAttributes,
        tagged: SectionAttributes?,
        isICELite: Bool
    ) throws(SessionDescriptionError) -> SessionDescription.Section {
        // Port 0 turns a section down, unless it only joins a bundle (RFC 9143 section 6).
        guard let format, port != 0 || attributes.isBundleOnly, attributes.sctpPort?.value != 0 else {
            return .other(
                OtherSection(
                    media: String(media),
                    protocolName: String(protocolName),
                    formats: formats.joined(separator: " "),
                    mid: attributes.mid ?? ""
                )
            )
        }
        var section = DataSection(
            mid: attributes.mid ?? "",
            transport: try attributes.transport(for: line, above: [tagged, session].compactMap { $0 }),
            sctpPort: attributes.sctpPort?.value ?? DataSection.usualPort,
            maxMessageBytes: attributes.maxMessageBytes ?? DataSection.silentMaxMessageBytes,
            format: format
        )
        if format == .draft {
            guard let port = UInt16(formats[0]), port != 0 else { throw line.failure("\(formats[0]) is no SCTP port") }
            section.sctpPort = port
        }
        section.transport.isICELite = isICELite
        return .data(section)
    }

    /// Nil for what is not for data channels.
    private var format: DataSection.Format? {
        guard media == "application" else { return nil }
        switch protocolName {
        case "UDP/DTLS/SCTP", "TCP/DTLS/SCTP": return formats == ["webrtc-datachannel"] ? .standard : nil
        case "DTLS/SCTP": return formats.count == 1 ? .draft : nil
        default: return nil
        }
    }
}
