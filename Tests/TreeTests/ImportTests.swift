import Foundation
import Testing

@Suite struct ImportTests {
    @Test func everyTargetImportsOnlyWhatTheTableAllows() throws {
        var findings: [Finding] = []
        for file in Tree.files(under: "Sources/", endingIn: ".swift") {
            let target = String(file.path.split(separator: "/")[1])
            let source = try #require(file.text)
            findings += ImportCheck.violations(
                path: file.path,
                source: source,
                target: target,
                table: ImportTable.allowed
            )
        }
        #expect(findings.isEmpty, "\(findings.listing)")
    }

    @Test func everyTargetOnDiskIsInTheTableAndTheOtherWayRound() {
        let onDisk = Set(Tree.files(under: "Sources/", endingIn: "").map { $0.path.split(separator: "/")[1] })
        #expect(Set(onDisk.map(String.init)) == Set(ImportTable.allowed.keys))
    }

    @Test(arguments: ImportTable.allowed.keys.sorted())
    func noTargetIsEmpty(target: String) throws {
        let sources = Tree.files(under: "Sources/\(target)/", endingIn: ".swift", ".c", ".h", ".modulemap")
        let lines = try sources.reduce(0) { total, file in
            let text = try #require(file.text).blanked
            return total + text.lines.count { !$0.allSatisfy(\.isWhitespace) }
        }
        #expect(lines > 0, "Sources/\(target) holds no code")
    }

    @Test func theManifestNamesTheTargetsOfTheTable() throws {
        let manifest = try manifest()
        #expect(Set(manifest.targets.keys) == Set(ImportTable.allowed.keys))
        let files = Tree.files(under: "Tests/", endingIn: ".swift", ".h")
        let folders = Set(files.map { String($0.path.split(separator: "/")[1]) })
        #expect(Set(manifest.testTargets.keys) == folders)
    }

    @Test(arguments: ImportTable.allowed.keys.sorted())
    func theManifestAllowsATargetNothingBeyondTheTable(target: String) throws {
        let dependencies = try #require(manifest().targets[target])
        let allowed = try #require(ImportTable.allowed[target])
        #expect(dependencies.subtracting(allowed).isEmpty)
    }

    /// A dependency that no file imports is dead; an import that the manifest lacks builds by luck of the order.
    @Test(arguments: ImportTable.allowed.keys.sorted())
    func theManifestNamesExactlyWhatATargetImports(target: String) throws {
        let sources = Tree.files(under: "Sources/\(target)/", endingIn: ".swift")
        let imported = try sources.reduce(into: Set<String>()) { modules, file in
            modules.formUnion(ImportCheck.imports(of: try #require(file.text)).map(\.module))
        }
        let dependencies = try #require(manifest().targets[target])
        #expect(dependencies == imported.subtracting(ImportTable.toolchain))
    }

    @Test func theArchitecturePageHasARowForEveryTarget() throws {
        let page = try #require(Tree.files(under: "docs/", endingIn: "architecture.md").first?.text)
        for target in ImportTable.allowed.keys.sorted() {
            #expect(page.contains("\n| `\(target)`"), "docs/architecture.md has no row for \(target)")
        }
    }

    @Test(arguments: ["turnpike", "turnpike-peer"])
    func theExecutableOnlyStartsItsLibrary(target: String) throws {
        let lines = try Tree.files(under: "Sources/\(target)/", endingIn: ".swift").reduce(0) {
            $0 + (try #require($1.text)).lines.count
        }
        #expect(lines < 30)
    }

    @Test(arguments: [
        "import Foundation", "package import Foundation", "@preconcurrency import Foundation",
        "@_exported public import struct Foundation.Data", "  internal import class Foundation.Process",
    ])
    func theCheckSeesAnImportHoweverItIsWritten(line: String) {
        let source = "import STUN\n\(line)\n"
        #expect(ImportCheck.imports(of: source).map(\.module) == ["STUN", "Foundation"])
        let findings = ImportCheck.violations(
            path: "a.swift",
            source: source,
            target: "TURN",
            table: ImportTable.allowed
        )
        #expect(findings.map(\.line) == [2])
    }

    @Test func theCheckIgnoresCommentsAndText() {
        let source = "// import Foundation\nlet text = \"\"\"\n    import Foundation\n    \"\"\"\nimport STUN\n"
        #expect(ImportCheck.imports(of: source) == [Import(module: "STUN", line: 5)])
    }

    @Test func theManifestIsReadWithItsProducts() {
        let sample = """
            .package(url: "https://example.org/x", from: "1.0.0"),
            // .target(name: "Gone"),
            .target(name: "A", cSettings: [.define("X")]),
            .target(
                name: "B", dependencies: ["A", .product(name: "P", package: "p"), "C"], swiftSettings: settings),
            .systemLibrary(name: "S", pkgConfig: "libs", providers: [.apt(["libs-dev"])]),
            .testTarget(name: "BTests", dependencies: ["B"]),
            """
        let manifest = Manifest(sample)
        #expect(manifest.targets == ["A": [], "B": ["A", "P", "C"], "S": []])
        #expect(manifest.testTargets == ["BTests": ["B"]])
    }

    private func manifest() throws -> Manifest {
        Manifest(try String(contentsOf: Tree.root.appending(path: "Package.swift"), encoding: .utf8))
    }
}
