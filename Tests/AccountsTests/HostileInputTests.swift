import Accounts
import Foundation
import GRDB
import Testing

/// DB-01: what is typed or sent is data, whatever it looks like. DB-10: what is stored may be damaged.
@Suite struct HostileInputTests {
    @Test func injectionCorpusIsStoredLiterallyOrRefused() throws {
        let scratch = Scratch()
        let store = try scratch.open()
        try store.add("victim", seed: 1_000_000)
        try store.addSecret(AccountName("victim"), value: Array("kept".utf8))
        var expectedNames: Set<[UInt8]> = [Array("victim".utf8)]
        let corpus = injectionCorpus()
        #expect(corpus.count >= 500)

        for (index, text) in corpus.enumerated() {
            // On the wire a username is any text at all.
            #expect(try store.credentialRecord(username: text) == nil)
            #expect(try store.credentialRecord(userhash: Array(text.utf8)) == nil)
            let realm = try (try? Realm(text)) ?? Realm("turnpike")
            guard let name = try? AccountName(text) else { continue }
            try store.addUser(name, realm: realm, keys: .sample(index))
            expectedNames.insert(Array(name.value.utf8))
            let stored = try #require(try store.credentialRecord(username: name.value))
            #expect(Array(stored.name.utf8) == Array(name.value.utf8))
            #expect(Array(stored.realm.utf8) == Array(realm.value.utf8))
            try store.setKeys(.sample(index), realm: realm, of: name)
            try store.setEnabled(false, name)
            try store.addSecret(name, value: Array(text.utf8))
            #expect(try store.allSecrets().contains { $0.value == Array(text.utf8) })
            try store.removeSecret(name)
        }

        let names = Set(try store.users(limit: 10_000).map { Array($0.name.utf8) })
        #expect(names == expectedNames)
        #expect(names.count > 100)
        #expect(try store.credentialRecord(username: "victim")?.keys == .sample(1_000_000))
        #expect(try store.allSecrets().map(\.name) == ["victim"])
        let tables = try scratch.raw().read { database in
            try String.fetchAll(
                database,
                sql: "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
            )
        }
        #expect(Set(tables) == ["users", "secrets", "audit", "changes", "usage", "tokens"])
        try store.integrityCheck()
    }

    @Test(arguments: ["md5_key", "sha256_key"])
    func accountWithAMalformedKeyIsAbsentAndReportedOnce(_ column: String) throws {
        let scratch = Scratch()
        let reports = Reports()
        let store = try scratch.open(report: { reports.append($0) })
        try store.add("alice", seed: 1)
        try store.add("bob", seed: 2)
        for damage in [Data(), Data([1, 2, 3]), Data(repeating: 0, count: 64)] {
            try scratch.raw().writeWithoutTransaction { database in
                try database.execute(sql: "PRAGMA ignore_check_constraints = ON")
                try database.execute(sql: "UPDATE users SET \(column) = ? WHERE name = 'alice'", arguments: [damage])
            }
            #expect(try store.credentialRecord(username: "alice") == nil)
            #expect(try store.credentialRecord(userhash: DerivedKeys.sample(1).userhash) == nil)
            #expect(try store.credentialRecord(username: "bob") != nil)
            #expect(try store.user(AccountName("alice")).state(atSeconds: 0) == .damaged)
        }
        #expect(reports.lines.count == 1)
        #expect(reports.lines.first?.contains("turnpike user passwd alice") == true)
        try store.setKeys(.sample(3), realm: Realm("r"), of: AccountName("alice"))
        #expect(try store.credentialRecord(username: "alice")?.keys == .sample(3))
    }

    @Test func accountInATableWithoutTypesIsAbsentWhateverItHolds() throws {
        let scratch = Scratch()
        try scratch.open().add("seed", seed: 1)
        let columns = "realm, md5_key, sha256_key, userhash, enabled, created_at, expires_at"
        let good = "'r', zeroblob(16), zeroblob(32), zeroblob(32), 1, 0, NULL"
        try scratch.raw().writeWithoutTransaction { database in
            try database.execute(
                sql: """
                    DROP TABLE users;
                    CREATE TABLE users (name, \(columns), max_allocations, max_bps, monthly_bytes);
                    INSERT INTO users VALUES ('null', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
                    INSERT INTO users VALUES ('text', 'r', '0123456789abcdef', 'x', 'x', 'x', 'x', 'x', 'x', 'x', 'x');
                    INSERT INTO users VALUES ('number', 1, 2, 3, 4, 5e300, 6, 7.5, 8, 9.5, 10);
                    INSERT INTO users SELECT 'limit', \(good), 'many', NULL, NULL;
                    INSERT INTO users SELECT 'rate', \(good), NULL, 'many', NULL;
                    INSERT INTO users SELECT 'month', \(good), NULL, NULL, 'many';
                    INSERT INTO users SELECT 'good', \(good), NULL, NULL, NULL;
                    INSERT INTO users (name) VALUES (NULL), (x'FF00FE'), (12);
                    """
            )
        }
        let store = try scratch.open()
        for name in ["null", "text", "number", "limit", "rate", "month"] {
            #expect(try store.credentialRecord(username: name) == nil, "\(name)")
        }
        #expect(try store.credentialRecord(username: "good") != nil)
        #expect(try store.users().count >= 5)
    }

    /// Phrases that have worked against programs that build SQL from strings, in every quoting and with every ending.
    private func injectionCorpus() -> [String] {
        let phrases = [
            "' OR '1'='1", "'; DROP TABLE users; --", "\" OR \"\"=\"", "'; DELETE FROM users; --", "admin'--",
            "' UNION SELECT * FROM secrets --", "');DROP TABLE users;--", "'||(SELECT value FROM secrets)||'",
            "';ATTACH'evil.db'AS'e';--", "'OR'1'='1", "%", "_", "%%", "a%b", "'", "''", "\"", "`", "[x]", "?", "?1",
            ":name", "@name", "$name", "\\", "\\'", "x'00'", "NULL", "null", "0", "-1", "1e999", "0x41",
            "';UPDATE/**/users/**/SET/**/enabled=1;--", "'||load_extension('x')||'", "'||randomblob(1000000000)||'",
            "${IFS}", "$(id)", "`id`", "|id", ";id", "&&id", "../../etc/passwd", "%s%n%x", "\u{0}", "a\u{0}b", "\u{1A}",
            "\u{FF07}OR\u{FF07}1", "\u{2019}OR\u{2019}", "é'--", "'\n--", "'\t--", "'*'", "'=0--+", "'-'",
            "1;SELECT(1)", "WITH", "victim' --",
        ]
        let wrappings: [(String) -> String] = [
            { $0 }, { $0 + ";--" }, { "x" + $0 }, { $0 + "x" }, { "'" + $0 }, { $0 + "'" }, { "(" + $0 + ")" },
            { $0.replacingOccurrences(of: " ", with: "/**/") }, { $0.replacingOccurrences(of: " ", with: "+") },
            { $0.uppercased() + "#" }, { String(repeating: $0, count: 3) },
        ]
        var seen: Set<[UInt8]> = []
        return phrases.flatMap { phrase in wrappings.map { $0(phrase) } }.filter {
            seen.insert(Array($0.utf8)).inserted
        }
    }
}

/// Lines that a store reported.
private final class Reports: @unchecked Sendable {
    private let lock = NSLock()
    private var stored: [String] = []

    var lines: [String] { lock.withLock { stored } }

    func append(_ line: String) {
        lock.withLock { stored.append(line) }
    }
}
