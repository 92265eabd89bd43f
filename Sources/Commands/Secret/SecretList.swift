import Accounts
import ArgumentParser

struct SecretList: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "list",
        abstract: "List the shared secrets by age, without their values."
    )

    @Option(help: "How to print the list: text or json.")
    var format = OutputFormat.text

    @OptionGroup var installation: InstallationOptions

    func run() throws {
        let console = Console.current
        let secrets = try installation.store(of: installation.settings(), mode: .readOnly).allSecrets()
        let entries = secrets.map { Entry(name: $0.name, createdAt: Timestamp.text(seconds: $0.createdAtSeconds)) }
        switch format {
        case .json:
            try console.write(JSON.text(entries))
        case .text:
            guard !entries.isEmpty else {
                console.message("turnpike: there are no secrets; add one with turnpike secret add NAME")
                return
            }
            try console.write(Table.text([["NAME", "CREATED"]] + entries.map { [$0.name, $0.createdAt] }))
        }
    }

    private struct Entry: Encodable {
        let name: String
        let createdAt: String
    }
}
