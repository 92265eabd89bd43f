import Accounts
import Foundation
import GRDB
import Testing

/// A database that is not as we left it is refused with the mend, and stays as it is.
@Suite struct RefusalTests {
    @Test func newDirectoryAndFilesAreTheOwnersAlone() throws {
        let scratch = Scratch()
        let store = try scratch.open()
        try store.add("alice", seed: 1)
        #expect(try scratch.permissions(scratch.path) == 0o700)
        for suffix in ["", "-wal", "-shm"] {
            #expect(try scratch.permissions(scratch.database + suffix) == 0o600, "turnpike.sqlite3\(suffix)")
        }
        let names = try FileManager.default.contentsOfDirectory(atPath: scratch.path)
        #expect(Set(names) == ["turnpike.sqlite3", "turnpike.sqlite3-wal", "turnpike.sqlite3-shm"])
    }

    @Test func missingDatabaseIsNotMadeUnlessAsked() throws {
        let scratch = Scratch()
        let error = accountError { _ = try AccountStore(dataDirectory: scratch.path, mode: .readWrite) }
        #expect(error?.code == .missing)
        #expect(!FileManager.default.fileExists(atPath: scratch.path))
        // Reading never makes one, whatever is asked.
        #expect(accountError { _ = try scratch.open(.readOnly) }?.code == .missing)
        #expect(!FileManager.default.fileExists(atPath: scratch.path))
    }

    @Test func newerSchemaIsRefused() throws {
        try refuses(.newerSchema, naming: "newer") { scratch in
            try scratch.raw().writeWithoutTransaction { try $0.execute(sql: "PRAGMA user_version = 99") }
        }
    }

    @Test func schemaVersionThatNeverExistedIsRefused() throws {
        for version in [0, -1] {
            try refuses(.corrupt, naming: "backup") { scratch in
                try scratch.raw().writeWithoutTransaction { try $0.execute(sql: "PRAGMA user_version = \(version)") }
            }
        }
    }

    @Test func databaseOfAnotherProgramIsRefused() throws {
        try refuses(.foreign, naming: "not Turnpike's") { scratch in
            try scratch.raw().writeWithoutTransaction { try $0.execute(sql: "PRAGMA application_id = 1") }
        }
        try refuses(.foreign, naming: "not Turnpike's") { scratch in
            try FileManager.default.removeItem(atPath: scratch.database)
            try scratch.raw().writeWithoutTransaction { try $0.execute(sql: "CREATE TABLE users (name)") }
            chmod(scratch.database, 0o600)
        }
    }

    @Test func garbageInTheHeaderIsRefused() throws {
        try refuses(.corrupt, naming: "backup") { scratch in
            try scratch.overwrite(at: 0, with: Data(repeating: 0x5A, count: 100))
        }
    }

    @Test func fileOfGarbageIsRefused() throws {
        try refuses(.corrupt, naming: "backup") { scratch in
            try scratch.overwrite(at: 0, with: Data((0..<20_000).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ $0 >> 5) }))
        }
    }

    @Test func truncatedFileIsRefused() throws {
        for length in [100, 4096, 8192] {
            try refuses(.corrupt, naming: "backup") { scratch in truncate(scratch.database, off_t(length)) }
        }
    }

    @Test func emptyFileIsRefused() throws {
        try refuses(.corrupt, naming: "empty") { scratch in truncate(scratch.database, 0) }
    }

    @Test func symbolicLinkIsNotFollowed() throws {
        try refuses(.unsafeFile, naming: "symbolic link") { scratch in
            rename(scratch.database, scratch.path + "/elsewhere")
            symlink(scratch.path + "/elsewhere", scratch.database)
        }
        try refuses(.unsafeFile, naming: "-wal is a symbolic link") { scratch in
            symlink(scratch.path + "/elsewhere", scratch.database + "-wal")
        }
    }

    @Test func directoryInPlaceOfTheFileIsRefused() throws {
        try refuses(.unsafeFile, naming: "not a regular file") { scratch in
            unlink(scratch.database)
            mkdir(scratch.database, 0o700)
        }
    }

    @Test func fileThatOthersCanReadIsRefusedWithTheMend() throws {
        for mode in [0o644, 0o640, 0o602] as [mode_t] {
            try refuses(.unsafeFile, naming: "chmod 600") { scratch in chmod(scratch.database, mode) }
        }
    }

    @Test func directoryThatOthersCanWriteIsRefusedWithTheMend() throws {
        for mode in [0o770, 0o1777] as [mode_t] {
            try refuses(.unsafeFile, naming: "chmod 700") { scratch in chmod(scratch.path, mode) }
        }
    }

    @Test func flippedBytesAreFoundByTheIntegrityCheckOrHarmless() throws {
        let seed = UInt64.random(in: .min ... .max)
        var random = SplitMix64(state: seed)
        let scratch = Scratch()
        let keys = try {
            let store = try scratch.open()
            for index in 0..<200 { try store.add("user\(index)", seed: index) }
            return try store.users().map(\.name)
        }()
        let intact = try Data(contentsOf: URL(fileURLWithPath: scratch.database))
        #expect(keys.count == 200)
        for round in 0..<200 {
            var damaged = intact
            for _ in 0..<8 { damaged[Int.random(in: 0..<damaged.count, using: &random)] ^= 0xFF }
            try scratch.replace(with: damaged)
            // Whatever the damage, the answer is a value or an `AccountError`: nothing traps, nothing is recreated.
            do {
                let store = try scratch.open()
                try store.integrityCheck()
                for name in keys { _ = try store.credentialRecord(username: name) }
                _ = try store.changes(since: 0)
            } catch {
                #expect(error is AccountError, "seed \(seed), round \(round)")
            }
            let size = try Data(contentsOf: URL(fileURLWithPath: scratch.database)).count
            #expect(size >= intact.count, "seed \(seed), round \(round)")
        }
    }

    /// Makes a good database, lets `damage` have it, and expects the store to refuse it and to leave it alone.
    private func refuses(
        _ code: AccountError.Code,
        naming text: String,
        after damage: (Scratch) throws -> Void,
        sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
        let scratch = Scratch()
        try scratch.open().add("alice", seed: 1)
        try damage(scratch)
        let before = try? Data(contentsOf: URL(fileURLWithPath: scratch.database))
        for mode in [.readWrite, .readOnly] as [AccountStore.Mode] {
            let error = accountError { _ = try scratch.open(mode) }
            #expect(error?.code == code, "\(String(describing: error))", sourceLocation: sourceLocation)
            #expect(error?.message.contains(text) == true, sourceLocation: sourceLocation)
            #expect(error?.message.contains("\n") == false, sourceLocation: sourceLocation)
        }
        let after = try? Data(contentsOf: URL(fileURLWithPath: scratch.database))
        #expect(before == after, sourceLocation: sourceLocation)
    }
}

extension Scratch {
    fileprivate func overwrite(at offset: UInt64, with data: Data) throws {
        let handle = try FileHandle(forWritingTo: URL(fileURLWithPath: database))
        defer { try? handle.close() }
        try handle.seek(toOffset: offset)
        try handle.write(contentsOf: data)
    }

    fileprivate func replace(with data: Data) throws {
        for suffix in ["", "-wal", "-shm"] { unlink(database + suffix) }
        try data.write(to: URL(fileURLWithPath: database))
        chmod(database, 0o600)
    }
}

/// A generator that can be started again from a printed seed.
private struct SplitMix64: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var value = state
        value = (value ^ (value >> 30)) &* 0xBF58_476D_1CE4_E5B9
        value = (value ^ (value >> 27)) &* 0x94D0_49BB_1331_11EB
        return value ^ (value >> 31)
    }
}
