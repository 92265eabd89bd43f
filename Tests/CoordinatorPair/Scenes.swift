import TurnpikeClient

/// What the program can be told to play, by name.
enum Scenes {
    static let all = own.merging(OriginalScenes.all) { first, _ in first }

    private static let own: [String: @Sendable () async throws -> Void] = [
        "messages": messages,
        "channels": channels,
        "direct": { try await path(.direct) },
        "relay": { try await path(.relay) },
        "upgrade": upgrade,
        "glare": glare,
        "unknown-peer": unknownPeer,
        "silent-peer": silentPeer,
        "refused": refused,
        "state": state,
        "dropped": dropped,
        "listen": LonePeer.listen,
        "talk": LonePeer.talk,
        "timed-listen": TimedPeer.listen,
        "timed-talk": { try await TimedPeer.talk(waits: false) },
        "timed-warm-talk": { try await TimedPeer.talk(waits: true) },
    ]

    /// Text, bytes, an empty message, and more than fits any buffer.
    private static func messages() async throws {
        let pair = try await Pair.started()
        let (connection, other) = try await pair.connect()
        try await connection.send("hello")
        try await other.send([1, 2, 3])
        try await connection.send("")
        var incoming = other.messages.makeAsyncIterator()
        try expect(await incoming.next() == Message("hello"), "the first message is another")
        try expect(await incoming.next() == Message(""), "the empty message is another")
        var answers = connection.messages.makeAsyncIterator()
        try expect(await answers.next() == Message([1, 2, 3]), "the answer is another")

        let count = 400
        let sending = Task {
            for number in 0..<count {
                try await connection.send([UInt8](repeating: UInt8(number & 255), count: 50_000))
            }
        }
        // The reader begins late, so the sender has to wait.
        try await Task.sleep(for: .milliseconds(300))
        try expect(other.statistics.bytesReceived < count * 50_000, "nothing holds the sender back")
        for number in 0..<count {
            let message = await incoming.next()
            try expect(
                message?.bytes.count == 50_000 && message?.bytes.last == UInt8(number & 255),
                "\(number) is another"
            )
        }
        try await sending.value
        await connection.close()
        try expect(await incoming.next() == nil, "something came behind the end")
        try await waitUntil(5, "both ends closed") { !connection.isOpen && !other.isOpen }
        await pair.stop()
    }

    private static func channels() async throws {
        let pair = try await Pair.started()
        let (connection, other) = try await pair.connect()
        var offered = other.channels.makeAsyncIterator()
        let channel = try await connection.openChannel(label: "side", subprotocol: "test", ordered: false)
        guard let accepted = await offered.next() else { throw SceneFailure("the peer saw no channel") }
        try expect(accepted.label == "side" && accepted.subprotocol == "test", "the channel's names are others")
        try expect(!accepted.isOrdered, "the channel is ordered")
        try await channel.send("by the side")
        try await connection.send("in the middle")
        var side = accepted.messages.makeAsyncIterator()
        var middle = other.messages.makeAsyncIterator()
        try expect(await side.next()?.text == "by the side", "the channel's message is another")
        try expect(await middle.next()?.text == "in the middle", "the connection's message is another")
        try await accepted.send("back")
        var back = channel.messages.makeAsyncIterator()
        try expect(await back.next()?.text == "back", "the answer is another")
        await channel.close()
        try expect(await side.next() == nil, "the channel goes on")
        do {
            try await channel.send("too late")
            throw SceneFailure("a closed channel takes messages")
        } catch is MessageChannelError {}
        await pair.stop()
        try expect(await middle.next() == nil, "the connection goes on")
    }

    private static func path(_ requirement: ConnectOptions.Requirement) async throws {
        let pair = try await Pair.started()
        let (connection, other) = try await pair.connect(ConnectOptions(require: requirement))
        guard let path = connection.path else { throw SceneFailure("there is no path") }
        say("path \(path), \(connection.method.rawValue)")
        try expect(path.isRelayed == (requirement == .relay), "the path is \(path)")
        try await connection.send("hello")
        var incoming = other.messages.makeAsyncIterator()
        try expect(await incoming.next()?.text == "hello", "the message is another")
        try await waitUntil(10, "a round trip") { connection.rtt != nil }
        if requirement == .relay { try expect(connection.path?.isRelayed == true, "the relay was left") }
        await pair.stop()
    }

    /// Whatever came first, data ends up on a path without a relay.
    private static func upgrade() async throws {
        let pair = try await Pair.started()
        let (connection, other) = try await pair.connect()
        try await waitUntil(10, "a direct path on both sides") {
            connection.path?.isRelayed == false && other.path?.isRelayed == false
        }
        try await connection.send("hello")
        var incoming = other.messages.makeAsyncIterator()
        try expect(await incoming.next()?.text == "hello", "the message is another")
        let statistics = await pair.first.getStats()
        try expect(statistics.totalConnections == 1 && statistics.successfulPunches == 1, "\(statistics)")
        try expect(statistics.performance.successRate == "100.00", "\(statistics)")
        await pair.stop()
    }

    /// Both call at the same time, and get one connection.
    private static func glare() async throws {
        let pair = try await Pair.started()
        async let one = pair.first.connectToPeer(pair.secondID)
        async let two = pair.second.connectToPeer(pair.firstID)
        let (first, second) = try await (one, two)
        try await first.send("one")
        try await second.send("two")
        var atSecond = second.messages.makeAsyncIterator()
        var atFirst = first.messages.makeAsyncIterator()
        try expect(await atSecond.next()?.text == "one", "the connections are two")
        try expect(await atFirst.next()?.text == "two", "the connections are two")
        try expect(await pair.first.getStats().activePeers == 1, "there are more connections")
        await pair.stop()
    }

    private static func unknownPeer() async throws {
        let pair = try await Pair.started()
        do {
            _ = try await pair.first.connectToPeer("nobody/here")
            throw SceneFailure("there is a connection")
        } catch let failure as ConnectionFailure {
            try expect(failure.reason == .peerNotFound, "\(failure)")
        }
        try expect(await pair.first.getStats().performance.failureRate == "100.00", "the failure is not counted")
        await pair.stop()
    }

    /// Somebody else has registered this id, and does not answer.
    private static func silentPeer() async throws {
        let pair = try await Pair.started()
        let user = Configuration.fromEnvironment().username ?? ""
        do {
            let options = ConnectOptions(timeout: .milliseconds(700))
            _ = try await pair.first.connectToPeer(PeerID("\(user)/silent"), options: options)
            throw SceneFailure("there is a connection")
        } catch let failure as ConnectionFailure {
            try expect(failure.reason == .noAnswer, "\(failure)")
        }
        await pair.stop()
    }

    /// A password that is wrong is named, and so is the mend.
    private static func refused() async throws {
        var configuration = Configuration.fromEnvironment()
        configuration.password = "wrong"
        configuration.turnServers = configuration.turnServers.map {
            Configuration.TURNServer(url: $0.url, username: $0.username, password: "wrong")
        }
        let coordinator = P2PCoordinator(configuration)
        try? await coordinator.initialize()
        let health = await coordinator.healthCheck()
        try expect(!health.healthy && health.services.signaling.status == .unhealthy, "\(health)")
        try expect(health.issues.contains { $0.contains("check the username") }, "\(health.issues)")
        do {
            _ = try await coordinator.connectToPeer("alice/second", options: ConnectOptions(timeout: .seconds(2)))
            throw SceneFailure("there is a connection")
        } catch let failure as ConnectionFailure {
            try expect(failure.reason == .signaling, "\(failure)")
        }
        await coordinator.shutdown()
    }

    /// Who is dropped without a shutdown leaves nothing behind.
    private static func dropped() async throws {
        let second: P2PCoordinator
        let id: PeerID
        do {
            let pair = try await Pair.started()
            (second, id) = (pair.second, pair.firstID)
        }
        try await waitUntil(5, "the server has forgotten the one that was dropped") {
            do {
                _ = try await second.connectToPeer(id, options: ConnectOptions(timeout: .seconds(1)))
                return false
            } catch {
                return (error as? ConnectionFailure)?.reason == .peerNotFound
            }
        }
        await second.shutdown()
    }

    private static func state() async throws {
        let pair = try await Pair.started()
        let health = await pair.first.healthCheck()
        say("\(health)")
        try expect(health.healthy && health.issues.isEmpty, "\(health)")
        try expect(health.services.signaling.peers == 1, "\(health)")
        // The server sees the address that the socket is bound to.
        let nat = await pair.first.getNATInfo()
        try expect(nat.type == .open && nat.publicIP == "127.0.0.1", "\(nat)")
        try expect(await pair.first.getRecommendedStrategy().method == .direct, "the strategy is another")
        let (connection, _) = try await pair.connect()
        try expect(await pair.first.getStats().activePeers == 1, "the connection is not counted")
        await pair.first.unregisterPeer(pair.firstID)
        try expect(await pair.first.getStats().registeredPeers == 0, "the id is registered")
        try await waitUntil(5, "the id's connection closed") { !connection.isOpen }
        await pair.stop()
    }
}
