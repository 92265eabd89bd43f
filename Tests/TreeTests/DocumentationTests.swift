import Foundation
import Testing

@Suite struct DocumentationTests {
    static let sources = Tree.files(under: "Sources/TurnpikeClient/", endingIn: ".swift")
    static let examples = Tree.files(under: "Tests/Outside/", endingIn: ".swift").compactMap(\.text)

    // MARK: Symbols

    @Test func everyPublicSymbolHasADocumentationComment() throws {
        var findings: [Finding] = []
        var count = 0
        for file in Self.sources {
            for symbol in PublicSymbol.all(in: try #require(file.text)) {
                count += 1
                guard !symbol.isDocumented else { continue }
                findings.append(
                    Finding(path: file.path, line: symbol.line, problem: "\(symbol.name) has no documentation")
                )
            }
        }
        #expect(count > 150)
        #expect(findings.isEmpty, "\(findings.listing)")
    }

    @Test func aSymbolWithoutACommentIsFoundHoweverItIsWritten() {
        let sample = """
            /// Documented.
            public enum Kind: String {
                /// Documented.
                case one
                case two(Int), three
                @discardableResult
                public static func four() -> Int { switch x { case .one: 1 } }
                case five = "six"
            }
            /// Documented.
            @MainActor
            public final class Seven {
                nonisolated public var eight: Int { 8 }
                public init() {}
                func nine() {}  // public
            }
            enum Inner { case ten }
            """
        let symbols = PublicSymbol.all(in: sample)
        #expect(symbols.filter { !$0.isDocumented }.map(\.name) == ["two", "three", "four", "five", "eight", "init"])
        #expect(symbols.filter(\.isDocumented).map(\.name) == ["Kind", "one", "Seven"])
    }

    @Test func theCatalogueNamesEveryTypeAndNothingThatIsNotThere() throws {
        let symbols = try Self.sources.flatMap { PublicSymbol.all(in: try #require($0.text)) }
        let names = Set(symbols.map(\.name))
        let pages = Tree.files(under: "Sources/TurnpikeClient/TurnpikeClient.docc/", endingIn: ".md")
        #expect(pages.count >= 3)
        var linked: Set<String> = []
        for page in pages {
            for match in try #require(page.text).matches(of: /``([^`\n]+)``/) {
                let parts = match.1.split(separator: "/").map { $0.prefix { $0.isLetter || $0.isNumber } }
                for part in parts where part != "TurnpikeClient" {
                    #expect(names.contains(String(part)), "\(page.path) names \(match.1), which is not there")
                    linked.insert(String(part))
                }
            }
        }
        let types = try Self.sources.flatMap { file in
            try #require(file.text).matches(of: /(?m)^public (?:final )?(?:struct|class|enum|actor) (\w+)/).map {
                String($0.1)
            }
        }
        #expect(types.count > 15)
        #expect(Set(types).subtracting(linked).isEmpty, "the catalogue lacks some")
    }

    // MARK: Examples

    static let pages = [
        "README.md", "docs/client.md", "docs/coming-from-self-streme.md",
        "Sources/TurnpikeClient/TurnpikeClient.docc/GettingStarted.md",
        "Sources/TurnpikeClient/TurnpikeClient.docc/PathsAndRelays.md",
    ]

    @Test(arguments: pages)
    func theExamplesOfAPageAreCompiledAsTheyStandThere(page: String) throws {
        let text = try #require(Tree.files.first { $0.path == page }?.text)
        let blocks = CodeBlocks.fenced("swift", in: text)
        #expect(!blocks.isEmpty)
        for block in blocks {
            let isHeld = Self.examples.contains { CodeBlocks.holds($0, block.code) }
            #expect(isHeld, "\(page):\(block.line): no file of Tests/Outside has these lines")
        }
    }

    @Test func theExamplesOfDocumentationCommentsAreCompiledAsTheyStandThere() throws {
        var count = 0
        for file in Self.sources {
            for block in CodeBlocks.commented(in: try #require(file.text)) {
                count += 1
                let isHeld = Self.examples.contains { CodeBlocks.holds($0, block.code) }
                #expect(isHeld, "\(file.path):\(block.line): no file of Tests/Outside has these lines")
            }
        }
        #expect(count >= 3)
    }

    @Test func anExampleThatDiffersIsFound() {
        let page = "# A\n\n```swift\nimport B\n\nlet c = 1\nprint(c)\n```\n\n```sh\nls\n```\n"
        let blocks = CodeBlocks.fenced("swift", in: page)
        #expect(blocks.count == 1 && blocks[0].line == 3)
        #expect(CodeBlocks.holds("func d() {\n    let c = 1\n\n    print(c)\n}\n", blocks[0].code))
        #expect(!CodeBlocks.holds("func d() {\n    let c = 2\n    print(c)\n}\n", blocks[0].code))
        #expect(!CodeBlocks.holds("let c = 1\nprint()\nprint(c)\n", blocks[0].code))
        let comment = "/// A\n///\n///     let c = 1\n///\n/// B\n///     b\n"
        #expect(CodeBlocks.commented(in: comment).map(\.code) == [["let c = 1"]])
    }

    @Test func theExamplesImportNothingElseOfOurs() throws {
        for file in Tree.files(under: "Tests/Outside/Sources/", endingIn: ".swift") {
            let modules = ImportCheck.imports(of: try #require(file.text)).map(\.module)
            #expect(modules == ["TurnpikeClient"], "\(file.path)")
        }
    }

    // MARK: The original

    @Test func everyRowOfTheComparisonHasTestsThatShowIt() throws {
        let page = try #require(Tree.files.first { $0.path == "docs/coming-from-self-streme.md" }?.text)
        let rows = OriginalRows.keys(of: page)
        #expect(rows.count > 40)
        #expect(Set(rows) == Set(OriginalRows.tests.keys))
        let tests = OriginalRows.folders.flatMap { Tree.files(under: $0, endingIn: ".swift", ".py") }
            .compactMap(\.text).joined()
        for (row, names) in OriginalRows.tests {
            #expect(!names.isEmpty)
            for name in names {
                let isThere = tests.contains("func \(name)(") || tests.contains("def \(name)(")
                #expect(isThere, "\(row): there is no test \(name)")
            }
        }
    }
}
