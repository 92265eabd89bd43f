import ArgumentParser
import Foundation
import TurnpikeClient

struct ListenCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "listen",
        abstract: "Register an id, take connections, and print what arrives.",
        discussion: """
            What peers send goes to standard output as it is; who comes and goes, and by which path, to standard \
            error. It answers turnpike-peer ping, and connects to ports of this machine for turnpike-peer forward, \
            unless --forward restricts that. Ctrl-C ends it. --json writes to standard error.
            """
    )

    @Option(help: ArgumentHelp("This side's id. Without it: PEER_ID, else a drawn one.", valueName: "id"))
    var id: String?

    @Option(
        help: ArgumentHelp(
            "Serve GET /p2p/status and GET /p2p/connect/{peerId} on a loopback address, such as 127.0.0.1:3000.",
            valueName: "address:port"
        )
    )
    var http: String?

    @Option(
        help: ArgumentHelp(
            "Where peers may be forwarded to: none; loopback, which is every port of this machine's loopback addresses "
                + "and the default; ports such as 80,443; other targets such as 10.0.0.5:80. With own-user, only peers "
                + "of this side's user may. What is named is all that is allowed.",
            valueName: "places"
        )
    )
    var forward: [String] = []

    @OptionGroup var events: EventOptions

    func run() async throws {
        let console = Console.current
        let log = EventLog(events, console)
        try await log.reporting { try await listen(console, log) }
    }

    private func listen(_ console: Console, _ log: EventLog) async throws {
        let policy = try ForwardPolicy(words: forward)
        if let http, !StatusDoor.isPlace(http) { throw StatusDoor.refusal(http) }
        let (coordinator, own) = try await PeerSession.joined(as: id, knowsNAT: true, log: log)
        let door: StatusDoor?
        do {
            let answers = StatusAnswers(coordinator: coordinator)
            door = try http.map { try StatusDoor($0) { await answers.answer($0) } }
        } catch {
            await coordinator.shutdown()
            throw error
        }
        defer { door?.close() }
        let happenings = coordinator.events
        let nat = await coordinator.getNATInfo()
        log.tell(
            EventLine(.registered).with { ($0.id, $0.natType) = (own.rawValue, nat.type.rawValue) },
            "registered as \(own.description.escapedForTerminal), NAT \(nat.type.rawValue); Ctrl-C ends it"
        )
        if let door {
            let words = "http://\(door.address)/p2p/status tells of it"
            log.tell(EventLine(.note, message: words), words)
        }
        let teller = ForwardTeller(log)
        await coordinator.acceptForwards(policy) { teller.tell($0) }
        log.tell(EventLine(.note, message: policy.warning), policy.warning)
        Interruption.watch()
        defer { Interruption.unwatch() }
        let watch = Task {
            while !Interruption.isRequested, !Task.isCancelled { try await Task.sleep(for: .milliseconds(50)) }
            await coordinator.shutdown()
        }
        for await event in happenings { take(event, console, log) }
        watch.cancel()
    }

    private func take(_ event: Event, _ console: Console, _ log: EventLog) {
        switch event {
        case .connected(let connection):
            log.tell(
                EventLine(.connected, connection),
                "\(name(connection)) is connected \(PeerSession.words(connection))"
            )
            Task {
                for await message in connection.messages { try? console.write(bytes: message.bytes) }
            }
            Task { await OtherChannels.write(connection, to: console) }
        case .pathChanged(let connection, let path):
            log.tell(
                EventLine(.path, connection),
                path == nil
                    ? "\(name(connection)) has no path at the moment"
                    : "\(name(connection)) is reached \(PeerSession.words(connection))"
            )
        case .disconnected(let connection, let reason):
            log.tell(
                EventLine(.disconnected, peer: connection.peerId, message: reason),
                "\(name(connection)) is gone: \(reason.escapedForTerminal)"
            )
        case .connectionFailed(let failure):
            let peer = failure.peerId.description.escapedForTerminal
            log.tell(EventLine(failure), "\(peer) could not connect: \(failure.error.escapedForTerminal)")
        case .initialized, .peerRegistered, .natChanged, .shutdown: break
        }
    }

    private func name(_ connection: Connection) -> String { connection.peerId.description.escapedForTerminal }
}
