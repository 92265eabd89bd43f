import Accounts
import Commands
import Foundation
import Testing

@Suite struct SecretCommandTests {
    @Test func secretIsPrintedOnceAndNeverListed() async throws {
        let installation = Installation()
        let added = await installation.run("secret", "add", "web")
        #expect(added.status == 0)
        let value = added.output.trimmingCharacters(in: .newlines)
        #expect(value.count >= 52)
        #expect(try installation.store().allSecrets().map(\.value) == [Array(value.utf8)])
        for format in ["text", "json"] {
            let list = await installation.run("secret", "list", "--format", format)
            #expect(list.output.contains("web"))
            #expect(!list.output.contains(value))
        }
    }

    @Test func secretFromStandardInputIsKeptByteForByte() async throws {
        let installation = Installation()
        let outcome = await installation.run("secret", "add", "web", "--stdin", input: [0xFF, 0x20, 0x41, 0x0A, 0x42])
        #expect(outcome.status == 0)
        #expect(outcome.output.isEmpty)
        #expect(try installation.store().allSecrets().map(\.value) == [[0xFF, 0x20, 0x41]])
        #expect(await installation.run("secret", "add", "x", "--stdin", input: [0x03, 0x0A]).status == 64)
        #expect(await installation.run("secret", "add", "x", "--stdin").status == 64)
    }

    @Test func credentialIsMintedWithTheNewestSecret() async throws {
        let installation = Installation()
        let none = await installation.run("user", "add", "someone")
        #expect(none.status == 0)
        let refused = await installation.run("credentials", "alice")
        #expect(refused.status == 1)
        #expect(refused.messages.contains("turnpike secret add"))
        _ = await installation.run("secret", "add", "old", "--stdin", input: "south\n".bytes)
        _ = await installation.run("secret", "add", "new", "--stdin", input: "north\n".bytes)
        let outcome = await installation.run(
            "credentials",
            "alice",
            "--ttl",
            "1h",
            "--format",
            "env",
            now: 1_433_895_918 - 3600
        )
        let fingerprint = try #require(outcome.output.split(separator: "\n").last)
        #expect(fingerprint.hasPrefix("TURNPIKE_CERT_FINGERPRINT=sha256:"))
        #expect(
            outcome.output == """
                SIGNALING_SERVER=wss://203.0.113.5:8443/signal
                STUN_SERVERS=stun:203.0.113.5:3478
                TURN_SERVER=turn:203.0.113.5:3478?transport=udp
                TURN_SERVERS=turn:203.0.113.5:3478?transport=udp,turn:203.0.113.5:3478?transport=tcp,\
                turns:203.0.113.5:5349?transport=tcp,turns:203.0.113.5:5349?transport=udp
                TURN_USERNAME=1433895918:alice
                TURN_PASSWORD=RqMvcGPYTJMGThVLSi4amT4zFtI=
                \(fingerprint)

                """
        )
        let json = await installation.run("credentials", "alice", "--format", "json")
        let object = try #require(try JSONSerialization.jsonObject(with: Data(json.output.utf8)) as? [String: Any])
        #expect(object["username"] as? String == "1700003600:alice")
        #expect(object["expiresAt"] as? String == "2023-11-14T23:13:20Z")
        #expect(object["signalingServer"] as? String == "wss://203.0.113.5:8443/signal")
        #expect("TURNPIKE_CERT_FINGERPRINT=\(object["certificateFingerprint"] as? String ?? "")" == fingerprint)
    }

    @Test func timeToLiveBeyondTheServersIsRefused() async throws {
        let installation = Installation()
        _ = await installation.run("secret", "add", "web")
        let outcome = await installation.run("credentials", "alice", "--ttl", "25h")
        #expect(outcome.status == 64)
        #expect(outcome.messages.contains("auth.max_credential_ttl"))
        installation.environment["TURNPIKE_AUTH_MAX_CREDENTIAL_TTL"] = "48h"
        #expect(await installation.run("credentials", "alice", "--ttl", "25h").status == 0)
    }

    @Test func removedSecretIsGone() async throws {
        let installation = Installation()
        _ = await installation.run("secret", "add", "web")
        #expect(await installation.run("secret", "remove", "web").status == 0)
        #expect(try installation.store().allSecrets().isEmpty)
        #expect(await installation.run("secret", "remove", "web").status == 1)
        let list = await installation.run("secret", "list")
        #expect(list.status == 0 && list.output.isEmpty)
    }
}
