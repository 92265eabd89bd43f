import GRDB

extension AccountStore {
    /// Adds to what users have relayed in a month, all in one transaction. Names need not be users'.
    /// - Returns: where those of them stand who have a monthly limit.
    @discardableResult
    package func addUsage(_ deltas: [String: Usage], month: UsageMonth) throws(AccountError) -> [QuotaState] {
        if deltas.isEmpty { return [] }
        return try write { database in
            let addition = try database.cachedStatement(
                sql: """
                    INSERT INTO usage (
                        user, month, bytes_to_peers, bytes_to_clients, packets_to_peers, packets_to_clients)
                    VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                    ON CONFLICT (user, month) DO UPDATE SET
                        bytes_to_peers = min(bytes_to_peers, ?7) + ?3,
                        bytes_to_clients = min(bytes_to_clients, ?7) + ?4,
                        packets_to_peers = min(packets_to_peers, ?7) + ?5,
                        packets_to_clients = min(packets_to_clients, ?7) + ?6
                    """
            )
            var states: [QuotaState] = []
            for (name, delta) in deltas {
                let name = Self.storable(name)
                let counts = [delta.bytesToPeers, delta.bytesToClients, delta.packetsToPeers, delta.packetsToClients]
                    .map { min(max($0, 0), AccountLimits.countMax - 1) }
                try addition.execute(
                    arguments: [
                        name, month.description, counts[0], counts[1], counts[2], counts[3], AccountLimits.countMax,
                    ]
                )
                if let state = try Self.quotaState(of: name, month: month, in: database) { states.append(state) }
            }
            return states
        }
    }

    /// Where a user stands; `nil` for one without a monthly limit.
    package func quotaState(of name: String, month: UsageMonth) throws(AccountError) -> QuotaState? {
        try read { try Self.quotaState(of: Self.storable(name), month: month, in: $0) }
    }

    /// What everyone has relayed in a month, by the names' bytes.
    package func usage(in month: UsageMonth) throws(AccountError) -> [MonthlyUsage] {
        try read { database in
            try Row.fetchAll(
                database,
                sql: """
                    SELECT usage.*, monthly_bytes FROM usage LEFT JOIN users ON users.name = user
                    WHERE month = ? ORDER BY user
                    """,
                arguments: [month.description]
            ).compactMap(MonthlyUsage.init(row:))
        }
    }

    /// What one user has relayed in each month that is kept, the latest first.
    package func usage(of name: String) throws(AccountError) -> [MonthlyUsage] {
        try read { database in
            try Row.fetchAll(
                database,
                sql: """
                    SELECT usage.*, monthly_bytes FROM usage LEFT JOIN users ON users.name = user
                    WHERE user = ? ORDER BY month DESC
                    """,
                arguments: [Self.storable(name)]
            ).compactMap(MonthlyUsage.init(row:))
        }
    }

    /// Forgets months so old that nobody asks for them, of users who are still there and of others alike.
    package func pruneUsage(now month: UsageMonth) throws(AccountError) {
        let oldest = month.earlier(by: AccountLimits.usageMonthsKept)
        try write { database in
            try database.execute(sql: "DELETE FROM usage WHERE month < ?", arguments: [oldest.description])
        }
    }

    private static func quotaState(
        of name: String,
        month: UsageMonth,
        in database: Database
    ) throws -> QuotaState? {
        let statement = try database.cachedStatement(
            sql: """
                SELECT monthly_bytes, usage.* FROM users LEFT JOIN usage ON usage.user = users.name AND month = ?2
                WHERE users.name = ?1 AND monthly_bytes IS NOT NULL
                """
        )
        guard let row = try Row.fetchOne(statement, arguments: [name, month.description]),
            let limit = Int64.fromDatabaseValue(row["monthly_bytes"])
        else { return nil }
        return QuotaState(user: name, usedBytes: Usage(row: row).bytes, monthlyBytes: limit)
    }

    /// Text is bound up to its first NUL, which would put the use of "alice\0x" on alice's account. Such a name can
    /// only be that of a time-limited credential.
    private static func storable(_ name: String) -> String {
        guard name.utf8.contains(0) else { return name }
        var scalars = String.UnicodeScalarView()
        for scalar in name.unicodeScalars { scalars.append(scalar == "\0" ? "\u{FFFD}" : scalar) }
        return String(scalars)
    }
}

extension MonthlyUsage {
    /// `nil` for a row that does not say whose it is, and of when.
    fileprivate init?(row: Row) {
        guard let user = String.fromDatabaseValue(row["user"]),
            let month = String.fromDatabaseValue(row["month"]).flatMap(UsageMonth.init)
        else { return nil }
        self.init(
            user: user,
            month: month,
            usage: Usage(row: row),
            monthlyBytes: Int64.fromDatabaseValue(row["monthly_bytes"])
        )
    }
}

extension Usage {
    /// Counts that are absent or damaged are 0.
    fileprivate init(row: Row) {
        func count(_ column: String) -> Int64 { max(Int64.fromDatabaseValue(row[column]) ?? 0, 0) }
        self.init(
            bytesToPeers: count("bytes_to_peers"),
            bytesToClients: count("bytes_to_clients"),
            packetsToPeers: count("packets_to_peers"),
            packetsToClients: count("packets_to_clients")
        )
    }
}
