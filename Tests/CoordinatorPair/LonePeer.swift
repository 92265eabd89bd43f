import TurnpikeClient

/// One end of a connection whose other end is in another process, maybe behind another NAT.
enum LonePeer {
    /// Sends everything back, over as many connections as come.
    static func listen() async throws {
        let (coordinator, id) = try await started("listener")
        let events = coordinator.events
        say("listening \(id)")
        for await event in events {
            switch event {
            case .connected(let connection):
                say("connected \(connection.method.rawValue)")
                Task { for await message in connection.messages { try? await connection.send(message) } }
            case .pathChanged(_, let path): say("path \(path?.method.rawValue ?? "none")")
            case .disconnected(_, let reason): say("disconnected: \(reason)")
            default: break
            }
        }
    }

    /// Sends a message every 20 ms, and says when data takes another path and for how long no answer came.
    static func talk() async throws {
        let (coordinator, id) = try await started("talker")
        let events = coordinator.events
        let user = id.rawValue.split(separator: "/")[0]
        let connection = try await coordinator.connectToPeer(PeerID("\(user)/listener"))
        say("connected \(connection.method.rawValue)")
        Task {
            for await event in events {
                if case .pathChanged(_, let path) = event { say("path \(path?.method.rawValue ?? "none")") }
                if case .disconnected(_, let reason) = event { say("disconnected: \(reason)") }
            }
        }
        Task {
            while true {
                try await connection.send("ping")
                try await Task.sleep(for: .milliseconds(20))
            }
        }
        var last = ContinuousClock.now
        var isFirst = true
        for await _ in connection.messages {
            let silence = ContinuousClock.now - last
            last = .now
            if isFirst { say("answered") }
            isFirst = false
            if silence > .milliseconds(400) { say("silence \(Int(silence / .milliseconds(1)))") }
        }
    }

    static func started(_ name: String) async throws -> (P2PCoordinator, PeerID) {
        let configuration = Configuration.fromEnvironment()
        let coordinator = P2PCoordinator(configuration)
        try await coordinator.initialize()
        let id = PeerID("\(configuration.username ?? "nobody")/\(name)")
        try await coordinator.registerPeer(id)
        return (coordinator, id)
    }
}
