import Accounts
import GRDB
import Testing

@Suite struct ChangesTests {
    @Test func everyWriteIsTold() throws {
        let scratch = Scratch()
        let store = try scratch.open()
        #expect(try store.changes(since: 0) == .none)
        try store.add("alice", seed: 1)
        try store.addSecret(AccountName("web"), value: [1])
        try store.setEnabled(false, AccountName("alice"))
        let alice = Change(kind: .user, name: "alice")
        let web = Change(kind: .secret, name: "web")
        #expect(try store.changes(since: 0) == .some([web, alice], upTo: 3))
        #expect(try store.changes(since: 2) == .some([alice], upTo: 3))
        #expect(try store.changes(since: 3) == .none)
    }

    @Test func namesThatOnceWereUsersAreToldFromThoseThatNeverWere() throws {
        let scratch = Scratch()
        let store = try scratch.open()
        for (seed, name) in ["alice", "bob", "carol"].enumerated() { try store.add(name, seed: seed) }
        try store.addSecret(AccountName("web"), value: [1])
        try store.removeUser(AccountName("bob"))
        try store.removeUser(AccountName("carol"))
        let asked: Set = ["alice", "bob", "carol", "dave", "web"]
        #expect(try store.namesEverUsed(among: asked) == ["alice", "bob", "carol"])
        // The changes go back less far than the audit.
        try scratch.raw().write { try $0.execute(sql: "DELETE FROM changes") }
        #expect(try store.namesEverUsed(among: asked) == ["alice", "bob", "carol"])
    }

    @Test func followerTellsWhatOthersAndItsOwnStoreDid() throws {
        let scratch = Scratch()
        let server = try scratch.open()
        let command = try scratch.open()
        try command.add("before", seed: 1)
        var follower = try AccountFollower(server)
        #expect(try follower.poll() == .none)

        try command.add("alice", seed: 2)
        #expect(try follower.poll() == .some([Change(kind: .user, name: "alice")], upTo: 2))
        #expect(try follower.poll() == .none)

        try server.removeUser(AccountName("alice"))
        #expect(try follower.poll() == .some([Change(kind: .user, name: "alice")], upTo: 3))
        #expect(try follower.poll() == .none)
    }

    @Test func failedWriteIsNoChange() throws {
        let scratch = Scratch()
        let store = try scratch.open()
        try store.add("alice", seed: 1)
        var follower = try AccountFollower(store)
        #expect(accountError { try store.add("alice", seed: 2) }?.code == .alreadyExists)
        #expect(try follower.poll() == .none)
    }

    @Test func followerBehindTheOldestRowReadsEverything() throws {
        let scratch = Scratch()
        let store = try scratch.open()
        try store.add("alice", seed: 1)
        try scratch.raw().write { database in
            try database.execute(
                sql: """
                    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)
                    INSERT INTO changes (kind, name) SELECT 'user', 'u' || i FROM n
                    """,
                arguments: [AccountLimits.changesKept + 50]
            )
        }
        try store.setEnabled(false, AccountName("alice"))
        let last = AccountLimits.changesKept + 52
        let rows = try scratch.raw().read { try Int64.fetchOne($0, sql: "SELECT count(*) FROM changes") }
        #expect(rows == AccountLimits.changesKept)
        #expect(try store.changes(since: 1) == .everything(upTo: last))
        // The oldest row kept is number 53, so who has read up to 52 has missed nothing.
        guard case .some(let changes, upTo: last) = try store.changes(since: 52) else {
            Issue.record("the rows that are kept should answer")
            return
        }
        #expect(changes.count == Int(AccountLimits.changesKept))
        #expect(try store.changes(since: 51) == .everything(upTo: last))
    }

    @Test func followerAheadOfARestoredBackupReadsEverything() throws {
        let scratch = Scratch()
        let store = try scratch.open()
        try store.add("alice", seed: 1)
        #expect(try store.changes(since: 100) == .everything(upTo: 1))
        try scratch.raw().write { try $0.execute(sql: "DELETE FROM changes") }
        #expect(try store.changes(since: 1) == .everything(upTo: 0))
    }

    @Test func kindThatThisVersionDoesNotKnowMeansEverything() throws {
        let scratch = Scratch()
        let store = try scratch.open()
        try scratch.raw().write { try $0.execute(sql: "INSERT INTO changes (kind, name) VALUES ('moon', 'x')") }
        #expect(try store.changes(since: 0) == .everything(upTo: 1))
    }
}
