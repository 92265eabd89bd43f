import Foundation
import GRDB

/// A token of the API. The token itself is known to whoever was given it; here is its SHA-256.
package struct Token: Hashable, Sendable {
    package let name: String
    /// Whom it logs in as; `nil` for an admin's, which stands for no user.
    package let user: String?
    package let createdAtSeconds: Int64
    package let expiresAtSeconds: Int64?

    package func isUsable(atSeconds now: Int64) -> Bool { expiresAtSeconds.map { now < $0 } ?? true }
}

extension AccountStore {
    /// Adds a token.
    /// - Parameters:
    ///   - digest: SHA-256 of the token: 32 bytes. A token has to have 128 random bits, or its digest would tell it.
    ///   - user: whom it logs in as; `nil` for an admin's.
    /// - Throws: `alreadyExists`, `invalidValue`, or `notFound` where there is no such user.
    package func addToken(
        _ name: AccountName,
        digest: [UInt8],
        user: AccountName?,
        expiresAtSeconds: Int64?
    ) throws(AccountError) {
        guard digest.count == 32 else {
            throw AccountError(.invalidValue, "the token's digest does not have 32 bytes; derive it again")
        }
        if let expiresAtSeconds, !(0...AccountLimits.expirySecondsMax).contains(expiresAtSeconds) {
            throw AccountError(.invalidValue, "the expiry is out of range; give a date before the year 10000")
        }
        if let user { _ = try self.user(user) }
        try write { database in
            let names = try String.fetchAll(database, sql: "SELECT name FROM tokens")
            guard !names.contains(where: { $0.utf8.elementsEqual(name.value.utf8) }) else {
                throw AccountError(
                    .alreadyExists,
                    "there is a token \(name.value.quotedForMessage) already; revoke it first, or choose another name"
                )
            }
            guard names.count < AccountLimits.tokensMax else {
                throw AccountError(
                    .invalidValue,
                    "there are \(names.count) tokens, which is the most; revoke one with token revoke"
                )
            }
            try database.execute(
                sql: "INSERT INTO tokens (name, digest, user, created_at, expires_at) VALUES (?, ?, ?, ?, ?)",
                arguments: [name.value, Data(digest), user?.value, clock(), expiresAtSeconds]
            )
            try record(.token, name, action: "create token", in: database)
        }
    }

    /// Every token, the oldest first.
    package func allTokens() throws(AccountError) -> [Token] {
        try read { database in
            try Row.fetchAll(database, sql: "SELECT * FROM tokens ORDER BY created_at, rowid")
                .compactMap(Token.init(row:))
        }
    }

    /// The token of this digest, expired or not; `nil` where there is none.
    package func token(digest: [UInt8]) throws(AccountError) -> Token? {
        let row = try read { database in
            try Row.fetchOne(database, sql: "SELECT * FROM tokens WHERE digest = ?", arguments: [Data(digest)])
        }
        return row.flatMap(Token.init(row:))
    }

    /// The token of this name; `nil` where there is none.
    package func token(named name: String) throws(AccountError) -> Token? {
        guard !name.utf8.contains(0) else { return nil }
        let row = try read { database in
            try Row.fetchOne(database, sql: "SELECT * FROM tokens WHERE name = ?", arguments: [name])
        }
        return row.flatMap(Token.init(row:))
    }

    /// - Throws: `notFound`.
    package func revokeToken(_ name: AccountName) throws(AccountError) {
        try write { database in
            try database.execute(sql: "DELETE FROM tokens WHERE name = ?", arguments: [name.value])
            guard database.changesCount == 1 else {
                throw AccountError(
                    .notFound,
                    "there is no token \(name.value.quotedForMessage); turnpike token list shows the names"
                )
            }
            try record(.token, name, action: "revoke token", in: database)
        }
    }
}

extension Token {
    /// `nil` where a column does not hold what it should: a damaged expiry must not make a token eternal, nor a damaged
    /// user make it an admin's.
    init?(row: Row) {
        guard let name = String.fromDatabaseValue(row["name"]) else { return nil }
        let (user, expiry): (DatabaseValue, DatabaseValue) = (row["user"], row["expires_at"])
        guard user.isNull || String.fromDatabaseValue(user) != nil,
            expiry.isNull || Int64.fromDatabaseValue(expiry) != nil
        else { return nil }
        self.init(
            name: name,
            user: String.fromDatabaseValue(user),
            createdAtSeconds: Int64.fromDatabaseValue(row["created_at"]) ?? 0,
            expiresAtSeconds: Int64.fromDatabaseValue(expiry)
        )
    }
}
