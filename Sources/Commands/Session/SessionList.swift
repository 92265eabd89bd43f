import Accounts
import ArgumentParser

struct SessionList: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "list",
        abstract: "List the allocations and the signaling sessions of the running server."
    )

    @Option(help: ArgumentHelp("List the sessions of this user alone.", valueName: "name"))
    var user: String?

    @Option(
        help: ArgumentHelp("How many of each kind to list at most. Without it, 1000.", valueName: "n"),
        transform: { Int(try NumberArgument.parse($0, in: 1...100_000)) }
    )
    var limit = 1_000

    @Option(help: "How to print the list: text or json.")
    var format = OutputFormat.text

    @OptionGroup var installation: InstallationOptions

    func run() throws {
        let console = Console.current
        var target = "/api/v1/admin/sessions?limit=\(limit)"
        if let user { target += "&user=\(AdminClient.encoded(user))" }
        let sessions: SessionsAnswer = try AdminClient(installation).get(target)
        switch format {
        case .json:
            try console.write(JSON.text(sessions))
        case .text:
            let tables = [allocations(sessions.allocations), sockets(sessions.signaling)].filter { $0.count > 1 }
            guard !tables.isEmpty else {
                console.message("turnpike: \(user.map { "\($0.quotedForMessage) has" } ?? "there are") no sessions")
                return
            }
            try console.write(tables.map(Table.text).joined(separator: "\n"))
            if sessions.allocationsAreCut || sessions.signaling.count == limit {
                console.message("turnpike: there may be more than these \(limit); --limit shows more")
            }
        }
    }

    private func allocations(_ allocations: [SessionsAnswer.Allocation]) -> [[String]] {
        let head = [
            "ALLOCATION", "USER", "CLIENT", "OVER", "RELAYED-AT", "TO-PEERS", "TO-CLIENT", "PEERS", "AGE", "EXPIRES-IN",
        ]
        return [head]
            + allocations.map {
                [
                    // Whoever has a shared secret chooses the names of time-limited credentials.
                    $0.id, $0.user.escapedForTerminal, $0.client, $0.transport, $0.relayed.joined(separator: ","),
                    Quantity.bytes($0.bytesToPeers), Quantity.bytes($0.bytesToClient), "\($0.permissions)",
                    Quantity.duration(seconds: $0.ageSeconds), Quantity.duration(seconds: $0.expiresInSeconds),
                ]
            }
    }

    private func sockets(_ sockets: [SessionsAnswer.Socket]) -> [[String]] {
        [["SIGNALING", "USER", "CLIENT", "AGE", "PEERS", "ROOMS"]]
            + sockets.map {
                [
                    $0.id, $0.user.escapedForTerminal, $0.client ?? "(cut off)",
                    Quantity.duration(seconds: $0.ageSeconds), list($0.peers), list($0.rooms),
                ]
            }
    }

    private func list(_ names: [String]) -> String {
        names.isEmpty ? "-" : names.map(\.escapedForTerminal).joined(separator: ",")
    }
}
