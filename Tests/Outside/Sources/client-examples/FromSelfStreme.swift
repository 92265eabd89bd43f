import TurnpikeClient

/// The original's basic usage.
enum FromSelfStreme {
    static func basicUsage() async throws {
        let p2p = P2PCoordinator()  // reads the environment
        try await p2p.initialize()
        print(await p2p.getNATInfo().type.rawValue)  // such as "Full Cone"
        try await p2p.registerPeer("alice/laptop", metadata: ["client": "my-app"])
        let connection = try await p2p.connectToPeer("alice/desk")
        try await connection.send("hello")
        print("Success rate: \(await p2p.getStats().performance.successRate)%")
        print("Healthy: \(await p2p.healthCheck().healthy)")
        await p2p.shutdown()
    }
}
