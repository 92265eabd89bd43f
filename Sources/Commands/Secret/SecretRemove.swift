import Accounts
import ArgumentParser

struct SecretRemove: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "remove",
        abstract: "Remove a shared secret; credentials minted with it stop being valid."
    )

    @Argument(help: "The secret's name.")
    var name: String

    @OptionGroup var installation: InstallationOptions

    func run() throws {
        let name = try AccountName(name)
        try installation.store(of: installation.settings(), mode: .readWrite).removeSecret(name)
        Console.current.message("turnpike: removed secret \(name); a running server follows within a second")
    }
}
