import Accounts
import Commands
import Foundation
import Testing

/// Exit statuses and the one line that comes with them.
@Suite struct CommandLineTests {
    @Test(arguments: [
        ["user", "add"], ["user", "ad", "x"], ["nonsense"], ["user", "add", "a b"], ["user", "add", "a:b"],
        ["user", "add", "--", "-x"], ["user", "add", "x", "--expires", "soon"], ["user", "add", "x", "--expires", "5"],
        ["user", "add", "x", "--expires", "2027-02-31"], ["user", "add", "x", "--expires", "2000-01-01"],
        ["user", "add", "x", "--expires", "99999999999999999999d"], ["user", "add", "x", "--expires", "0d"],
        ["user", "add", "x", "--max-allocations", "0"], ["user", "add", "x", "--max-allocations", "-1"],
        ["user", "add", "x", "--max-allocations", "9999999999999999999999"], ["user", "add", "x", "--realm", ""],
        ["user", "add", "x", "--format", "xml"], ["user", "add", "x", "--password", "p"], ["user", "show", "a/b"],
        ["user", "list", "--format", "env"], ["credentials", "x", "--ttl", "never"], ["secret", "add", "a b"],
        ["user", "add", "x", "--password-stdin"], ["user", "add", "x", "--max-speed", "1"],
    ])
    func mistakesInArgumentsGetOneLineAndStatus64(_ arguments: [String]) async throws {
        let installation = Installation()
        let outcome = await installation.run(arguments)
        #expect(outcome.status == 64)
        #expect(outcome.output.isEmpty)
        #expect(outcome.messageLines.count == 1, "\(outcome.messages)")
        #expect(outcome.messages.hasPrefix("turnpike: "))
        #expect(outcome.messages.contains(";") || outcome.messages.contains("see turnpike"), "\(outcome.messages)")
        #expect(!FileManager.default.fileExists(atPath: installation.path), "something has been made")
    }

    @Test func mistakesInTheConfigurationGetStatus78() async throws {
        let installation = Installation()
        installation.environment["TURNPIKE_REALM"] = String(repeating: "x", count: 200)
        for arguments in [["user", "list"], ["user", "add", "x"], ["secret", "list"], ["credentials", "x"]] {
            let outcome = await installation.run(arguments)
            #expect(outcome.status == 78)
            #expect(outcome.messages.contains("TURNPIKE_REALM"))
        }
        #expect(!FileManager.default.fileExists(atPath: installation.path))
    }

    @Test func optionsGoBeforeTheEnvironment() async throws {
        let installation = Installation()
        let other = Installation()
        let outcome = await installation.run("user", "add", "alice", "--data-dir", other.path)
        #expect(outcome.status == 0)
        #expect(!FileManager.default.fileExists(atPath: installation.path))
        #expect(try other.store().users().map(\.name) == ["alice"])
    }

    @Test func configurationFileIsRead() async throws {
        let installation = Installation()
        let file = installation.path + ".yml"
        defer { try? FileManager.default.removeItem(atPath: file) }
        try Data("realm: example.org\nexternal_address: 198.51.100.7\n".utf8).write(to: URL(fileURLWithPath: file))
        let outcome = await installation.run("user", "add", "alice", "--config", file, "--format", "env")
        #expect(outcome.output.contains("TURN_SERVER=turn:198.51.100.7:3478?transport=udp\n"))
        #expect(try installation.store().user(AccountName("alice")).realm == "example.org")
    }

    @Test func readingBeforeThereIsADatabaseMakesNone() async throws {
        let installation = Installation()
        for arguments in [["user", "list"], ["user", "show", "x"], ["user", "remove", "x"], ["secret", "list"]] {
            let outcome = await installation.run(arguments)
            #expect(outcome.status == 1)
            #expect(outcome.messages.contains("add a user first"))
        }
        #expect(!FileManager.default.fileExists(atPath: installation.path))
    }

    @Test func damagedDatabaseIsRefusedAndLeftAlone() async throws {
        let installation = Installation()
        _ = await installation.run("user", "add", "alice")
        let file = URL(fileURLWithPath: installation.path + "/turnpike.sqlite3")
        let garbage = Data(repeating: 0x21, count: 5000)
        try FileHandle(forWritingTo: file).write(contentsOf: garbage)
        let before = try Data(contentsOf: file)
        for arguments in [["user", "add", "bob"], ["user", "list"], ["secret", "add", "s"]] {
            let outcome = await installation.run(arguments)
            #expect(outcome.status == 1)
            #expect(outcome.messageLines.count == 1)
            #expect(outcome.messages.contains("backup"))
        }
        #expect(try Data(contentsOf: file) == before)
    }

    @Test func helpAndVersionGoToStandardOutput() async {
        let installation = Installation()
        for arguments in [["--help"], ["user", "add", "--help"], ["help", "credentials"], ["--version"], ["version"]] {
            let outcome = await installation.run(arguments)
            #expect(outcome.status == 0)
            #expect(!outcome.output.isEmpty && outcome.messages.isEmpty)
        }
        let version = await installation.run("version").output
        let option = await installation.run("--version").output
        #expect(version.hasPrefix("turnpike ") && version == option)
    }

    @Test(arguments: [
        ("90s", 90), ("15m", 900), ("1h", 3600), ("30d", 2_592_000), ("2w", 1_209_600), ("1d12h", 129_600),
    ])
    func durationsAreCountedFromNow(_ text: String, _ seconds: Int64) async throws {
        let installation = Installation()
        #expect(await installation.run("user", "add", "x", "--expires", text).status == 0)
        #expect(try installation.store().user(AccountName("x")).expiresAtSeconds == 1_700_000_000 + seconds)
    }

    @Test(arguments: [
        ("2027-01-31", 1_801_353_600), ("2027-01-31T18:00:00Z", 1_801_418_400),
        ("2027-01-31T18:00:00+02:00", 1_801_411_200),
    ])
    func datesAreReadAsISO8601(_ text: String, _ seconds: Int64) async throws {
        let installation = Installation()
        #expect(await installation.run("user", "add", "x", "--expires", text).status == 0)
        #expect(try installation.store().user(AccountName("x")).expiresAtSeconds == seconds)
    }
}
