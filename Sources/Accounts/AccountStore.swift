import Foundation
import GRDB
import Synchronization

/// Users, shared secrets and who changed them, in `turnpike.sqlite3` of the data directory.
///
/// The server and any number of commands open the same file at once: SQLite's WAL lets them read while one writes, and
/// writers wait for each other (`AccountLimits.busyTimeoutSeconds`). A write has reached the disk when its call
/// returns. Passwords are never stored, only `DerivedKeys`. Calls block for as long as the disk does.
package final class AccountStore: Sendable {
    package enum Mode: Sendable {
        case readOnly
        case readWrite
    }

    /// Where the database is, for messages.
    package let databasePath: String

    let actor: String
    let clock: @Sendable () -> Int64
    private let queue: DatabaseQueue
    private let report: @Sendable (String) -> Void
    private let reportedNames = Mutex<Set<String>>([])
    private let ownWrites = Mutex<UInt64>(0)

    /// Opens the database. A damaged, foreign, newer or carelessly protected one is refused, and never replaced.
    /// - Parameters:
    ///   - dataDirectory: absolute, or relative to the current directory.
    ///   - createIfMissing: makes the directory (0700) and the database (0600) where they are missing; `readWrite`
    ///     only.
    ///   - actor: who is changing things, for the audit table; for instance `cli uid=0`.
    ///   - clock: the wall clock in seconds since 1970.
    ///   - report: called once for each user whose stored keys are damaged, with a line for the log.
    package init(
        dataDirectory: String,
        mode: Mode,
        createIfMissing: Bool = false,
        actor: String = "uid=\(geteuid())",
        clock: @escaping @Sendable () -> Int64 = { Int64(Date().timeIntervalSince1970) },
        report: @escaping @Sendable (String) -> Void = { _ in }
    ) throws(AccountError) {
        let directory = try DataDirectory(path: dataDirectory)
        let create = createIfMissing && mode == .readWrite
        try directory.prepare(createIfMissing: create)
        databasePath = directory.databasePath
        self.actor = actor
        self.clock = clock
        self.report = report
        if try !directory.inspectDatabase() {
            guard create else {
                throw AccountError(
                    .missing,
                    "there is no database \(databasePath); add a user first, or name another directory with --data-dir"
                )
            }
            do {
                try directory.createDatabase(Self.build)
            } catch {
                throw AccountError(error, path: databasePath)
            }
            guard try directory.inspectDatabase() else {
                throw AccountError(
                    .missing,
                    "\(databasePath) was removed as it was being made; repeat the command"
                )
            }
        }
        do {
            queue = try DatabaseQueue(path: databasePath, configuration: Self.configuration(mode))
            try Self.verify(queue, path: databasePath, mode: mode)
        } catch {
            throw AccountError(error, path: databasePath)
        }
    }

    /// Moves whenever anybody has committed, so that a follower need not ask what changed when nothing did.
    package func dataVersion() throws(AccountError) -> DataVersion {
        // The own count is read first: a write in between is then seen twice rather than never.
        let own = ownWrites.withLock { $0 }
        let others = try read { try Int64.fetchOne($0, sql: "PRAGMA data_version") ?? 0 }
        return DataVersion(others: others, own: own)
    }

    /// Reads every page of the database. Slow on a large one: for starting and for diagnosis.
    /// - Throws: `corrupt` with SQLite's first finding.
    package func integrityCheck() throws(AccountError) {
        let findings = try read { try String.fetchAll($0, sql: "PRAGMA integrity_check(1)") }
        guard findings == ["ok"] else {
            throw AccountError.corrupt(path: databasePath, detail: findings.first ?? "integrity_check said nothing")
        }
    }

    func read<Value>(_ body: (Database) throws -> Value) throws(AccountError) -> Value {
        do {
            return try queue.read(body)
        } catch {
            throw AccountError(error, path: databasePath)
        }
    }

    /// One transaction that holds the write lock from its start (`BEGIN IMMEDIATE`), so that it waits for other
    /// writers before it has read anything, never in the middle, where SQLite could only fail it.
    func write<Value>(_ body: (Database) throws -> Value) throws(AccountError) -> Value {
        do {
            let value = try queue.write(body)
            ownWrites.withLock { $0 &+= 1 }
            return value
        } catch {
            throw AccountError(error, path: databasePath)
        }
    }

    /// Tells the log of a damaged account, once for each name.
    func reportDamage(of name: String) {
        let isNew = reportedNames.withLock { $0.count < 1000 && $0.insert(name).inserted }
        if isNew {
            report(
                "the keys of user \(name.quotedForMessage) in \(databasePath) are damaged, so the user is refused; "
                    + "run: turnpike user passwd \(name.quotedForShell)"
            )
        }
    }

    private static func configuration(_ mode: Mode) -> Configuration {
        var configuration = Configuration()
        configuration.readonly = mode == .readOnly
        configuration.foreignKeysEnabled = true
        configuration.label = "accounts"
        // SQLite's own waiting steps up to 100 ms, which lets one busy writer starve another past the timeout. Short
        // random pauses give every waiter its turn.
        let triesMax = AccountLimits.busyTimeoutSeconds * 1000
        configuration.busyMode = .callback { tries in
            guard tries < triesMax else { return false }
            usleep(UInt32.random(in: 500...1500))
            return true
        }
        configuration.prepareDatabase { database in
            // FULL: an acknowledged change survives a power failure. trusted_schema: a schema changed by others must
            // not run functions. secure_delete: a removed key or secret is overwritten. temp_store: nothing beside our
            // files.
            try database.execute(
                sql: """
                    PRAGMA synchronous = FULL;
                    PRAGMA trusted_schema = OFF;
                    PRAGMA cell_size_check = ON;
                    PRAGMA secure_delete = ON;
                    PRAGMA temp_store = MEMORY;
                    """
            )
        }
        return configuration
    }

    /// Makes a complete, empty database at `path`, with nothing left beside it.
    private static func build(at path: String) throws {
        let queue = try DatabaseQueue(path: path, configuration: configuration(.readWrite))
        try queue.inDatabase { try Schema.migrate($0) }
        // WAL is a property of the file, which every later connection finds set.
        _ = try queue.inDatabase { try String.fetchOne($0, sql: "PRAGMA journal_mode = WAL") }
        try queue.close()
    }

    private static func verify(_ queue: DatabaseQueue, path: String, mode: Mode) throws {
        let (application, version) = try queue.read { database in
            (
                try Int64.fetchOne(database, sql: "PRAGMA application_id") ?? 0,
                try Int64.fetchOne(database, sql: "PRAGMA user_version") ?? 0
            )
        }
        guard application == Schema.applicationID else {
            throw AccountError(
                .foreign,
                "\(path) is an SQLite database, but not Turnpike's; move it away, "
                    + "or name another directory with --data-dir"
            )
        }
        guard version <= Schema.version else {
            throw AccountError(
                .newerSchema,
                "\(path) was made by a newer Turnpike (schema \(version), this one knows up to \(Schema.version)); "
                    + "install the newer version, or restore a backup"
            )
        }
        guard version >= 1 else {
            throw AccountError.corrupt(path: path, detail: "its schema version is \(version)")
        }
        if mode == .readOnly {
            guard version == Schema.version else {
                throw AccountError(
                    .olderSchema,
                    "\(path) is of an older Turnpike (schema \(version), this one needs \(Schema.version)); "
                        + "start the server once, which upgrades it"
                )
            }
            return
        }
        try queue.inDatabase { database in
            let journal = try String.fetchOne(database, sql: "PRAGMA journal_mode = WAL")
            guard journal == "wal" else {
                throw AccountError(
                    .inputOutput,
                    "\(path) cannot use a write-ahead log here; put the data directory on a local file system"
                )
            }
            try Schema.migrate(database)
        }
    }
}
