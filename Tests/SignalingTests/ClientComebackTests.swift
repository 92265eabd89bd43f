import Testing

@testable import Signaling

/// Cuts, restarts and refusals, and what the session does about them.
@Suite struct ClientComebackTests {
    /// Both speak, and alice's line is cut when its n-th message would arrive, whichever way that goes and whatever it
    /// is: a welcome, a refusal, a message or a pong.
    @Test(arguments: [true, false], [SignalingCredentialPlace.hello, .upgrade])
    func aCutAtAnyMessageLosesAndDoublesNothing(serverSees: Bool, place: SignalingCredentialPlace) throws {
        var cuts = 0
        for cutAt in 1...24 {
            let world = ClientWorld(seed: UInt64(cutAt))
            let bob = try world.peer("bob")
            let alice = world.station("alice") { $0.credentialPlace = place }
            alice.serverSeesCuts = serverSees
            alice.start()
            _ = try alice.call { s, now, actions throws(SignalingError) in
                try s.register("alice", now: now, into: &actions)
            }
            world.run(seconds: 1)
            let start = alice.arrivals
            alice.mayArrive = { $0 - start != cutAt && $0 - start != cutAt + 7 && $0 - start != cutAt + 9 }
            for number in 0..<12 {
                try alice.send(number, to: "bob", from: "alice")
                try bob.send(number, to: "alice", from: "bob")
                world.run(seconds: 0.15)
            }
            world.run(seconds: 20)
            #expect(alice.numbers == Array(0..<12), "cut at \(cutAt)")
            #expect(bob.numbers == Array(0..<12), "cut at \(cutAt)")
            #expect(
                alice.session.counters.connects > 1 && alice.session.counters.sessionsOpened == 1,
                "cut at \(cutAt)"
            )
            #expect(alice.failures.isEmpty && bob.failures.isEmpty, "cut at \(cutAt)")
            cuts += alice.connects.count - 1
        }
        #expect(cuts > 60)
    }

    @Test func requestsUnderWayGetTheirAnswersAfterACut() throws {
        for cutAt in 1...16 {
            let world = ClientWorld(seed: UInt64(cutAt))
            let alice = try world.peer("alice")
            let start = alice.arrivals
            alice.mayArrive = { $0 - start != cutAt }
            var requests: Set<SignalingRequestID> = []
            for number in 1...3 {
                requests.insert(
                    try alice.call { s, now, a throws(SignalingError) in
                        try s.register("alice/\(number)", now: now, into: &a)
                    }
                )
                requests.insert(
                    try alice.call { s, now, a throws(SignalingError) in
                        try s.joinRoom("r\(number)", as: "alice/\(number)", now: now, into: &a)
                    }
                )
            }
            requests.insert(
                try alice.call { s, now, a throws(SignalingError) in try s.lookup("alice", now: now, into: &a) }
            )
            world.run(seconds: 5)
            var answered: [SignalingRequestID] = []
            for event in alice.events {
                switch event {
                case .registered(_, let request?), .roomJoined(_, _, _, let request?), .found(_, _, let request):
                    if requests.contains(request) { answered.append(request) }
                default: break
                }
            }
            #expect(answered.count == requests.count && Set(answered) == requests, "cut at \(cutAt)")
            #expect(world.lab.hub.statistics.peers == 4 && world.lab.hub.statistics.rooms == 3)
        }
    }

    @Test func aSilentLineIsNoticed() throws {
        let world = ClientWorld()
        let alice = try world.peer("alice")
        let bob = try world.peer("bob")
        alice.isMute = true
        alice.serverSeesCuts = false
        alice.cut()
        alice.isMute = false
        try bob.send(1, to: "alice", from: "bob")
        world.run(seconds: 35)
        #expect(alice.session.counters.silences == 1 && alice.session.state == .open)
        #expect(alice.session.welcome?.isResumed == true && alice.numbers == [1])
        // One that is alive stays, however long nobody has anything to say.
        let connects = bob.session.counters.connects
        world.run(seconds: 3_000)
        #expect(bob.session.counters.connects == connects && bob.session.counters.silences == 0)
    }

    @Test func pausesGrowWithinTheirBounds() throws {
        let world = ClientWorld()
        let alice = world.station("alice")
        alice.isServerUp = false
        alice.start()
        world.run(seconds: 900)
        let gaps = zip(alice.connects.dropFirst(), alice.connects).map { Double($0 - $1) / 1e6 - 20 }
        #expect(gaps.count > 14)
        for (attempt, gap) in gaps.enumerated() {
            let most = min(500 * Double(1 << min(attempt, 20)), 60_000)
            #expect(gap >= most / 2 - 1 && gap <= most + 1, "pause \(attempt): \(gap) ms")
        }
        let other = world.station("bob")
        other.isServerUp = false
        other.start()
        world.run(seconds: 60)
        let first = other.connects.prefix(5).map { $0 - other.connects[0] }
        #expect(first != alice.connects.prefix(5).map { $0 - alice.connects[0] }, "clients do not come all at once")
        alice.isServerUp = true
        world.run(seconds: 61)
        #expect(alice.session.state == .open)
    }

    @Test func afterARestartEverythingIsRegisteredAndEnteredAgain() throws {
        let world = ClientWorld()
        let alice = try world.peer("alice")
        let bob = try world.peer("bob")
        let metadata = try JSONText(#"{"n":2}"#)
        for number in 1...20 {
            _ = try alice.call { s, now, a throws(SignalingError) in
                try s.register("alice/\(number)", metadata: metadata, now: now, into: &a)
            }
            _ = try alice.call { s, now, a throws(SignalingError) in
                try s.joinRoom("r\(number % 3)", as: "alice/\(number)", now: now, into: &a)
            }
        }
        _ = try alice.call { s, now, a throws(SignalingError) in try s.unregister("alice/20", now: now, into: &a) }
        _ = try alice.call { s, now, a throws(SignalingError) in
            try s.leaveRoom("r1", as: "alice/19", now: now, into: &a)
        }
        world.run(seconds: 5)
        let before = world.lab.hub.statistics
        #expect(before.peers == 21 && before.rooms == 3)
        _ = alice.takeEvents()
        let old = try #require(alice.session.welcome?.sessionID)
        world.lab.restart()
        world.run(seconds: 0.05)
        // Said while there is no connection: it arrives.
        try bob.send(5, to: "alice", from: "bob")
        world.run(seconds: 5)
        #expect(world.lab.hub.statistics.peers == before.peers && world.lab.hub.statistics.rooms == before.rooms)
        #expect(world.lab.hub.peers["alice/7"]?.metadata == metadata.bytes)
        #expect(world.lab.hub.peers["alice/7"]?.rooms.map(\.id) == ["r1"])
        #expect(world.lab.hub.peers["alice/19"]?.rooms.isEmpty == true && world.lab.hub.peers["alice/20"] == nil)
        #expect(alice.session.welcome?.isResumed == false && alice.session.welcome?.sessionID != old)
        let again = alice.events.compactMap { if case .registered(let id, nil) = $0 { id } else { nil } }
        #expect(again.count == 20)
        #expect(bob.failures.isEmpty && alice.numbers == [5])
    }

    @Test func whatMayHaveArrivedInALostSessionIsReportedAndNotRepeated() throws {
        let world = ClientWorld()
        let alice = try world.peer("alice")
        let bob = try world.peer("bob")
        let request = try alice.send(1, to: "bob", from: "alice")
        world.run(seconds: 0.015)
        world.lab.restart()
        world.run(seconds: 5)
        #expect(alice.has { $0 == .failed(request, .unconfirmed) })
        #expect(bob.numbers.count <= 1 && alice.session.state == .open)
    }

    @Test func aServerThatGoesSaysWhenToComeBackAndIsObeyed() throws {
        let world = ClientWorld()
        let stations = try (0..<20).map { try world.peer("user\($0)") }
        world.lab.perform {
            world.lab.hub.drain(
                windowSeconds: 2,
                reconnectAfterMilliseconds: 3_000...9_000,
                now: world.lab.now,
                into: &$0
            )
        }
        let asked = world.now
        world.run(seconds: 2.5)
        #expect(stations.allSatisfy { $0.session.state == .waiting })
        world.lab.restart()
        world.run(seconds: 8)
        var times: Set<UInt64> = []
        for station in stations {
            #expect(station.session.state == .open && station.connects.count == 2)
            var after: UInt64 = 0
            for case .shutdownAnnounced(let pause) in station.events { after = pause }
            #expect(after >= 3_000 && station.connects[1] - asked >= after * 1_000_000)
            times.insert(station.connects[1])
        }
        #expect(times.count > 15, "they come one after the other")
        #expect(world.lab.hub.statistics.peers == 20)
    }

    @Test func whatIsRateLimitedIsSentWhenItMay() throws {
        // Four connections of a user have the budget of one.
        let world = ClientWorld {
            $0.messagesPerSecond = 10
            $0.burst = 20
            $0.connectionsPerUser = 4
        }
        let bob = try world.peer("bob")
        let alice = try world.peer("alice")
        let twin = world.station("alice")
        twin.start()
        _ = try twin.call { s, now, a throws(SignalingError) in try s.register("alice/2", now: now, into: &a) }
        world.run(seconds: 2)
        for number in 0..<60 {
            try alice.send(number, to: "bob", from: "alice")
            try twin.send(1_000 + number, to: "bob", from: "alice/2")
        }
        world.run(seconds: 29)
        #expect(bob.numbers.filter { $0 < 1_000 }.sorted() == Array(0..<60))
        #expect(bob.numbers.filter { $0 >= 1_000 }.sorted() == Array(1_000..<1_060))
        #expect(world.lab.hub.counters[.rateLimited] > 0)
        #expect(alice.connects.count == 1 && twin.connects.count == 1)
        #expect(alice.failures.isEmpty && twin.failures.isEmpty)
    }

    @Test func aClientByItselfKeepsBelowTheServersRate() throws {
        let world = ClientWorld {
            $0.messagesPerSecond = 10
            $0.burst = 20
        }
        let bob = try world.peer("bob")
        let alice = try world.peer("alice")
        for number in 0..<200 { try alice.send(number, to: "bob", from: "alice") }
        world.run(seconds: 25)
        #expect(bob.numbers == Array(0..<200))
        #expect(world.lab.hub.counters[.rateLimited] == 0)
    }

    @Test func aPeerIdThatItsGhostHoldsComesBackWhenTheGhostGoes() throws {
        let world = ClientWorld { $0.resumeWindowSeconds = 0 }
        let alice = try world.peer("alice")
        _ = try alice.call { s, now, a throws(SignalingError) in
            try s.joinRoom("r", as: "alice", now: now, into: &a)
        }
        world.run(seconds: 1)
        alice.serverSeesCuts = false
        // A token that is worth nothing: the server takes the client for another.
        alice.forgetResume()
        alice.cut()
        world.run(seconds: 10)
        #expect(alice.session.state == .open)
        #expect(
            alice.has {
                if case .registrationLost("alice", let e, false) = $0 { e.reason == .peerTaken } else { false }
            }
        )
        // The server hears nothing from the ghost, and ends it.
        world.run(seconds: 400)
        #expect(world.lab.hub.statistics.sessions == 1 && world.lab.hub.peers["alice"]?.rooms.map(\.id) == ["r"])
    }
}
