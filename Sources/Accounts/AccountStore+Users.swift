import Foundation
import GRDB

extension AccountStore {
    /// Adds an enabled user.
    /// - Parameters:
    ///   - expiresAtSeconds: seconds since 1970; `nil` for never.
    ///   - maxAllocations: `nil` for the server's own limit.
    ///   - maxBitsPerSecond: of each allocation; 0 for no limit, `nil` for the server's own.
    ///   - monthlyBytes: `nil` for no limit.
    /// - Throws: `alreadyExists`, `invalidValue`, or what the database says.
    package func addUser(
        _ name: AccountName,
        realm: Realm,
        keys: DerivedKeys,
        expiresAtSeconds: Int64? = nil,
        maxAllocations: Int? = nil,
        maxBitsPerSecond: Int64? = nil,
        monthlyBytes: Int64? = nil
    ) throws(AccountError) {
        try requireWellFormed(keys)
        try UserLimits(
            expiresAtSeconds: expiresAtSeconds,
            maxAllocations: maxAllocations,
            maxBitsPerSecond: maxBitsPerSecond,
            monthlyBytes: monthlyBytes
        ).requireInRange()
        try write { database in
            guard try !Self.userExists(name, in: database) else {
                throw AccountError(
                    .alreadyExists,
                    "there is a user \(name.value.quotedForMessage) already; "
                        + "run turnpike user passwd to give a new password"
                )
            }
            try database.execute(
                sql: """
                    INSERT INTO users (name, realm, md5_key, sha256_key, userhash, enabled, created_at, expires_at,
                        max_allocations, max_bps, monthly_bytes)
                    VALUES (?, ?, ?, ?, ?, 1, ?, ?, ?, ?, ?)
                    """,
                arguments: [
                    name.value, realm.value, Data(keys.md5Key), Data(keys.sha256Key), Data(keys.userhash), clock(),
                    expiresAtSeconds, maxAllocations, maxBitsPerSecond, monthlyBytes,
                ]
            )
            try record(.user, name, action: "add user", in: database)
        }
    }

    /// Users in the order of their names' bytes, a page at a time.
    /// - Parameter after: the last name of the page before.
    package func users(after: String? = nil, limit: Int = 1000) throws(AccountError) -> [User] {
        try read { database in
            try Row.fetchAll(
                database,
                sql: "SELECT * FROM users WHERE ?1 IS NULL OR name > ?1 ORDER BY name LIMIT ?2",
                arguments: [after, limit]
            ).compactMap(User.init(row:))
        }
    }

    /// - Throws: `notFound`.
    package func user(_ name: AccountName) throws(AccountError) -> User {
        let row = try read { database in
            try Row.fetchOne(database, sql: "SELECT * FROM users WHERE name = ?", arguments: [name.value])
        }
        guard let user = row.flatMap(User.init(row:)) else { throw Self.noUser(name) }
        return user
    }

    /// Replaces the keys, and the realm they were derived with.
    package func setKeys(_ keys: DerivedKeys, realm: Realm, of name: AccountName) throws(AccountError) {
        try requireWellFormed(keys)
        try write { database in
            try database.execute(
                sql: "UPDATE users SET realm = ?, md5_key = ?, sha256_key = ?, userhash = ? WHERE name = ?",
                arguments: [
                    realm.value, Data(keys.md5Key), Data(keys.sha256Key), Data(keys.userhash), name.value,
                ]
            )
            guard database.changesCount == 1 else { throw Self.noUser(name) }
            try record(.user, name, action: "change password of user", in: database)
        }
    }

    /// Replaces what `change` makes of a user's limits, as they are in the same transaction.
    /// - Returns: the limits that hold from here on.
    @discardableResult
    package func setLimits(
        of name: AccountName,
        _ change: (inout UserLimits) -> Void
    ) throws(AccountError) -> UserLimits {
        try write { database in
            let row = try Row.fetchOne(database, sql: "SELECT * FROM users WHERE name = ?", arguments: [name.value])
            guard let user = row.flatMap(User.init(row:)) else { throw Self.noUser(name) }
            var limits = UserLimits(
                expiresAtSeconds: user.expiresAtSeconds,
                maxAllocations: user.maxAllocations,
                maxBitsPerSecond: user.maxBitsPerSecond,
                monthlyBytes: user.monthlyBytes
            )
            change(&limits)
            try limits.requireInRange()
            try database.execute(
                sql: """
                    UPDATE users SET expires_at = ?, max_allocations = ?, max_bps = ?, monthly_bytes = ?
                    WHERE name = ?
                    """,
                arguments: [
                    limits.expiresAtSeconds, limits.maxAllocations, limits.maxBitsPerSecond, limits.monthlyBytes,
                    name.value,
                ]
            )
            try record(.user, name, action: "change limits of user", in: database)
            return limits
        }
    }

    package func setEnabled(_ isEnabled: Bool, _ name: AccountName) throws(AccountError) {
        try write { database in
            try database.execute(
                sql: "UPDATE users SET enabled = ? WHERE name = ?",
                arguments: [isEnabled ? 1 : 0, name.value]
            )
            guard database.changesCount == 1 else { throw Self.noUser(name) }
            try record(.user, name, action: isEnabled ? "enable user" : "disable user", in: database)
        }
    }

    package func removeUser(_ name: AccountName) throws(AccountError) {
        try write { database in
            try database.execute(sql: "DELETE FROM users WHERE name = ?", arguments: [name.value])
            guard database.changesCount == 1 else { throw Self.noUser(name) }
            try record(.user, name, action: "remove user", in: database)
        }
    }

    private func requireWellFormed(_ keys: DerivedKeys) throws(AccountError) {
        guard keys.isWellFormed else {
            throw AccountError(.invalidValue, "the derived keys do not have 16, 32 and 32 bytes; derive them again")
        }
    }

    private static func userExists(_ name: AccountName, in database: Database) throws -> Bool {
        try Bool.fetchOne(
            database,
            sql: "SELECT EXISTS (SELECT 1 FROM users WHERE name = ?)",
            arguments: [name.value]
        ) ?? false
    }

    private static func noUser(_ name: AccountName) -> AccountError {
        AccountError(
            .notFound,
            "there is no user \(name.value.quotedForMessage); turnpike user list shows the names"
        )
    }
}

extension User {
    /// `nil` for a row that does not even have a name. Whatever else is damaged makes a damaged user, not a crash.
    init?(row: Row) {
        guard let name = String.fromDatabaseValue(row["name"]) else { return nil }
        let enabled = Int64.fromDatabaseValue(row["enabled"])
        self.init(
            name: name,
            realm: String.fromDatabaseValue(row["realm"]) ?? "",
            isEnabled: enabled == 1,
            createdAtSeconds: Int64.fromDatabaseValue(row["created_at"]) ?? 0,
            expiresAtSeconds: Int64.fromDatabaseValue(row["expires_at"]),
            maxAllocations: Int.fromDatabaseValue(row["max_allocations"]),
            maxBitsPerSecond: Int64.fromDatabaseValue(row["max_bps"]),
            monthlyBytes: Int64.fromDatabaseValue(row["monthly_bytes"]),
            hasWellFormedKeys: CredentialRecord(row: row) != nil
        )
    }
}
