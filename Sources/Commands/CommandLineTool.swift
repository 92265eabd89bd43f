import Accounts
import ArgumentParser
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
        do {
            var command = try TurnpikeCommand.parseAsRoot(arguments)
            if var command = command as? any AsyncParsableCommand {
                try await command.run()
            } else {
                try command.run()
            }
            return ExitStatus.done
        } catch {
            return report(error)
        }
    }

    private static func report(_ error: any Error) -> Int32 {
        let console = Console.current
        switch error {
        case let error as CommandError:
            for line in error.lines { console.message("turnpike: \(line)") }
            return error.status
        case let error as AccountError:
            console.message("turnpike: \(error.message)")
            return error.isUsage ? ExitStatus.usage : ExitStatus.failed
        case let error as CredentialError:
            console.message("turnpike: \(error.message)")
            return error.isAboutInput ? ExitStatus.usage : ExitStatus.failed
        case let error as ExitCode:
            return error.rawValue
        default:
            return reportParserError(error)
        }
    }

    /// Requests for help and version come as errors too; those go to standard output.
    private static func reportParserError(_ error: any Error) -> Int32 {
        let console = Console.current
        guard TurnpikeCommand.exitCode(for: error) != .success else {
            do {
                try console.write(TurnpikeCommand.fullMessage(for: error))
                return ExitStatus.done
            } catch {
                console.message("turnpike: \(error)")
                return ExitStatus.failed
            }
        }
        // The parser's message says what is wrong; its usage block would bury that. The block's last line names the
        // subcommand whose help is meant.
        let text = TurnpikeCommand.message(for: error).split(separator: "\n").joined(separator: " ")
        let line = text.hasSuffix(".") ? String(text.dropLast()) : text
        let parts = TurnpikeCommand.fullMessage(for: error).components(separatedBy: "See '")
        let help = parts.count > 1 ? parts[parts.count - 1].prefix { $0 != "'" } : "turnpike --help"
        console.message("turnpike: \(line.prefix(1).lowercased())\(line.dropFirst()); see \(help)")
        return ExitStatus.usage
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

/// Exit statuses, as sysexits.h names them.
enum ExitStatus {
    static let done: Int32 = 0
    static let failed: Int32 = 1
    static let usage: Int32 = 64
    static let configuration: Int32 = 78
}

/// Ends a command with a status and what to say on standard error: what is wrong, where, and the mend.
struct CommandError: Error, CustomStringConvertible {
    let status: Int32
    let lines: [String]

    static func failed(_ line: String) -> CommandError { CommandError(status: ExitStatus.failed, lines: [line]) }
    static func usage(_ line: String) -> CommandError { CommandError(status: ExitStatus.usage, lines: [line]) }

    var description: String { lines.joined(separator: "\n") }
}

extension AccountError {
    /// Whether the arguments were at fault, not the world.
    fileprivate var isUsage: Bool { [.invalidName, .invalidRealm, .invalidValue].contains(code) }
}
