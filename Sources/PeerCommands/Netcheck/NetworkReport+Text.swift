import TurnpikeClient

/// The report for a person.
extension NetworkReport {
    package func text(_ style: Style) -> String {
        var lines = natLines(style)
        lines += streamLines(style)
        lines.append("")
        lines += familyLines(style)
        if let portMapping { lines += Self.mappingLines(portMapping, style) }
        lines += peerLines(style)
        if !stunServers.isEmpty || !unasked.isEmpty {
            lines += ["", style.bold("STUN servers")]
            lines += stunLines(style)
        }
        if !relays.isEmpty {
            lines += ["", style.bold("TURN servers")]
            lines += relayLines(style)
        }
        if let signaling { lines += ["", style.bold("Signaling server")] + Self.signalingLines(signaling, style) }
        if !issues.isEmpty {
            lines += ["", style.bold("Environment")]
            lines += issues.map { "  \(style.bad("no  "))  \($0.escapedForTerminal)" }
        }
        lines += ["", Verdict(self).text]
        return lines.joined(separator: "\n") + "\n"
    }

    private func natLines(_ style: Style) -> [String] {
        guard let nat = leading.nat else {
            return [style.bold("NAT type      ") + "not known: no STUN server could be asked"]
        }
        let name = nat.name.value?.word ?? "not known: \(nat.name.reason ?? "")"
        var lines = [style.bold("NAT type      ") + style.bold(name)]
        guard !nat.answeringServers.isEmpty else { return lines }
        lines += [
            Self.row("mapping", nat.mapping, style) { $0.words },
            Self.row("filtering", nat.filtering, style) { $0.words },
            Self.row("hairpin", nat.hairpin, style) {
                $0 ? "yes: hosts behind this NAT reach each other by their public addresses" : "no"
            },
            Self.row("ports", nat.allocation, style) { $0.words },
            Self.row("lifetime", nat.lifetime, style, hint: "; --lifetime finds out") { $0.words },
        ]
        return lines
    }

    private func streamLines(_ style: Style) -> [String] {
        guard let tcp else { return [] }
        var lines = [Self.row("TCP mapping", tcp.mapping, style) { $0.words }]
        if let allocation = tcp.allocation {
            lines.append(Self.row("TCP ports", .determined(allocation), style) { $0.words })
        }
        lines.append(Self.row("TCP inbound", tcp.unsolicited, style) { $0.words })
        return lines
    }

    private static func row<Value: Equatable & Sendable>(
        _ label: String,
        _ value: Determination<Value>,
        _ style: Style,
        hint: String = "",
        _ words: (Value) -> String
    ) -> String {
        let label = "  " + label.padded(to: 12)
        switch value {
        case .determined(let value): return label + words(value)
        case .undetermined(let reason):
            return label + style.faint("not known: \(reason)\(reason == NATReport.unmeasured ? hint : "")")
        }
    }

    private func familyLines(_ style: Style) -> [String] {
        [("IPv4", ipv4), ("IPv6", ipv6)].map { name, family in
            let label = style.bold(name.padded(to: 14))
            guard let nat = family.nat else { return label + "no: \(family.absence ?? "it was not asked for")" }
            guard let mapped = nat.mapped else { return label + style.bad("no answer by UDP") }
            let inside = nat.local.map { " (here \(AddressText.text($0)))" } ?? ""
            return label + AddressText.text(mapped) + (nat.isTranslated.value == false ? "" : inside)
        }
    }

    /// Which peers are reached how, by the names of their NATs.
    private func peerLines(_ style: Style) -> [String] {
        guard works, !outlook.isEmpty else { return [] }
        func names(_ way: Way) -> String {
            var names = outlook.filter { $0.way == way }.map(\.peer.word)
            if way == .guessed, guessesBothSides { names.append("Symmetric that counts its ports") }
            return names.isEmpty ? "none" : names.joined(separator: ", ")
        }
        return [
            "", style.bold("Peers behind NATs"), "  directly    \(names(.direct))", "  by guessing \(names(.guessed))",
            "  by relay    \(names(.relay))",
        ]
    }

    private static func mappingLines(_ mapping: PortMappingInfo, _ style: Style) -> [String] {
        let answers = [("PCP", mapping.pcp), ("NAT-PMP", mapping.natPMP), ("UPnP", mapping.upnp)].map { name, answer in
            switch answer {
            case .available: "\(name) yes"
            case .silent: "\(name) no"
            case .refused: "\(name) refused"
            case .unknown: "\(name) not known"
            }
        }
        var lines = [style.bold("Port mapping  ") + answers.joined(separator: ", ") + " at \(mapping.gateway)"]
        if let name = mapping.mappedBy, let address = mapping.externalIP, let port = mapping.externalPort {
            let time = mapping.lifetimeSeconds.map { $0 == 0 ? "until it is taken back" : "for \($0) s" } ?? ""
            lines.append("  mapped      \(address):\(port) by \(name), \(time)")
        }
        if let problem = mapping.problem { lines.append("              " + style.warning(problem)) }
        return lines
    }

    var stunServers: [(endpoint: Endpoint, answers: Bool)] {
        [ipv4, ipv6].compactMap(\.nat).flatMap { nat in
            nat.answeringServers.map { ($0, true) } + nat.silentServers.map { ($0, false) }
        }
    }

    private func stunLines(_ style: Style) -> [String] {
        stunServers.map { server in
            let mark = server.answers ? style.good("ok  ") : style.bad("no  ")
            return "  \(mark)  \(AddressText.text(server.endpoint))" + (server.answers ? "" : "  no answer")
        }
            + unasked.flatMap { server in
                Self.lines(style.bad("no  "), server.url.escapedForTerminal, server.problem, indent: 8)
            }
    }

    private func relayLines(_ style: Style) -> [String] {
        let width = relays.map { $0.url.escapedForTerminal.count }.max() ?? 0
        return relays.flatMap { relay -> [String] in
            let name = relay.url.escapedForTerminal.padded(to: width)
            let head = "\(relay.transport.word.padded(to: 4))  \(name)"
            switch relay.outcome {
            case .works(let time, let relayed):
                let time = time.map { Figure.time(nanoseconds: $0) } ?? ""
                let places = relayed.map { AddressText.text($0.address) }.joined(separator: ", ")
                return ["  \(style.good("ok  "))  \(head)  \(time.padded(to: 8))  relays from \(places)"]
            case .reached(let time, let problem):
                let time = time.map { Figure.time(nanoseconds: $0) } ?? ""
                return Self.lines(style.warning("part"), "\(head)  \(time)", problem, indent: 14)
            case .failed(let problem):
                return Self.lines(style.bad("no  "), head, problem, indent: 14)
            }
        }
    }

    private static func signalingLines(_ signaling: Signaling, _ style: Style) -> [String] {
        var head = [signaling.url.description.escapedForTerminal]
        if let way = signaling.way {
            let address = AddressText.text(way.server)
            if !head[0].contains(address) { head.append(address) }
            head.append(Figure.time(nanoseconds: way.roundTripNanoseconds))
            if let tls = way.tls { head.append("\(tls.replacing("TLSv", with: "TLS ")), \(signaling.trust.words)") }
        }
        let line = head.joined(separator: "  ")
        guard let problem = signaling.problem else { return ["  \(style.good("ok  "))  \(line)"] }
        let mark = signaling.way == nil ? style.bad("no  ") : style.warning("part")
        return lines(mark, line, problem, indent: 8)
    }

    private static func lines(_ mark: String, _ head: String, _ problem: Problem, indent: Int) -> [String] {
        let blanks = String(repeating: " ", count: indent)
        return ["  \(mark)  \(head.trimmedAtEnd)", blanks + problem.message]
            + (problem.mend.map { [blanks + "Mend: \($0)"] } ?? [])
    }
}

extension ServerTrust {
    /// Whose word is taken for the server's certificate.
    fileprivate var words: String {
        switch self {
        case .system: "vouched for by an authority of this system"
        case .authorities(let file): "vouched for by an authority in \(file.escapedForTerminal)"
        case .fingerprints: "the pinned certificate"
        }
    }
}

extension NATMapping {
    var words: String {
        switch self {
        case .endpointIndependent: "endpoint-independent: one public address for every destination"
        case .addressDependent: "address-dependent: another public port for each address"
        case .addressAndPortDependent: "address-and-port-dependent: another public port for each destination"
        case .endpointDependent: "endpoint-dependent: another public port for other destinations"
        }
    }

    /// For programs.
    var code: String { words.code }
}

extension NATFiltering {
    var words: String {
        switch self {
        case .endpointIndependent: "endpoint-independent: anybody may send to an open port"
        case .addressDependent: "address-dependent: hosts that were sent to may send"
        case .addressAndPortDependent: "address-and-port-dependent: only who was sent to may answer"
        }
    }

    var code: String { words.code }
}

extension UnsolicitedStream {
    var words: String {
        switch self {
        case .accepted: "accepted: anybody may connect to an open port"
        case .dropped: "dropped: two that connect at the same time meet"
        case .refused: "refused: two that connect at the same time meet, if their clocks agree"
        }
    }
}

extension NATPortAllocation {
    var words: String {
        switch self {
        case .preserving: "preserving: the same outside as inside"
        case .sequential(let step):
            "sequential: each \(abs(step)) \(step < 0 ? "below" : "above") the last, so the next can be told"
        case .chunked(let range):
            "chunked: drawn from a block that has \(range.lowerBound) to \(range.upperBound) in it, as carriers do"
        case .random: "random: nobody can tell the next"
        }
    }

    var code: String { words.code }

    /// Of one that counts.
    var step: Int? { if case .sequential(let step) = self { step } else { nil } }
}

extension NATLifetime {
    var words: String {
        lessThanSeconds.map { "a silent mapping lives for \(atLeastSeconds) to \($0) s" }
            ?? "a silent mapping lives for \(atLeastSeconds) s and more"
    }
}

extension String {
    func padded(to width: Int) -> String { self + String(repeating: " ", count: max(0, width - count)) }

    var trimmedAtEnd: String { String(reversed().drop { $0 == " " }.reversed()) }

    /// The term before the explanation.
    fileprivate var code: String { String(prefix { $0 != ":" }) }
}
