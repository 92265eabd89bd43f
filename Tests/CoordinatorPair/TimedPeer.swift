import Glibc
import TurnpikeClient

/// One end of a connection that says when what happened: `at NANOSECONDS EVENT`, by the machine's clock, so that both
/// ends of a connection can be held together.
enum TimedPeer {
    /// Sends a message as soon as it may, and one for each that comes.
    static func listen() async throws {
        let (coordinator, id) = try await LonePeer.started("listener")
        let events = coordinator.events
        at("listening \(id)")
        for await event in events {
            guard case .connected(let connection) = event else { continue }
            Task {
                try await connection.send("first")
                await hear(connection) { try? await connection.send($0) }
            }
        }
    }

    /// Connects, sends a message every 20 ms, and says for how long no answer came.
    /// - Parameter waits: until there are relays, before it connects.
    static func talk(waits: Bool) async throws {
        if !waits { at("calling") }
        let (coordinator, id) = try await LonePeer.started("talker")
        if waits {
            try await Task.sleep(for: .seconds(3))
            at("calling")
        }
        let events = coordinator.events
        let user = id.rawValue.split(separator: "/")[0]
        let connection = try await coordinator.connectToPeer(PeerID("\(user)/listener"))
        at("connected \(connection.method.rawValue)")
        Task {
            while true {
                try await connection.send("ping")
                try await Task.sleep(for: .milliseconds(20))
            }
        }
        Task {
            for await event in events {
                if case .pathChanged(_, let path) = event { at("path \(path?.method.rawValue ?? "none")") }
                if case .disconnected(_, let reason) = event { at("disconnected: \(reason)") }
            }
        }
        await hear(connection) { _ in }
    }

    private static func hear(_ connection: Connection, _ answer: (Message) async -> Void) async {
        var last: UInt64?
        for await message in connection.messages {
            let now = nanoseconds()
            if let last, now - last > 200_000_000 { at("silence \((now - last) / 1_000_000)") }
            if last == nil { at("first") }
            last = now
            await answer(message)
        }
    }

    private static func at(_ event: String) { say("at \(nanoseconds()) \(event)") }

    private static func nanoseconds() -> UInt64 {
        var now = timespec()
        clock_gettime(CLOCK_MONOTONIC, &now)
        return UInt64(now.tv_sec) * 1_000_000_000 + UInt64(now.tv_nsec)
    }
}
