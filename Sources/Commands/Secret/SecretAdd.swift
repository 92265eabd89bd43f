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
        let settings = try installation.settings()
        let value = try stdin ? console.firstLine("secret") : Array(SecretGenerator.sharedSecret().utf8)
        try installation.store(of: settings, mode: .readWrite, createIfMissing: true).addSecret(name, value: value)
        console.message("turnpike: added secret \(name)\(stdin ? "" : "; it is shown only now")")
        if !stdin {
            try console.write(
                String(decoding: value, as: UTF8.self),
                mend: "the secret is lost; run turnpike secret remove \(name) and add it again"
            )
        }
    }
}
