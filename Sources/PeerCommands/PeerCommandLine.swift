import ArgumentParser
import TurnpikeClient

/// The `turnpike-peer` command: parses arguments and runs one subcommand.
package enum PeerCommandLine {
    /// Runs the process's own arguments.
    package static func main() async { await PeerCommand.main() }
}

struct PeerCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "turnpike-peer",
        abstract: "Connects two programs, encrypted, on the best path there is.",
        version: "turnpike-peer \(ClientVersion.current)"
    )
}
