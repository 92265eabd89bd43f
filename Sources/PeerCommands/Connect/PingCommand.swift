import ArgumentParser
import Foundation
import TurnpikeClient

struct PingCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "ping",
        abstract: "Measure the round trip to a peer that runs turnpike-peer listen.",
        discussion: """
            Messages go over an encrypted channel of the connection, so each time is one that an application would \
            see, by the path that stands beside it. The exit status is 0 when every message came back.
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

    func validate() throws {
        guard (1...10_000).contains(count) else { throw ValidationError("give a count from 1 to 10000") }
    }

    func run() async throws {
        let console = Console.current
        let (coordinator, _) = try await PeerSession.joined(as: id, knowsNAT: false)
        let connection = try await PeerSession.connection(
            to: peer,
            by: coordinator,
            options: ConnectOptions(require: path.requirement)
        )
        var times = LatencyHistogram()
        let result = await Self.exchange(count, over: connection) { number, time in
            times.record(nanoseconds: time)
            let path = PeerSession.words(connection)
            try console.write("\(number) of \(count): \(Figure.time(nanoseconds: time)), \(path)")
        }
        await coordinator.shutdown()
        if case .failure(let error) = result { throw error }
        let lost = count - Int(clamping: times.count)
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
