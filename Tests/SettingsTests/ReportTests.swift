import Foundation
import Testing

@testable import Settings

@Suite struct ReportTests {
    @Test func textGivesEachValueWithItsOrigin() throws {
        let outcome = try load(set: [
            "workers=4", "realm=a b", "relay.deny_peers=10.0.0.0/8,::1", "auth.nonce_lifetime=90m",
        ])
        let lines = SettingsReport(outcome).text.split(separator: "\n").map(String.init)
        #expect(lines.count == outcome.origins.count)
        let squeezed = lines.map { $0.split(separator: " ").joined(separator: " ") }
        #expect(squeezed.contains("workers = 4 # flag --set workers"))
        #expect(squeezed.contains("realm = \"a b\" # flag --set realm"))
        #expect(squeezed.contains("relay.deny_peers = [\"10.0.0.0/8\", \"::1\"] # flag --set relay.deny_peers"))
        #expect(squeezed.contains("auth.nonce_lifetime = 1h30m # flag --set auth.nonce_lifetime"))
        #expect(squeezed.contains("listen.udp = [\"0.0.0.0:3478\", \"[::]:3478\"] # default"))
        #expect(Set(lines.map { $0.firstRange(of: "   # ")?.lowerBound.utf16Offset(in: $0) }).count == 1)
    }

    @Test func jsonIsWhatAParserReads() throws {
        let outcome = try load(set: ["realm=ä\u{2028}/", "workers=4", "log.level=debug"])
        let json = Data(SettingsReport(outcome).json.utf8)
        let object = try #require(try JSONSerialization.jsonObject(with: json) as? [String: [String: Any]])
        #expect(object.count == outcome.origins.count)
        #expect(object["realm"]?["value"] as? String == "ä\u{2028}/")
        #expect(object["workers"]?["value"] as? Int == 4)
        #expect(object["relay.rfc5766_channels"]?["value"] as? Bool == false)
        #expect(object["listen.udp"]?["value"] as? [String] == ["0.0.0.0:3478", "[::]:3478"])
        #expect(object["log.level"]?["origin"] as? String == "flag --set log.level")
    }

    @Test func whatIsPrintedReadsBackAsTheSameSettings() throws {
        let first = try load(set: [
            "realm=- [x]: #", "workers=3", "listen.udp=[::1]:0,127.0.0.1:5",
            "external_address=203.0.113.1/10.0.0.1", "relay.addresses=::1",
            "relay.allow_peers=::/0,10.0.0.0/8,192.0.2.1-192.0.2.4",
            "relay.allow_loopback_peers=on", "auth.nonce_lifetime=3661", "data_dir=/a b/#c",
        ])
        let settings = try #require(first.settings)
        var sections: [String: String] = [:]
        for origin in first.origins {
            let parts = origin.key.split(separator: ".").map(String.init)
            if parts.count == 2 {
                sections[parts[0], default: "\n"] += "  \(parts[1]): \(origin.value)\n"
            } else {
                sections[parts[0]] = " \(origin.value)\n"
            }
        }
        let second = try load(sections.map { "\($0):\($1)" }.joined())
        #expect(second.diagnostics.isEmpty, "\(second.diagnostics)")
        #expect(second.settings == settings)
    }
}
