import ArgumentParser
import Foundation

struct DrainCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "drain",
        abstract: "Let the running server take nobody new, and end when everybody is gone.",
        discussion: """
            New allocations are refused, signaling clients are told to come back later, and what is there goes on \
            until it ends by itself or the time is up; then the server ends. This cannot be taken back, but a second \
            drain may give a shorter time. The command returns at once unless --wait is given.
            """
    )

    @Option(
        help: ArgumentHelp(
            "How long those who are there may stay, such as 30s or 10m, at most 1d. Without it, 2m.",
            valueName: "duration"
        ),
        transform: DurationArgument.parse
    )
    var timeout = DurationArgument(seconds: 120)

    @Flag(help: "Return only when the server has ended.")
    var wait = false

    @OptionGroup var installation: InstallationOptions

    func run() throws {
        let console = Console.current
        guard timeout.seconds <= 86_400 else {
            throw CommandError.usage("--timeout is more than a day; give at most 1d")
        }
        let client = try AdminClient(installation)
        let status: StatusAnswer = try client.get("/api/v1/admin/status")
        let answer = try client.ask("POST", "/api/v1/admin/drain?seconds=\(timeout.seconds)")
        guard answer.status < 300 else { throw CommandError.failed(client.problem(answer)) }
        console.message("turnpike: draining: nobody new is let in; \(prospect(status))")
        if wait { try awaitEnd(of: client) }
    }

    private func prospect(_ status: StatusAnswer) -> String {
        var left: [String] = []
        if status.relay.allocations > 0 { left.append(Quantity.count(status.relay.allocations, "allocation")) }
        if status.signaling.sessions > 0 { left.append(Quantity.count(status.signaling.sessions, "signaling session")) }
        guard !left.isEmpty else { return "nobody is there, so the server ends now" }
        let most = Quantity.duration(seconds: UInt64(timeout.seconds))
        return "the server ends with the last of \(left.joined(separator: " and ")), after \(most) at most"
    }

    private func awaitEnd(of client: AdminClient) throws {
        // The server takes a moment to write down what was relayed.
        let deadline = ContinuousClock.now + .seconds(timeout.seconds + 15)
        while client.hasServer {
            guard ContinuousClock.now < deadline else {
                throw CommandError.failed(
                    "the server at \(client.socketPath) has not ended; see its log, and end it with TERM"
                )
            }
            usleep(100_000)
        }
        Console.current.message("turnpike: the server has ended")
    }
}
