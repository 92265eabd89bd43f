import Testing

@testable import Signaling

/// What a server says to a client's credentials, and when they end.
@Suite struct ClientCredentialTests {
    @Test func aRevokedUserStaysAwayUntilThereAreOtherCredentials() throws {
        let world = ClientWorld()
        let alice = try world.peer("alice")
        world.lab.perform { world.lab.hub.revoke(user: "alice", now: world.lab.now, into: &$0) }
        world.run(seconds: 100)
        #expect(alice.session.state == .refused(.revoked) && alice.connects.count == 1)
        #expect(SignalingError.revoked.description.contains("operator"))
        alice.setCredentials(.token("token-alice"))
        world.run(seconds: 2)
        #expect(alice.session.state == .open && world.lab.hub.statistics.peers == 1)
    }

    @Test func credentialsAreRenewedWithoutLosingTheSession() throws {
        let world = ClientWorld()
        let bob = try world.peer("bob")
        let expiry = world.lab.now.wallMilliseconds / 1_000 + 300
        let alice = world.station("\(expiry):alice", password: "pw-alice")
        alice.start()
        _ = try alice.call { s, now, a throws(SignalingError) in try s.register("alice", now: now, into: &a) }
        world.run(seconds: 200)
        let id = alice.session.welcome?.sessionID
        #expect(!alice.has { if case .credentialsEnding = $0 { true } else { false } })
        world.run(seconds: 50)
        var left: UInt64 = 0
        for case .credentialsEnding(let milliseconds) in alice.events { left = milliseconds }
        #expect((58_000...60_500).contains(left))
        try bob.send(1, to: "alice", from: "bob")
        try alice.send(1, to: "bob", from: "alice")
        alice.setCredentials(.password(username: "\(expiry + 300):alice", password: "pw-alice"))
        try bob.send(2, to: "alice", from: "bob")
        world.run(seconds: 100)
        #expect(alice.session.welcome?.sessionID == id && alice.session.welcome?.isResumed == true)
        #expect(alice.numbers == [1, 2] && bob.numbers == [1])
        // Nobody renews them: the server ends the session, and the client says why.
        world.run(seconds: 300)
        #expect(alice.session.state == .refused(.credentialsExpired))
        alice.setCredentials(.password(username: "alice", password: "pw-alice"))
        world.run(seconds: 2)
        #expect(alice.session.state == .open && alice.session.wantedPeerIDs == ["alice"])
        #expect(world.lab.hub.peers["alice"] != nil)
    }

    @Test func aCredentialThatEndedWhileTheClientWasAwayIsNamedAsSuch() throws {
        let world = ClientWorld()
        let expiry = world.lab.now.wallMilliseconds / 1_000 + 100
        let alice = world.station("\(expiry):alice", password: "pw-alice")
        alice.start()
        world.run(seconds: 90)
        alice.isServerUp = false
        alice.cut()
        world.run(seconds: 30)
        world.lab.disabledUsers = ["\(expiry):alice"]
        alice.isServerUp = true
        world.run(seconds: 60)
        #expect(alice.session.state == .refused(.credentialsExpired))
    }

    @Test func anHTTPAnswerInPlaceOfAnUpgradeIsTold() throws {
        let world = ClientWorld()
        let header = world.station("alice") { $0.credentialPlace = .upgrade }
        let hello = world.station("alice")
        for (station, status) in [(header, 401), (hello, 503)] {
            station.isServerUp = false
            station.start()
            station.reject(status: status, retryAfterSeconds: status == 503 ? 20 : nil)
        }
        #expect(header.session.state == .refused(.wrongCredentials))
        #expect(hello.session.state == .waiting && (hello.session.nextDeadline ?? 0) >= world.now + 20_000_000_000)
        guard case .disconnected(let error, .some)? = hello.events.last else {
            Issue.record("\(hello.events)")
            return
        }
        #expect(error.reason == .rejected(status: 503) && error.description.contains("503"))
    }
}
