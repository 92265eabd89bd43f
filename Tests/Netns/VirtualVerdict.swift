import Foundation
import Lab
import STUN
import Traversal

/// What discovery says of each profile in the virtual laboratory, so that it can be held against the real one.
package enum VirtualVerdict {
    /// A line of JSON for each profile.
    package static func all() throws -> [String] { try NATProfile.names.map(line) }

    private struct Line: Encodable {
        var profile: String
        var name: String?
        var mapping: String?
        var filtering: String?
        var allocation: String?
        var step: Int?
        var hairpin: Bool?
    }

    private static func line(_ profile: String) throws -> String {
        guard let behavior = NATProfile.behavior(profile) else { throw WordError("there is no NAT \(profile)") }
        let internet = Internet(seed: 1) { net in
            net.relay("turn")
            net.nat("home", behavior, firewall: .open) { $0.host("a") }
        }
        let probe = NATProbe(internet, on: "a")
        try internet.run(while: { probe.report == nil }, atMostSeconds: 30)
        guard let report = probe.report else { throw WordError("discovery of \(profile) does not end") }
        var line = Line(
            profile: profile,
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
}
