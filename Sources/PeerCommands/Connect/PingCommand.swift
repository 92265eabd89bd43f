import ArgumentParser
import Foundation
import TurnpikeClient

struct PingCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "ping",
        abstract: "Measure the round trip to a peer that runs turnpike-peer listen.",
        discussion: """
            Messages go over an encrypted channel of the connection, so each time is one that an application would \
            see, by the path that stands beside it. The exit status is 0 when every message came back. --json writes \
            to standard output.
            """
    )

    /// Of the channel whose messages come back as they are.
    static let subprotocol = "turnpike.echo"

    @Argument(help: "The id that the peer has registered.")
    var peer: String

    @Option(name: .shortAndLong, help: ArgumentHelp("How many messages, 1 to 10000.", valueName: "count"))
    var count = 5

    @Option(help: ArgumentHelp("This side's id. Without it: PEER_ID, else a drawn one.", valueName: "id"))
    var id: String?

    @OptionGroup var path: PathOptions
    @OptionGroup var events: EventOptions

    func validate() throws {
        guard (1...10_000).contains(count) else { throw ValidationError("give a count from 1 to 10000") }
    }

    func run() async throws {
        let console = Console.current
        let log = EventLog(events, console, toOutput: true)
        try await log.reporting { try await ping(console, log) }
    }

    private func ping(_ console: Console, _ log: EventLog) async throws {
        let (coordinator, _) = try await PeerSession.joined(as: id, knowsNAT: false, log: log)
        let connection = try await PeerSession.connection(
            to: peer,
            by: coordinator,
            options: ConnectOptions(require: path.requirement),
            log: log
        )
        log.tell(EventLine(.connected, connection), nil)
        var times = LatencyHistogram()
        let result = await Self.exchange(count, over: connection) { number, time in
            times.record(nanoseconds: time)
            guard !log.isJSON else { return log.tell(Self.line(number, time, connection), nil) }
            let path = PeerSession.words(connection)
            try console.write("\(number) of \(count): \(Figure.time(nanoseconds: time)), \(path)")
        }
        await coordinator.shutdown()
        if case .failure(let error) = result { throw error }
        let lost = count - Int(clamping: times.count)
        if log.isJSON {
            log.tell(summary(times, lost: lost), nil)
            if lost > 0 { throw ExitCode(ExitStatus.failed) }
            return
        }
        try console.write(
            "\(Figure.count(UInt64(count), "message")), \(lost) lost"
                + (times.percentile(50).map {
                    "; shortest \(Figure.time(nanoseconds: times.shortestNanoseconds)), "
                        + "half within \(Figure.time(nanoseconds: $0)), "
                        + "longest \(Figure.time(nanoseconds: times.longestNanoseconds))"
                } ?? "")
        )
        if lost > 0 { throw ExitCode(ExitStatus.failed) }
    }

    private static func line(_ number: Int, _ nanoseconds: UInt64, _ connection: Connection) -> EventLine {
        EventLine(.pong, connection).with {
            $0.number = number
            $0.milliseconds = (Double(nanoseconds) / 1e6).thousandths
        }
    }

    private func summary(_ times: LatencyHistogram, lost: Int) -> EventLine {
        func milliseconds(_ nanoseconds: UInt64) -> Double { (Double(nanoseconds) / 1e6).thousandths }
        return EventLine(.summary, peer: PeerID(peer)).with {
            ($0.count, $0.lost) = (count, lost)
            guard let median = times.percentile(50) else { return }
            $0.shortestMilliseconds = milliseconds(times.shortestNanoseconds)
            $0.medianMilliseconds = milliseconds(median)
            $0.longestMilliseconds = milliseconds(times.longestNanoseconds)
        }
    }

    /// One message a second, each awaited for five.
    private static func exchange(
        _ count: Int,
        over connection: Connection,
        _ body: (Int, UInt64) throws -> Void
    ) async -> Result<Void, any Error> {
        do {
            let channel = try await connection.openChannel(label: "ping", subprotocol: subprotocol)
            let clock = ContinuousClock()
            for number in 1...count {
                let start = clock.now
                try await channel.send(Array("\(number)".utf8))
                guard await answer(number, on: channel) else { continue }
                let time = start.duration(to: clock.now)
                try body(number, time.nanoseconds)
                if number < count { try await clock.sleep(until: start + .seconds(1)) }
            }
            return .success(())
        } catch let error as CommandError {
            return .failure(error)
        } catch {
            return .failure(CommandError.failed("\(error)".escapedForTerminal))
        }
    }

    private static func answer(_ number: Int, on channel: MessageChannel) async -> Bool {
        await withTaskGroup(of: Bool.self) { group in
            group.addTask {
                for await message in channel.messages where message.text == "\(number)" { return true }
                return false
            }
            group.addTask {
                try? await Task.sleep(for: .seconds(5))
                return false
            }
            let isThere = await group.next() ?? false
            group.cancelAll()
            return isThere
        }
    }
}
