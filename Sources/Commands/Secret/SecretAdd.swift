import Accounts
import ArgumentParser
import Server

struct SecretAdd: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "add",
        abstract: "Add a shared secret, and print it where it was generated."
    )

    @Argument(help: "A name to know the secret by: 1 to 255 bytes without spaces, ':' and '/', not starting with '-'.")
    var name: String

    @Flag(help: "Read the secret from the first line of standard input. Without it, one is generated and printed.")
    var stdin = false

    @OptionGroup var installation: InstallationOptions

    func run() throws {
        let console = Console.current
        let name = try AccountName(name)
        let store = try installation.store(of: installation.settings(), mode: .readWrite, createIfMissing: true)
        if stdin {
            try store.addSecret(name, value: console.firstLine("secret"))
            console.message("turnpike: added secret \(name)")
        } else {
            let secret = SecretGenerator.sharedSecret()
            try store.addSecret(name, value: Array(secret.utf8))
            console.message("turnpike: added secret \(name); it is shown only now")
            try console.write(
                secret,
                mend: "the secret is lost; run turnpike secret remove \(name) and add it again"
            )
        }
    }
}
