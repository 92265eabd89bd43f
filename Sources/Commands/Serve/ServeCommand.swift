import Accounts
import ArgumentParser
import Foundation
import Server
import Settings

struct ServeCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "serve",
        abstract: "Run the server.",
        discussion: """
            Needs no configuration: the data directory, its database and its keys are made at the first start. Nothing \
            is relayed before there is a user or a shared secret. The log goes to standard error.

            TERM and INT end it, a second one at once; HUP reads the configuration again; USR1 refuses new allocations \
            and ends when the last one is gone, after two minutes at most; USR2 reads the certificate again.
            """
    )

    @OptionGroup var installation: InstallationOptions

    @OptionGroup var overriding: OverrideOptions

    func run() async throws {
        let settings = try installation.settings(overrides: overriding.overrides)
        // The loader's inputs are those of the start: a reload reads the file anew, under the same flags.
        let (installation, overrides, console) = (installation, overriding.overrides, Console.current)
        let server: TurnpikeServer
        do {
            server = try await TurnpikeServer(
                settings,
                reload: { Console.$current.withValue(console) { installation.load(overrides: overrides) } }
            )
        } catch let error as AccountError {
            throw error
        } catch {
            throw CommandError.failed("\(error)")
        }
        try await server.run()
    }
}
