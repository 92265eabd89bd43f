import Foundation
import Testing

@Suite struct CommandLineTests {
    private static let bench = ["bench", "--server", "turn:192.0.2.1:3478"]
    private static let environment = ["TURN_USERNAME": "alice", "TURN_PASSWORD": "secret"]

    @Test func helpNamesWhatThereIs() async {
        let help = await run(["--help"])
        #expect(help.status == 0 && help.messages.isEmpty)
        #expect(help.output.contains("netcheck") && help.output.contains("bench"))
        let version = await run(["--version"])
        #expect(version.status == 0 && version.output.hasPrefix("turnpike-peer "))
    }

    @Test func anUnknownOptionIsOneLineAndStatus64() async {
        let outcome = await run(["netcheck", "--jsn"])
        #expect(outcome.status == 64 && outcome.output.isEmpty)
        #expect(outcome.messages.hasPrefix("turnpike-peer: unknown option '--jsn'"), "\(outcome.messages)")
        #expect(outcome.messages.hasSuffix("see turnpike-peer netcheck --help\n"), "\(outcome.messages)")
    }

    @Test(arguments: [
        (["lisen"], "listen"), (["lisen", "--id", "x"], "listen"), (["pnig", "bob"], "ping"),
        (["conect", "bob"], "connect"), (["netchek"], "netcheck"), (["fowrard"], "forward"),
    ])
    func aMistypedSubcommandIsToldWhatWasMeant(_ arguments: [String], _ meant: String) async {
        let outcome = await run(arguments)
        #expect(outcome.status == 64 && outcome.output.isEmpty)
        #expect(
            outcome.messages
                == "turnpike-peer: there is no subcommand '\(arguments[0])'; did you mean turnpike-peer \(meant)?\n"
        )
    }

    @Test func aWordLikeNoSubcommandIsToldWhereTheyAreListed() async {
        let outcome = await run(["frobnicate"])
        #expect(outcome.status == 64)
        #expect(
            outcome.messages == "turnpike-peer: there is no subcommand 'frobnicate'; see turnpike-peer --help\n"
        )
        // What stands behind a subcommand is that one's own.
        #expect(await run(["connect", "a", "b"]).messages.contains("connect --help"))
    }

    @Test(arguments: [
        ["connect", "bob"], ["ping", "bob"], ["listen"], ["forward", "--listen", "1", "--to", "bob:2"],
    ])
    func aFailureIsAnEventWhereJSONIsAskedFor(_ arguments: [String]) async throws {
        let outcome = await run(arguments + ["--json"])
        #expect(outcome.status == 78)
        // A ping writes nothing else to standard output.
        let (told, other) =
            arguments[0] == "ping" ? (outcome.output, outcome.messages) : (outcome.messages, outcome.output)
        #expect(other.isEmpty)
        let line = try #require(told.split(separator: "\n").first)
        #expect(told == "\(line)\n")
        let event = try #require(try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any])
        #expect(event["event"] as? String == "error" && event["status"] as? Int == 78)
        #expect((event["message"] as? String)?.contains("set SIGNALING_SERVER") == true)
        #expect((event["timeMilliseconds"] as? Int ?? 0) > 1_700_000_000_000)
        #expect(Set(event.keys) == ["event", "message", "status", "timeMilliseconds"])
    }

    @Test func netcheckWithoutServersSaysWhatToSet() async {
        let outcome = await run(["netcheck"])
        #expect(outcome.status == 78 && outcome.output.isEmpty)
        #expect(outcome.messages.contains("STUN_SERVERS"), "\(outcome.messages)")
    }

    @Test func netcheckNamesWhatItCannotRead() async {
        let outcome = await run(["netcheck"], environment: ["STUN_SERVERS": "http://a"])
        #expect(
            outcome.status == 78 && outcome.messages.contains("turnpike-peer: STUN_SERVERS: "),
            "\(outcome.messages)"
        )
    }

    @Test(arguments: ["connect", "ping"])
    func aPathIsWithOrWithoutARelay(_ command: String) async {
        let outcome = await run([command, "bob", "--require-direct", "--require-relay"])
        #expect(outcome.status == 64 && outcome.output.isEmpty)
        #expect(outcome.messages.contains("exclude each other"), "\(outcome.messages)")
    }

    @Test(arguments: [
        (["--connections", "3"], "pairs"), (["--rate", "0"], "--rate 0"), (["--size", "9000"], "--size 9000"),
        (["--duration", "1h"], "--duration 1h"), (["--rate", "5", "--search"], "exclude each other"),
        (["--transport", "sctp"], "sctp"), (["--password", "x"], "--password"),
        (["--password-stdin", "--password-file", "x"], "exclude each other"),
    ])
    func benchRefusesWhatMakesNoSense(_ arguments: [String], _ words: String) async {
        let outcome = await run(Self.bench + arguments, environment: Self.environment)
        #expect(outcome.status == 64 && outcome.output.isEmpty)
        #expect(outcome.messages.contains(words), "\(outcome.messages)")
    }

    @Test func benchWantsACredential() async {
        let nobody = await run(Self.bench)
        #expect(nobody.status == 64 && nobody.messages.contains("TURN_USERNAME"), "\(nobody.messages)")
        let noPassword = await run(Self.bench + ["--username", "alice"])
        #expect(noPassword.status == 64 && noPassword.messages.contains("--password-stdin"), "\(noPassword.messages)")
        let noFile = await run(Self.bench + ["--username", "alice", "--password-file", "nowhere"])
        #expect(noFile.status == 64 && noFile.messages.contains("nowhere cannot be read"), "\(noFile.messages)")
        let noInput = await run(Self.bench + ["--username", "alice", "--password-stdin"])
        #expect(noInput.status == 64 && noInput.messages.contains("no first line"), "\(noInput.messages)")
    }

    @Test func benchReadsNoCertificateThatItCannotRead() async {
        let environment = Self.environment.merging(["TURNPIKE_CERT_FINGERPRINT": "sha256:12"]) { $1 }
        let outcome = await run(Self.bench, environment: environment)
        #expect(outcome.status == 78 && outcome.messages.contains("TURNPIKE_CERT_FINGERPRINT"), "\(outcome.messages)")
    }
}
