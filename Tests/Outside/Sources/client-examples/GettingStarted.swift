import TurnpikeClient

/// Two programs: one answers whoever calls, the other calls it.
enum GettingStarted {
    static func answer() async throws {
        let coordinator = P2PCoordinator()  // configured by the environment
        let events = coordinator.events
        try await coordinator.initialize()
        try await coordinator.registerPeer("alice/desk", metadata: ["client": "my-app"])
        print("alice/desk is registered")

        for await event in events {
            guard case .connected(let connection) = event else { continue }
            Task {
                for await message in connection.messages {
                    try await connection.send("you said: \(message.text)")
                }
            }
        }
    }

    static func call() async throws {
        let coordinator = P2PCoordinator()
        try await coordinator.initialize()
        let connection = try await coordinator.connectToPeer("alice/desk")
        try await connection.send("hello")
        for await message in connection.messages {
            print(message.text)
            break
        }
        await coordinator.shutdown()
    }
}
