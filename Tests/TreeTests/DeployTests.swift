import Foundation
import Testing

@Suite struct DeployTests {
    /// Case DEF-25: 2.0 of 10 at most, where a service without any restriction has more than 9.
    @Test func theUnitIsHardened() throws {
        let analysis = try analyse(Tree.root.appending(path: "deploy/turnpike.service"), threshold: 20)
        #expect(analysis.status == 0, "\(analysis.output)")
    }

    @Test func theAnalysisRefusesAUnitWithoutRestrictions() throws {
        let folder = try TemporaryFolder()
        let unit = folder.url.appending(path: "bare.service")
        try "[Service]\nExecStart=/bin/true\n".write(to: unit, atomically: true, encoding: .utf8)
        #expect(try analyse(unit, threshold: 20).status != 0)
    }

    @Test func theUnitRunsAsTheAccountThatSysusersMakes() throws {
        let account = try text("deploy/turnpike.sysusers").lines.first { $0.hasPrefix("u ") }
        let name = try #require(account?.split(separator: " ").dropFirst().first)
        let unit = try text("deploy/turnpike.service").lines
        #expect(unit.contains("User=\(name)"))
        #expect(unit.contains("ExecStart=turnpike serve"))
        #expect(unit.contains("ExecReload=kill -HUP $MAINPID"))
    }

    @Test(arguments: [
        ["--bogus"], ["alice"], ["--user"], ["--user="], ["--user", "-x"], ["--data-dir"], ["--no-serve", "--watch"],
    ])
    func theQuickstartRefusesWhatItDoesNotKnow(arguments: [String]) throws {
        let run = try quickstart(arguments)
        #expect(run.status == 64)
        #expect(run.output.hasPrefix("quickstart: "))
        #expect(run.output.contains("usage: quickstart"))
    }

    @Test func theQuickstartExplainsItself() throws {
        let run = try quickstart(["--help"])
        #expect(run.status == 0)
        for option in ["--user", "--data-dir", "--config", "--no-serve"] { #expect(run.output.contains(option)) }
    }

    /// What it needs is old enough to be wrong: it says where it looked, and changes nothing.
    @Test func theQuickstartSaysWhereItLookedForSwift() throws {
        let folder = try TemporaryFolder()
        let swift = folder.url.appending(path: "swift")
        try "#!/bin/sh\necho 'Swift version 5.9 (swift-5.9-RELEASE)'\n"
            .write(to: swift, atomically: true, encoding: .utf8)
        try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: swift.path)
        let run = try quickstart(
            ["--no-serve", "--data-dir", folder.url.appending(path: "data").path],
            environment: ["HOME": folder.url.path, "PATH": "\(folder.url.path):/usr/bin:/bin"]
        )
        #expect(run.status == 1)
        for place in ["/usr/local/bin", "/opt/swift", ".local/share/swiftly/bin", "swift.org/install", "is 5.9"] {
            #expect(run.output.contains(place), "\(run.output)")
        }
        #expect(!FileManager.default.fileExists(atPath: folder.url.appending(path: "data").path))
    }

    private func analyse(_ unit: URL, threshold: Int) throws -> Subprocess {
        let program = try #require(
            Subprocess.find("systemd-analyze"),
            "no systemd-analyze in PATH; run: apt-get install systemd"
        )
        let arguments = ["security", "--offline=true", "--no-pager", "--threshold=\(threshold)", unit.path]
        return try Subprocess(program, arguments)
    }

    private func quickstart(_ arguments: [String], environment: [String: String]? = nil) throws -> Subprocess {
        let script = Tree.root.appending(path: "deploy/quickstart").path
        return try Subprocess(script, arguments, environment: environment)
    }

    private func text(_ path: String) throws -> String {
        try String(contentsOf: Tree.root.appending(path: path), encoding: .utf8)
    }
}
