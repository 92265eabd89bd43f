import Accounts
import ArgumentParser

struct UserEnable: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "enable",
        abstract: "Let a disabled user in again."
    )

    @Argument(help: "The user's name.")
    var name: String

    @OptionGroup var installation: InstallationOptions

    func run() throws {
        let name = try AccountName(name)
        try installation.store(of: installation.settings(), mode: .readWrite).setEnabled(true, name)
        Console.current.message("turnpike: enabled user \(name)")
    }
}
