import Foundation
import Testing

@Suite struct SourceRuleTests {
    static let sources = Tree.files(under: "Sources/", endingIn: ".swift", ".c", ".h").map { file in
        (path: file.path, text: file.text ?? "", blanked: (file.text ?? "").blanked)
    }

    @Test func thereAreSourcesToCheck() {
        #expect(Self.sources.count > 50)
        #expect(Self.sources.allSatisfy { !$0.text.isEmpty })
    }

    @Test(arguments: SourceRule.all)
    func noSourceUses(rule: SourceRule) {
        let findings = Self.sources.flatMap { rule.findings(path: $0.path, blankedSource: $0.blanked) }
        #expect(findings.isEmpty, "\(findings.listing)")
    }

    @Test(arguments: SourceRule.all)
    func theRuleFindsItsConstructInCodeAlone(rule: SourceRule) {
        let sample = """
            // \(rule.construct) in a comment
            let text = "\(rule.construct)"
            let more = x\(rule.construct)
            \(rule.construct) thing
            """
        #expect(rule.findings(path: "a.swift", blankedSource: sample.blanked).map(\.line) == [4])
    }

    @Test func everyEscapeFromTheConcurrencyChecksSaysWhy() {
        let findings = Self.sources.flatMap { UncheckedConcurrency.findings(path: $0.path, source: $0.text) }
        #expect(findings.isEmpty, "\(findings.listing)")
    }

    @Test(arguments: UncheckedConcurrency.constructs)
    func anEscapeWithoutAReasonIsFound(construct: String) {
        let bare = "\n\n\n\n\(construct) let a = 1\n\n\n\n// far away\n"
        #expect(UncheckedConcurrency.findings(path: "a", source: bare).map(\.line) == [5])
        let explained = "\n// One thread owns it.\n\(construct) let a = 1\n"
        #expect(UncheckedConcurrency.findings(path: "a", source: explained).isEmpty)
    }

    /// Case AU-21.
    @Test func au21NoSecretIsComparedByEquals() {
        let findings = Self.sources.flatMap { SecretComparison.findings(path: $0.path, blankedSource: $0.blanked) }
        #expect(findings.isEmpty, "\(findings.listing)")
    }

    @Test(arguments: [
        "if mac == expected {", "guard expected != message.hmac else {", "if a.tokens[0].token == given {",
        "return password == other", "if first == storedKey {", "if MD5_KEY != b {", "a.secret.elementsEqual(b)",
        "if digest! == x {",
    ])
    func au21AComparisonOfSecretsIsFound(line: String) {
        #expect(SecretComparison.findings(path: "a", blankedSource: line).count == 1)
    }

    @Test(arguments: [
        "if token == nil {", "token == 0", "key.count == 16", "if mode == .key {", "monkey == donkey",
        "if keyCount == other", "guard hash == .sha1", "let key = other", "if secret != \"\" {", "keys == []",
    ])
    func au21AQuestionAboutPresenceOrSizeIsNone(line: String) {
        #expect(SecretComparison.findings(path: "a", blankedSource: line).isEmpty)
    }

    @Test(arguments: SecretComparison.harmless.keys.sorted())
    func everyHarmlessNameIsInUse(name: String) {
        #expect(Self.sources.contains { !Search.words(name, in: $0.blanked).isEmpty })
    }

    /// Case DB-01.
    @Test func db01EveryStatementIsALiteral() {
        let accounts = Self.sources.filter { $0.path.hasPrefix("Sources/Accounts/") }
        #expect(accounts.contains { $0.text.contains("sql:") })
        let findings = accounts.flatMap { BuiltStatement.findings(path: $0.path, source: $0.text) }
        #expect(findings.isEmpty, "\(findings.listing)")
    }

    @Test(arguments: BuiltStatement.constants.keys.sorted())
    func everyListedStatementIsInUse(constant: String) {
        #expect(Self.sources.contains { $0.path.hasPrefix("Sources/Accounts/") && $0.text.contains(constant) })
    }

    @Test(arguments: [
        #"execute(sql: "DELETE FROM users WHERE name = '\(name)'")"#,
        "execute(\n    sql: \"\"\"\n        SELECT \\(column)\n        \"\"\")",
        #"execute(sql: "DELETE FROM users WHERE name = '" + name + "'")"#,
        "execute(sql: statement)",
        #"let statement = "DROP TABLE \(name)""#,
    ])
    func db01AStatementThatIsBuiltIsFound(sample: String) {
        #expect(!BuiltStatement.findings(path: "a", source: sample).isEmpty)
    }

    @Test func db01AStatementWithBoundValuesIsRight() {
        let sample = #"execute(sql: "SELECT * FROM users WHERE name = ?", arguments: [name]); print("\(name)")"#
        #expect(BuiltStatement.findings(path: "a", source: sample).isEmpty)
    }

    @Test func noSourceOrTestIsLongerThanItsLimit() {
        let files = Tree.files(under: "Sources/", endingIn: ".swift", ".c", ".h")
        let tests = Tree.files(under: "Tests/", endingIn: ".swift")
        let lengths = (files + tests).map { ($0.path, ($0.text ?? "").lines.count - 1) }
        let findings = FileLength.findings(
            Dictionary(uniqueKeysWithValues: lengths),
            reasons: FileLength.reasons
        )
        #expect(findings.isEmpty, "\(findings.listing)")
    }

    @Test func aLongFileAndAnIdleReasonAreFound() {
        let findings = FileLength.findings(
            ["a.swift": 401, "b.swift": 400, "c.swift": 900, "d.swift": 10],
            reasons: ["c.swift": "one table", "d.swift": "was long", "gone.swift": "was long"]
        )
        #expect(Set(findings.map(\.path)) == ["a.swift", "d.swift", "gone.swift"])
    }
}
