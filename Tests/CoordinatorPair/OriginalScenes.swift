import TurnpikeClient

/// What the original's document says of its coordinator, row by row of docs/coming-from-self-streme.md.
enum OriginalScenes {
    static let all: [String: @Sendable () async throws -> Void] = [
        "life": life,
        "options": options,
        "percentages": percentages,
        "issues": issues,
    ]

    /// Every event in its order, and calls in a wrong one.
    private static func life() async throws {
        let pair = try await Pair.started()
        let coordinator = P2PCoordinator(detailed())
        let log = Task { [events = coordinator.events] in
            var names: [String] = []
            for await event in events { names.append(name(event)) }
            return names
        }
        let id = PeerID(pair.firstID.rawValue + "/third")
        try await coordinator.initialize()
        try await coordinator.initialize()
        try await coordinator.registerPeer(id, metadata: ["client": "my-app", "version": "1.0.0"])
        try await coordinator.registerPeer(id, metadata: ["client": "my-app", "version": "1.0.1"])
        try expect(await coordinator.getStats().registeredPeers == 1, "the id is counted twice")

        let connection = try await coordinator.connectToPeer(pair.secondID)
        let again = try await coordinator.connectToPeer(pair.secondID)
        try expect(again === connection, "an open connection is not given again")
        try expect(await coordinator.getStats().activePeers == 1, "the connection is not counted")
        let nobody = try await failure { try await coordinator.connectToPeer("nobody/here") }
        try expect(nobody.reason == .peerNotFound && nobody.peerId == "nobody/here", "\(nobody)")

        await coordinator.unregisterPeer(id)
        await coordinator.unregisterPeer(id)
        try expect(await coordinator.getStats().registeredPeers == 0, "the id is still counted")
        try await waitUntil(5, "the id's connection closed") { !connection.isOpen }

        await coordinator.shutdown()
        await coordinator.shutdown()
        let late = try await failure { try await coordinator.connectToPeer(pair.secondID) }
        try expect(late.error.contains("shut down"), "\(late)")
        do {
            try await coordinator.initialize()
            throw SceneFailure("a coordinator begins again after its end")
        } catch let error as InitializationFailure {
            try expect(error.description.contains("shut down"), "\(error)")
        }
        do {
            try await coordinator.registerPeer(id)
            throw SceneFailure("an id is registered after the end")
        } catch let error as RegistrationFailure {
            try expect(error.error.contains("shut down"), "\(error)")
        }
        let names = await log.value.filter { $0 != "natChanged" && $0 != "pathChanged" }
        let expected = [
            "initialized", "peerRegistered", "peerRegistered", "connected", "connectionFailed", "disconnected",
            "shutdown",
        ]
        try expect(names == expected, "the events are \(names)")
        for await _ in coordinator.events { throw SceneFailure("an event came after the last") }
        await pair.stop()
    }

    /// The port, the time limits and the requirement do what they say.
    private static func options() async throws {
        let port = try await freePort()
        let pair = try await Pair.started { $0.localPort = port }
        // Both wish for the port, and the one that comes second is told that it is taken.
        let issues = await pair.second.healthCheck().issues
        try expect(issues.contains { $0.contains("\(port)") && $0.contains("taken") }, "\(issues)")
        await pair.stop()

        let other = try await Pair.started()
        var configuration = Configuration.fromEnvironment()
        configuration.localPort = port
        let coordinator = P2PCoordinator(configuration)
        try await coordinator.initialize()
        let events = other.second.events
        let direct = ConnectOptions(require: .direct)
        _ = try await coordinator.connectToPeer(other.secondID, options: direct)
        for await event in events {
            guard case .connected(let incoming) = event else { continue }
            try await waitUntil(5, "a direct path") { incoming.path?.isRelayed == false }
            let address = incoming.path?.remoteAddress ?? ""
            try expect(address.hasSuffix(":\(port)"), "the peer is reached at \(address)")
            break
        }
        await coordinator.shutdown()
        await other.stop()
    }

    /// Five of six.
    private static func percentages() async throws {
        let pair = try await Pair.started()
        var statistics = await pair.first.getStats()
        try expect(statistics.performance.successRate == "0.00", "\(statistics)")
        for _ in 0..<5 {
            let (connection, other) = try await pair.connect(ConnectOptions(require: .direct))
            await connection.close()
            try await waitUntil(5, "both ends closed") { !connection.isOpen && !other.isOpen }
        }
        _ = try await failure { try await pair.first.connectToPeer("nobody/here") }
        statistics = await pair.first.getStats()
        try expect(statistics.registeredPeers == 1 && statistics.activePeers == 0, "\(statistics)")
        try expect(statistics.totalConnections == 6 && statistics.failedAttempts == 1, "\(statistics)")
        try expect(statistics.successfulPunches == 5 && statistics.relayedConnections <= 5, "\(statistics)")
        try expect(statistics.performance.successRate == "83.33", "\(statistics)")
        try expect(statistics.performance.failureRate == "16.67", "\(statistics)")
        try expect(statistics.uptime >= 0 && statistics.uptime < 3_600, "\(statistics)")
        await pair.stop()
    }

    /// What a coordinator says of the network that it is in.
    private static func issues() async throws {
        var configuration = Configuration.fromEnvironment()
        configuration.usesServersFromSignaling = false
        let coordinator = P2PCoordinator(configuration)
        do {
            try await coordinator.initialize()
            say("initialized")
        } catch {
            say("error \(error)")
        }
        let health = await coordinator.healthCheck()
        say("nat \(await coordinator.getNATInfo().type.rawValue)")
        let strategy = await coordinator.getRecommendedStrategy()
        say("strategy \(strategy.method.rawValue) \(strategy.requiresTurn)")
        say("healthy \(health.healthy)")
        for issue in health.issues { say("issue \(issue)") }
        await coordinator.shutdown()
    }

    private static func detailed() -> Configuration {
        var configuration = Configuration.fromEnvironment()
        configuration.enableDetailedLogging = true
        return configuration
    }

    private static func failure(_ body: () async throws -> Connection) async throws -> ConnectionFailure {
        do {
            let connection = try await body()
            throw SceneFailure("there is a connection to \(connection.peerId)")
        } catch let failure as ConnectionFailure {
            return failure
        }
    }

    /// One that the system gave to a coordinator a moment ago.
    private static func freePort() async throws -> UInt16 {
        let pair = try await Pair.started()
        let (_, other) = try await pair.connect(ConnectOptions(require: .direct))
        try await waitUntil(5, "a direct path") { other.path?.isRelayed == false }
        let text = other.path?.remoteAddress.split(separator: ":").last ?? ""
        await pair.stop()
        guard let port = UInt16(text) else { throw SceneFailure("no port is free") }
        return port
    }

    private static func name(_ event: Event) -> String {
        switch event {
        case .initialized: "initialized"
        case .peerRegistered: "peerRegistered"
        case .connected: "connected"
        case .connectionFailed: "connectionFailed"
        case .pathChanged: "pathChanged"
        case .natChanged: "natChanged"
        case .disconnected: "disconnected"
        case .shutdown: "shutdown"
        }
    }
}
