import Commands
import Foundation
import Testing

/// Commands that need a running server, where there is none, or something else in its place. With a real one:
/// Tests/Interop/test_cli_admin.py.
@Suite struct RunningServerCommandTests {
    static let commands = [
        ["status"], ["session", "list"], ["session", "kill", "t0-1-1"], ["top"], ["drain"], ["reload"], ["healthcheck"],
    ]

    @Test(arguments: commands)
    func withoutAServerTheyNameTheSocketAndTheMend(_ arguments: [String]) async {
        let installation = Installation()
        let outcome = await installation.run(arguments + ["--data-dir", installation.path])
        #expect(outcome.status == 1 && outcome.output.isEmpty)
        #expect(
            outcome.messages == "turnpike: no server answers at \(installation.path)/admin.sock; start it with: "
                + "turnpike serve --data-dir \(installation.path)\n"
        )
        #expect(
            !FileManager.default.fileExists(atPath: installation.path),
            "a command that only asks has made something"
        )
    }

    @Test(arguments: commands)
    func wrongConfigurationIsStatus78(_ arguments: [String]) async {
        let installation = Installation()
        installation.environment["TURNPIKE_REALM"] = String(repeating: "x", count: 200)
        #expect(await installation.run(arguments).status == 78)
    }

    @Test(arguments: [
        ["session"], ["session", "kill"], ["session", "kill", ""], ["session", "list", "--limit", "0"],
        ["session", "list", "--limit", "x"], ["status", "--format", "env"], ["drain", "--timeout", "soon"],
        ["drain", "--timeout", "2d"], ["drain", "--timeout", "0s"], ["top", "--format", "json"], ["reload", "now"],
    ])
    func mistakesInArgumentsAreStatus64(_ arguments: [String]) async {
        let installation = Installation()
        let outcome = await installation.run(arguments)
        // A noun without a verb is answered with its help.
        #expect(outcome.status == (arguments == ["session"] ? 0 : 64), "\(outcome.messages)")
        if outcome.status == 64 { #expect(outcome.messageLines.count == 1 && outcome.output.isEmpty) }
    }

    @Test func pathThatNoSocketCanHaveIsSaid() async {
        let installation = Installation()
        installation.environment["TURNPIKE_ADMIN_SOCKET"] = "/tmp/" + String(repeating: "x", count: 200)
        let outcome = await installation.run("status")
        #expect(outcome.status == 1 && outcome.messages.contains("admin.socket"))
    }

    /// What answers need not be our server: nothing of it may be believed, none of it may crash the command.
    @Test(arguments: [
        "", "x", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}",
        "HTTP/1.1 99999999999999999999 OK\r\n\r\n{}", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        "HTTP/1.1 500 No\r\nContent-Length: 22\r\n\r\n{\"detail\":\"\\u001b[2J\"}  ", "SSH-2.0-x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
    ])
    func strangeAnswersAreOneLineAndStatus1(_ answer: String) async throws {
        let installation = Installation()
        let server = try Impostor(answer)
        installation.environment["TURNPIKE_ADMIN_SOCKET"] = server.path
        for arguments in [["status"], ["healthcheck"]] {
            let outcome = await installation.run(arguments)
            #expect(outcome.status == 1 && outcome.output.isEmpty)
            #expect(outcome.messageLines.count == 1 && !outcome.messages.contains("\u{1B}"), "\(outcome.messages)")
        }
    }
}

/// Answers every connection with the same text.
private final class Impostor {
    let path = "/tmp/impostor-" + UUID().uuidString
    private let descriptor: Int32

    init(_ answer: String) throws {
        descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: Array(path.utf8)) }
        let status = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        try #require(status == 0 && listen(descriptor, 4) == 0)
        let (listener, bytes) = (descriptor, Array(answer.utf8))
        Thread.detachNewThread {
            while true {
                let client = accept(listener, nil, nil)
                guard client >= 0 else { return }
                var buffer = [UInt8](repeating: 0, count: 1_024)
                _ = recv(client, &buffer, buffer.count, 0)
                _ = send(client, bytes, bytes.count, Int32(MSG_NOSIGNAL))
                close(client)
            }
        }
    }

    deinit {
        shutdown(descriptor, Int32(SHUT_RDWR))
        close(descriptor)
        unlink(path)
    }
}
