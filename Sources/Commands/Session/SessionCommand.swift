import ArgumentParser

struct SessionCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "session",
        abstract: "Show and end the sessions of the running server: allocations and signaling.",
        subcommands: [SessionList.self, SessionKill.self]
    )
}
