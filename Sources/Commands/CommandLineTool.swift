import Accounts
import ArgumentParser
// Every file here speaks to the console, and so do the tests.
@_exported import CommandConsole
import Foundation
import Server

/// The `turnpike` command: parses arguments, runs one subcommand, and ends with the exit status.
package enum CommandLineTool {
    /// Runs the process's own arguments and ends the process.
    package static func main() async -> Never {
        // A reader that goes away, as `head` does, must be an error to report and not a death without a word.
        signal(SIGPIPE, SIG_IGN)
        // So must a limit on the size of files, which SQLite reports well.
        signal(SIGXFSZ, SIG_IGN)
        exit(await run(Array(CommandLine.arguments.dropFirst())))
    }

    /// - Returns: the exit status. Whatever there is to say has been written to `Console.current`.
    package static func run(_ arguments: [String]) async -> Int32 {
        await Invocation(of: TurnpikeCommand.self, named: "turnpike", explain: explain).run(arguments)
    }

    private static func explain(_ error: any Error) -> (message: String, status: Int32)? {
        switch error {
        case let error as AccountError: (error.message, error.isUsage ? ExitStatus.usage : ExitStatus.failed)
        case let error as CredentialError: (error.message, error.isAboutInput ? ExitStatus.usage : ExitStatus.failed)
        default: nil
        }
    }
}

/// The tree of subcommands. Each noun has a folder, each verb a file.
struct TurnpikeCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "turnpike",
        abstract: "A STUN and TURN relay for peer-to-peer software.",
        discussion: """
            Start with: turnpike user add NAME --format env

            That makes a user and prints what a peer needs to know. Commands for users, secrets and tokens work \
            whether the server is running or not, and a running server follows within a second.
            """,
        version: "turnpike \(Version.current)",
        subcommands: [
            ServeCommand.self, UserCommand.self, SecretCommand.self, CredentialsCommand.self, TokenCommand.self,
            StatusCommand.self, SessionCommand.self, TopCommand.self, DrainCommand.self, ReloadCommand.self,
            HealthcheckCommand.self, ConfigCommand.self, VersionCommand.self,
        ]
    )
}

extension AccountError {
    /// Whether the arguments were at fault, not the world.
    fileprivate var isUsage: Bool { [.invalidName, .invalidRealm, .invalidValue].contains(code) }
}
