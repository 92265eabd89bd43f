import ArgumentParser
import Foundation
import TurnpikeClient

struct BenchCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "bench",
        abstract: "Put load on a TURN server, and say what it loses and how long packets take.",
        discussion: """
            Connections send to each other in pairs, each by its own relayed address: a packet goes to the server, \
            through it twice, and back, so its time is a round trip. The load ends by itself; Ctrl-C ends it earlier, \
            and gives the allocations back. Certificates are trusted by TURNPIKE_CERT_FINGERPRINT, TURNPIKE_CA_FILE or \
            the system's authorities. Use it on servers that are yours.

            Example: turnpike-peer bench --server turn:192.0.2.1:3478 --search
            """
    )

    @Option(help: ArgumentHelp("The server: turn:host:port, or turns:host:port for TLS.", valueName: "url"))
    var server: String

    @Option(help: "How to reach it: udp, tcp, tls or dtls. Without it, what the URL says.")
    var transport: Transport?

    @Option(help: ArgumentHelp("Connections, each with an allocation: an even number up to 1000.", valueName: "count"))
    var connections = 10

    @Option(help: ArgumentHelp("Packets per second, of all connections together.", valueName: "count"))
    var rate: Int?

    @Flag(help: "Look for the highest rate without loss.")
    var search = false

    @Option(help: ArgumentHelp("Bytes of data in a packet, 24 to 1350.", valueName: "bytes"))
    var size = 160

    @Option(help: ArgumentHelp("How long to send, or to search: 10s, 2m, 10m at most.", valueName: "time"))
    var duration: String?

    @Flag(help: "Print it as JSON.")
    var json = false

    @OptionGroup var credentials: CredentialOptions

    func run() async throws {
        let console = Console.current
        let plan = try plan()
        let credential = try credentials.credential()
        let configuration = Configuration.fromEnvironment(console.environment)
        let problems = configuration.issues.filter { $0.name.hasPrefix("TURNPIKE_") }
        guard problems.isEmpty else { throw CommandError.environment(problems.map(\.description)) }
        let report = try await LoadRun.report(
            on: plan,
            credential: TURNCredential(username: credential.username, password: credential.password),
            trust: configuration.serverTrust,
            progress: console.diagnosticsAreTerminal ? ProgressLine(console) : nil
        )
        try console.write(json ? report.json() : report.text(console.style))
        if !report.works { throw ExitCode(ExitStatus.failed) }
    }

    private func plan() throws -> BenchPlan {
        if search, rate != nil {
            throw CommandError.usage("--rate and --search exclude each other; leave one of them out")
        }
        do throws(BenchPlan.Refusal) {
            return try BenchPlan(
                server: server,
                transport: transport?.transport,
                connections: connections,
                rate: search ? .search : .fixed(packetsPerSecond: rate ?? 1_000),
                packetBytes: size,
                duration: duration ?? (search ? "30s" : "10s")
            )
        } catch {
            throw CommandError.usage(error.message)
        }
    }

    enum Transport: String, CaseIterable, ExpressibleByArgument {
        case udp, tcp, tls, dtls

        var transport: TURNConfiguration.Transport {
            switch self {
            case .udp: .udp
            case .tcp: .tcp
            case .tls: .tls
            case .dtls: .dtls
            }
        }
    }
}
