import Accounts
import ArgumentParser

struct UserDisable: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "disable",
        abstract: "Keep a user out, and end its sessions, without forgetting it."
    )

    @Argument(help: "The user's name.")
    var name: String

    @OptionGroup var installation: InstallationOptions

    func run() throws {
        let name = try AccountName(name)
        try installation.store(of: installation.settings(), mode: .readWrite).setEnabled(false, name)
        Console.current.message(
            "turnpike: disabled user \(name); a running server ends its allocations and signaling within a second"
        )
    }
}
