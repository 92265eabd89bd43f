import GRDB

extension AccountStore {
    /// The number to ask `changes(since:)` with, for one who is about to read everything. Take it before reading.
    package func changeSequence() throws(AccountError) -> Int64 {
        try read { try Self.lastSequence($0) }
    }

    /// What was written after the change numbered `sequence`.
    package func changes(since sequence: Int64) throws(AccountError) -> Changes {
        try read { database in
            let last = try Self.lastSequence(database)
            if last == sequence { return .none }
            let first = try Int64.fetchOne(database, sql: "SELECT min(sequence) FROM changes") ?? 0
            // Too far behind for the rows that are kept, or ahead of them, as after a backup was restored.
            guard sequence < last, sequence >= first - 1 else { return .everything(upTo: last) }
            let rows = try Row.fetchAll(
                database,
                sql: "SELECT kind, name FROM changes WHERE sequence > ? GROUP BY kind, name ORDER BY max(sequence)",
                arguments: [sequence]
            )
            var changes: [Change] = []
            for row in rows {
                guard let kind = String.fromDatabaseValue(row["kind"]).flatMap(Change.Kind.init(rawValue:)),
                    let name = String.fromDatabaseValue(row["name"])
                else { return .everything(upTo: last) }
                changes.append(Change(kind: kind, name: name))
            }
            return .some(changes, upTo: last)
        }
    }

    /// Which of these names are users', or were as far as the audit goes back. Others that a server meets are those of
    /// time-limited credentials, whom no table knows.
    package func namesEverUsed(among names: Set<String>) throws(AccountError) -> Set<String> {
        try read { database in
            let rows = try Row.fetchCursor(
                database,
                sql: """
                    SELECT name FROM users UNION SELECT name FROM changes WHERE kind = 'user'
                    UNION SELECT subject FROM audit WHERE action LIKE '%user'
                    """
            )
            var found: Set<String> = []
            while let row = try rows.next() {
                // A file that others have changed may hold what is no text.
                if let name = String.fromDatabaseValue(row[0]), names.contains(name) { found.insert(name) }
            }
            return found
        }
    }

    /// Writes down, in the transaction that does it, that something changed and who did it.
    func record(_ kind: Change.Kind, _ name: AccountName, action: String, in database: Database) throws {
        try database.execute(
            sql: "INSERT INTO changes (kind, name) VALUES (?, ?)",
            arguments: [kind.rawValue, name.value]
        )
        try database.execute(
            sql: "DELETE FROM changes WHERE sequence <= (SELECT max(sequence) FROM changes) - ?",
            arguments: [AccountLimits.changesKept]
        )
        try database.execute(
            sql: "INSERT INTO audit (at, actor, action, subject) VALUES (?, ?, ?, ?)",
            arguments: [clock(), actor, action, name.value]
        )
        try database.execute(
            sql: "DELETE FROM audit WHERE id <= (SELECT max(id) FROM audit) - ?",
            arguments: [AccountLimits.auditKept]
        )
    }

    private static func lastSequence(_ database: Database) throws -> Int64 {
        try Int64.fetchOne(database, sql: "SELECT max(sequence) FROM changes") ?? 0
    }
}
