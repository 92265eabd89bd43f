import Accounts
import ArgumentParser
import Server
import Settings

struct UserPasswd: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "passwd",
        abstract: "Give a user a new password and print what a peer needs.",
        discussion: "The password is printed this once: the server keeps only keys derived from it."
    )

    @Argument(help: "The user's name.")
    var name: String

    @OptionGroup var passwordOptions: PasswordOptions

    @Option(help: "Move the user to this realm. Without it, the user stays in its own.")
    var realm: String?

    @Option(help: "How to print the credential: text, json, or env for shell assignments that a peer sources.")
    var format = CredentialFormat.text

    @OptionGroup var installation: InstallationOptions

    func run() throws {
        let console = Console.current
        let name = try AccountName(name)
        let settings = try installation.settings()
        let newRealm = try realm.map { try Realm($0) }
        let output = try CredentialOutput(format, settings: settings)
        let store = try installation.store(of: settings, mode: .readWrite)
        let user = try store.user(name)
        // A damaged row may have lost its realm; the server's is then the one that is meant.
        let realm = try newRealm ?? Realm(user.realm.isEmpty ? settings.realm : user.realm)
        let password = try passwordOptions.password()
        try store.setKeys(
            CredentialDerivation.keys(name: name, realm: realm, password: password),
            realm: realm,
            of: name
        )
        RealmNotice.tell(name: name, realm: realm, settings: settings)
        console.message(
            "turnpike: changed the password of \(name)\(passwordOptions.isGenerated ? "; it is shown only now" : "")"
        )
        try output.print(
            username: name.value,
            password: password.value,
            isPasswordShown: passwordOptions.isGenerated,
            realm: realm.value,
            expiresAtSeconds: user.expiresAtSeconds,
            mend: "repeat the command for a password that you can see"
        )
    }
}
