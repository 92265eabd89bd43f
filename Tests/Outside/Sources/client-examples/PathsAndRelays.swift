import TurnpikeClient

/// What a program may do about the way that its data takes.
enum PathsAndRelays {
    static func follow() async throws {
        let coordinator = P2PCoordinator()
        try await coordinator.initialize()
        let events = coordinator.events
        let watching = Task {
            for await event in events {
                if case .pathChanged(let connection, let path) = event {
                    print("\(connection.peerId): \(path?.description ?? "no path at the moment")")
                }
            }
        }

        let connection = try await coordinator.connectToPeer("alice/desk")
        print(connection.method.rawValue, connection.path?.isRelayed ?? false)
        try await connection.send("hello")

        await coordinator.shutdown()
        await watching.value
    }

    static func require() async throws {
        let coordinator = P2PCoordinator()
        try await coordinator.initialize()
        do {
            let options = ConnectOptions(require: .direct, timeout: .seconds(5))
            let connection = try await coordinator.connectToPeer("alice/elsewhere", options: options)
            await connection.close()
        } catch let failure as ConnectionFailure {
            print(failure.reason.rawValue, failure.error)
            for pair in failure.report.pairs { print(pair.local, pair.remote, pair.outcome) }
        }
        await coordinator.shutdown()
    }

    static func why() async throws {
        let coordinator = P2PCoordinator()
        try await coordinator.initialize()
        let connection = try await coordinator.connectToPeer("alice/desk")
        if let why = await coordinator.explanation(of: connection) {
            print(why.isDirect, why.cause.rawValue, why.reason, why.advice)
        }
        await coordinator.shutdown()
    }

    static func channels() async throws {
        let coordinator = P2PCoordinator()
        try await coordinator.initialize()
        let connection = try await coordinator.connectToPeer("alice/desk")
        let positions = try await connection.openChannel(
            label: "positions",
            ordered: false,
            reliability: .maxRetransmits(0)
        )
        try await positions.send([1, 2, 3])
        await coordinator.shutdown()
    }
}
