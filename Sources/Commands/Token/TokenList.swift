import Accounts
import ArgumentParser

struct TokenList: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "list",
        abstract: "List the tokens by age, without the tokens themselves."
    )

    @Option(help: "How to print the list: text or json.")
    var format = OutputFormat.text

    @OptionGroup var installation: InstallationOptions

    func run() throws {
        let console = Console.current
        let now = console.now()
        let reports = try installation.store(of: installation.settings(), mode: .readOnly).allTokens().map {
            TokenReport(entry: $0, now: now)
        }
        switch format {
        case .json:
            try console.write(JSON.text(reports))
        case .text:
            guard !reports.isEmpty else {
                console.message("turnpike: there are no tokens; create one with turnpike token create NAME")
                return
            }
            try console.write(Table.text([["NAME", "FOR", "STATE", "EXPIRES", "CREATED"]] + reports.map(\.cells)))
        }
    }
}
