import ArgumentParser
import Foundation
import Synchronization
import TurnpikeClient

struct ConnectCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "connect",
        abstract: "Connect to a peer, and join standard input and output to it.",
        discussion: """
            What comes by standard input goes to the peer, and what the peer sends goes to standard output. It ends \
            when either does. Everything is encrypted from end to end. --explain and --json write to standard error.
            """
    )

    @Argument(help: "The id that the peer has registered.")
    var peer: String

    @Option(help: ArgumentHelp("This side's id. Without it: PEER_ID, else a drawn one.", valueName: "id"))
    var id: String?

    @Flag(help: "Say on standard error which path was taken, why it is direct or not, and what would help.")
    var explain = false

    @OptionGroup var path: PathOptions
    @OptionGroup var events: EventOptions

    /// Programs are told all of it.
    private var isExplaining: Bool { explain || events.json }

    func run() async throws {
        let console = Console.current
        let log = EventLog(events, console)
        try await log.reporting { try await connect(console, log) }
    }

    private func connect(_ console: Console, _ log: EventLog) async throws {
        let (coordinator, own) = try await PeerSession.joined(as: id, knowsNAT: explain, log: log)
        log.tell(EventLine(.registered).with { $0.id = own.rawValue }, nil)
        let happenings = coordinator.events
        let connection = try await PeerSession.connection(
            to: peer,
            by: coordinator,
            options: ConnectOptions(require: path.requirement),
            showsAttempts: explain,
            log: log
        )
        let reasons = Reasons(connection, log)
        if isExplaining { await tell(coordinator, connection, reasons, log) }
        let watch = Task { if isExplaining { await follow(happenings, coordinator, connection, reasons, log) } }
        let patience = Task { if isExplaining { await explainRelay(coordinator, connection, reasons) } }
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
        patience.cancel()
        others.cancel()
        await coordinator.shutdown()
        if let failure { throw failure }
    }

    private func tell(
        _ coordinator: P2PCoordinator,
        _ connection: Connection,
        _ reasons: Reasons,
        _ log: EventLog
    ) async {
        let nat = await coordinator.getNATInfo()
        if !log.isJSON {
            let strategy = await coordinator.recommendedStrategy(for: connection.peerId)
            let why = nat.unknownBecause.map { " (\($0.escapedForTerminal))" } ?? ""
            log.tell(EventLine(.note), "NAT here: \(nat.type.rawValue)\(why)")
            if let tcp = nat.tcp, let mapping = tcp.mapping {
                let inbound = tcp.unsolicited.map { ", connections from outside \($0)" } ?? ""
                log.tell(EventLine(.note), "TCP here: mapping \(mapping)\(inbound)")
            }
            // What was asked for leaves nothing to expect.
            if path.requirement != .relay {
                log.tell(EventLine(.note), "expected: \(strategy.method.word), \(strategy.description)")
            }
        }
        let line = EventLine(.connected, connection).with { $0.natType = nat.type.rawValue }
        log.tell(line, "connected \(PeerSession.words(connection))")
        reasons.tell(await coordinator.explanation(of: connection))
        let memory = await coordinator.pathMemory(of: connection)?.words ?? ""
        if !memory.isEmpty {
            log.tell(EventLine(.memory, peer: connection.peerId, message: memory), "memory: \(memory)")
        }
    }

    /// Tells of other paths, as they come and go.
    private func follow(
        _ events: AsyncStream<Event>,
        _ coordinator: P2PCoordinator,
        _ connection: Connection,
        _ reasons: Reasons,
        _ log: EventLog
    ) async {
        for await event in events {
            switch event {
            case .pathChanged(let changed, let path) where changed === connection:
                let words = path == nil ? "no path at the moment" : "now \(PeerSession.words(connection))"
                log.tell(EventLine(.path, connection), words)
                if path != nil { reasons.tell(await coordinator.explanation(of: connection)) }
            case .disconnected(let ended, let reason) where ended === connection:
                log.tell(
                    EventLine(.disconnected, peer: connection.peerId, message: reason),
                    "disconnected: \(reason.escapedForTerminal)"
                )
            default: break
            }
        }
    }

    /// A connection that stays on the relay has no event to tell of it: when all was tried, that is told once.
    private func explainRelay(_ coordinator: P2PCoordinator, _ connection: Connection, _ reasons: Reasons) async {
        var said = await coordinator.explanation(of: connection)?.cause
        while said != nil {
            do {
                try await Task.sleep(for: .seconds(1))
            } catch { return }
            guard let found = await coordinator.explanation(of: connection), connection.isOpen else { return }
            if !found.isDirect, found.cause != said { reasons.tell(found) }
            said = found.cause
        }
    }
}

/// Tells why a connection is direct or is not. A person is not told the same twice in a row, whatever path it was;
/// programs have it with each path.
private final class Reasons: Sendable {
    private let connection: Connection
    private let log: EventLog
    private let last = Mutex<Explanation?>(nil)

    init(_ connection: Connection, _ log: EventLog) { (self.connection, self.log) = (connection, log) }

    func tell(_ why: Explanation?) {
        guard let why else { return }
        let isNew = last.withLock { last in
            defer { last = why }
            return last != why
        }
        log.tell(
            EventLine(.explanation, peer: connection.peerId).with { $0.explanation = why },
            isNew ? "why: \(why.description.escapedForTerminal)" : nil
        )
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
