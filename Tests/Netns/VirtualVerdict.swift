import Foundation
import Lab
import STUN
import Traversal

/// What discovery says of NATs in the virtual laboratory, so that it can be held against the real one.
package enum VirtualVerdict {
    /// A line of JSON for each.
    /// - Parameter kinds: profiles, or several with a slash between them, the first nearest to the host; none for all
    ///   profiles.
    package static func lines(_ kinds: [String]) throws -> [String] {
        try (kinds.isEmpty ? NATProfile.names : kinds).map(line)
    }

    /// A line of JSON for each pair of NATs: whether it is direct without guessing ports.
    package static func pairs() throws -> [String] {
        struct Line: Encodable {
            var offerer: String
            var answerer: String
            var direct: Bool
        }
        return try NATPair.all.map { pair in
            let line = Line(
                offerer: pair.offerer.rawValue,
                answerer: pair.answerer.rawValue,
                direct: pair.isDirect
            )
            return String(decoding: try JSONEncoder().encode(line), as: UTF8.self)
        }
    }

    private struct Line: Encodable {
        var profile: String
        var name: String?
        var mapping: String?
        var filtering: String?
        var allocation: String?
        var step: Int?
        var hairpin: Bool?
    }

    private static func line(_ kind: String) throws -> String {
        let profiles = kind.split(separator: "/").map(String.init)
        let behaviors = try profiles.map { profile in
            guard let behavior = NATProfile.behavior(profile) else { throw WordError("there is no NAT \(profile)") }
            return (profile, behavior)
        }
        let internet = Internet(seed: 1) { net in
            net.relay("turn")
            build(behaviors, on: net)
        }
        let probe = NATProbe(internet, on: "a")
        if !profiles.allSatisfy({ NATProfile.firewall($0).passesUDP }) {
            // As by a connection of TCP.
            probe.confirmRunning(internet.relay("turn").endpoint(.ipv4))
        }
        try internet.run(while: { probe.report == nil }, atMostSeconds: 30)
        guard let report = probe.report else { throw WordError("discovery of \(kind) does not end") }
        var line = Line(
            profile: kind,
            name: report.name.value?.rawValue,
            mapping: report.mapping.value?.rawValue,
            filtering: report.filtering.value?.rawValue,
            hairpin: report.hairpin.value
        )
        switch report.allocation.value {
        case .preserving: line.allocation = "preserving"
        case .sequential(let step): (line.allocation, line.step) = ("sequential", step)
        case .chunked: line.allocation = "chunked"
        case .random: line.allocation = "random"
        case nil: break
        }
        return String(decoding: try JSONEncoder().encode(line), as: UTF8.self)
    }
    /// The last is the world's, and the host is behind the first.
    private static func build(_ nats: [(profile: String, behavior: NATBehavior)], on network: Network) {
        guard let nat = nats.last else {
            network.host("a")
            return
        }
        let firewall = NATProfile.firewall(nat.profile)
        network.nat("router \(nats.count)", nat.behavior, firewall: firewall) { build(Array(nats.dropLast()), on: $0) }
    }
}
