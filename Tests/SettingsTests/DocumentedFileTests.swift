import Foundation
import Testing

@testable import Settings

/// `etc/turnpike.yml` is what operators copy, so it is held against the code.
@Suite struct DocumentedFileTests {
    static let path = URL(fileURLWithPath: #filePath)
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
        .appendingPathComponent("etc/turnpike.yml").path

    @Test func documentsEveryKeyAndNoOtherWithItsDefault() throws {
        let file = ConfigurationFile(path: Self.path)
        #expect(file.diagnostics.isEmpty, "\(file.diagnostics)")
        #expect(file.entries.map(\.key.path) == KeyTable.keys.map(\.path))
        for entry in file.entries {
            var settings = Settings()
            try entry.key.apply(entry.raw, &settings)
            #expect(settings == Settings(), "\(entry.key.path) is not documented with its default")
        }
        let inputs = SettingsInputs(file: Self.path, isRoot: true)
        let outcome = SettingsLoader(inputs: inputs).load()
        #expect(outcome.diagnostics.isEmpty)
        #expect(outcome.settings == Settings())
    }

    @Test func everyKeySaysInACommentWhatItDoes() throws {
        let lines = try String(contentsOfFile: Self.path, encoding: .utf8).split(
            separator: "\n",
            omittingEmptySubsequences: false
        )
        for entry in ConfigurationFile(path: Self.path).entries {
            guard case .file(_, let line?, _) = entry.place else { continue }
            let above = lines[..<(line - 1)].reversed().drop { !$0.drop { $0 == " " }.hasPrefix("#") && !$0.isEmpty }
            #expect(above.first?.drop { $0 == " " }.hasPrefix("#") == true, "\(entry.key.path) has no comment")
        }
    }

    @Test func defaultsAreThoseOfTheContract() {
        let settings = Settings()
        #expect(settings.listen.udp.map(\.description) == ["0.0.0.0:3478", "[::]:3478"])
        #expect(settings.listen.alternate.isEmpty && settings.natDiscovery)
        #expect(settings.relay.minPort == 49152 && settings.relay.maxPort == 65535)
        #expect(settings.auth.nonceLifetimeSeconds == 600 && settings.auth.maxCredentialTTLSeconds == 86_400)
        #expect(settings.limits.allocationsPerUser == 10 && settings.limits.allocationsTotal == 0)
        #expect(settings.limits.permissionsPerAllocation == 128)
        #expect(settings.limits.bpsPerAllocation == 0 && settings.limits.bpsTotal == 0)
        #expect(settings.limits.unauthenticatedRepliesPerSecond == 10)
        #expect(settings.limits.bindingRepliesPerSecond == 500)
        #expect(!settings.auth.requireSHA256 && !settings.relay.allowLoopbackPeers && !settings.relay.rfc5766Channels)
    }

    @Test func namesOfVariablesAreThePathInUpperCase() {
        #expect(KeyTable.byPath["relay.min_port"]?.environmentName == "TURNPIKE_RELAY_MIN_PORT")
        #expect(KeyTable.byEnvironmentName.count == KeyTable.keys.count)
    }
}
