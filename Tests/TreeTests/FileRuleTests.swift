import Foundation
import Testing

@Suite struct FileRuleTests {
    static let texts = Tree.files.compactMap { file in file.text.map { (file: file, text: $0) } }

    @Test func scriptsAndOnlyScriptsHaveTheRunBit() {
        let findings = Self.texts.flatMap { file, text in
            ScriptRule.findings(path: file.path, start: String(text.prefix(2)), isExecutable: file.isExecutable)
        }
        #expect(findings.isEmpty, "\(findings.listing)")
    }

    @Test func aScriptWithoutTheRunBitIsFound() {
        #expect(!ScriptRule.findings(path: "a", start: "#!/bin/sh", isExecutable: false).isEmpty)
        #expect(!ScriptRule.findings(path: "a", start: "hello", isExecutable: true).isEmpty)
        #expect(ScriptRule.findings(path: "a", start: "#!/bin/sh", isExecutable: true).isEmpty)
    }

    @Test func noFileNamesTheMachineItWasWrittenOn() {
        let findings = Self.texts.filter { !$0.file.path.hasPrefix("Tests/TreeTests/") }.flatMap { file, text in
            MachinePathRule.findings(path: file.path, text: text)
        }
        #expect(findings.isEmpty, "\(findings.listing)")
    }

    @Test(arguments: ["cd /home/alice/turnpike", "path = \"/Users/bob\"", "see (/mnt/disk)"])
    func aPathOfOneMachineIsFound(line: String) {
        #expect(MachinePathRule.findings(path: "a", text: line).count == 1)
    }

    @Test(arguments: ["a/home/page", "https://example.org/mnt/x", "/etc/turnpike", "the /home"])
    func aPathOfEveryMachineIsNone(line: String) {
        #expect(MachinePathRule.findings(path: "a", text: line).isEmpty)
    }

    @Test func textsEndTheirLinesAsTheEditorConfigurationSays() {
        let findings = Self.texts.flatMap { WhitespaceRule.findings(path: $0.file.path, text: $0.text) }
        #expect(findings.isEmpty, "\(findings.listing)")
    }

    @Test(arguments: ["a \n", "a\t\n", "a\r\n", "a", "a\n\n"])
    func aLineThatEndsBadlyIsFound(text: String) {
        #expect(!WhitespaceRule.findings(path: "a", text: text).isEmpty)
    }

    @Test func noLineOfSwiftOrPythonIsTooLong() {
        let sources = Self.texts.filter { file, _ in
            file.path.hasSuffix(".swift") || file.path.hasSuffix(".py")
                || (file.path.hasPrefix("Sources/") && (file.path.hasSuffix(".c") || file.path.hasSuffix(".h")))
        }
        let findings = sources.flatMap { LineLengthRule.findings(path: $0.file.path, text: $0.text) }
        #expect(findings.isEmpty, "\(findings.listing)")
    }

    @Test func aLineThatIsTooLongIsFound() {
        let text = String(repeating: "ä", count: 120) + "\n" + String(repeating: "a", count: 121) + "\n"
        #expect(LineLengthRule.findings(path: "a", text: text).map(\.line) == [2])
    }

    @Test func everyRelativeLinkOfThePagesLeadsSomewhere() {
        let paths = Set(Tree.files.map(\.path))
        let pages = Self.texts.filter { $0.file.path.hasSuffix(".md") }
        #expect(pages.count >= 4)
        let findings = pages.flatMap { file, text in
            LinkRule.findings(path: file.path, text: text) { target in
                paths.contains(target) || paths.contains { $0.hasPrefix(target + "/") }
            }
        }
        #expect(findings.isEmpty, "\(findings.listing)")
    }

    @Test func aLinkThatLeadsNowhereIsFound() {
        let text = "[a](b.md) [c](../d.md#part)\n[e](https://example.org) [f](#here) [g](gone.md)\n"
        let findings = LinkRule.findings(path: "docs/x.md", text: text) { ["docs/b.md", "d.md"].contains($0) }
        #expect(findings.map(\.line) == [2])
    }

    @Test func theClientHasTheServersVersion() throws {
        let versions = try ["Sources/Server/", "Sources/TurnpikeClient/Core/"].map { folder in
            let text = try #require(Tree.files(under: folder, endingIn: "/Version.swift").first?.text)
            return try #require(text.firstMatch(of: /static let current = "([0-9.]+)"/)).1
        }
        #expect(versions[0] == versions[1])
    }
}
