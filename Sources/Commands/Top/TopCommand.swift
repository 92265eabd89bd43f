import ArgumentParser
import Foundation

struct TopCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "top",
        abstract: "Watch what the running server does: rates, and the busiest allocations.",
        discussion: """
            On a terminal it goes on every two seconds until q or Ctrl-C. Elsewhere it looks for one second, prints \
            what it has seen, and ends.
            """
    )

    @OptionGroup var installation: InstallationOptions

    func run() throws {
        let console = Console.current
        // A key is heard only between two questions.
        let client = try AdminClient(installation, timeoutSeconds: 5)
        var before = try TopSample(client)
        guard console.isTerminal else {
            usleep(1_000_000)
            let frame = TopFrame(from: before, to: try TopSample(client))
            try console.write(frame.lines(rows: 40).joined(separator: "\n"))
            return
        }
        let terminal = TopTerminal()
        defer { terminal.restore() }
        // The first frame shows rates too, so it is not worth less than those that follow.
        guard terminal.pause(milliseconds: 500) else { return }
        while true {
            let now = try TopSample(client)
            let size = terminal.size
            let lines = TopFrame(from: before, to: now).lines(rows: size.rows - 1)
            terminal.show(lines.map { String($0.prefix(size.columns)) } + ["q ends this"])
            before = now
            guard terminal.pause(milliseconds: 2_000) else { return }
        }
    }
}

/// What the server says at one moment.
struct TopSample {
    let status: StatusAnswer
    let sessions: SessionsAnswer
    let instant: ContinuousClock.Instant

    init(_ client: AdminClient) throws {
        status = try client.get("/api/v1/admin/status")
        // Looking at them costs the workers time, which a larger number would take from the packets.
        sessions = try client.get("/api/v1/admin/sessions?limit=5000")
        instant = .now
    }

    init(status: StatusAnswer, sessions: SessionsAnswer, instant: ContinuousClock.Instant) {
        (self.status, self.sessions, self.instant) = (status, sessions, instant)
    }
}
