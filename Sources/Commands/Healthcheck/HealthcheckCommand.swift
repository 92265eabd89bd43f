import ArgumentParser
import Foundation

struct HealthcheckCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "healthcheck",
        abstract: "Say whether the server answers and lets clients in: exit status 0, else 1.",
        discussion: "For containers and scripts. It waits for 5 s at most; a server that drains is not healthy."
    )

    @Option(help: "How to print it: text or json.")
    var format = OutputFormat.text

    @OptionGroup var installation: InstallationOptions

    func run() throws {
        let client = try AdminClient(installation, timeoutSeconds: 5)
        let answer = try client.ask("GET", "/healthz")
        guard let health = try? JSONDecoder().decode(HealthAnswer.self, from: Data(answer.body)) else {
            throw CommandError.failed(client.problem(answer))
        }
        let text =
            "\(health.status): up \(Quantity.duration(seconds: health.uptime)), "
            + "\(Quantity.count(health.peers, "peer")), \(Quantity.count(health.rooms, "room"))"
        switch format {
        case .json: try Console.current.write(JSON.text(health))
        case .text where answer.status == 200: try Console.current.write(text)
        case .text: break
        }
        guard answer.status == 200 else {
            throw CommandError.failed("the server is \(health.status), and lets nobody in; start another one")
        }
    }
}
