import Accounts
import Foundation
import GRDB

/// A directory of its own for each test, removed when the test is over.
final class Scratch {
    let path: String

    init() {
        path = NSTemporaryDirectory() + "accounts-tests-" + UUID().uuidString
    }

    deinit {
        try? FileManager.default.removeItem(atPath: path)
    }

    var database: String { path + "/turnpike.sqlite3" }

    func open(
        _ mode: AccountStore.Mode = .readWrite,
        report: @escaping @Sendable (String) -> Void = { _ in }
    ) throws -> AccountStore {
        try AccountStore(
            dataDirectory: path,
            mode: mode,
            createIfMissing: true,
            actor: "test",
            clock: { 1_700_000_000 },
            report: report
        )
    }

    /// A connection that knows nothing of the store's rules, as an administrator with sqlite3 has.
    func raw() throws -> DatabaseQueue {
        try DatabaseQueue(path: database)
    }

    func permissions(_ path: String) throws -> Int {
        let value = try FileManager.default.attributesOfItem(atPath: path)[.posixPermissions]
        return (value as? NSNumber)?.intValue ?? -1
    }
}

extension DerivedKeys {
    /// Keys that differ by `seed`; nothing in this module looks into them.
    static func sample(_ seed: Int) -> DerivedKeys {
        let bytes = (0..<8).map { UInt8(truncatingIfNeeded: seed >> ($0 * 8)) }
        return DerivedKeys(
            md5Key: bytes + [UInt8](repeating: 1, count: 8),
            sha256Key: bytes + [UInt8](repeating: 2, count: 24),
            userhash: bytes + [UInt8](repeating: 3, count: 24)
        )
    }
}

extension AccountStore {
    func add(_ name: String, seed: Int) throws {
        try addUser(AccountName(name), realm: Realm("turnpike"), keys: .sample(seed))
    }
}

/// Catches what `body` throws, so that a test can look at the code and the message.
func accountError(_ body: () throws -> Void) -> AccountError? {
    do {
        try body()
        return nil
    } catch {
        return error as? AccountError
    }
}
