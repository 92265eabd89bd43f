import ArgumentParser

struct SecretCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "secret",
        abstract: "Add, list and remove shared secrets for time-limited credentials.",
        discussion: """
            Whoever knows a secret, such as your web service, can mint credentials that end by themselves. To change a \
            secret, add the new one, give it to the service, and remove the old one: all that are listed are valid.
            """,
        subcommands: [SecretAdd.self, SecretList.self, SecretRemove.self]
    )
}
