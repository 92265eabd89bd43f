import Accounts
import ArgumentParser

struct UserRemove: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "remove",
        abstract: "Remove a user for good, and end its sessions."
    )

    @Argument(help: "The user's name.")
    var name: String

    @OptionGroup var installation: InstallationOptions

    func run() throws {
        let name = try AccountName(name)
        try installation.store(of: installation.settings(), mode: .readWrite).removeUser(name)
        Console.current.message(
            "turnpike: removed user \(name); a running server ends its allocations and signaling within a second"
        )
    }
}
