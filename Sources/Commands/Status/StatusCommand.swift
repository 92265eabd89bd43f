import Accounts
import ArgumentParser

struct StatusCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "status",
        abstract: "Show what the running server listens on and what it has done since its start."
    )

    @Option(help: "How to print it: text or json.")
    var format = OutputFormat.text

    @OptionGroup var installation: InstallationOptions

    func run() throws {
        let status: StatusAnswer = try AdminClient(installation).get("/api/v1/admin/status")
        switch format {
        case .json: try Console.current.write(JSON.text(status))
        case .text: try Console.current.write(Table.text(rows(status)))
        }
    }

    private func rows(_ status: StatusAnswer) -> [[String]] {
        let relay = status.relay
        var rows = [
            ["version:", relay.version],
            ["state:", relay.isDraining ? "draining: no new allocations are made" : "serving"],
            ["up:", Quantity.duration(seconds: status.uptimeSeconds)],
            ["realm:", relay.realm.escapedForTerminal],
            ["workers:", "\(relay.workers)"],
        ]
        rows += relay.listen.enumerated().map { [$0 == 0 ? "listens on:" : "", $1] }
        rows += [
            ["allocations:", "\(relay.allocations) live, \(relay.allocationsMade) made since the start"],
            [
                "relayed:",
                "\(Quantity.bytes(relay.bytesToPeers)) to peers, \(Quantity.bytes(relay.bytesToClients)) to clients",
            ],
            [
                "packets:",
                "\(relay.packetsIn) in, \(relay.packetsToPeers) to peers, \(relay.packetsToClients) to clients, "
                    + "\(relay.packetsDropped) dropped",
            ],
        ]
        let drops = relay.drops.sorted { ($1.value, $0.key) < ($0.value, $1.key) }
        rows += drops.enumerated().map { [$0 == 0 ? "dropped for:" : "", "\($1.key.escapedForTerminal) \($1.value)"] }
        let signaling = status.signaling
        rows += [
            ["failed logins:", "\(relay.authenticationFailures)"],
            ["TCP and TLS:", "\(Quantity.count(relay.connectionsAccepted, "connection")) accepted by the relay"],
            [
                "signaling:",
                [
                    Quantity.count(signaling.connections, "connection"), Quantity.count(signaling.sessions, "session"),
                    Quantity.count(signaling.peers, "peer"), Quantity.count(signaling.rooms, "room"),
                ].joined(separator: ", "),
            ],
            [
                "HTTPS:",
                "\(Quantity.count(status.gateway.connections, "connection")), "
                    + "\(status.gateway.connectionsRefused) refused",
            ],
        ]
        return rows
    }
}
