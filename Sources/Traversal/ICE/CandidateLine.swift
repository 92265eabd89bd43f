import STUN

/// Candidates as text: RFC 8839 section 5.1, with the extensions that browsers write.
///
///     candidate:1 1 udp 2122260223 192.0.2.1 54321 typ srflx raddr 10.0.0.1 rport 54321 generation 0 ufrag aB3d
package enum CandidateLine {
    /// Reads `candidate:…`, with or without `a=` before it. An empty line, which browsers send for the end of
    /// candidates, is an error here: it is no candidate.
    package static func parse(_ line: String) throws(CandidateLineError) -> ICECandidate {
        guard line.utf8.count <= ICELimits.candidateLineBytes else { throw .tooLong }
        var text = line[...]
        if text.hasPrefix("a=") { text = text.dropFirst(2) }
        guard text.hasPrefix("candidate:") else { throw .noCandidate }
        let fields = text.dropFirst(10).split(separator: " ", omittingEmptySubsequences: false)
        guard fields.count >= 8 else { throw .tooShort }

        guard isToken(fields[0], 1...ICELimits.foundationCharacters) else { throw .foundation }
        guard let component = number(fields[1], 256), component >= 1 else { throw .component }
        let isTCP: Bool
        switch fields[2].lowercased() {
        case "udp": isTCP = false
        case "tcp": isTCP = true
        default: throw .transport
        }
        // RFC 8445 section 5.1.2: 1 to 2^31 - 1.
        guard let priority = number(fields[3], 0x7FFF_FFFF), priority >= 1 else { throw .priority }
        let address = try address(fields[4])
        guard let port = number(fields[5], 65_535) else { throw .port }
        guard fields[6] == "typ", let type = ICECandidateType(rawValue: String(fields[7])) else { throw .type }

        let extensions = try Extensions(fields[8...])
        guard isTCP == (extensions.transport != nil) else { throw .transport }
        // RFC 6544 section 4.5: an active candidate's port is the discard port, and means nothing.
        guard port != 0 || extensions.transport == .tcpActive else { throw .port }
        var candidate = ICECandidate(
            foundation: String(fields[0]),
            transport: extensions.transport ?? .udp,
            priority: UInt32(priority),
            address: address,
            port: UInt16(port),
            type: type
        )
        candidate.component = UInt16(component)
        candidate.related = extensions.related
        candidate.usernameFragment = extensions.usernameFragment
        candidate.generation = extensions.generation
        candidate.networkID = extensions.networkID
        candidate.networkCost = extensions.networkCost
        return candidate
    }

    /// Without `a=`, as browsers take it.
    package static func text(_ candidate: ICECandidate) -> String {
        let address =
            switch candidate.address {
            case .ip(let address): AddressText.text(address)
            case .name(let name): name
            }
        var text =
            "candidate:\(candidate.foundation) \(candidate.component) \(candidate.transport.isTCP ? "tcp" : "udp")"
            + " \(candidate.priority) \(address) \(candidate.port) typ \(candidate.type.rawValue)"
        if let related = candidate.related {
            text += " raddr \(AddressText.text(related.address)) rport \(related.port)"
        } else if candidate.type != .host {
            // RFC 8839 section 5.1 wants both for every candidate that is not a host's; these say nothing of the base.
            text += candidate.isIPv6 ? " raddr :: rport 9" : " raddr 0.0.0.0 rport 9"
        }
        switch candidate.transport {
        case .udp: break
        case .tcpActive: text += " tcptype active"
        case .tcpPassive: text += " tcptype passive"
        case .tcpSimultaneous: text += " tcptype so"
        }
        if let generation = candidate.generation { text += " generation \(generation)" }
        if let fragment = candidate.usernameFragment { text += " ufrag \(fragment)" }
        if let id = candidate.networkID { text += " network-id \(id)" }
        if let cost = candidate.networkCost { text += " network-cost \(cost)" }
        return text
    }

    /// What stands behind the type: names and values in any order, each known name once.
    private struct Extensions {
        private(set) var related: Endpoint?
        private(set) var transport: ICETransport?
        private(set) var usernameFragment: String?
        private(set) var generation: UInt32?
        private(set) var networkID: UInt32?
        private(set) var networkCost: UInt32?

        init(_ fields: ArraySlice<Substring>) throws(CandidateLineError) {
            guard fields.count & 1 == 0, fields.count <= 2 * ICELimits.extensionsPerLine else { throw .extensions }
            var seen: Set<Substring> = []
            var address: IPAddress?
            var port: UInt16?
            for index in stride(from: fields.startIndex, to: fields.endIndex, by: 2) {
                let (name, value) = (fields[index], fields[index + 1])
                guard !name.isEmpty, !value.isEmpty, isVisible(name), isVisible(value),
                    seen.insert(name).inserted
                else { throw .extensions }
                switch name {
                case "raddr":
                    // A name here is kept from us, as the address is.
                    if case .ip(let known) = try CandidateLine.address(value) { address = known }
                case "rport":
                    guard let number = number(value, 65_535) else { throw .extensions }
                    port = UInt16(number)
                case "tcptype":
                    switch value {
                    case "active": transport = .tcpActive
                    case "passive": transport = .tcpPassive
                    case "so": transport = .tcpSimultaneous
                    default: throw .extensions
                    }
                case "ufrag":
                    guard isToken(value, ICELimits.usernameFragmentCharacters) else { throw .extensions }
                    usernameFragment = String(value)
                case "generation": generation = try decimal(value)
                case "network-id": networkID = try decimal(value)
                case "network-cost": networkCost = try decimal(value)
                default: break
                }
            }
            if let address, let port { related = Endpoint(address: address, port: port) }
        }

        private func decimal(_ text: Substring) throws(CandidateLineError) -> UInt32 {
            guard let value = number(text, Int(UInt32.max)) else { throw .extensions }
            return UInt32(value)
        }
    }

    private static func address(_ text: Substring) throws(CandidateLineError) -> ICECandidate.Address {
        if let address = AddressText.address(text) { return .ip(address) }
        guard isName(text) else { throw .address }
        return .name(text.lowercased())
    }

    /// A name of at least two labels. One whose last label is a number would be a mistyped address.
    private static func isName(_ text: Substring) -> Bool {
        guard text.utf8.count <= ICELimits.nameBytes else { return false }
        let labels = text.utf8.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false)
        guard labels.count >= 2, let last = labels.last, !last.allSatisfy({ isDigit($0) }) else { return false }
        return labels.allSatisfy { label in
            (1...63).contains(label.count) && label.first != UInt8(ascii: "-")
                && label.allSatisfy { isDigit($0) || isLetter($0) || $0 == UInt8(ascii: "-") }
        }
    }

    /// Digits alone, at most ten of them: no sign, no blank.
    private static func number(_ text: Substring, _ maximum: Int) -> Int? {
        guard (1...10).contains(text.utf8.count), text.utf8.allSatisfy({ isDigit($0) }), let value = Int64(text),
            value <= Int64(maximum)
        else { return nil }
        return Int(value)
    }

    /// RFC 8839 section 5.1: ice-char is a letter, a digit, + or /. Old browsers write others of base64's kin in
    /// foundations.
    static func isToken(_ text: some StringProtocol, _ lengths: ClosedRange<Int>) -> Bool {
        lengths.contains(text.utf8.count)
            && text.utf8.allSatisfy { byte in
                isDigit(byte) || isLetter(byte)
                    || [UInt8(ascii: "+"), UInt8(ascii: "/"), UInt8(ascii: "-"), UInt8(ascii: "_")].contains(byte)
            }
    }

    private static func isVisible(_ text: Substring) -> Bool { text.utf8.allSatisfy { (0x21...0x7E).contains($0) } }
    private static func isDigit(_ byte: UInt8) -> Bool { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) }
    private static func isLetter(_ byte: UInt8) -> Bool {
        (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte | 0x20)
    }
}

/// Which part of a candidate line is not as RFC 8839 has it.
package enum CandidateLineError: Error, Hashable, Sendable {
    case tooLong, noCandidate, tooShort, foundation, component, transport, priority, address, port, type, extensions
}

extension ICECandidate {
    var isIPv6: Bool {
        guard case .ip(let address) = address else { return false }
        return !address.isIPv4
    }
}
