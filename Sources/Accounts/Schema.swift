import GRDB

/// The shape of the database and how it comes about.
///
/// Each migration is one transaction that ends by writing its own number to `user_version`, so a process that dies
/// half-way leaves the old shape or the new one, never something between. A migration is never edited once released.
enum Schema {
    /// "Turn" in ASCII; SQLite keeps it in the file's header, where `file(1)` and this module look for it.
    static let applicationID: Int64 = 0x5475_726E

    static var version: Int64 { Int64(migrations.count) }

    /// Brings the database to `version`.
    static func migrate(_ database: Database) throws {
        while true {
            var finished = false
            // The version is read inside the transaction: another process may be doing the same work.
            try database.inTransaction(.immediate) {
                let current = try Int64.fetchOne(database, sql: "PRAGMA user_version") ?? 0
                guard let next = Int(exactly: current), migrations.indices.contains(next) else {
                    finished = true
                    return .rollback
                }
                try database.execute(sql: migrations[next])
                return .commit
            }
            if finished { return }
        }
    }

    private static let migrations = [version1, version2, version3]

    /// Times are seconds since 1970. `STRICT` makes SQLite hold every column to its type; the checks hold the keys to
    /// their lengths, though readers check again, as a file can be changed by other means.
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

        CREATE TABLE secrets (
            name TEXT NOT NULL PRIMARY KEY,
            value BLOB NOT NULL,
            created_at INTEGER NOT NULL
        ) STRICT;

        CREATE TABLE audit (
            id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
            at INTEGER NOT NULL,
            actor TEXT NOT NULL,
            action TEXT NOT NULL,
            subject TEXT NOT NULL
        ) STRICT;

        CREATE TABLE changes (
            sequence INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
            kind TEXT NOT NULL,
            name TEXT NOT NULL
        ) STRICT;

        PRAGMA user_version = 1;
        """

    /// Limits of bandwidth and of monthly bytes, and what they are held against. `usage` names users without referring
    /// to `users`: those of time-limited credentials need not be there, and a removed one's months are kept for a
    /// while.
    private static let version2 = """
        ALTER TABLE users ADD COLUMN max_bps INTEGER CHECK (max_bps >= 0);
        ALTER TABLE users ADD COLUMN monthly_bytes INTEGER CHECK (monthly_bytes > 0);

        CREATE TABLE usage (
            user TEXT NOT NULL,
            month TEXT NOT NULL CHECK (month GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]'),
            bytes_to_peers INTEGER NOT NULL CHECK (bytes_to_peers >= 0),
            bytes_to_clients INTEGER NOT NULL CHECK (bytes_to_clients >= 0),
            packets_to_peers INTEGER NOT NULL CHECK (packets_to_peers >= 0),
            packets_to_clients INTEGER NOT NULL CHECK (packets_to_clients >= 0),
            PRIMARY KEY (user, month)
        ) STRICT, WITHOUT ROWID;
        CREATE INDEX usage_by_month ON usage (month);

        PRAGMA user_version = 2;
        """

    /// Tokens, as digests: who reads the database cannot log in with what is in it. One without a user is an admin's.
    private static let version3 = """
        CREATE TABLE tokens (
            name TEXT NOT NULL PRIMARY KEY,
            digest BLOB NOT NULL CHECK (length(digest) = 32),
            user TEXT,
            created_at INTEGER NOT NULL,
            expires_at INTEGER
        ) STRICT;
        CREATE UNIQUE INDEX tokens_by_digest ON tokens (digest);

        PRAGMA user_version = 3;
        """
}
