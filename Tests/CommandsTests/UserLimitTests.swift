import Accounts
import Commands
import Testing

@Suite struct UserLimitTests {
    @Test func whatIsNamedChangesAndTheRestStays() async throws {
        let installation = Installation()
        _ = await installation.run("user", "add", "alice", "--max-allocations", "3", "--monthly-bytes", "5000")
        let outcome = await installation.run(
            "user",
            "limit",
            "alice",
            "--max-bps",
            "2500000",
            "--max-allocations",
            "7",
            "--expires",
            "30d"
        )
        #expect(outcome.status == 0 && outcome.output.isEmpty)
        #expect(outcome.messages == "turnpike: changed the limits of user alice\n")
        var user = try installation.store().user(AccountName("alice"))
        #expect(user.maxAllocations == 7 && user.maxBitsPerSecond == 2_500_000 && user.monthlyBytes == 5000)
        #expect(user.expiresAtSeconds == Int64(1_700_000_000 + 30 * 86_400))
        let shown = await installation.run("user", "show", "alice").output
        #expect(shown.contains("2500000") && shown.contains("5000") && shown.contains("7"))
        #expect(
            await installation.run(
                "user",
                "limit",
                "alice",
                "--max-bps",
                "default",
                "--max-allocations",
                "default",
                "--monthly-bytes",
                "unlimited",
                "--expires",
                "never"
            ).status == 0
        )
        user = try installation.store().user(AccountName("alice"))
        #expect(user.maxAllocations == nil && user.maxBitsPerSecond == nil && user.monthlyBytes == nil)
        #expect(user.expiresAtSeconds == nil)
    }

    @Test func aRunningServerIsToldAndThePasswordStays() async throws {
        let installation = Installation()
        _ = await installation.run("user", "add", "alice")
        let before = try installation.store().credentialRecord(username: "alice")
        let sequence = try installation.store().changeSequence()
        _ = await installation.run("user", "limit", "alice", "--max-bps", "0")
        #expect(
            try installation.store().changes(since: sequence)
                == .some([Change(kind: .user, name: "alice")], upTo: sequence + 1)
        )
        let after = try installation.store().credentialRecord(username: "alice")
        #expect(after?.keys == before?.keys && after?.maxBitsPerSecond == 0)
    }

    @Test(arguments: [
        ["--max-allocations", "0"], ["--max-allocations", "-1"], ["--max-allocations", "unlimited"],
        ["--max-bps", "-1"], ["--max-bps", "1e9"], ["--monthly-bytes", "0"], ["--monthly-bytes", "default"],
        ["--expires", "yesterday"], ["--expires", "2001-01-01"], [],
    ])
    func whatIsNoLimitIsAUsageErrorAndChangesNothing(_ arguments: [String]) async throws {
        let installation = Installation()
        _ = await installation.run("user", "add", "alice", "--max-allocations", "3")
        #expect(await installation.run(["user", "limit", "alice"] + arguments).status == 64)
        #expect(try installation.store().user(AccountName("alice")).maxAllocations == 3)
    }

    @Test func aUserWhoIsNotThereIsSaidToBe() async throws {
        let installation = Installation()
        _ = await installation.run("user", "add", "alice")
        let outcome = await installation.run("user", "limit", "bob", "--max-bps", "1")
        #expect(outcome.status == 1 && outcome.messages.contains("there is no user 'bob'"))
    }
}
