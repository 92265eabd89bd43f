import Foundation

/// The directory that holds the database, and the checks that nobody else can read, change or redirect what is in it.
///
/// Files are inspected by name only: opening and closing a second descriptor of a database would drop the locks that
/// SQLite holds for this process (POSIX `fcntl` locks belong to the process, not to the descriptor).
struct DataDirectory: Sendable {
    static let databaseName = "turnpike.sqlite3"

    let path: String

    var databasePath: String { path + "/" + Self.databaseName }

    init(path: String) throws(AccountError) {
        guard !path.isEmpty, !path.utf8.contains(0) else {
            throw AccountError(.missing, "the data directory's path is empty; name one with --data-dir")
        }
        // SQLite gives special meaning to some relative names, and an absolute path makes every message say where.
        let absolute = path.hasPrefix("/") ? path : FileManager.default.currentDirectoryPath + "/" + path
        self.path = absolute.count > 1 && absolute.hasSuffix("/") ? String(absolute.dropLast()) : absolute
    }

    /// Checks the directory, making it (0700) and its parents (0755) first where they are missing and wanted.
    func prepare(createIfMissing: Bool) throws(AccountError) {
        var status = stat()
        // Links are followed here: systemd's DynamicUser makes the state directory one.
        if stat(path, &status) != 0 {
            guard errno == ENOENT else { throw failure("cannot be read", errno) }
            guard createIfMissing else {
                throw AccountError(
                    .missing,
                    "there is no data directory \(path); add a user first, or name another with --data-dir"
                )
            }
            try make()
            guard stat(path, &status) == 0 else { throw failure("cannot be read", errno) }
        }
        guard status.st_mode & S_IFMT == S_IFDIR else {
            throw AccountError(.unsafeFile, "\(path) is not a directory; name another with --data-dir")
        }
        try requireOwner(status, of: path)
        guard status.st_mode & 0o022 == 0 else {
            throw AccountError(
                .unsafeFile,
                "\(path) can be written by other users; run: chmod 700 \(path.quotedForShell)"
            )
        }
    }

    /// Checks the database and the files that SQLite keeps beside it.
    /// - Returns: whether the database is there.
    func inspectDatabase() throws(AccountError) -> Bool {
        guard let status = try inspect(databasePath) else { return false }
        guard status.st_size > 0 else {
            // A new database gets its name only when it is complete, so an empty one has lost its contents.
            throw AccountError.corrupt(path: databasePath, detail: "it is empty")
        }
        for suffix in ["-wal", "-shm", "-journal"] { _ = try inspect(databasePath + suffix) }
        return true
    }

    /// Calls `build` with the path of an empty file of mode 0600, and gives the file the database's name when `build`
    /// is through. Whoever dies on the way leaves no half-made database. Where two processes do this at once, the
    /// first one's database stays.
    func createDatabase(_ build: (String) throws -> Void) throws {
        let draft = databasePath + ".new-" + String(UInt64.random(in: .min ... .max), radix: 16)
        let descriptor = open(draft, O_CREAT | O_EXCL | O_NOFOLLOW | O_RDWR | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw failure("cannot be written", errno) }
        defer { for suffix in ["", "-wal", "-shm", "-journal"] { unlink(draft + suffix) } }
        do {
            defer { close(descriptor) }
            // The umask may have taken bits away; it must not.
            guard fchmod(descriptor, 0o600) == 0 else { throw failure("cannot be written", errno) }
            try giveToDirectoryOwner(descriptor)
        }
        try build(draft)
        // Unlike rename(2), link(2) never replaces what is already there.
        guard link(draft, databasePath) == 0 || errno == EEXIST else { throw failure("cannot be written", errno) }
        try flush()
    }

    private func make() throws(AccountError) {
        let parent = (path as NSString).deletingLastPathComponent
        do {
            try FileManager.default.createDirectory(atPath: parent, withIntermediateDirectories: true)
        } catch {
            throw AccountError(
                .inputOutput,
                "\(parent) cannot be made; make it, or name another data directory with --data-dir"
            )
        }
        if mkdir(path, 0o700) != 0 {
            guard errno == EEXIST else { throw failure("cannot be made", errno) }
            return
        }
        // The umask may have taken bits away; it must not.
        guard chmod(path, 0o700) == 0 else { throw failure("cannot be made", errno) }
    }

    /// Root working for a service account must not leave behind files that the service cannot open.
    private func giveToDirectoryOwner(_ descriptor: Int32) throws(AccountError) {
        guard geteuid() == 0 else { return }
        var status = stat()
        guard stat(path, &status) == 0, fchown(descriptor, status.st_uid, status.st_gid) == 0 else {
            throw failure("cannot be given to its owner", errno)
        }
    }

    /// The name of a new file survives a power failure only when its directory has been flushed.
    private func flush() throws(AccountError) {
        let descriptor = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard descriptor >= 0 else { throw failure("cannot be read", errno) }
        defer { close(descriptor) }
        guard fsync(descriptor) == 0 else { throw failure("cannot be flushed", errno) }
    }

    private func inspect(_ file: String) throws(AccountError) -> stat? {
        var status = stat()
        guard lstat(file, &status) == 0 else {
            if errno == ENOENT { return nil }
            throw failure("cannot be read", errno)
        }
        guard status.st_mode & S_IFMT == S_IFREG else {
            let kind = status.st_mode & S_IFMT == S_IFLNK ? "a symbolic link" : "not a regular file"
            throw AccountError(
                .unsafeFile,
                "\(file) is \(kind), which is not followed; put the file itself there, "
                    + "or name its directory with --data-dir"
            )
        }
        try requireOwner(status, of: file)
        guard status.st_mode & 0o077 == 0 else {
            throw AccountError(
                .unsafeFile,
                "\(file) can be read or written by other users; run: chmod 600 \(file.quotedForShell)"
            )
        }
        return status
    }

    /// Root may work on a service account's files (SQLite then gives new ones to that account); nobody else's are used.
    private func requireOwner(_ status: stat, of file: String) throws(AccountError) {
        let user = geteuid()
        guard status.st_uid == user || user == 0 else {
            throw AccountError(
                .unsafeFile,
                "\(file) belongs to user \(status.st_uid), you are \(user); "
                    + "run the command as its owner: sudo -u '#\(status.st_uid)' turnpike …"
            )
        }
    }

    private func failure(_ what: String, _ code: Int32) -> AccountError {
        AccountError(
            .inputOutput,
            "\(path) \(what) (\(String(cString: strerror(code)))); "
                + "run the command as its owner, or name another data directory with --data-dir"
        )
    }
}

extension String {
    /// The text as one word of a POSIX shell command.
    package var quotedForShell: String {
        let plain = utf8.allSatisfy { byte in
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"): true
            case UInt8(ascii: "0")...UInt8(ascii: "9"): true
            default: "/._-+=:,@%".utf8.contains(byte)
            }
        }
        if plain && !isEmpty { return self }
        return "'" + replacingOccurrences(of: "'", with: "'\\''") + "'"
    }
}
