import ArgumentParser

/// One run of a program's tree of subcommands: arguments in, exit status out.
package struct Invocation<Root: ParsableCommand> {
    /// As the person typed it, and as each message begins.
    let program: String
    /// Words and status for errors that are not `CommandError`; nil where it does not know them either.
    let explain: (any Error) -> (message: String, status: Int32)?

    package init(
        of root: Root.Type,
        named program: String,
        explain: @escaping (any Error) -> (message: String, status: Int32)? = { _ in nil }
    ) {
        self.program = program
        self.explain = explain
    }

    /// - Returns: the exit status. Whatever there is to say has been written to `Console.current`.
    package func run(_ arguments: [String]) async -> Int32 {
        do {
            var command = try Root.parseAsRoot(arguments)
            if var command = command as? any AsyncParsableCommand {
                try await command.run()
            } else {
                try command.run()
            }
            return ExitStatus.done
        } catch {
            return report(error, arguments)
        }
    }

    private func report(_ error: any Error, _ arguments: [String]) -> Int32 {
        switch error {
        case let error as CommandError:
            for line in error.lines { Console.current.message("\(program): \(line)") }
            return error.status
        case let error as ExitCode:
            return error.rawValue
        default:
            guard let (message, status) = explain(error) else { return reportParserError(error, arguments) }
            Console.current.message("\(program): \(message)")
            return status
        }
    }

    /// Requests for help and version come as errors too; those go to standard output.
    private func reportParserError(_ error: any Error, _ arguments: [String]) -> Int32 {
        let console = Console.current
        guard Root.exitCode(for: error) != .success else {
            do {
                try console.write(Root.fullMessage(for: error))
                return ExitStatus.done
            } catch {
                console.message("\(program): \(error)")
                return ExitStatus.failed
            }
        }
        // To the parser it is one argument too many, or an option that nobody knows.
        if let mistyped = MistypedSubcommand(arguments, of: Root.self, named: program) {
            let end = mistyped.meant.map { "did you mean \($0)?" } ?? "see \(mistyped.command) --help"
            console.message("\(program): there is no subcommand '\(mistyped.word)'; \(end)")
            return ExitStatus.usage
        }
        // The parser's message says what is wrong; its usage block would bury that. The block's last line names the
        // subcommand whose help is meant.
        let text = Root.message(for: error).split(separator: "\n").joined(separator: " ")
        let line = text.hasSuffix(".") ? String(text.dropLast()) : text
        let parts = Root.fullMessage(for: error).split(separator: "See '")
        let help = parts.count > 1 ? parts[parts.count - 1].prefix { $0 != "'" } : "\(program) --help"
        console.message("\(program): \(line.prefix(1).lowercased())\(line.dropFirst()); see \(help)")
        return ExitStatus.usage
    }
}
