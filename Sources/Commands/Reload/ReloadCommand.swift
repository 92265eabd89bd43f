import Accounts
import ArgumentParser
import Foundation

struct ReloadCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "reload",
        abstract: "Let the running server read its configuration and certificate again.",
        discussion: """
            A configuration that does not hold leaves the old one in force, with exit status 78. The server reads \
            the file that it was started with.
            """
    )

    @OptionGroup var installation: InstallationOptions

    func run() throws {
        let console = Console.current
        let client = try AdminClient(installation)
        let answer = try client.ask("POST", "/api/v1/admin/reload")
        guard let outcome = try? JSONDecoder().decode(ReloadAnswer.self, from: Data(answer.body)) else {
            throw CommandError.failed(client.problem(answer))
        }
        let lines = outcome.messages.map(\.escapedForTerminal)
        guard outcome.isReloaded else {
            throw CommandError(
                status: ExitStatus.configuration,
                lines: lines + ["the configuration was not reloaded; the old one stays in force"]
            )
        }
        for line in lines { console.message("turnpike: \(line)") }
        console.message("turnpike: the server has read its configuration again")
    }
}
