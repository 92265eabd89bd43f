import Glibc
import TurnpikeClient

/// What went wrong in a scene.
struct SceneFailure: Error, CustomStringConvertible {
    let description: String

    init(_ description: String) { self.description = description }
}

/// Two coordinators of one program, by the configuration of the environment.
struct Pair {
    let first: P2PCoordinator
    let second: P2PCoordinator
    let firstID: PeerID
    let secondID: PeerID

    /// - Parameter change: what differs from the environment.
    static func started(_ change: (inout Configuration) -> Void = { _ in }) async throws -> Pair {
        var configuration = Configuration.fromEnvironment()
        change(&configuration)
        let user = configuration.username ?? "nobody"
        let pair = Pair(
            first: P2PCoordinator(configuration),
            second: P2PCoordinator(configuration),
            firstID: PeerID("\(user)/first"),
            secondID: PeerID("\(user)/second")
        )
        try await pair.first.initialize()
        try await pair.second.initialize()
        try await pair.first.registerPeer(pair.firstID, metadata: ["side": "first"])
        try await pair.second.registerPeer(pair.secondID)
        return pair
    }

    /// A connection, and the peer's end of it.
    func connect(_ options: ConnectOptions = .init()) async throws -> (Connection, Connection) {
        let events = second.events
        let connection = try await first.connectToPeer(secondID, options: options)
        for await event in events {
            if case .connected(let other) = event { return (connection, other) }
        }
        throw SceneFailure("the peer saw no connection")
    }

    func stop() async {
        await first.shutdown()
        await second.shutdown()
    }
}

/// Throws unless the condition holds.
func expect(_ condition: Bool, _ what: @autoclosure () -> String) throws {
    if !condition { throw SceneFailure(what()) }
}

/// Waits for a condition, which has to come true within the time.
func waitUntil(_ seconds: Int, _ what: String, _ condition: () async -> Bool) async throws {
    let deadline = ContinuousClock.now.advanced(by: .seconds(seconds))
    while !(await condition()) {
        try expect(ContinuousClock.now < deadline, "not within \(seconds) s: \(what)")
        try await Task.sleep(for: .milliseconds(10))
    }
}

/// Prints a line at once: a reader waits for it.
func say(_ line: String) {
    print(line)
    fflush(nil)
}
