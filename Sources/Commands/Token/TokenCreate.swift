import Accounts
import ArgumentParser
import Server

struct TokenCreate: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "create",
        abstract: "Create a token and print it, this once."
    )

    @Argument(help: "A name to know the token by: 1 to 255 bytes without spaces, ':' and '/', not starting with '-'.")
    var name: String

    @Option(
        help: ArgumentHelp("Whom the token logs in as. Without it, it is an admin's.", valueName: "name")
    )
    var user: String?

    @Option(
        help: ArgumentHelp(
            "When the token ends: a time from now such as 30d, or a date such as 2027-01-31. Without it, never.",
            valueName: "when"
        ),
        transform: MomentArgument.parse
    )
    var expires: MomentArgument?

    @Option(help: "How to print the token: text for it alone, or json.")
    var format = OutputFormat.text

    @OptionGroup var installation: InstallationOptions

    func run() throws {
        let console = Console.current
        let name = try AccountName(name)
        let user = try user.map { try AccountName($0) }
        let settings = try installation.settings()
        let now = console.now()
        let expiresAtSeconds = expires?.seconds(now: now)
        if let expiresAtSeconds, expiresAtSeconds <= now {
            throw CommandError.usage(
                "\(Timestamp.text(seconds: expiresAtSeconds)) is past already; give --expires a time to come"
            )
        }
        let token = TokenText.generated()
        // Without a database there is no user either, but an admin may come first.
        let store = try installation.store(of: settings, mode: .readWrite, createIfMissing: user == nil)
        try store.addToken(name, digest: TokenText.digest(token), user: user, expiresAtSeconds: expiresAtSeconds)
        console.message(
            "turnpike: created token \(name) for \(user.map { "user \($0)" } ?? "an admin"); it is shown only now"
        )
        let mend = "the token is lost; run turnpike token revoke \(name) and create it again"
        switch format {
        case .text:
            try console.write(token, mend: mend)
        case .json:
            guard let entry = try store.token(named: name.value) else {
                throw CommandError.failed("token \(name) was revoked as it was being made; create it again")
            }
            try console.write(JSON.text(TokenReport(entry: entry, now: now, text: token)), mend: mend)
        }
    }
}
