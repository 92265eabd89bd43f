import Foundation
import Testing

@testable import Signaling

/// The client's session against the real hub.
@Suite struct ClientTests {
    @Test func aClientComesInAndMeetsAnother() throws {
        let world = ClientWorld()
        let alice = try world.peer("alice")
        let bob = try world.peer("bob")
        let metadata = try JSONText(#"{"app":"x"}"#)
        let tablet = try alice.call { s, now, actions throws(SignalingError) in
            try s.register("alice/tablet", metadata: metadata, now: now, into: &actions)
        }
        let found = try bob.call { s, now, actions throws(SignalingError) in
            try s.lookup("alice/tablet", now: now, into: &actions)
        }
        let nobody = try bob.call { s, now, actions throws(SignalingError) in
            try s.lookup("carol", now: now, into: &actions)
        }
        world.run(seconds: 1)
        #expect(alice.has { $0 == .registered(peerID: "alice/tablet", request: tablet) })
        let peer = SignalingPeer(peerID: "alice/tablet", metadata: metadata)
        #expect(bob.has { $0 == .found(peerID: "alice/tablet", peer, request: found) })
        #expect(bob.has { $0 == .found(peerID: "carol", nil, request: nobody) })

        let join = try alice.call { s, now, actions throws(SignalingError) in
            try s.joinRoom("lobby", as: "alice/tablet", now: now, into: &actions)
        }
        world.run(seconds: 1)
        #expect(alice.has { $0 == .roomJoined(roomID: "lobby", peerID: "alice/tablet", peers: [], request: join) })
        _ = try bob.call { s, now, actions throws(SignalingError) in
            try s.joinRoom("lobby", as: "bob", now: now, into: &actions)
        }
        let offer = try JSONText(#"{"type":"offer","sdp":"v=0\r\n"}"#)
        for kind in SignalingMessageKind.allCases {
            _ = try bob.call { s, now, actions throws(SignalingError) in
                try s.send(kind, offer, from: "bob", to: "alice/tablet", roomID: "lobby", now: now, into: &actions)
            }
        }
        _ = try bob.call { s, now, actions throws(SignalingError) in
            try s.broadcast(offer, from: "bob", roomID: "lobby", now: now, into: &actions)
        }
        world.run(seconds: 1)
        let roster = bob.events.compactMap { if case .roomJoined(_, _, let peers, _) = $0 { peers } else { nil } }
        #expect(roster == [[peer]])
        #expect(alice.has { $0 == .peerJoined(SignalingPeer(peerID: "bob", metadata: .emptyObject), roomID: "lobby") })
        let messages = alice.events.compactMap { if case .message(let message) = $0 { message } else { nil } }
        #expect(messages.map(\.kind) == SignalingMessageKind.allCases)
        #expect(messages.allSatisfy { $0.from == "bob" && $0.to == "alice/tablet" && $0.payload == offer })
        #expect(messages.first?.payload.value["sdp"]?.string == "v=0\r\n")
        #expect(alice.has { if case .broadcast("bob", "lobby", offer, _) = $0 { true } else { false } })
        bob.close()
        world.run(seconds: 1)
        #expect(alice.has { $0 == .peerLeft(peerID: "bob", roomID: "lobby") })
        #expect(bob.events.last == .closed && bob.session.nextDeadline == nil)
    }

    @Test func wrongCredentialsAreFinalUntilThereAreOthers() throws {
        let world = ClientWorld()
        let alice = world.station("alice", password: "wrong")
        alice.start()
        world.run(seconds: 300)
        #expect(alice.connects.count == 1)
        guard case .refused(let refusal) = alice.session.state else {
            Issue.record("\(alice.session.state)")
            return
        }
        #expect(refusal.reason == .unauthenticated && refusal.text == "Wrong username, password or token")
        guard case .disconnected(let error, nil)? = alice.events.last else {
            Issue.record("no end: \(alice.events)")
            return
        }
        #expect(error.reason == .unauthenticated && error.mend.contains("password"))
        alice.setCredentials(.password(username: "alice", password: "pw-alice"))
        world.run(seconds: 1)
        #expect(alice.session.state == .open && alice.session.welcome?.user == "alice")
    }

    @Test func aTokenAndAHeaderBringInToo() throws {
        let world = ClientWorld()
        let token = world.station("alice") { $0.credentials = .token("token-alice") }
        let header = world.station("bob") { $0.credentialPlace = .upgrade }
        token.start()
        header.start()
        world.run(seconds: 1)
        #expect(token.session.welcome?.user == "alice" && header.session.welcome?.user == "bob")
        #expect(!header.sent.contains { $0.contains("pw-bob") || $0.contains("hello") })
        // It resumes with a hello of its own.
        let id = header.session.welcome?.sessionID
        header.cut()
        world.run(seconds: 2)
        #expect(header.session.welcome?.isResumed == true && header.session.welcome?.sessionID == id)
        world.lab.restart()
        world.run(seconds: 3)
        #expect(header.session.state == .open && header.session.welcome?.isResumed == false)
        #expect(header.session.counters.malformed == 0)
    }

    @Test func headersAreWrittenAsTheirRFCsHaveThem() {
        let basic = SignalingCredentials.password(username: "Aladdin", password: "open sesame")
        #expect(basic.authorization == "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==")
        for count in 0...8 {
            let bytes = Array("\u{FF}foobar!".utf8.prefix(count))
            #expect(Base64.encode(bytes) == Data(bytes).base64EncodedString())
        }
        #expect(SignalingCredentials.token("abc").authorization == "Bearer abc")
    }

    @Test func anAnswerIsForItsRequestAndARefusalToo() throws {
        let world = ClientWorld()
        let alice = try world.peer("alice")
        let bob = try world.peer("bob")
        let stolen = try alice.call { s, now, actions throws(SignalingError) in
            try s.register("bob", now: now, into: &actions)
        }
        let lost = try alice.send(1, to: "nobody", from: "alice")
        let forged = try alice.send(2, to: "bob", from: "bob")
        let arrived = try alice.send(3, to: "bob", from: "alice")
        world.run(seconds: 5)
        func error(_ request: SignalingRequestID) -> SignalingError? {
            alice.events.compactMap { if case .failed(request, let error) = $0 { error } else { nil } }.first
        }
        #expect(error(stolen)?.reason == .forbidden && alice.session.wantedPeerIDs == ["alice"])
        #expect(error(lost)?.reason == .notFound && error(lost)?.text == "Peer nobody not found")
        #expect(error(forged)?.reason == .forbidden)
        #expect(error(arrived) == nil && bob.numbers == [3])
    }

    @Test func aPeerIdThatAnotherProgramHasIsNamedAsSuch() throws {
        let world = ClientWorld()
        let first = try world.peer("alice")
        let second = world.station("alice")
        second.start()
        _ = try second.call { s, now, actions throws(SignalingError) in
            try s.register("alice", now: now, into: &actions)
        }
        world.run(seconds: 1)
        #expect(second.failures.map(\.reason) == [.peerTaken] && second.failures.first?.mend.isEmpty == false)
        #expect(second.session.wantedPeerIDs.isEmpty && first.session.state == .open)
    }

    @Test func theServersClockIsFoundWithinItsUncertainty() throws {
        let world = ClientWorld()
        let alice = try world.peer("alice")
        world.run(seconds: 5)
        let clock = alice.session.clock
        let shown = try #require(clock.milliseconds(atNanoseconds: world.now))
        let uncertainty = try #require(clock.uncertaintyMilliseconds)
        #expect(abs(shown - Double(world.lab.now.wallMilliseconds)) <= uncertainty && uncertainty <= 11.5)
        let moment = try #require(clock.nanoseconds(atMilliseconds: shown + 1_000))
        #expect(abs(Double(moment) - Double(world.now) - 1e9) < 1e6)
    }

    @Test func iceServersComeOnRequestAndBeforeTheOldOnesEnd() throws {
        let world = ClientWorld()
        let alice = try world.peer("alice")
        #expect(alice.session.welcome?.iceServers.first?.urls == ["turn:t.example"])
        let request = try alice.call { s, now, actions throws(SignalingError) in
            try s.requestICEServers(ttlSeconds: 600, now: now, into: &actions)
        }
        world.run(seconds: 1)
        #expect(
            alice.has { if case .iceServers(let list, 600, request) = $0 { list[0].credential == "n" } else { false } }
        )
        _ = alice.takeEvents()
        world.run(seconds: 600)
        #expect(alice.has { if case .iceServers(_, 3_600, nil) = $0 { true } else { false } })
        #expect(alice.session.state == .open && alice.session.counters.connects == 1)
    }

    @Test func whatCannotBeSentIsRefusedWhereItIsSaid() throws {
        let world = ClientWorld()
        let alice = try world.peer("alice")
        func refusal(
            _ step: (inout SignalingSession, UInt64, inout [SignalingAction]) throws(SignalingError) -> Void
        ) -> SignalingError.Reason? {
            do throws(SignalingError) { try alice.call(step) } catch { return error.reason }
            return nil
        }
        let text = try JSONText("\"" + String(repeating: "x", count: 65_530) + "\"")
        let list = try JSONText("[1]")
        let null = try JSONText("null")
        #expect(refusal { s, n, a throws(SignalingError) in _ = try s.register("", now: n, into: &a) } == .badMessage)
        #expect(
            refusal { s, n, a throws(SignalingError) in _ = try s.register("alice/2", metadata: list, now: n, into: &a)
            }
                == .badMessage
        )
        #expect(
            refusal { s, n, a throws(SignalingError) in
                _ = try s.send(.offer, text, from: "alice", to: "bob", now: n, into: &a)
            } == .tooLarge
        )
        #expect(
            refusal { s, n, a throws(SignalingError) in
                _ = try s.send(.offer, null, from: "alice", to: "bob", now: n, into: &a)
            } == .badMessage
        )
        #expect(
            refusal { s, n, a throws(SignalingError) in _ = try s.joinRoom("r", as: "alice/9", now: n, into: &a) }
                == .notFound
        )
        #expect(throws: JSONFault.self) { try JSONText("{\"a\":1,\"a\":2}") }
        #expect(throws: JSONFault.self) { try JSONText(String(repeating: "[", count: 40)) }
        alice.close()
        #expect(refusal { s, n, a throws(SignalingError) in _ = try s.lookup("bob", now: n, into: &a) } == .closed)
    }

    @Test func whatWaitsForAConnectionIsBoundedAndNotForEver() throws {
        let world = ClientWorld()
        let alice = world.station("alice")
        alice.isServerUp = false
        alice.start()
        var accepted = 0
        for number in 0..<1_000 {
            do {
                try alice.send(number, to: "bob", from: "alice")
                accepted += 1
            } catch let error as SignalingError { #expect(error.reason == .queueFull) }
        }
        #expect(accepted == SignalingClientLimits.waitingMessagesMax)
        #expect(alice.session.waitingMessages == accepted)
        world.run(seconds: 31)
        #expect(alice.failures.count == accepted && alice.failures.allSatisfy { $0.reason == .timedOut })
        #expect(alice.session.waitingMessages == 0)
        let large = try JSONText("\"" + String(repeating: "x", count: 60_000) + "\"")
        var count = 0
        while count < 100 {
            do throws(SignalingError) {
                _ = try alice.call { s, now, actions throws(SignalingError) in
                    try s.send(.signal, large, from: "alice", to: "bob", now: now, into: &actions)
                }
                count += 1
            } catch { break }
        }
        #expect(count * 60_000 <= SignalingClientLimits.waitingBytesMax + 60_000 && count > 5)
    }
}
