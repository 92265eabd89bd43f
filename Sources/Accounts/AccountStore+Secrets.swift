import Foundation
import GRDB

extension AccountStore {
    /// Adds a secret for time-limited credentials.
    /// - Throws: `alreadyExists`, or `invalidValue` where the value is empty or too long or there are too many secrets.
    package func addSecret(_ name: AccountName, value: [UInt8]) throws(AccountError) {
        guard (1...AccountLimits.secretBytesMax).contains(value.count) else {
            throw AccountError(
                .invalidValue,
                "the secret has \(value.count) bytes; give one of 1 to \(AccountLimits.secretBytesMax)"
            )
        }
        try write { database in
            let names = try String.fetchAll(database, sql: "SELECT name FROM secrets")
            guard !names.contains(where: { $0.utf8.elementsEqual(name.value.utf8) }) else {
                throw AccountError(
                    .alreadyExists,
                    "there is a secret \(name.value.quotedForMessage) already; remove it first, or choose another name"
                )
            }
            guard names.count < AccountLimits.secretsMax else {
                throw AccountError(
                    .invalidValue,
                    "there are \(names.count) secrets, which is the most; remove one with secret remove"
                )
            }
            try database.execute(
                sql: "INSERT INTO secrets (name, value, created_at) VALUES (?, ?, ?)",
                arguments: [name.value, Data(value), clock()]
            )
            try record(.secret, name, action: "add secret", in: database)
        }
    }

    /// Every secret, the oldest first. A row without a value is left out.
    package func allSecrets() throws(AccountError) -> [SharedSecret] {
        let rows = try read { database in
            try Row.fetchAll(database, sql: "SELECT * FROM secrets ORDER BY created_at, rowid")
        }
        return rows.compactMap { row in
            guard let name = String.fromDatabaseValue(row["name"]),
                let value = Data.fromDatabaseValue(row["value"]), !value.isEmpty
            else { return nil }
            return SharedSecret(
                name: name,
                value: [UInt8](value),
                createdAtSeconds: Int64.fromDatabaseValue(row["created_at"]) ?? 0
            )
        }
    }

    /// - Throws: `notFound`.
    package func removeSecret(_ name: AccountName) throws(AccountError) {
        try write { database in
            try database.execute(sql: "DELETE FROM secrets WHERE name = ?", arguments: [name.value])
            guard database.changesCount == 1 else {
                throw AccountError(
                    .notFound,
                    "there is no secret \(name.value.quotedForMessage); turnpike secret list shows the names"
                )
            }
            try record(.secret, name, action: "remove secret", in: database)
        }
    }
}
