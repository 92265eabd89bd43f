import Accounts
import Commands
import Foundation
import Testing

@Suite struct UserCommandTests {
    @Test func addPrintsWhatAPeerNeedsAndKeepsOnlyKeys() async throws {
        let installation = Installation()
        let outcome = await installation.run("user", "add", "alice", "--format", "env")
        #expect(outcome.status == 0)
        let lines = outcome.output.split(separator: "\n")
        #expect(
            lines.prefix(5) == [
                "SIGNALING_SERVER=wss://203.0.113.5:8443/signal", "STUN_SERVERS=stun:203.0.113.5:3478",
                "TURN_SERVER=turn:203.0.113.5:3478?transport=udp",
                "TURN_SERVERS=turn:203.0.113.5:3478?transport=udp,turn:203.0.113.5:3478?transport=tcp,"
                    + "turns:203.0.113.5:5349?transport=tcp,turns:203.0.113.5:5349?transport=udp",
                "TURN_USERNAME=alice",
            ]
        )
        try #require(lines.count == 7)
        let password = lines[5].dropFirst("TURN_PASSWORD=".count)
        #expect(lines[5].hasPrefix("TURN_PASSWORD="))
        #expect(lines[6].wholeMatch(of: /TURNPIKE_CERT_FINGERPRINT=sha256:[0-9a-f]{64}/) != nil)
        #expect(password.count >= 26)
        #expect(try installation.store().credentialRecord(username: "alice")?.keys.md5Key.count == 16)
        for file in try FileManager.default.contentsOfDirectory(atPath: installation.path) {
            let data = try Data(contentsOf: URL(fileURLWithPath: installation.path + "/" + file))
            #expect(data.range(of: Data(password.utf8)) == nil, "\(file)")
        }
    }

    @Test func passwordComesFromTheFirstLineOfStandardInput() async throws {
        let installation = Installation()
        let typed = await installation.run(
            "user",
            "add",
            "user",
            "--realm",
            "realm",
            "--password-stdin",
            input: "pass\r\nsecond\n".bytes
        )
        #expect(typed.status == 0)
        #expect(!typed.output.contains("pass"))
        #expect(typed.messages.contains("the password has at most"))
        let key = try installation.store().credentialRecord(username: "user")?.keys.md5Key
        // The key of RFC 8489 section 18.5.1.1.
        #expect(key?.first == 0x84 && key?.last == 0xEB)
        // The database and its log hold no trace of the password, whatever its length.
        let long = "a long password of many words and 4 digits: 2718"
        #expect(await installation.run("user", "passwd", "user", "--password-stdin", input: long.bytes).status == 0)
        for file in try FileManager.default.contentsOfDirectory(atPath: installation.path) {
            let data = try Data(contentsOf: URL(fileURLWithPath: installation.path + "/" + file))
            #expect(data.range(of: Data(long.utf8)) == nil, "\(file)")
        }
    }

    @Test func envIsReadBackByTheShellAsItWasTyped() async throws {
        let installation = Installation()
        let password = "a'b \"c\" $HOME `id` \\ #; ~ *?[x]"
        let outcome = await installation.run(
            "user",
            "add",
            "o'brien",
            "--password-stdin",
            "--format",
            "env",
            input: password.bytes
        )
        #expect(outcome.status == 0)
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/bin/sh")
        process.arguments = [
            "-c", outcome.output + "printf '%s\\n' \"$TURN_USERNAME\" \"$TURN_PASSWORD\" \"$TURN_SERVER\"",
        ]
        let pipe = Pipe()
        process.standardOutput = pipe
        try process.run()
        let data = try pipe.fileHandleForReading.readToEnd() ?? Data()
        process.waitUntilExit()
        #expect(
            String(decoding: data, as: UTF8.self) == "o'brien\n\(password)\nturn:203.0.113.5:3478?transport=udp\n"
        )
    }

    @Test func secondAddIsRefusedAndChangesNothing() async throws {
        let installation = Installation()
        _ = await installation.run("user", "add", "alice")
        let before = try installation.store().credentialRecord(username: "alice")
        let outcome = await installation.run("user", "add", "alice")
        #expect(outcome.status == 1)
        #expect(outcome.output.isEmpty)
        #expect(outcome.messageLines.count == 1)
        #expect(outcome.messages.contains("turnpike user passwd"))
        #expect(try installation.store().credentialRecord(username: "alice") == before)
    }

    @Test func listAndShowAgreeInBothFormats() async throws {
        let installation = Installation()
        _ = await installation.run("user", "add", "bob", "--expires", "30d", "--max-allocations", "3", "--max-bps", "0")
        _ = await installation.run(
            "user",
            "add",
            "alice",
            "--expires",
            "2027-01-31",
            "--max-bps",
            "2500000",
            "--monthly-bytes",
            "1000000000000"
        )
        let list = await installation.run("user", "list")
        #expect(list.messages.isEmpty)
        let lines = list.output.split(separator: "\n").map { $0.split(separator: " ").map(String.init) }
        #expect(
            lines == [
                ["NAME", "REALM", "STATE", "EXPIRES", "ALLOCATIONS", "MAX-BPS", "MONTHLY-BYTES", "CREATED"],
                [
                    "alice", "turnpike", "active", "2027-01-31T00:00:00Z", "default", "2500000", "1000000000000",
                    "2023-11-14T22:13:20Z",
                ],
                [
                    "bob", "turnpike", "active", "2023-12-14T22:13:20Z", "3", "unlimited", "unlimited",
                    "2023-11-14T22:13:20Z",
                ],
            ]
        )
        let json = try JSONSerialization.jsonObject(
            with: Data(await installation.run("user", "list", "--format", "json").output.utf8)
        )
        let users = try #require(json as? [[String: Any]])
        #expect(users.map { $0["name"] as? String } == ["alice", "bob"])
        #expect(users[0]["maxAllocations"] is NSNull)
        #expect(users[1]["maxAllocations"] as? Int == 3)
        #expect(users[0]["maxBps"] as? Int == 2_500_000 && users[1]["maxBps"] as? Int == 0)
        #expect(users[0]["monthlyBytes"] as? Int == 1_000_000_000_000 && users[1]["monthlyBytes"] is NSNull)
        let show = await installation.run("user", "show", "bob", "--format", "json", now: 1_800_000_000)
        let user = try #require(try JSONSerialization.jsonObject(with: Data(show.output.utf8)) as? [String: Any])
        #expect(user["state"] as? String == "expired")
        #expect(
            Set(user.keys) == [
                "name", "realm", "state", "createdAt", "expiresAt", "maxAllocations", "maxBps", "monthlyBytes",
            ]
        )
        let text = await installation.run("user", "show", "alice").output
        #expect(text.contains("max bps:        2500000\n") && text.contains("monthly bytes:  1000000000000\n"))
    }

    @Test func listOfMoreUsersThanAPageIsWhole() async throws {
        let installation = Installation()
        _ = await installation.run("user", "add", "u0")
        let store = try installation.store(.readWrite)
        for index in 1..<1501 {
            let seed = [UInt8(index >> 8), UInt8(index & 255)]
            let keys = DerivedKeys(
                md5Key: [UInt8](repeating: 0, count: 16),
                sha256Key: [UInt8](repeating: 0, count: 32),
                userhash: seed + [UInt8](repeating: 0, count: 30)
            )
            try store.addUser(AccountName("u\(index)"), realm: Realm("turnpike"), keys: keys)
        }
        #expect(await installation.run("user", "list").output.split(separator: "\n").count == 1502)
    }

    @Test func disableEnableAndRemoveDoWhatTheySay() async throws {
        let installation = Installation()
        _ = await installation.run("user", "add", "alice")
        #expect(await installation.run("user", "disable", "alice").status == 0)
        #expect(try installation.store().user(AccountName("alice")).isEnabled == false)
        let refused = await installation.run("credentials", "alice")
        #expect(refused.status == 1)
        #expect(refused.messages.contains("disabled"))
        #expect(await installation.run("user", "enable", "alice").status == 0)
        #expect(try installation.store().user(AccountName("alice")).isEnabled == true)
        #expect(await installation.run("user", "remove", "alice").status == 0)
        let again = await installation.run("user", "remove", "alice")
        #expect(again.status == 1)
        #expect(again.messageLines == ["turnpike: there is no user 'alice'; turnpike user list shows the names"])
    }

    @Test func passwdGivesNewKeysAndKeepsTheRest() async throws {
        let installation = Installation()
        _ = await installation.run("user", "add", "alice", "--max-allocations", "2", "--realm", "other")
        let before = try #require(try installation.store().credentialRecord(username: "alice"))
        let outcome = await installation.run("user", "passwd", "alice")
        #expect(outcome.status == 0)
        let after = try #require(try installation.store().credentialRecord(username: "alice"))
        #expect(after.keys.md5Key != before.keys.md5Key)
        #expect(after.maxAllocations == 2)
        #expect(after.realm == "other")
        // The server offers another realm: the person is told, with the way out, which works.
        #expect(outcome.messages.contains("turnpike user passwd alice --realm turnpike"))
        let moved = await installation.run("user", "passwd", "alice", "--realm", "turnpike")
        #expect(!moved.messages.contains("cannot authenticate"))
        #expect(try installation.store().credentialRecord(username: "alice")?.realm == "turnpike")
    }

    @Test func lostOutputIsAnErrorThatSaysHowToGetAPassword() async throws {
        let installation = Installation()
        let outcome = await installation.run("user", "add", "alice", outputError: ENOSPC)
        #expect(outcome.status == 1)
        #expect(outcome.messages.contains("turnpike user passwd alice"))
    }

    @Test func certificateOfTheOperatorsIsNotPinned() async throws {
        let installation = Installation()
        installation.environment["TURNPIKE_TLS_CERTIFICATE"] = "/etc/ssl/mine.pem"
        installation.environment["TURNPIKE_TLS_PRIVATE_KEY"] = "/etc/ssl/mine.key"
        let outcome = await installation.run("user", "add", "alice", "--format", "env")
        #expect(outcome.status == 0 && outcome.output.contains("TURN_PASSWORD="))
        #expect(!outcome.output.contains("TURNPIKE_CERT_FINGERPRINT"))
        #expect(outcome.messages.contains("against 203.0.113.5; where"), "\(outcome.messages)")
        #expect(!FileManager.default.fileExists(atPath: installation.path + "/certificate.pem"))
        installation.environment["TURNPIKE_HOST_NAME"] = "turn.example.org"
        let named = await installation.run("user", "passwd", "alice", "--format", "env")
        #expect(named.status == 0 && named.output.contains("=turn:turn.example.org:3478?transport=udp\n"))
        #expect(named.output.contains("SIGNALING_SERVER=wss://turn.example.org:8443/signal\n"))
        #expect(!named.messages.contains("host_name"), "\(named.messages)")
    }

    @Test func withoutTLSThereIsNothingToPin() async throws {
        let installation = Installation()
        for key in ["HTTPS", "TLS", "DTLS"] { installation.environment["TURNPIKE_LISTEN_\(key)"] = "[]" }
        let outcome = await installation.run("user", "add", "alice", "--format", "env")
        #expect(outcome.status == 0 && !outcome.output.contains("TURNPIKE_CERT_FINGERPRINT"))
        #expect(!outcome.output.contains("SIGNALING_SERVER") && !outcome.output.contains("turns:"))
        #expect(!FileManager.default.fileExists(atPath: installation.path + "/certificate.pem"))
    }
}

extension String {
    var bytes: [UInt8] { Array(utf8) }
}
