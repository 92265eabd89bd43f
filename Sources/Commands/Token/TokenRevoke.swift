import Accounts
import ArgumentParser

struct TokenRevoke: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "revoke",
        abstract: "Revoke a token; whoever has it can no longer log in."
    )

    @Argument(help: "The token's name, as turnpike token list prints it.")
    var name: String

    @OptionGroup var installation: InstallationOptions

    func run() throws {
        let name = try AccountName(name)
        try installation.store(of: installation.settings(), mode: .readWrite).revokeToken(name)
        Console.current.message("turnpike: revoked token \(name); a running server follows within a second")
    }
}
