import ArgumentParser
import TurnpikeClient

struct ForwardCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "forward",
        abstract: "Carry TCP connections to a port of a peer that runs turnpike-peer listen.",
        discussion: """
            What connects to --listen here reaches PORT on the peer's machine, as if both were one:

              turnpike-peer forward --listen 127.0.0.1:8080 --to alice/desk:80

            All of them go over one encrypted connection on the best path there is, which is made again when it \
            breaks. Several pairs of --listen and --to may be given. Ctrl-C ends it. --json writes to standard error.
            """
    )

    @Option(
        help: ArgumentHelp(
            "Where to take connections: ADDRESS:PORT, an IPv6 address in brackets, or PORT for 127.0.0.1. Port 0 is "
                + "any that is free.",
            valueName: "address:port"
        )
    )
    var listen: [String] = []

    @Option(
        help: ArgumentHelp(
            "Where they lead: PEER:PORT for a port of the peer's own machine, or PEER:HOST:PORT for another host, "
                + "which the peer has to allow.",
            valueName: "peer:port"
        )
    )
    var to: [String] = []

    @Option(help: ArgumentHelp("This side's id. Without it: PEER_ID, else a drawn one.", valueName: "id"))
    var id: String?

    @OptionGroup var events: EventOptions

    func run() async throws {
        let log = EventLog(events, Console.current)
        try await log.reporting { try await forward(log) }
    }

    private func forward(_ log: EventLog) async throws {
        let pairs = try Self.pairs(listen, to)
        let (coordinator, _) = try await PeerSession.joined(as: id, knowsNAT: false, log: log)
        let teller = ForwardTeller(log)
        // Before the doors open, whose first connection is told of by it.
        let happenings = coordinator.events
        do {
            for (place, route) in pairs {
                let local = try await coordinator.forward(
                    from: place.address,
                    place.port,
                    to: PeerID(route.peer),
                    route.target
                ) { teller.tell($0) }
                log.tell(
                    EventLine(.listening, peer: PeerID(route.peer)).with {
                        ($0.listen, $0.target) = ("\(local)", "\(route.target)")
                    },
                    "\(local) leads to \(route.peer.escapedForTerminal), \(Self.words(route.target)); Ctrl-C ends it"
                )
                if !place.isLoopback {
                    let words = "\(local) is no loopback address: whoever reaches this machine there is let through"
                    log.tell(EventLine(.note, message: words), words)
                }
            }
        } catch {
            await coordinator.shutdown()
            throw CommandError.failed("cannot listen: \("\(error)".escapedForTerminal)")
        }
        Interruption.watch()
        defer { Interruption.unwatch() }
        let watch = Task {
            while !Interruption.isRequested, !Task.isCancelled { try await Task.sleep(for: .milliseconds(50)) }
            await coordinator.shutdown()
        }
        for await event in happenings { teller.tell(event) }
        watch.cancel()
    }

    private static func pairs(_ listen: [String], _ to: [String]) throws -> [(ForwardPlace, ForwardRoute)] {
        guard !listen.isEmpty, listen.count == to.count else {
            throw CommandError.usage(
                "\(listen.count) --listen and \(to.count) --to: give one --to for each --listen, as in "
                    + "--listen 8080 --to alice/desk:80"
            )
        }
        return try zip(listen, to).map { listen, to in
            guard let place = ForwardPlace(listen) else {
                throw CommandError.usage(
                    "--listen \(listen.escapedForTerminal): write ADDRESS:PORT, such as 127.0.0.1:8080 or [::1]:8080, "
                        + "or a PORT"
                )
            }
            guard let route = ForwardRoute(to) else {
                throw CommandError.usage(
                    "--to \(to.escapedForTerminal): write PEER:PORT, such as alice/desk:80, or PEER:HOST:PORT"
                )
            }
            return (place, route)
        }
    }

    /// `port 80 there`, or the target's own words.
    static func words(_ target: ForwardTarget) -> String {
        target.host == "localhost" ? "port \(target.port) there" : "\(target) as seen from there"
    }
}
