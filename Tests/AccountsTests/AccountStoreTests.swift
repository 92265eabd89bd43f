import Accounts
import Foundation
import GRDB
import Testing

@Suite struct AccountStoreTests {
    @Test func addedUserIsFoundByNameAndByUserhash() throws {
        let scratch = Scratch()
        let store = try scratch.open()
        try store.addUser(
            AccountName("alice"),
            realm: Realm("example.org"),
            keys: .sample(7),
            expiresAtSeconds: 1_800_000_000,
            maxAllocations: 3
        )

        let record = try #require(try store.credentialRecord(username: "alice"))
        #expect(record.keys == .sample(7))
        #expect(record.realm == "example.org")
        #expect(record.maxAllocations == 3)
        #expect(record.isUsable(atSeconds: 1_799_999_999))
        #expect(!record.isUsable(atSeconds: 1_800_000_000))
        #expect(try store.credentialRecord(userhash: record.keys.userhash) == record)
        #expect(try store.credentialRecord(username: "Alice") == nil)
        #expect(try store.credentialRecord(userhash: [1, 2, 3]) == nil)

        let user = try store.user(AccountName("alice"))
        #expect(user.createdAtSeconds == 1_700_000_000)
        #expect(user.state(atSeconds: 1_700_000_000) == .active)
        #expect(user.state(atSeconds: 1_900_000_000) == .expired)
    }

    @Test func secondUserOfTheSameNameIsRefusedAndTheFirstStays() throws {
        let scratch = Scratch()
        let store = try scratch.open()
        try store.add("alice", seed: 1)
        let error = accountError { try store.add("alice", seed: 2) }
        #expect(error?.code == .alreadyExists)
        #expect(try store.credentialRecord(username: "alice")?.keys == .sample(1))
    }

    @Test func disabledUserIsUnusableUntilEnabled() throws {
        let scratch = Scratch()
        let store = try scratch.open()
        try store.add("alice", seed: 1)
        try store.setEnabled(false, AccountName("alice"))
        #expect(try store.credentialRecord(username: "alice")?.isUsable(atSeconds: 0) == false)
        #expect(try store.user(AccountName("alice")).state(atSeconds: 0) == .disabled)
        try store.setEnabled(true, AccountName("alice"))
        #expect(try store.credentialRecord(username: "alice")?.isUsable(atSeconds: 0) == true)
    }

    @Test func newKeysReplaceTheOldAndTheirUserhash() throws {
        let scratch = Scratch()
        let store = try scratch.open()
        try store.add("alice", seed: 1)
        try store.setKeys(.sample(2), realm: Realm("other"), of: AccountName("alice"))
        #expect(try store.credentialRecord(userhash: DerivedKeys.sample(1).userhash) == nil)
        #expect(try store.credentialRecord(userhash: DerivedKeys.sample(2).userhash)?.realm == "other")
    }

    @Test func changingAUserThatIsNotThereSaysSo() throws {
        let scratch = Scratch()
        let store = try scratch.open()
        let name = try AccountName("nobody")
        #expect(accountError { try store.removeUser(name) }?.code == .notFound)
        #expect(accountError { try store.setEnabled(true, name) }?.code == .notFound)
        #expect(accountError { _ = try store.user(name) }?.code == .notFound)
        #expect(accountError { try store.setKeys(.sample(1), realm: Realm("r"), of: name) }?.code == .notFound)
        #expect(accountError { try store.removeSecret(name) }?.code == .notFound)
        #expect(try store.changeSequence() == 0)
    }

    @Test func usersAreListedInPagesByName() throws {
        let scratch = Scratch()
        let store = try scratch.open()
        for (index, name) in ["carol", "alice", "bob"].enumerated() { try store.add(name, seed: index) }
        #expect(try store.users(limit: 2).map(\.name) == ["alice", "bob"])
        #expect(try store.users(after: "bob", limit: 2).map(\.name) == ["carol"])
    }

    @Test func keysOfTheWrongLengthAreRefusedWhenWritten() throws {
        let scratch = Scratch()
        let store = try scratch.open()
        let keys = DerivedKeys(md5Key: [1], sha256Key: [], userhash: [])
        let error = accountError { try store.addUser(AccountName("alice"), realm: Realm("r"), keys: keys) }
        #expect(error?.code == .invalidValue)
        #expect(try store.users().isEmpty)
    }

    @Test func limitsOutOfRangeAreRefused() throws {
        let scratch = Scratch()
        let store = try scratch.open()
        for count in [0, -1, AccountLimits.allocationsPerUserMax + 1] {
            let error = accountError {
                try store.addUser(AccountName("a"), realm: Realm("r"), keys: .sample(1), maxAllocations: count)
            }
            #expect(error?.code == .invalidValue)
        }
        let error = accountError {
            try store.addUser(AccountName("a"), realm: Realm("r"), keys: .sample(1), expiresAtSeconds: .max)
        }
        #expect(error?.code == .invalidValue)
    }

    @Test func secretsAreKeptAsGivenAndRemoved() throws {
        let scratch = Scratch()
        let store = try scratch.open()
        try store.addSecret(AccountName("web"), value: Array("north\u{0}star".utf8))
        #expect(try store.allSecrets().map(\.value) == [Array("north\u{0}star".utf8)])
        #expect(accountError { try store.addSecret(AccountName("web"), value: [1]) }?.code == .alreadyExists)
        #expect(accountError { try store.addSecret(AccountName("empty"), value: []) }?.code == .invalidValue)
        try store.removeSecret(AccountName("web"))
        #expect(try store.allSecrets().isEmpty)
    }

    @Test func thereAreAtMostSoManySecrets() throws {
        let scratch = Scratch()
        let store = try scratch.open()
        for index in 0..<AccountLimits.secretsMax { try store.addSecret(AccountName("s\(index)"), value: [1]) }
        #expect(accountError { try store.addSecret(AccountName("one-more"), value: [1]) }?.code == .invalidValue)
        #expect(try store.allSecrets().count == AccountLimits.secretsMax)
    }

    @Test func everyChangeIsAuditedWithItsActor() throws {
        let scratch = Scratch()
        let store = try scratch.open()
        try store.add("alice", seed: 1)
        try store.setEnabled(false, AccountName("alice"))
        try store.removeUser(AccountName("alice"))
        let rows = try scratch.raw().read { database in
            try Row.fetchAll(database, sql: "SELECT at, actor, action, subject FROM audit ORDER BY id")
        }
        #expect(rows.map { $0["action"] as String } == ["add user", "disable user", "remove user"])
        #expect(rows.allSatisfy { $0["actor"] == "test" && $0["subject"] == "alice" && $0["at"] == 1_700_000_000 })
    }

    @Test func readOnlyStoreReadsAndRefusesToWrite() throws {
        let scratch = Scratch()
        try scratch.open().add("alice", seed: 1)
        let store = try scratch.open(.readOnly)
        #expect(try store.credentialRecord(username: "alice") != nil)
        let error = accountError { try store.add("bob", seed: 2) }
        #expect(error?.code == .readOnly)
    }
}
