import ArgumentParser
import Foundation
import TurnpikeClient

/// One thing that happened, as a line of JSON. Keys stay; what does not apply is left out.
struct EventLine: Encodable {
    /// The words do not change.
    enum Name: String, Encodable {
        case registered, connected, path, explanation, memory, disconnected, failed, note, error
        case pong, summary
        case listening, accepted, declined, unreachable, refused, unanswered, broken, crowded, untold
    }

    let event: Name
    /// Since 1970.
    let timeMilliseconds = Int64(Date().timeIntervalSince1970 * 1_000)
    var peer: String?
    var id: String?
    var natType: String?
    var method: String?
    var path: TurnpikeClient.Path?
    var rttMilliseconds: Double?
    /// Why the path is direct, or is not.
    var explanation: Explanation?
    /// What kind of failure, by the names of the library.
    var reason: String?
    var message: String?
    var report: ConnectionReport?
    /// Where connections are taken, and where they lead.
    var listen: String?
    var target: String?
    var number: Int?
    var count: Int?
    var lost: Int?
    var milliseconds: Double?
    var shortestMilliseconds: Double?
    var medianMilliseconds: Double?
    var longestMilliseconds: Double?
    /// The exit status that follows.
    var status: Int32?

    init(_ event: Name, peer: PeerID? = nil, message: String? = nil) {
        (self.event, self.peer, self.message) = (event, peer?.rawValue, message)
    }

    init(_ event: Name, _ connection: Connection) {
        self.init(event, peer: connection.peerId)
        path = connection.path
        method = path == nil ? nil : connection.method.rawValue
        rttMilliseconds = connection.rtt.map { (Double($0.nanoseconds) / 1e6).thousandths }
    }

    init(_ failure: ConnectionFailure, _ event: Name = .failed) {
        self.init(event, peer: failure.peerId, message: failure.error)
        (reason, report) = (failure.reason.rawValue, failure.report)
    }

    func with(_ change: (inout EventLine) -> Void) -> EventLine {
        var copy = self
        change(&copy)
        return copy
    }
}

/// `--json` of commands that go on for a while.
struct EventOptions: ParsableArguments {
    @Flag(help: "Tell what happens as JSON, an object on each line.")
    var json = false
}

/// Tells what happens: in words for a person, or as lines of JSON.
struct EventLog: Sendable {
    let isJSON: Bool
    private let console: Console
    private let toOutput: Bool

    /// - Parameter toOutput: whether JSON goes to standard output, where nothing else does; else to standard error.
    init(_ options: EventOptions, _ console: Console, toOutput: Bool = false) {
        (isJSON, self.console, self.toOutput) = (options.json, console, toOutput)
    }

    /// - Parameter words: for a person; nil for what only programs are told.
    func tell(_ line: @autoclosure () -> EventLine, _ words: @autoclosure () -> String?) {
        guard isJSON else {
            if let words = words() { console.message(words) }
            return
        }
        guard let text = JSON.line(line()) else { return }
        if toOutput { try? console.write(text) } else { console.message(text) }
    }

    /// Runs a command whose failure is told the same way.
    func reporting(_ body: () async throws -> Void) async throws {
        do {
            try await body()
        } catch let error as CommandError where isJSON {
            tell(
                EventLine(.error, message: error.lines.joined(separator: "\n")).with { $0.status = error.status },
                nil
            )
            throw ExitCode(error.status)
        }
    }
}
