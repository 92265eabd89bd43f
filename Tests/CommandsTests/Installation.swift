import Accounts
import Commands
import Foundation
import Synchronization

/// What a command left behind.
struct Outcome {
    let status: Int32
    let output: String
    let messages: String

    var messageLines: [String] { messages.split(separator: "\n").map(String.init) }
}

/// A data directory of its own, and a way to run commands on it with an environment that nobody else sees.
final class Installation {
    let path = NSTemporaryDirectory() + "commands-tests-" + UUID().uuidString
    var environment: [String: String] = [:]

    init() {
        environment["TURNPIKE_DATA_DIR"] = path
        environment["TURNPIKE_LISTEN_UDP"] = "203.0.113.5:3478"
        environment["HOME"] = path
    }

    deinit {
        try? FileManager.default.removeItem(atPath: path)
    }

    /// - Parameter now: seconds since 1970.
    func run(
        _ arguments: [String],
        input: [UInt8] = [],
        outputError: Int32 = 0,
        now: Int64 = 1_700_000_000
    ) async -> Outcome {
        let world = World(input)
        let console = Console(
            environment: environment,
            effectiveUser: geteuid(),
            now: { now },
            read: { world.read($0) },
            output: { bytes in
                if outputError == 0 { world.append(output: bytes) }
                return outputError
            },
            diagnostics: { world.append(messages: $0) }
        )
        let status = await Console.$current.withValue(console) { await CommandLineTool.run(arguments) }
        return world.outcome(status)
    }

    func run(
        _ arguments: String...,
        input: [UInt8] = [],
        outputError: Int32 = 0,
        now: Int64 = 1_700_000_000
    ) async -> Outcome {
        await run(arguments, input: input, outputError: outputError, now: now)
    }

    func store(_ mode: AccountStore.Mode = .readOnly) throws -> AccountStore {
        try AccountStore(dataDirectory: path, mode: mode)
    }
}

private final class World: Sendable {
    private struct State {
        var input: ArraySlice<UInt8>
        var output: [UInt8] = []
        var messages: [UInt8] = []
    }

    private let state: Mutex<State>

    init(_ input: [UInt8]) {
        state = Mutex(State(input: input[...]))
    }

    func read(_ count: Int) -> [UInt8] {
        state.withLock { state in
            defer { state.input = state.input.dropFirst(count) }
            return Array(state.input.prefix(count))
        }
    }

    func append(output bytes: [UInt8]) {
        state.withLock { $0.output += bytes }
    }

    func append(messages bytes: [UInt8]) {
        state.withLock { $0.messages += bytes }
    }

    func outcome(_ status: Int32) -> Outcome {
        state.withLock {
            Outcome(
                status: status,
                output: String(decoding: $0.output, as: UTF8.self),
                messages: String(decoding: $0.messages, as: UTF8.self)
            )
        }
    }
}
