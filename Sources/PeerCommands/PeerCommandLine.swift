import ArgumentParser
// Every file here speaks to the console, and so do the tests.
@_exported import CommandConsole
import Foundation
import TurnpikeClient

/// The `turnpike-peer` command: parses arguments, runs one subcommand, and ends with the exit status.
package enum PeerCommandLine {
    /// Runs the process's own arguments and ends the process.
    package static func main() async -> Never {
        // A reader that goes away, as `head` does, must be an error to report and not a death without a word.
        signal(SIGPIPE, SIG_IGN)
        let status = await run(Array(CommandLine.arguments.dropFirst()))
        // Not `exit`: its handlers would free OpenSSL's state below a loop's thread that is still closing sessions.
        // Nothing is buffered here, so nothing is lost.
        _exit(status)
    }

    /// - Returns: the exit status. Whatever there is to say has been written to `Console.current`.
    package static func run(_ arguments: [String]) async -> Int32 {
        await Invocation(of: PeerCommand.self, named: "turnpike-peer").run(arguments)
    }
}

/// The tree of subcommands. Each has a folder.
struct PeerCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "turnpike-peer",
        abstract: "Connects programs, encrypted and on the best path there is, and says what a network lets through.",
        discussion: """
            Start with: turnpike-peer netcheck

            Servers and credentials come from the environment. On the server, turnpike user add NAME --format env \
            prints the lines to source.
            """,
        version: "turnpike-peer \(ClientVersion.current)",
        subcommands: [
            NetcheckCommand.self, ListenCommand.self, ConnectCommand.self, ForwardCommand.self, PingCommand.self,
            BenchCommand.self,
        ]
    )
}

extension CommandError {
    /// - Parameter lines: one for each variable of the environment that cannot be read.
    static func environment(_ lines: [String]) -> CommandError {
        CommandError(status: ExitStatus.configuration, lines: lines)
    }
}
