import Accounts
import Foundation
import GRDB
import Testing

@Suite struct ConcurrencyTests {
    /// DB-02 on one machine's two writers, with the server reading at the same time.
    @Test func twoWritersAtOnceLoseNothingAndNeverSeeBusy() async throws {
        let scratch = Scratch()
        let reader = try scratch.open()
        let first = try scratch.open()
        let second = try scratch.open()
        let done = try await withThrowingTaskGroup(of: Int.self) { group in
            for (writer, store) in [first, second].enumerated() {
                group.addTask {
                    for index in 0..<500 { try store.add("w\(writer)-\(index)", seed: writer * 1000 + index) }
                    return 500
                }
            }
            group.addTask {
                for index in 0..<500 { _ = try reader.credentialRecord(username: "w0-\(index)") }
                return 0
            }
            return try await group.reduce(0, +)
        }
        #expect(done == 1000)
        #expect(try reader.users(limit: 2000).count == 1000)
        #expect(try reader.changeSequence() == 1000)
        try reader.integrityCheck()
    }

    @Test func processesThatCreateAtOnceShareOneDatabase() async throws {
        let scratch = Scratch()
        try await withThrowingTaskGroup(of: Void.self) { group in
            let path = scratch.path
            for index in 0..<16 {
                group.addTask {
                    let store = try AccountStore(dataDirectory: path, mode: .readWrite, createIfMissing: true)
                    try store.add("user\(index)", seed: index)
                }
            }
            try await group.waitForAll()
        }
        #expect(try scratch.open().users().count == 16)
        let names = try FileManager.default.contentsOfDirectory(atPath: scratch.path)
        #expect(!names.contains { $0.contains(".new-") })
    }

    /// DB-03: a writer does not hold readers up.
    @Test func lookupsGoOnDuringAWriteTransaction() throws {
        let scratch = Scratch()
        let store = try scratch.open()
        try store.add("alice", seed: 1)
        try scratch.raw().inTransactionHoldingTheWriteLock { database in
            try database.execute(sql: "DELETE FROM users")
            #expect(try store.credentialRecord(username: "alice") != nil)
        }
        #expect(try store.credentialRecord(username: "alice") == nil)
    }

    @Test func writerThatWaitsTooLongSaysWhoIsInTheWay() throws {
        let scratch = Scratch()
        let store = try scratch.open()
        try scratch.raw().inTransactionHoldingTheWriteLock { _ in
            let start = ContinuousClock.now
            let error = accountError { try store.add("alice", seed: 1) }
            #expect(error?.code == .busy)
            #expect(error?.message.contains("locked by another process") == true)
            #expect(ContinuousClock.now - start >= .seconds(2))
        }
        try store.add("alice", seed: 1)
    }

    /// DB-07: the directory turning read-only stops writing, not authenticating.
    @Test func openStoreKeepsReadingWhenTheDirectoryTurnsReadOnly() throws {
        let scratch = Scratch()
        let store = try scratch.open()
        try store.add("alice", seed: 1)
        for suffix in ["", "-wal", "-shm"] { chmod(scratch.database + suffix, 0o400) }
        chmod(scratch.path, 0o500)
        defer { chmod(scratch.path, 0o700) }
        try asOrdinaryUser { () throws in
            let refusal = accountError { _ = try scratch.open() }
            #expect(refusal != nil, "the modes should keep a new process out")
            for _ in 0..<100 { #expect(try store.credentialRecord(username: "alice") != nil) }
            #expect(try store.credentialRecord(userhash: DerivedKeys.sample(1).userhash) != nil)
            #expect(try store.changes(since: 0) == .some([Change(kind: .user, name: "alice")], upTo: 1))
        }
    }

    /// Runs `body` without root's privilege to ignore file modes. `setfsuid` concerns the calling thread alone, so
    /// tests beside this one keep theirs.
    private func asOrdinaryUser(_ body: () throws -> Void) throws {
        typealias SetFileSystemUser = @convention(c) (uid_t) -> Int32
        let symbol = try #require(dlsym(nil, "setfsuid"))
        let setFileSystemUser = unsafeBitCast(symbol, to: SetFileSystemUser.self)
        _ = setFileSystemUser(geteuid() == 0 ? 65534 : geteuid())
        defer { _ = setFileSystemUser(geteuid()) }
        try body()
    }

    /// Only derived keys are handed over, so this looks for what a caller could leak by mistake: the removed secret.
    @Test func removedSecretIsOverwrittenInTheDatabase() throws {
        let scratch = Scratch()
        let value = Array("a-secret-to-look-for-\(UInt64.random(in: .min ... .max))".utf8)
        do {
            let store = try scratch.open()
            try store.addSecret(AccountName("web"), value: value)
            try store.removeSecret(AccountName("web"))
        }
        let data = try Data(contentsOf: URL(fileURLWithPath: scratch.database))
        #expect(data.range(of: Data(value)) == nil)
    }
}

extension DatabaseQueue {
    fileprivate func inTransactionHoldingTheWriteLock(_ body: (Database) throws -> Void) throws {
        try writeWithoutTransaction { database in
            try database.inTransaction(.immediate) {
                try body(database)
                return .commit
            }
        }
    }
}
