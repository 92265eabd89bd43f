import Accounts
import Foundation
import GRDB
import Testing

/// A database of an earlier version is brought to the present one with all that is in it.
@Suite struct MigrationTests {
    /// The first version's tables, as they were released.
    private static let version1 = """
        PRAGMA application_id = 0x5475726E;
        CREATE TABLE users (
            name TEXT NOT NULL PRIMARY KEY,
            realm TEXT NOT NULL,
            md5_key BLOB NOT NULL CHECK (length(md5_key) = 16),
            sha256_key BLOB NOT NULL CHECK (length(sha256_key) = 32),
            userhash BLOB NOT NULL CHECK (length(userhash) = 32),
            enabled INTEGER NOT NULL CHECK (enabled IN (0, 1)),
            created_at INTEGER NOT NULL,
            expires_at INTEGER,
            max_allocations INTEGER CHECK (max_allocations > 0)
        ) STRICT;
        CREATE UNIQUE INDEX users_by_userhash ON users (userhash);
        CREATE TABLE secrets (name TEXT NOT NULL PRIMARY KEY, value BLOB NOT NULL, created_at INTEGER NOT NULL) STRICT;
        CREATE TABLE audit (
            id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, at INTEGER NOT NULL, actor TEXT NOT NULL,
            action TEXT NOT NULL, subject TEXT NOT NULL
        ) STRICT;
        CREATE TABLE changes (
            sequence INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, name TEXT NOT NULL
        ) STRICT;
        INSERT INTO users
            VALUES ('alice', 'turnpike', zeroblob(16), zeroblob(32), zeroblob(32), 1, 1600000000, NULL, 3);
        INSERT INTO secrets VALUES ('web', x'0102', 1600000000);
        INSERT INTO changes (kind, name) VALUES ('user', 'alice');
        PRAGMA user_version = 1;
        """

    private func old() throws -> Scratch {
        let scratch = Scratch()
        try FileManager.default.createDirectory(
            atPath: scratch.path,
            withIntermediateDirectories: true,
            attributes: [.posixPermissions: 0o700]
        )
        try scratch.raw().writeWithoutTransaction { try $0.execute(sql: Self.version1) }
        chmod(scratch.database, 0o600)
        return scratch
    }

    @Test func aDatabaseOfTheFirstVersionKeepsItsUsersAndTakesLimits() throws {
        let scratch = try old()
        #expect(accountError { _ = try scratch.open(.readOnly) }?.code == .olderSchema)
        let store = try scratch.open()
        let alice = try store.user(AccountName("alice"))
        #expect(
            alice.maxAllocations == 3 && alice.createdAtSeconds == 1_600_000_000 && alice.state(atSeconds: 0) == .active
        )
        #expect(alice.maxBitsPerSecond == nil && alice.monthlyBytes == nil)
        #expect(try store.credentialRecord(username: "alice")?.maxBitsPerSecond == nil)
        #expect(try store.allSecrets().map(\.value) == [[1, 2]])
        #expect(try store.changes(since: 0) == .some([Change(kind: .user, name: "alice")], upTo: 1))
        try store.addUser(
            AccountName("bob"),
            realm: Realm("turnpike"),
            keys: .sample(7),
            maxBitsPerSecond: 1_000,
            monthlyBytes: 5
        )
        let month = UsageMonth(containingSeconds: 1_700_000_000)
        let states = try store.addUsage(["alice": Usage(bytesToPeers: 9), "bob": Usage(bytesToPeers: 9)], month: month)
        #expect(states == [QuotaState(user: "bob", usedBytes: 9, monthlyBytes: 5)])
        // Once is enough.
        #expect(try scratch.open().usage(in: month).count == 2)
        #expect(try scratch.open(.readOnly).user(AccountName("bob")).maxBitsPerSecond == 1_000)
    }

    @Test func aFreshDatabaseAndAMigratedOneHaveTheSameShape() throws {
        func shape(_ scratch: Scratch) throws -> [String] {
            _ = try scratch.open()
            return try scratch.raw().read { database in
                var shape: [String] = []
                for table in ["users", "secrets", "audit", "changes", "usage"] {
                    let columns = try Row.fetchAll(database, sql: "PRAGMA table_info(\(table))")
                    shape += columns.map { "\(table): \($0)" }
                }
                return shape
            }
        }
        let fresh = try shape(Scratch())
        #expect(try shape(old()) == fresh)
        #expect(fresh.count > 20)
    }
}
