import ArgumentParser
import Foundation
import TurnpikeClient

struct NetcheckCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "netcheck",
        abstract: "Say what this network does to connections: its NAT, and which servers are reached how.",
        discussion: """
            It asks the servers of STUN_SERVERS, TURN_SERVERS (or TURN_SERVER) and SIGNALING_SERVER with TURN_USERNAME \
            and TURN_PASSWORD, and trusts certificates by TURNPIKE_CERT_FINGERPRINT, TURNPIKE_CA_FILE or the system's \
            authorities. To tell all about a NAT it takes a STUN server with two addresses, such as turnpike with \
            listen.alternate. The exit status is 0 where anything works, and 1 where nothing does.
            """
    )

    @Flag(help: "Print it as JSON.")
    var json = false

    @Flag(help: "Find out, too, how long a silent mapping lives: up to six minutes.")
    var lifetime = false

    func run() async throws {
        let console = Console.current
        let configuration = Configuration.fromEnvironment(console.environment)
        let report = try await NetworkCheck.report(on: configuration, measuresLifetime: lifetime)
        try console.write(json ? report.json() : report.text(console.style))
        if !report.works { throw ExitCode(ExitStatus.failed) }
    }
}
