import Foundation
import Testing

@testable import Signaling

@Suite struct ResumeTests {
    @Test func aClientThatComesBackHasItsPeersItsRoomsAndWhatItMissed() throws {
        let lab = Lab()
        let alice = try lab.peer("alice")
        let bob = try lab.peer("bob")
        try alice.join("r", as: "alice")
        try bob.join("r", as: "bob")
        _ = alice.takeTexts()
        let counted = alice.received
        alice.end(.lost(deliveredThrough: nil))
        for number in 1...5 { bob.send(["type": "signal", "to": "alice", "signal": number]) }
        bob.send(["type": "broadcast", "roomId": "r", "data": 6])
        lab.advance(seconds: 29)
        let again = resume(lab, alice, received: counted)
        let messages = again.takeAll()
        let welcome = try #require(messages.first)
        #expect(welcome["type"] as? String == "welcome" && welcome["resumed"] as? Bool == true)
        #expect(welcome["missed"] as? Int == 0)
        #expect(welcome["sessionId"] as? String == alice.welcome["sessionId"] as? String)
        let peers = try #require(welcome["peers"] as? [[String: Any]])
        #expect(peers.first?["peerId"] as? String == "alice" && peers.first?["rooms"] as? [String] == ["r"])
        #expect(messages.dropFirst().map { ($0["signal"] ?? $0["data"]) as? Int } == [1, 2, 3, 4, 5, 6])
        #expect(bob.takeTexts().allSatisfy { !$0.contains("peer-left") }, "nobody saw it go")
        again.send(["type": "signal", "to": "bob", "signal": 7])
        #expect(bob.take("signal")?["from"] as? String == "alice")
    }

    /// What was on the way when the line was cut came or did not; only the client knows, and it counts.
    @Test(arguments: 0...6)
    func nothingIsLostOrDoubledWhereTheClientCounts(arrived: Int) throws {
        let lab = Lab()
        let alice = try lab.peer("alice")
        let bob = try lab.peer("bob")
        for number in 0..<arrived { bob.send(["type": "signal", "to": "alice", "signal": number]) }
        alice.isReading = false
        for number in arrived..<8 { bob.send(["type": "signal", "to": "alice", "signal": number]) }
        // The gateway takes all of it for delivered, and is wrong.
        alice.end(.lost(deliveredThrough: 9))
        for number in 8..<10 { bob.send(["type": "signal", "to": "alice", "signal": number]) }
        let again = resume(lab, alice, received: alice.received)
        let before = alice.takeAll().compactMap { $0["signal"] as? Int }
        let after = again.takeAll().compactMap { $0["signal"] as? Int }
        #expect(before + after == Array(0..<10))
    }

    @Test func aClientThatDoesNotCountGetsWhatHasNotArrivedForAllTheServerKnows() throws {
        let lab = Lab()
        let alice = try lab.peer("alice")
        let bob = try lab.peer("bob")
        for number in 0..<4 { bob.send(["type": "signal", "to": "alice", "signal": number]) }
        // `registered` and three of four.
        alice.end(.lost(deliveredThrough: 4))
        bob.send(["type": "signal", "to": "alice", "signal": 4])
        let again = resume(lab, alice, received: nil)
        #expect(again.takeAll().compactMap { $0["signal"] as? Int } == [3, 4])
        // Nothing is known of what arrived: it may come twice, and is not lost.
        again.end(.lost(deliveredThrough: nil))
        #expect(resume(lab, again, received: nil).takeAll().compactMap { $0["signal"] as? Int } == [3, 4])
    }

    @Test func aCutThatTheServerHasNotSeenYieldsToTheResume() throws {
        let lab = Lab()
        let alice = try lab.peer("alice")
        let bob = try lab.peer("bob")
        alice.isReading = false
        bob.send(["type": "signal", "to": "alice", "signal": 1])
        let again = resume(lab, alice, received: alice.received)
        #expect(alice.closedWith == .policy)
        #expect(again.takeAll().compactMap { $0["signal"] as? Int } == [1])
        alice.end(.lost(deliveredThrough: nil))
        #expect(lab.hub.statistics.sessions == 2 && lab.hub.statistics.connections == 2)
        bob.send(["type": "signal", "to": "alice", "signal": 2])
        #expect(again.take("signal") != nil)
    }

    /// The server has not seen the cut: it asks the gateway what the old connection's TCP has acknowledged, in
    /// whichever way the client authenticates.
    @Test(arguments: [false, true])
    func aClientThatDoesNotCountGoesOnBehindWhatItsKernelHas(atUpgrade: Bool) throws {
        let lab = Lab()
        let alice = try lab.peer("alice")
        let bob = try lab.peer("bob")
        for number in 0..<3 { bob.send(["type": "signal", "to": "alice", "signal": number]) }
        alice.isReading = false
        for number in 3..<6 { bob.send(["type": "signal", "to": "alice", "signal": number]) }
        // `registered` and the first three.
        alice.acknowledgedByItsKernel = 4
        let again = lab.socket(grant: atUpgrade ? lab.grant("alice") : nil)
        again.send(["type": "hello", "resume": alice.token])
        #expect(again.newestWelcome?["resumed"] as? Bool == true)
        #expect(alice.closedWith == .policy)
        #expect(again.takeAll().compactMap { $0["signal"] as? Int } == [3, 4, 5])
        #expect(lab.hub.statistics.sessions == 2 && lab.hub.statistics.unauthenticatedConnections == 0)
        bob.send(["type": "signal", "to": "alice", "signal": 6])
        #expect(again.take("signal")?["signal"] as? Int == 6)
    }

    @Test func theAnswerAboutAConnectionIsForWhoAskedAndWhileItIsThere() throws {
        let lab = Lab()
        let alice = try lab.peer("alice")
        let bob = try lab.peer("bob")
        alice.isReading = false
        bob.send(["type": "signal", "to": "alice", "signal": 1])
        lab.measuresAtOnce = false
        let first = lab.socket()
        first.send(["type": "hello", "resume": alice.token])
        let second = lab.socket()
        second.send(["type": "hello", "resume": alice.token])
        #expect(first.newestWelcome == nil && second.newestWelcome == nil && alice.closedWith == nil)
        // What it says behind its hello waits with it.
        second.send(["type": "ping", "id": 1])
        lab.perform { _ in lab.answerMeasures() }
        #expect(first.take("welcome") != nil)
        #expect(first.takeAll().compactMap { $0["signal"] as? Int } == [1])
        #expect(second.refusal() == "forbidden: The session cannot be resumed")
        #expect(second.closedWith == .unauthenticated)
        // The old connection ends before the answer is there: what it had sent is known then.
        let third = lab.socket()
        third.send(["type": "hello", "resume": first.newestWelcome?["resumeToken"] as? String ?? ""])
        // `registered` and the signal.
        first.end(.lost(deliveredThrough: 2))
        lab.perform { _ in lab.answerMeasures() }
        #expect(third.take("welcome")?["resumed"] as? Bool == true)
        #expect(third.take("signal") == nil)
        #expect(lab.hub.statistics.sessions == 2 && lab.hub.statistics.unauthenticatedConnections == 0)
        // Nobody answers: a connection does not wait for ever.
        let fourth = lab.socket()
        fourth.send(["type": "hello", "resume": third.newestWelcome?["resumeToken"] as? String ?? ""])
        lab.advance(seconds: 11)
        #expect(fourth.closedWith == .unauthenticated && third.closedWith == nil)
    }

    @Test func aSlowReaderGoesOnBehindWhatItsKernelHas() throws {
        let lab = Lab()
        let alice = try lab.peer("alice")
        let bob = try lab.peer("bob")
        for number in 0..<4 { bob.send(["type": "signal", "to": "alice", "signal": number]) }
        lab.perform { lab.hub.slowConsumer(alice.id, deliveredThrough: 3, now: lab.now, into: &$0) }
        #expect(alice.closedWith == .policy)
        #expect(resume(lab, alice, received: nil).takeAll().compactMap { $0["signal"] as? Int } == [2, 3])
    }

    @Test func sg12ATokenIsForOneUseAndOneUser() throws {
        let lab = Lab()
        let alice = try lab.peer("alice")
        alice.end(.lost(deliveredThrough: nil))
        // Somebody else, who authenticates as himself, in both ways.
        let mallory = lab.socket()
        mallory.send(["type": "hello", "username": "mallory", "password": "pw-mallory", "resume": alice.token])
        let welcome = try #require(mallory.take("welcome"))
        #expect(welcome["resumed"] as? Bool == false && welcome["user"] as? String == "mallory")
        mallory.send(["type": "register", "peerId": "alice"])
        #expect(mallory.refusal()?.hasPrefix("forbidden") == true)
        let eve = lab.socket(grant: lab.grant("eve"))
        eve.send(["type": "hello", "resume": alice.token])
        #expect(eve.refusal() == "forbidden: The session cannot be resumed")
        // Its owner, once.
        let again = resume(lab, alice, received: nil)
        #expect(again.welcome["resumed"] as? Bool == true)
        #expect(again.token != alice.token)
        let replay = lab.socket()
        for _ in 1...2 {
            replay.send(["type": "hello", "resume": alice.token])
            #expect(replay.refusal() == "forbidden: The session cannot be resumed")
        }
        #expect(again.closedWith == nil)
        // With the right credentials and an old token there is a new session, as soon as its owner has said anything:
        // until then he may not have heard of the new one.
        again.send(["type": "ping"])
        let fresh = lab.socket()
        fresh.send(["type": "hello", "username": "alice", "password": "pw-alice", "resume": alice.token])
        #expect(fresh.take("welcome")?["resumed"] as? Bool == false)
    }

    /// The `welcome` that told the new token was lost on the way, and so was all behind it.
    @Test func aClientThatDidNotHearOfItsNewTokenShowsTheOldOneAndItsCredentials() throws {
        let lab = Lab()
        let alice = try lab.peer("alice")
        let bob = try lab.peer("bob")
        bob.send(["type": "signal", "to": "alice", "signal": 1])
        let counted = alice.received
        alice.isReading = false
        for number in 2...3 { bob.send(["type": "signal", "to": "alice", "signal": number]) }
        alice.send(["type": "signal", "to": "bob", "signal": 9])
        func comeBack(reading: Bool, as user: String = "alice") -> Client {
            let socket = lab.socket()
            socket.isReading = reading
            let hello: [String: Any] = ["type": "hello", "username": user, "password": "pw-\(user)"]
            socket.send(hello.merging(["resume": alice.token, "received": Int(counted)]) { $1 })
            return socket
        }
        _ = comeBack(reading: false)
        bob.send(["type": "signal", "to": "alice", "signal": 4])
        _ = comeBack(reading: false)
        #expect(comeBack(reading: true, as: "mallory").take("welcome")?["resumed"] as? Bool == false)
        let again = comeBack(reading: true)
        let messages = again.takeAll()
        #expect(messages.first?["resumed"] as? Bool == true && messages.first?["missed"] as? Int == 0)
        // Its `register` and the signal.
        #expect(messages.first?["received"] as? Int == 2)
        #expect(messages.dropFirst().map { $0["signal"] as? Int } == [2, 3, 4])
    }

    @Test func sg12ATokenIsForTheWindow() throws {
        let lab = Lab()
        let alice = try lab.peer("alice")
        let bob = try lab.peer("bob")
        try bob.join("r", as: "bob")
        try alice.join("r", as: "alice")
        _ = bob.takeTexts()
        alice.end(.lost(deliveredThrough: nil))
        lab.advance(seconds: 29.9)
        #expect(bob.takeTexts().isEmpty)
        lab.advance(seconds: 0.2)
        #expect(bob.take("peer-left")?["peerId"] as? String == "alice")
        let late = lab.socket()
        late.send(["type": "hello", "resume": alice.token])
        #expect(late.refusal() == "forbidden: The session cannot be resumed")
        #expect(lab.hub.statistics.peers == 1)
    }

    @Test func sg12GuessingTokensIsThrottled() throws {
        let lab = Lab()
        let alice = try lab.client("alice")
        alice.end(.lost(deliveredThrough: nil))
        var attempts = 0
        var isLimited = false
        while !isLimited, attempts < 100 {
            let socket = lab.socket(address: 99)
            while socket.closedWith == nil {
                socket.send(["type": "hello", "resume": alice.token.dropLast() + "g"])
                attempts += 1
            }
            isLimited = socket.takeAll().contains { $0["code"] as? String == "rate-limited" }
        }
        #expect(isLimited && attempts < 20)
    }

    @Test func aRaceForOneTokenHasOneWinner() throws {
        let lab = Lab()
        let alice = try lab.peer("alice")
        alice.end(.lost(deliveredThrough: nil))
        lab.answersAtOnce = false
        let sockets = [lab.socket(), lab.socket(), lab.socket()]
        for socket in sockets { socket.send(["type": "hello", "resume": alice.token]) }
        lab.perform { _ in lab.answerChecks() }
        lab.perform { _ in }
        #expect(sockets.map { $0.take("welcome") != nil } == [true, false, false])
        #expect(sockets.map(\.closedWith) == [nil, .unauthenticated, .unauthenticated])
        #expect(lab.hub.statistics.sessions == 1 && lab.hub.statistics.unauthenticatedConnections == 0)
    }

    @Test func aClientThatAuthenticatedAtTheUpgradeResumesByHello() throws {
        let lab = Lab()
        let alice = try lab.peer("alice")
        alice.end(.lost(deliveredThrough: nil))
        let again = lab.socket(grant: lab.grant("alice"))
        #expect(again.take("welcome")?["resumed"] as? Bool == false)
        again.send(["type": "hello", "resume": alice.token, "received": 1])
        #expect(again.take("welcome")?["resumed"] as? Bool == true)
        #expect(lab.hub.statistics.sessions == 1)
        // Once it has done something else it is too late.
        let other = lab.socket(grant: lab.grant("alice"))
        other.send(["type": "ping"])
        other.send(["type": "hello", "resume": alice.token])
        #expect(other.refusal() == "bad-message: This connection is authenticated already")
    }

    @Test func aCountThatCannotBeIsRefused() throws {
        let lab = Lab()
        let alice = try lab.peer("alice")
        alice.end(.lost(deliveredThrough: nil))
        let again = lab.socket()
        again.send(["type": "hello", "resume": alice.token, "received": 2])
        #expect(again.refusal() == "forbidden: The session cannot be resumed")
        #expect(again.closedWith == .unauthenticated)
        let right = resume(lab, alice, received: 1)
        #expect(right.welcome["resumed"] as? Bool == true)
    }

    @Test func aGoodbyeIsForGood() throws {
        let lab = Lab()
        let alice = try lab.peer("alice")
        alice.end(.goodbye)
        #expect(lab.hub.statistics.sessions == 0 && lab.hub.statistics.peers == 0)
        let again = lab.socket()
        again.send(["type": "hello", "resume": alice.token])
        #expect(again.refusal() == "forbidden: The session cannot be resumed")
    }

    /// Case SG-17: whoever sent to a peer that does not come back is told.
    @Test func sg17WhatNeverArrivedIsReportedToItsSender() throws {
        let lab = Lab()
        let alice = try lab.peer("alice")
        let bob = try lab.peer("bob")
        bob.send(["type": "signal", "to": "alice", "signal": 0, "id": "zero"])
        alice.end(.lost(deliveredThrough: 2))
        bob.send(["type": "offer", "to": "alice", "offer": 1, "id": "one"])
        bob.send(["type": "signal", "to": "alice", "signal": 2])
        #expect(bob.takeTexts().isEmpty)
        lab.advance(seconds: 31)
        #expect(
            bob.takeTexts() == [
                #"{"type":"error","code":"not-found","error":"Peer alice not found","originalType":"offer","#
                    + #""id":"one"}"#,
                #"{"type":"error","code":"not-found","error":"Peer alice not found","originalType":"signal"}"#,
            ]
        )
        #expect(lab.hub.statistics.replayBytes == lab.hub.sessions.values.reduce(0) { $0 + $1.replay.byteCount })
    }

    @Test func anAcknowledgedMessageIsKeptNoLonger() throws {
        let lab = Lab {
            $0.messagesPerSecond = 10_000; $0.burst = 10_000
        }
        let alice = try lab.peer("alice")
        let bob = try lab.peer("bob")
        for number in 0..<500 {
            bob.send(["type": "signal", "to": "alice", "signal": number])
            if number % 100 == 99 {
                #expect(alice.probes.count == 1, "one probe at a time")
                alice.answerProbes()
            }
        }
        let session = try #require(lab.hub.sessions[alice.welcome["sessionId"] as? String ?? ""])
        #expect(session.replay.retained <= 2 * Int(SignalingLimits.probeMessages))
        // A ping may carry the count, too.
        alice.send(["type": "ping", "received": alice.received])
        #expect(session.replay.retained == 1, "the pong")
        #expect(lab.hub.sequence(of: alice.id) == alice.received)
    }

    @Test func aClientThatIsAwayForTooMuchIsGone() throws {
        let lab = Lab {
            $0.messagesPerSecond = 10_000; $0.burst = 10_000
        }
        let alice = try lab.peer("alice")
        let bob = try lab.peer("bob")
        alice.end(.lost(deliveredThrough: nil))
        let payload = String(repeating: "x", count: 30_000)
        for number in 0..<4 { bob.send(["type": "signal", "to": "alice", "signal": payload, "id": number]) }
        #expect(bob.takeTexts().isEmpty)
        bob.send(["type": "signal", "to": "alice", "signal": payload, "id": 4])
        let ids = bob.takeAll().compactMap { $0["id"] as? Int }
        #expect(ids == [0, 1, 2, 3, 4], "every one is reported")
        #expect(lab.hub.statistics.replayBytes < 1_000)
    }

    @Test func aConnectedClientThatNeverAcknowledgesIsToldWhatItMissed() throws {
        let lab = Lab {
            $0.messagesPerSecond = 10_000; $0.burst = 10_000
        }
        let alice = try lab.peer("alice")
        let bob = try lab.peer("bob")
        let excess = 50
        for number in 0..<SignalingLimits.replayMessagesPerSession + excess {
            bob.send(["type": "signal", "to": "alice", "signal": number])
        }
        alice.end(.lost(deliveredThrough: nil))
        let again = resume(lab, alice, received: 1)
        #expect(again.welcome["missed"] as? Int == excess)
        let signals = again.takeAll().compactMap { $0["signal"] as? Int }
        #expect(signals == Array(excess..<SignalingLimits.replayMessagesPerSession + excess))
    }

    @Test func whatMeansNothingLaterIsNotReplayed() throws {
        let lab = Lab()
        let alice = try lab.peer("alice")
        alice.isReading = false
        alice.send(["type": "ping"])
        alice.send(["type": "time", "t0": 1])
        alice.send(["type": "lookup", "peerId": "alice"])
        alice.end(.lost(deliveredThrough: nil))
        let again = resume(lab, alice, received: 1)
        #expect(again.takeAll().map { $0["type"] as? String } == ["welcome", "peer"])
        #expect(again.received == 1)
    }

    private func resume(_ lab: Lab, _ client: Client, received: UInt64?) -> Client {
        let again = lab.socket()
        var hello: [String: Any] = ["type": "hello", "resume": client.token]
        if let received { hello["received"] = received }
        again.send(hello)
        again.welcome = again.newestWelcome ?? [:]
        return again
    }
}
