import Accounts
import ArgumentParser
import Server
import Settings

struct UserAdd: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "add",
        abstract: "Add a user and print what a peer needs to use the server.",
        discussion: "The password is printed this once: the server keeps only keys derived from it."
    )

    @Argument(help: "The user's name: 1 to 255 bytes without spaces, ':' and '/', not starting with '-'.")
    var name: String

    @OptionGroup var passwordOptions: PasswordOptions

    @Option(help: "The realm that the password is for, where it is not the server's own.")
    var realm: String?

    @Option(
        help: ArgumentHelp(
            "When the user expires: a time from now (30d, 12h), a date (2027-01-31) or a date and time "
                + "(2027-01-31T18:00:00Z). Without it, never.",
            valueName: "when"
        ),
        transform: MomentArgument.parse
    )
    var expires: MomentArgument?

    @Option(
        help: ArgumentHelp(
            "How many allocations the user may hold at once, in place of the server's limit.",
            valueName: "n"
        ),
        transform: { Int(try NumberArgument.parse($0, in: 1...Int64(AccountLimits.allocationsPerUserMax))) }
    )
    var maxAllocations: Int?

    @Option(
        help: ArgumentHelp(
            "How many bits per second each of the user's allocations may relay, both directions together, in place of "
                + "the server's limit. 0 for no limit.",
            valueName: "n"
        ),
        transform: { try NumberArgument.parse($0, in: 0...AccountLimits.bitsPerSecondMax) }
    )
    var maxBps: Int64?

    @Option(
        help: ArgumentHelp(
            "How many bytes the user may relay in a calendar month (UTC), both directions together. Without it, any.",
            valueName: "n"
        ),
        transform: { try NumberArgument.parse($0, in: 1...AccountLimits.monthlyBytesMax) }
    )
    var monthlyBytes: Int64?

    @Option(help: "How to print the credential: text, json, or env for shell assignments that a peer sources.")
    var format = CredentialFormat.text

    @OptionGroup var installation: InstallationOptions

    func run() throws {
        let console = Console.current
        let name = try AccountName(name)
        let settings = try installation.settings()
        let realm = try Realm(realm ?? settings.realm)
        let now = console.now()
        let expiresAtSeconds = expires?.seconds(now: now)
        if let expiresAtSeconds, expiresAtSeconds <= now {
            throw CommandError.usage(
                "\(Timestamp.text(seconds: expiresAtSeconds)) is past already; give --expires a time to come"
            )
        }
        // Whatever is wrong with the arguments or the input is found before the first write.
        let output = try CredentialOutput(format, settings: settings)
        let password = try passwordOptions.password()
        let store = try installation.store(of: settings, mode: .readWrite, createIfMissing: true)
        try store.addUser(
            name,
            realm: realm,
            keys: CredentialDerivation.keys(name: name, realm: realm, password: password),
            expiresAtSeconds: expiresAtSeconds,
            maxAllocations: maxAllocations,
            maxBitsPerSecond: maxBps,
            monthlyBytes: monthlyBytes
        )
        RealmNotice.tell(name: name, realm: realm, settings: settings)
        console.message(
            "turnpike: added user \(name)\(passwordOptions.isGenerated ? "; the password is shown only now" : "")"
        )
        try output.print(
            username: name.value,
            password: password.value,
            isPasswordShown: passwordOptions.isGenerated,
            realm: realm.value,
            expiresAtSeconds: expiresAtSeconds,
            mend: "run turnpike user passwd \(name) for a password that you can see"
        )
    }
}
