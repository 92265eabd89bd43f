import Foundation
import GRDB

extension AccountStore {
    /// What is needed to authenticate the user of this name, or `nil` where there is none.
    ///
    /// The name is compared byte for byte, as it came off the wire. Disabled and expired users are returned: the caller
    /// knows the time (`CredentialRecord.isUsable`). A user whose keys are damaged counts as absent and is reported
    /// once.
    package func credentialRecord(username: String) throws(AccountError) -> CredentialRecord? {
        // Text is bound up to its first NUL, so "alice\0x" would find alice.
        guard !username.utf8.contains(0) else { return nil }
        return try credentialRecord(username, nil)
    }

    /// The same for a client that sends USERHASH in place of its name (RFC 8489 section 14.4).
    /// - Parameter userhash: 32 bytes.
    package func credentialRecord(userhash: [UInt8]) throws(AccountError) -> CredentialRecord? {
        try credentialRecord(nil, Data(userhash))
    }

    /// Somebody who is not there is read and put together all the same, from a row that stands in for him: or the time
    /// that the first question about a name takes would tell whether it is a user's (case AU-03).
    private func credentialRecord(
        _ username: String?,
        _ userhash: Data?
    ) throws(AccountError) -> CredentialRecord? {
        let row = try read { database in
            let statement = try database.cachedStatement(
                sql: """
                    SELECT name, realm, md5_key, sha256_key, userhash, enabled, expires_at, max_allocations, max_bps,
                        monthly_bytes, 1 AS is_there
                    FROM users WHERE name = ?1 OR userhash = ?2
                    UNION ALL
                    SELECT 'nobody', 'nowhere', zeroblob(16), zeroblob(32), zeroblob(32), 0, NULL, NULL, NULL, NULL, 0
                    ORDER BY is_there DESC LIMIT 1
                    """
            )
            return try Row.fetchOne(statement, arguments: [username, userhash])
        }
        guard let row else { return nil }
        let record = credentialRecord(row: row)
        return Int64.fromDatabaseValue(row["is_there"]) == 1 ? record : nil
    }

    private func credentialRecord(row: Row) -> CredentialRecord? {
        if let record = CredentialRecord(row: row) { return record }
        reportDamage(of: String.fromDatabaseValue(row["name"]) ?? "")
        return nil
    }
}

extension CredentialRecord {
    /// `nil` where a column does not hold what it should.
    init?(row: Row) {
        guard let name = String.fromDatabaseValue(row["name"]),
            let realm = String.fromDatabaseValue(row["realm"]),
            let md5Key = Self.bytes(row["md5_key"]),
            let sha256Key = Self.bytes(row["sha256_key"]),
            let userhash = Self.bytes(row["userhash"]),
            let enabled = Int64.fromDatabaseValue(row["enabled"]),
            let expiresAtSeconds = Self.optional(Int64.self, row["expires_at"]),
            let maxAllocations = Self.optional(Int.self, row["max_allocations"]),
            let maxBitsPerSecond = Self.optional(Int64.self, row["max_bps"]),
            let monthlyBytes = Self.optional(Int64.self, row["monthly_bytes"])
        else { return nil }
        let keys = DerivedKeys(md5Key: md5Key, sha256Key: sha256Key, userhash: userhash)
        guard keys.isWellFormed else { return nil }
        self.init(
            name: name,
            realm: realm,
            keys: keys,
            isEnabled: enabled == 1,
            expiresAtSeconds: expiresAtSeconds,
            maxAllocations: maxAllocations,
            maxBitsPerSecond: maxBitsPerSecond,
            monthlyBytes: monthlyBytes
        )
    }

    /// Only a blob is a key: text of the right length is not.
    private static func bytes(_ value: DatabaseValue) -> [UInt8]? {
        guard case .blob(let data) = value.storage else { return nil }
        return [UInt8](data)
    }

    /// Tells a NULL (`.some(nil)`) from a value of the wrong type (`nil`): a limit that cannot be read must not vanish.
    private static func optional<Value: DatabaseValueConvertible>(
        _ type: Value.Type,
        _ value: DatabaseValue
    ) -> Value?? {
        if value.isNull { return .some(nil) }
        guard let value = Value.fromDatabaseValue(value) else { return nil }
        return .some(value)
    }
}
