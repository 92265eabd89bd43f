import Foundation
import Testing

@Suite struct FormatTests {
    @Test func theTreeIsFormattedAndKeepsTheLintRules() throws {
        let lint = try lint(["Sources", "Tests", "Package.swift"], in: Tree.root)
        #expect(lint.status == 0, "\(lint.output)")
        #expect(lint.output.isEmpty, "\(lint.output)")
    }

    /// What the tree's own configuration must refuse, or the test above shows nothing.
    @Test(arguments: [
        "func value(of text: String) -> Int { Int(text)! }\n",
        "func value() -> Int { try! throwing() }\n",
        "struct Holder { var value: Int! }\n",
        "func  value()->Int{1}\n",
        "import Zebra\nimport Ant\n",
    ])
    func theLintRefuses(sample: String) throws {
        let folder = try TemporaryFolder()
        try sample.write(to: folder.url.appending(path: "Sample.swift"), atomically: true, encoding: .utf8)
        let configuration = Tree.root.appending(path: ".swift-format").path
        let lint = try lint(["--configuration", configuration, "Sample.swift"], in: folder.url)
        #expect(lint.status != 0)
    }

    private func lint(_ arguments: [String], in folder: URL) throws -> Subprocess {
        let swift = try #require(
            Subprocess.find("swift"),
            "no swift in PATH nor beside the program that runs the tests"
        )
        return try Subprocess(swift, ["format", "lint", "--strict", "--recursive"] + arguments, in: folder)
    }
}
