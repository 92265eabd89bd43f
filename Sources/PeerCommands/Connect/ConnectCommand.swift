import ArgumentParser
import Foundation
import TurnpikeClient

struct ConnectCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "connect",
        abstract: "Connect to a peer, and join standard input and output to it.",
        discussion: """
            What comes by standard input goes to the peer, and what the peer sends goes to standard output. It ends \
            when either does. Everything is encrypted from end to end.
            """
    )

    @Argument(help: "The id that the peer has registered.")
    var peer: String

    @Option(help: ArgumentHelp("This side's id. Without it: PEER_ID, else a drawn one.", valueName: "id"))
    var id: String?

    @Flag(help: "Say on standard error which path was taken, and why none where there is none.")
    var explain = false

    @OptionGroup var path: PathOptions

    func run() async throws {
        let console = Console.current
        let (coordinator, _) = try await PeerSession.joined(as: id, knowsNAT: explain)
        let events = coordinator.events
        let connection = try await PeerSession.connection(
            to: peer,
            by: coordinator,
            options: ConnectOptions(require: path.requirement),
            showsAttempts: explain
        )
        if explain { await tell(coordinator, connection, console) }
        let watch = Task { await follow(events, connection, console) }
        let others = Task { await OtherChannels.write(connection, to: console) }
        let sending = Task.detached { await StandardInput.send(to: connection, from: console) }
        var failure: (any Error)?
        do {
            for await message in connection.messages { try console.write(bytes: message.bytes) }
        } catch {
            failure = error
        }
        sending.cancel()
        watch.cancel()
        others.cancel()
        await coordinator.shutdown()
        if let failure { throw failure }
    }

    private func tell(_ coordinator: P2PCoordinator, _ connection: Connection, _ console: Console) async {
        let nat = await coordinator.getNATInfo()
        let strategy = await coordinator.recommendedStrategy(for: connection.peerId)
        console.message("NAT here: \(nat.type.rawValue)" + (nat.unknownBecause.map { " (\($0))" } ?? ""))
        if let tcp = nat.tcp, let mapping = tcp.mapping {
            console.message("TCP here: mapping \(mapping), from outside \(tcp.unsolicited ?? "not known")")
        }
        console.message("expected: \(strategy.method.word), \(strategy.description)")
        console.message("connected \(PeerSession.words(connection))")
    }

    /// Tells of other paths, as they come and go.
    private func follow(_ events: AsyncStream<Event>, _ connection: Connection, _ console: Console) async {
        for await event in events {
            switch event {
            case .pathChanged(let changed, let path) where changed === connection && explain:
                console.message(path == nil ? "no path at the moment" : "now \(PeerSession.words(connection))")
            case .disconnected(let ended, let reason) where ended === connection && explain:
                console.message("disconnected: \(reason.escapedForTerminal)")
            default: break
            }
        }
    }
}

/// Standard input as messages.
enum StandardInput {
    /// Returns when the input has ended and the connection with it.
    static func send(to connection: Connection, from console: Console) async {
        while true {
            let bytes = await withCheckedContinuation { continuation in
                // A read may wait for ever, which no thread of Swift's own may.
                Thread.detachNewThread { continuation.resume(returning: console.read(Self.pieceBytes)) }
            }
            guard !bytes.isEmpty, !Task.isCancelled else { break }
            do {
                try await connection.send(bytes)
            } catch {
                return
            }
        }
        await connection.close()
    }

    /// What any peer takes in one message (RFC 8841 section 6: browsers of old take 16 KiB).
    private static let pieceBytes = 16_384
}
