import ArgumentParser
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
        do {
            var command = try PeerCommand.parseAsRoot(arguments)
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
        switch error {
        case let error as CommandError:
            for line in error.lines { Console.current.message("turnpike-peer: \(line)") }
            return error.status
        case let error as ExitCode:
            return error.rawValue
        default:
            return reportParserError(error)
        }
    }

    /// Requests for help and version come as errors too; those go to standard output.
    private static func reportParserError(_ error: any Error) -> Int32 {
        let console = Console.current
        guard PeerCommand.exitCode(for: error) != .success else {
            do {
                try console.write(PeerCommand.fullMessage(for: error))
                return ExitStatus.done
            } catch {
                console.message("turnpike-peer: \(error)")
                return ExitStatus.failed
            }
        }
        // The parser's message says what is wrong; its usage block would bury that. The block's last line names the
        // subcommand whose help is meant.
        let text = PeerCommand.message(for: error).split(separator: "\n").joined(separator: " ")
        let line = text.hasSuffix(".") ? String(text.dropLast()) : text
        let parts = PeerCommand.fullMessage(for: error).components(separatedBy: "See '")
        let help = parts.count > 1 ? parts[parts.count - 1].prefix { $0 != "'" } : "turnpike-peer --help"
        console.message("turnpike-peer: \(line.prefix(1).lowercased())\(line.dropFirst()); see \(help)")
        return ExitStatus.usage
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

    /// - Parameter lines: one for each variable of the environment that cannot be read.
    static func environment(_ lines: [String]) -> CommandError {
        CommandError(status: ExitStatus.configuration, lines: lines)
    }

    var description: String { lines.joined(separator: "\n") }
}
