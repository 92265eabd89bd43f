import Testing

@testable import TurnpikeClient

/// What the original's document says of a coordinator, as far as it takes no server.
@Suite struct OriginalTests {
    @Test func theOptionsHaveTheirDefaults() {
        for configuration in [Configuration(), Configuration.fromEnvironment([:])] {
            #expect(configuration.localPort == 0)
            #expect(configuration.keepAliveInterval == .seconds(25))
            #expect(configuration.connectionTimeout == .seconds(30))
            #expect(configuration.maxRetries == 3)
            #expect(!configuration.enableDetailedLogging)
            #expect(configuration.stunServers.isEmpty && configuration.turnServers.isEmpty)
        }
        #expect(ConnectOptions().require == .any && ConnectOptions().timeout == nil)
    }

    @Test func nothingIsKnownBeforeTheBeginning() async {
        let coordinator = P2PCoordinator(Configuration())
        let nat = await coordinator.getNATInfo()
        #expect(nat.type == .unknown && nat.publicIP == nil && nat.publicPort == nil)
        #expect(nat.unknownBecause == "initialize() was not called")
        let statistics = await coordinator.getStats()
        #expect(statistics == AttemptCounts().statistics(registered: 0, active: 0, uptimeSeconds: 0))
        #expect(statistics.performance.successRate == "0.00" && statistics.performance.failureRate == "0.00")
        let health = await coordinator.healthCheck()
        #expect(!health.healthy)
        #expect(health.services.holePunching.status == .disabled && health.services.signaling.status == .disabled)
        #expect(health.issues.contains { $0.contains("set SIGNALING_SERVER") })
        let strategy = await coordinator.getRecommendedStrategy()
        #expect(strategy.method == .udpHolePunch && strategy.requiresTurn)
    }

    @Test func callsBeforeTheBeginningSayWhatToCall() async {
        let coordinator = P2PCoordinator(Configuration())
        let failure = await #expect(throws: ConnectionFailure.self) { try await coordinator.connectToPeer("bob") }
        #expect(failure?.reason == .signaling && failure?.error == "call initialize() first")
        let refusal = await #expect(throws: RegistrationFailure.self) { try await coordinator.registerPeer("alice") }
        #expect(refusal?.id == "alice" && refusal?.error == "call initialize() first")
        await coordinator.unregisterPeer("alice")
        #expect(await coordinator.getStats().totalConnections == 0)
    }

    @Test func afterTheEndCallsSayToMakeAnother() async {
        let coordinator = P2PCoordinator(Configuration())
        let events = coordinator.events
        await coordinator.shutdown()
        await coordinator.shutdown()
        let failure = await #expect(throws: ConnectionFailure.self) { try await coordinator.connectToPeer("bob") }
        #expect(failure?.error == "the coordinator was shut down; make another")
        let refusal = await #expect(throws: RegistrationFailure.self) { try await coordinator.registerPeer("alice") }
        #expect(refusal?.error == "the coordinator was shut down; make another")
        await #expect(throws: InitializationFailure.self) { try await coordinator.initialize() }
        var count = 0
        for await event in events {
            guard case .shutdown = event else { continue }
            count += 1
        }
        #expect(count == 1)
        for await _ in coordinator.events { Issue.record("an event came behind the last") }
    }

    /// A server that is not there ends the beginning at once, and not with the time that is allowed for it.
    @Test func nothingThatWorksIsNamedAtOnce() async throws {
        // Nobody listens below 1024 on an address of loopback that nobody uses.
        let configuration = Configuration(
            signalingServer: "wss://127.213.77.1:9/signal",
            username: "alice",
            password: "secret",
            connectionTimeout: .seconds(600)
        )
        let coordinator = P2PCoordinator(configuration)
        let failure = await #expect(throws: InitializationFailure.self) { try await coordinator.initialize() }
        let text = try #require(failure).description
        #expect(text.hasPrefix("P2P initialization failed: wss://127.213.77.1:9"))
        #expect(text.contains("nothing listens there; check the port"))
        let refusal = await #expect(throws: RegistrationFailure.self) { try await coordinator.registerPeer("alice") }
        #expect(refusal?.error.contains("nothing listens there") == true)
        let refused = await #expect(throws: ConnectionFailure.self) { try await coordinator.connectToPeer("bob") }
        #expect(refused?.reason == .signaling && refused?.error.contains("nothing listens there") == true)
        #expect(await coordinator.getStats().performance.failureRate == "100.00")
        await coordinator.shutdown()
    }

    @Test(arguments: [
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0), ("Sun, 06 Nov 1994 08:49:37 GMT", 784_111_777),
        ("Tue, 29 Feb 2000 23:59:59 GMT", 951_868_799), ("Mon, 23 Nov 2026 02:22:00 GMT", 1_795_400_520),
    ])
    func aServersDateIsReadAndWritten(text: String, seconds: Int64) {
        #expect(HTTPDate.seconds(text) == seconds)
        #expect(HTTPDate.text(seconds) == text)
    }

    @Test(arguments: [
        "", "now", "Sun, 06 Nov 1994 08:49:37", "Sun, 06 Nov 1994 24:49:37 GMT", "Sun, +6 Nov 1994 08:49:37 GMT",
        "Sunday, 06-Nov-94 08:49:37 GMT", "Sun, 06 Foo 1994 08:49:37 GMT",
        "Sun, 06 Nov 99999999999999999999 08:49:37 GMT",
    ])
    func whatIsNoDateIsNone(text: String) { #expect(HTTPDate.seconds(text) == nil) }
}
