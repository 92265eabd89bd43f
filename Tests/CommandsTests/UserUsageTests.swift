import Accounts
import Commands
import Foundation
import Testing

@Suite struct UserUsageTests {
    /// 2026-11-15T00:00:00Z.
    private let now: Int64 = 1_794_700_800

    private func installation() async throws -> Installation {
        let installation = Installation()
        _ = await installation.run("user", "add", "alice", "--monthly-bytes", "5000")
        _ = await installation.run("user", "add", "bob")
        let store = try installation.store(.readWrite)
        func add(_ name: String, _ bytes: Int64, _ month: String) throws {
            let usage = Usage(bytesToPeers: bytes, bytesToClients: 1, packetsToPeers: 3, packetsToClients: 4)
            try store.addUsage([name: usage], month: #require(UsageMonth(month)))
        }
        try add("alice", 1_000, "2026-10")
        try add("alice", 2_000, "2026-11")
        try add("removed", 30, "2026-11")
        return installation
    }

    private func words(_ output: String) -> [[String]] {
        output.split(separator: "\n").map { $0.split(separator: " ").map(String.init) }
    }

    @Test func withoutANameItListsThePresentMonth() async throws {
        let outcome = try await installation().run("user", "usage", now: now)
        #expect(outcome.status == 0 && outcome.messages.isEmpty)
        #expect(
            words(outcome.output) == [
                ["USER", "MONTH", "BYTES", "LIMIT", "TO-PEERS", "TO-CLIENTS", "PACKETS"],
                ["alice", "2026-11", "2001", "5000", "2000", "1", "7"],
                ["removed", "2026-11", "31", "unlimited", "30", "1", "7"],
            ]
        )
    }

    @Test func withANameItListsThatUsersMonths() async throws {
        let installation = try await installation()
        let outcome = await installation.run("user", "usage", "alice", now: now)
        #expect(words(outcome.output).dropFirst().map { $0[1] } == ["2026-11", "2026-10"])
        let month = await installation.run("user", "usage", "alice", "--month", "2026-10", now: now)
        #expect(words(month.output).dropFirst().map { $0[2] } == ["1001"])
        #expect(await installation.run("user", "usage", "removed", now: now).status == 0)
    }

    @Test func jsonHoldsEveryNumber() async throws {
        let installation = try await installation()
        let outcome = await installation.run("user", "usage", "alice", "--format", "json", now: now)
        let json = try JSONSerialization.jsonObject(with: Data(outcome.output.utf8))
        let first = try #require((json as? [[String: Any]])?.first)
        let numbers = [
            "bytes": 2_001, "monthlyBytes": 5_000, "bytesToPeers": 2_000, "bytesToClients": 1, "packetsToPeers": 3,
            "packetsToClients": 4,
        ]
        for (key, number) in numbers { #expect(first[key] as? Int == number, "\(key)") }
        #expect(first["user"] as? String == "alice" && first["month"] as? String == "2026-11")
        #expect(Set(first.keys) == Set(numbers.keys).union(["user", "month"]))
        let nothing = await installation.run("user", "usage", "bob", "--format", "json", now: now)
        #expect(nothing.status == 0 && nothing.output.filter { !$0.isWhitespace } == "[]")
    }

    @Test func nothingRelayedIsSaidAndAnUnknownUserIsAnError() async throws {
        let installation = try await installation()
        let nothing = await installation.run("user", "usage", "bob", now: now)
        #expect(nothing.status == 0 && nothing.output.isEmpty)
        #expect(nothing.messageLines == ["turnpike: user bob has relayed nothing"])
        let later = await installation.run("user", "usage", now: now + 30 * 86_400)
        #expect(later.messageLines == ["turnpike: nobody has relayed anything in 2026-12"])
        let unknown = await installation.run("user", "usage", "mallory", now: now)
        #expect(unknown.status == 1)
        #expect(unknown.messageLines == ["turnpike: there is no user 'mallory'; turnpike user list shows the names"])
        #expect(await installation.run("user", "usage", "--month", "2026-13", now: now).status == 64)
    }

    @Test func aNameCannotDisturbTheTerminal() async throws {
        let installation = try await installation()
        let month = try #require(UsageMonth("2026-11"))
        try installation.store(.readWrite).addUsage(["\u{1B}[2J\nroot": Usage(bytesToPeers: 1)], month: month)
        let outcome = await installation.run("user", "usage", now: now)
        #expect(outcome.output.contains("\\u{1B}[2J\\u{A}root"))
        #expect(!outcome.output.contains("\u{1B}"))
    }

    @Test(arguments: [
        ["--max-bps", "-1"], ["--max-bps", "1e6"], ["--max-bps", "400000000001"], ["--monthly-bytes", "0"],
        ["--monthly-bytes", "99999999999999999999"], ["--max-allocations", "0"],
    ])
    func limitsOutOfRangeAreWrongUsage(_ flags: [String]) async throws {
        let installation = Installation()
        #expect(await installation.run(["user", "add", "alice"] + flags).status == 64)
        #expect(!FileManager.default.fileExists(atPath: installation.path + "/turnpike.sqlite3"))
    }
}
