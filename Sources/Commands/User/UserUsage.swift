import Accounts
import ArgumentParser

struct UserUsage: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "usage",
        abstract: "Show how much users have relayed, by calendar month (UTC).",
        discussion: """
            With a name: that user's months, the latest first. Without one: all users of a month, the present one \
            unless --month says another. Bytes are of payload. A running server writes them down every few seconds; \
            months are kept for more than a year, those of removed users and of time-limited credentials too.
            """
    )

    @Argument(help: "The user's name, as it stands behind the colon for a time-limited credential.")
    var name: String?

    @Option(
        help: ArgumentHelp("Show this month alone, such as 2026-11.", valueName: "month"),
        transform: { text in
            guard let month = UsageMonth(text) else { throw ValidationError("give a month such as 2026-11") }
            return month
        }
    )
    var month: UsageMonth?

    @Option(help: "How to print it: text or json.")
    var format = OutputFormat.text

    @OptionGroup var installation: InstallationOptions

    func run() throws {
        let console = Console.current
        let store = try installation.store(of: installation.settings(), mode: .readOnly)
        let present = UsageMonth(containingSeconds: console.now())
        let entries: [MonthlyUsage]
        if let name {
            let all = try store.usage(of: name)
            // Nothing relayed is an answer for a user who is there, and a slip of the finger for one who is not.
            if all.isEmpty { _ = try store.user(AccountName(name)) }
            entries = all.filter { month == nil || $0.month == month }
        } else {
            entries = try store.usage(in: month ?? present)
        }
        let reports = entries.map(UsageReport.init)
        switch format {
        case .json:
            try console.write(JSON.text(reports))
        case .text:
            guard !reports.isEmpty else {
                let period = month ?? (name == nil ? present : nil)
                console.message(
                    "turnpike: \(name.map { "user \($0) has relayed nothing" } ?? "nobody has relayed anything")"
                        + (period.map { " in \($0)" } ?? "")
                )
                return
            }
            let head = ["USER", "MONTH", "BYTES", "LIMIT", "TO-PEERS", "TO-CLIENTS", "PACKETS"]
            try console.write(Table.text([head] + reports.map(\.cells)))
        }
    }
}

/// A user's month as it is printed.
private struct UsageReport: Encodable {
    let entry: MonthlyUsage

    private enum CodingKeys: String, CodingKey {
        case user, month, bytes, monthlyBytes, bytesToPeers, bytesToClients, packetsToPeers, packetsToClients
    }

    func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(entry.user, forKey: .user)
        try container.encode(entry.month.description, forKey: .month)
        try container.encode(entry.usage.bytes, forKey: .bytes)
        try container.encode(entry.monthlyBytes, forKey: .monthlyBytes)
        try container.encode(entry.usage.bytesToPeers, forKey: .bytesToPeers)
        try container.encode(entry.usage.bytesToClients, forKey: .bytesToClients)
        try container.encode(entry.usage.packetsToPeers, forKey: .packetsToPeers)
        try container.encode(entry.usage.packetsToClients, forKey: .packetsToClients)
    }

    var cells: [String] {
        let usage = entry.usage
        return [
            // Whoever has a shared secret chooses the names of time-limited credentials, and may put anything in them.
            entry.user.escapedForTerminal, entry.month.description, String(usage.bytes),
            entry.monthlyBytes.map(String.init) ?? "unlimited", String(usage.bytesToPeers),
            String(usage.bytesToClients),
            String(usage.packetsToPeers.addingReportingOverflow(usage.packetsToClients).partialValue),
        ]
    }
}
