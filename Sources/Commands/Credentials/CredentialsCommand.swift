import Accounts
import ArgumentParser
import Server
import Settings

struct CredentialsCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "credentials",
        abstract: "Mint a time-limited credential and print what a peer needs.",
        discussion: """
            The credential is made with the newest shared secret (turnpike secret add NAME makes one) and stored \
            nowhere. The username is EXPIRY:NAME, the password base64(HMAC-SHA1(secret, username)).
            """
    )

    @Argument(help: "Whom the credential is for. It need not be a user of the server.")
    var name: String

    @Option(
        help: ArgumentHelp(
            "How long the credential is valid, such as 10m, 1h or 1d. Without it, 1h.",
            valueName: "duration"
        ),
        transform: DurationArgument.parse
    )
    var ttl = DurationArgument(seconds: 3600)

    @Option(help: "How to print the credential: text, json, or env for shell assignments that a peer sources.")
    var format = CredentialFormat.text

    @OptionGroup var installation: InstallationOptions

    func run() throws {
        let name = try AccountName(name)
        let settings = try installation.settings()
        let ttlMax = settings.auth.maxCredentialTTLSeconds
        guard ttl.seconds <= ttlMax else {
            throw CommandError.usage(
                "--ttl is \(ttl.seconds) s and the server refuses credentials of more than \(ttlMax) s; "
                    + "give less, or raise auth.max_credential_ttl"
            )
        }
        let output = try CredentialOutput(format, settings: settings)
        let store = try installation.store(of: settings, mode: .readOnly)
        let now = Console.current.now()
        try refuseIfKeptOut(name, store: store, now: now)
        guard let secret = try store.allSecrets().last else {
            throw CommandError.failed(
                "there is no shared secret to mint a credential with; run: turnpike secret add NAME"
            )
        }
        let credential = TimeLimitedCredential(name: name, secret: secret, expiresAtSeconds: now + ttl.seconds)
        try output.print(
            username: credential.username,
            password: credential.password,
            isPasswordShown: true,
            realm: settings.realm,
            expiresAtSeconds: credential.expiresAtSeconds,
            mend: "repeat the command"
        )
    }

    /// A user who has been kept out must not get in by another door.
    private func refuseIfKeptOut(_ name: AccountName, store: AccountStore, now: Int64) throws {
        guard let record = try store.credentialRecord(username: name.value), !record.isUsable(atSeconds: now) else {
            return
        }
        throw CommandError.failed(
            "user \(name) is \(record.isEnabled ? "expired" : "disabled"), so no credential is minted for it; "
                + "choose another name, or let the user in again first"
        )
    }
}
