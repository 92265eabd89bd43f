import Lab
import STUN

/// What a NAT is told on its command line.
package struct NATSetup {
    package private(set) var behavior: NATBehavior
    package private(set) var firewall = Firewall.open
    package private(set) var addresses: [IPAddress] = []

    /// - Parameters:
    ///   - profile: one of `NATProfile`.
    ///   - words: such as `addresses=203.0.113.100,203.0.113.200` or `lifetime_s=20`.
    package init(profile: String, _ words: some Sequence<String>) throws {
        guard let behavior = NATProfile.behavior(profile) else {
            throw WordError("there is no NAT \(profile); there are \(NATProfile.names.joined(separator: ", "))")
        }
        self.behavior = behavior
        firewall = NATProfile.firewall(profile)
        for word in words { try apply(word) }
        guard !addresses.isEmpty else { throw WordError("addresses=… is missing") }
    }

    private mutating func apply(_ word: String) throws {
        let parts = word.split(separator: "=", maxSplits: 1).map(String.init)
        guard parts.count == 2 else { throw WordError("expected NAME=VALUE, not \(word)") }
        let text = parts[1]
        switch parts[0] {
        case "addresses": addresses = try Self.addresses(text)
        case "mapping": behavior.mapping = try Self.one(of: Self.dependences, text)
        case "filtering": behavior.filtering = try Self.one(of: Self.dependences, text)
        case "tcp_mapping": behavior.tcpMapping = try Self.one(of: Self.dependences, text)
        case "tcp_filtering": behavior.tcpFiltering = try Self.one(of: Self.dependences, text)
        case "allocation": behavior.allocation = try Self.allocation(text)
        case "hairpin":
            let ways: [String: NATBehavior.Hairpinning] = [
                "none": .none, "external": .externalSource, "internal": .internalSource,
            ]
            behavior.hairpinning = try Self.one(of: ways, text)
        case "lifetime_s": behavior.udpLifetimeSeconds = try Self.number(text, 0.01...86_400)
        case "refresh": behavior.refresh = try Self.one(of: ["outbound": .outbound, "both": .both], text)
        case "pooling": behavior.pooling = try Self.one(of: ["paired": .paired, "arbitrary": .arbitrary], text)
        case "overloading":
            let ways: [String: NATBehavior.Overloading] = [
                "never": .never, "unless-same-destination": .unlessSameDestination, "always": .always,
            ]
            behavior.overloading = try Self.one(of: ways, text)
        case "unsolicited_tcp": behavior.unsolicitedTCP = try Self.one(of: Self.refusals, text)
        case "unsolicited_udp": behavior.unsolicitedUDP = try Self.one(of: Self.refusals, text)
        case "tcp_established_s": behavior.tcpEstablishedSeconds = try Self.number(text, 0.01...86_400)
        case "tcp_transitory_s": behavior.tcpTransitorySeconds = try Self.number(text, 0.01...86_400)
        case "background_flows_per_s": behavior.backgroundFlowsPerSecond = try Self.number(text, 0...10_000)
        case "remembers": behavior.remembersUnsolicited = try Self.one(of: ["yes": true, "no": false], text)
        case "udp": firewall.passesUDP = try Self.one(of: ["yes": true, "no": false], text)
        case "tcp_ports":
            firewall.tcpPorts = Set(try text.split(separator: ",").map { UInt16(try Self.number($0, 0...65_535)) })
        default: throw WordError("there is no \(parts[0])")
        }
    }

    private static let dependences: [String: NATBehavior.Dependence] = [
        "independent": .endpointIndependent, "address": .addressDependent, "address-and-port": .addressAndPortDependent,
    ]

    private static let refusals: [String: NATBehavior.Unsolicited] = ["drop": .drop, "reject": .reject]

    private static func one<Value>(of values: [String: Value], _ text: String) throws -> Value {
        if let value = values[text] { return value }
        throw WordError("\(text) is none of \(values.keys.sorted().joined(separator: ", "))")
    }

    private static func number(_ text: some StringProtocol, _ range: ClosedRange<Double>) throws -> Double {
        if let value = Double(text), range.contains(value) { return value }
        throw WordError("\(text) is no number from \(range.lowerBound) to \(range.upperBound)")
    }

    private static func addresses(_ text: String) throws -> [IPAddress] {
        try text.split(separator: ",").map { word in
            let address = IPAddress(String(word))
            guard address.isIPv4, address.v4 != 0 else { throw WordError("\(word) is no IPv4 address") }
            return address
        }
    }

    private static func allocation(_ text: String) throws -> NATBehavior.Allocation {
        let parts = text.split(separator: ":").map(String.init)
        switch (parts.first, parts.count) {
        case ("preserving", 1): return .preserving
        case ("random", 1): return .random
        case ("sequential", 2): return .sequential(step: Int(try number(parts[1], -1_000...1_000)))
        case ("chunked", 2): return .chunked(ports: Int(try number(parts[1], 1...32_768)))
        default: throw WordError("\(text) is none of preserving, random, sequential:STEP, chunked:PORTS")
        }
    }
}

extension NATBox {
    /// Obeys a line: `reboot` or `report`.
    /// - Returns: the answer.
    package mutating func obey(_ line: String) -> String {
        switch line {
        case "reboot": reboot()
        case "report":
            let figures = [
                ("from_inside", counters.fromInside), ("from_outside", counters.fromOutside),
                ("hairpinned", counters.hairpinned), ("dropped", counters.dropped), ("refused", counters.refused),
                ("malformed", counters.malformed), ("unwritten", counters.unwritten), ("mappings", mappingCount()),
            ]
            return figures.map { "\($0.0)=\($0.1)" }.joined(separator: " ")
        default: return "error: there is no command \(line)"
        }
        return "ok"
    }
}
