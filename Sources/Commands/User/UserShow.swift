import Accounts
import ArgumentParser

struct UserShow: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "show", abstract: "Show one user, without its keys.")

    @Argument(help: "The user's name.")
    var name: String

    @Option(help: "How to print the user: text or json.")
    var format = OutputFormat.text

    @OptionGroup var installation: InstallationOptions

    func run() throws {
        let console = Console.current
        let name = try AccountName(name)
        let store = try installation.store(of: installation.settings(), mode: .readOnly)
        let report = UserReport(user: try store.user(name), now: console.now())
        switch format {
        case .json:
            try console.write(JSON.text(report))
        case .text:
            try console.write(
                Table.text([
                    ["name:", report.user.name],
                    ["realm:", report.user.realm],
                    ["state:", report.state],
                    ["expires:", report.expires],
                    ["allocations:", report.maxAllocations],
                    ["max bps:", report.maxBps],
                    ["monthly bytes:", report.monthlyBytes],
                    ["created:", report.created],
                ])
            )
        }
    }
}
