import Foundation
import Testing

@testable import Accounts

struct TokenTests {
    @Test func aTokenIsFoundByItsDigestAloneUntilItIsRevoked() throws {
        let scratch = Scratch()
        let store = try scratch.open()
        try store.addUser(AccountName("alice"), realm: Realm("turnpike"), keys: .sample(1))
        let digest = [UInt8](repeating: 7, count: 32)
        try store.addToken(AccountName("phone"), digest: digest, user: AccountName("alice"), expiresAtSeconds: 100)
        try store.addToken(
            AccountName("ci"),
            digest: [UInt8](repeating: 8, count: 32),
            user: nil,
            expiresAtSeconds: nil
        )
        let found = try #require(try store.token(digest: digest))
        #expect(found.name == "phone" && found.user == "alice")
        #expect(found.isUsable(atSeconds: 99) && !found.isUsable(atSeconds: 100))
        #expect(try store.allTokens().map(\.user) == ["alice", nil])
        try store.revokeToken(AccountName("phone"))
        #expect(try store.token(digest: digest) == nil)
        #expect(accountError { try store.revokeToken(AccountName("phone")) }?.code == .notFound)
    }

    @Test func whatIsNoTokenIsRefused() throws {
        let scratch = Scratch()
        let store = try scratch.open()
        let digest = [UInt8](repeating: 7, count: 32)
        func add(_ name: String, _ digest: [UInt8], user: String? = nil, expires: Int64? = nil) -> AccountError? {
            accountError {
                try store.addToken(
                    AccountName(name),
                    digest: digest,
                    user: user.map { try AccountName($0) },
                    expiresAtSeconds: expires
                )
            }
        }
        #expect(add("a", [1])?.code == .invalidValue)
        #expect(add("a", digest, user: "nobody")?.code == .notFound)
        #expect(add("a", digest, expires: -1)?.code == .invalidValue)
        #expect(add("a", digest) == nil)
        #expect(add("a", [UInt8](repeating: 9, count: 32))?.code == .alreadyExists)
    }

    @Test func limitsOfAUserAreReplacedAndChecked() throws {
        let scratch = Scratch()
        let store = try scratch.open()
        let alice = try AccountName("alice")
        try store.addUser(alice, realm: Realm("turnpike"), keys: .sample(1), maxAllocations: 3)
        try store.setLimits(of: alice) { limits in
            #expect(limits.maxAllocations == 3)
            limits = UserLimits(expiresAtSeconds: 5_000_000_000, maxAllocations: nil, monthlyBytes: 9)
        }
        let user = try store.user(alice)
        #expect(user.maxAllocations == nil && user.monthlyBytes == 9 && user.expiresAtSeconds == 5_000_000_000)
        #expect(
            accountError { try store.setLimits(of: alice) { $0 = UserLimits(maxAllocations: 0) } }?.code
                == .invalidValue
        )
        #expect(accountError { try store.setLimits(of: AccountName("bob")) { _ in } }?.code == .notFound)
        #expect(try store.user(alice).monthlyBytes == 9)
    }
}
