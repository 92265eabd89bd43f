import Accounts
import ArgumentParser

struct UserList: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "list", abstract: "List the users by name.")

    @Option(help: "How to print the list: text or json.")
    var format = OutputFormat.text

    @OptionGroup var installation: InstallationOptions

    func run() throws {
        let console = Console.current
        let store = try installation.store(of: installation.settings(), mode: .readOnly)
        let now = console.now()
        var reports: [UserReport] = []
        var page = try store.users()
        while let last = page.last {
            reports += page.map { UserReport(user: $0, now: now) }
            page = try store.users(after: last.name)
        }
        switch format {
        case .json:
            try console.write(JSON.text(reports))
        case .text:
            guard !reports.isEmpty else {
                console.message("turnpike: there are no users; add one with turnpike user add NAME")
                return
            }
            let head = ["NAME", "REALM", "STATE", "EXPIRES", "ALLOCATIONS", "MAX-BPS", "MONTHLY-BYTES", "CREATED"]
            let rows = reports.map {
                [
                    $0.user.name, $0.user.realm, $0.state, $0.expires, $0.maxAllocations, $0.maxBps, $0.monthlyBytes,
                    $0.created,
                ]
            }
            try console.write(Table.text([head] + rows))
        }
    }
}
