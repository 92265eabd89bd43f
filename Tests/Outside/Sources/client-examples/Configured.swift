import TurnpikeClient

/// What a coordinator is told, and what it tells.
enum Configured {
    static func change() async throws {
        var configuration = Configuration.fromEnvironment()
        configuration.connectionTimeout = .seconds(10)
        let coordinator = P2PCoordinator(configuration)
        try await coordinator.initialize()
        await coordinator.shutdown()
    }

    static func health() async throws {
        let coordinator = P2PCoordinator()
        do {
            try await coordinator.initialize()
        } catch let failure as InitializationFailure {
            for issue in failure.issues { print(issue) }
        }
        let health = await coordinator.healthCheck()
        print("healthy: \(health.healthy)")
        for issue in health.issues { print(issue) }
        await coordinator.shutdown()
    }

    static func inShort() async throws {
        let coordinator = P2PCoordinator()
        try await coordinator.initialize()
        try await coordinator.registerPeer("alice/laptop")
        let connection = try await coordinator.connectToPeer("alice/desk")
        try await connection.send("hello")
        await coordinator.shutdown()
    }

    static func conversation() async throws {
        let coordinator = P2PCoordinator()
        try await coordinator.initialize()
        let connection = try await coordinator.connectToPeer("alice/desk")
        try await connection.send("hello")
        for await message in connection.messages { print(message.text) }
    }
}
