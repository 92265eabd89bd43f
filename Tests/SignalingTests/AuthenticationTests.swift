import Testing

@testable import Signaling

@Suite struct AuthenticationTests {
    @Test(arguments: [
        #"{"type":"register","peerId":"alice"}"#, #"{"type":"ping"}"#, #"{"type":"nonsense"}"#, "[]", "", "not JSON",
        #"{"type":"hello","#, #"{"type":"lookup","peerId":"alice"}"#,
    ])
    func sg01AnythingBeforeHelloIsClosed(message: String) throws {
        let client = Lab().socket()
        client.send(message)
        #expect(client.closedWith == .unauthenticated)
        #expect(client.take("welcome") == nil)
        #expect(client.take("error") != nil)
    }

    @Test func ws18WhoSaysNothingIsClosedAfterFiveSeconds() throws {
        let lab = Lab()
        let client = lab.socket()
        lab.advance(seconds: 4.9)
        #expect(client.closedWith == nil)
        lab.advance(seconds: 0.2)
        #expect(client.closedWith == .unauthenticated)
        #expect(client.refusal() == "unauthenticated: Not authenticated in time")
        #expect(lab.hub.statistics.unauthenticatedConnections == 0)
    }

    @Test(arguments: [
        (#"{"type":"hello"}"#, "bad-message: username and password, token, or resume are required"),
        (#"{"type":"hello","username":"alice"}"#, "bad-message: username and password are required"),
        (#"{"type":"hello","password":"x"}"#, "bad-message: username and password are required"),
        (#"{"type":"hello","username":1,"password":"x"}"#, "bad-message: username must be a string"),
        (#"{"type":"hello","token":true}"#, "bad-message: token must be a string"),
        (#"{"type":"hello","username":"alice","password":"no"}"#, "unauthenticated: Wrong username, password or token"),
        (#"{"type":"hello","username":"x","password":"no"}"#, "unauthenticated: Wrong username, password or token"),
        (#"{"type":"hello","token":"no"}"#, "unauthenticated: Wrong username, password or token"),
        (#"{"type":"hello","resume":"no"}"#, "forbidden: The session cannot be resumed"),
    ])
    func aHelloHasThreeAttempts(hello: String, refusal: String) throws {
        let client = Lab().socket()
        for _ in 1...3 {
            #expect(client.closedWith == nil)
            client.send(hello)
            #expect(client.refusal() == refusal)
        }
        #expect(client.closedWith == .unauthenticated)
    }

    @Test func aWrongPasswordMayBeFollowedByTheRightOne() throws {
        let client = Lab().socket()
        client.send(#"{"type":"hello","username":"alice","password":"no","id":1}"#)
        #expect(client.take("error")?["id"] as? Int == 1)
        client.send(#"{"type":"hello","username":"alice","password":"pw-alice","id":2}"#)
        #expect(client.take("welcome")?["id"] as? Int == 2)
    }

    @Test func aTokenIsAsGoodAsAPassword() throws {
        let client = Lab().socket()
        client.send(#"{"type":"hello","token":"token-alice"}"#)
        #expect(client.take("welcome")?["user"] as? String == "alice")
    }

    /// Case SG-11: a time-limited credential is its user's, and ends the session with itself.
    @Test func sg11ATimeLimitedCredentialEndsItsSession() throws {
        let lab = Lab()
        let client = lab.socket()
        client.send(#"{"type":"hello","username":"1800000600:alice","password":"pw-alice"}"#)
        #expect(client.take("welcome")?["user"] as? String == "alice")
        client.send(#"{"type":"register","peerId":"alice"}"#)
        client.send(#"{"type":"ice-servers","ttl":86400}"#)
        #expect(client.take("ice-servers")?["ttl"] as? Int == 600, "nothing outlives what it was lent for")
        for _ in 0..<5 {
            lab.advance(seconds: 119)
            client.send(#"{"type":"ping"}"#)
        }
        #expect(client.closedWith == nil)
        lab.advance(seconds: 6)
        #expect(client.closedWith == .unauthenticated)
        #expect(client.refusal() == "unauthenticated: The credentials have expired")
        #expect(lab.hub.statistics.sessions == 0)
    }

    @Test func sg11AUserWhoseTimeIsCutShortGoesWithIt() throws {
        let lab = Lab()
        let alice = try lab.client("alice")
        let bob = try lab.client("bob")
        lab.hub.limit(user: "alice", untilWallMilliseconds: lab.now.wallMilliseconds + 10_000, now: lab.now)
        lab.hub.limit(user: "alice", untilWallMilliseconds: .max, now: lab.now)
        lab.advance(seconds: 9)
        #expect(alice.closedWith == nil)
        lab.advance(seconds: 2)
        #expect(alice.refusal() == "unauthenticated: The credentials have expired")
        #expect(alice.closedWith == .unauthenticated)
        #expect(bob.closedWith == nil)
    }

    @Test func aResumeTokenDoesNotProlongATimeLimitedCredential() throws {
        let lab = Lab()
        let client = lab.socket()
        client.send(#"{"type":"hello","username":"1800000060:alice","password":"pw-alice"}"#)
        client.welcome = try #require(client.take("welcome"))
        client.end(.lost(deliveredThrough: nil))
        let again = lab.socket()
        again.send(["type": "hello", "resume": client.token])
        #expect(again.take("welcome")?["resumed"] as? Bool == true)
        lab.advance(seconds: 61)
        #expect(again.closedWith == .unauthenticated)
    }

    @Test func whatComesBehindAHelloWaitsForItsWelcome() throws {
        let lab = Lab()
        lab.answersAtOnce = false
        let client = lab.socket()
        client.send(#"{"type":"hello","username":"alice","password":"pw-alice"}"#)
        client.send(#"{"type":"register","peerId":"alice"}"#)
        client.send(#"{"type":"ping"}"#)
        #expect(client.takeTexts().isEmpty)
        lab.perform { _ in lab.answerChecks() }
        #expect(client.takeAll().map { $0["type"] as? String } == ["welcome", "registered", "pong"])
    }

    @Test func whatComesBehindAHelloIsBounded() throws {
        let lab = Lab()
        lab.answersAtOnce = false
        let client = lab.socket()
        client.send(#"{"type":"hello","username":"alice","password":"pw-alice"}"#)
        for _ in 0...SignalingLimits.heldMessagesMax { client.send(#"{"type":"ping"}"#) }
        #expect(client.closedWith == .unauthenticated)
        lab.perform { _ in lab.answerChecks() }
        #expect(lab.hub.statistics.sessions == 0)
    }

    @Test func failuresOfOneAddressAreCountedTogether() throws {
        let lab = Lab()
        for attempt in 0..<10 {
            let client = lab.socket(address: 7)
            client.send(#"{"type":"hello","username":"alice","password":"\#(attempt)"}"#)
            client.end(.goodbye)
        }
        let client = lab.socket(address: 7)
        client.send(#"{"type":"hello","username":"alice","password":"pw-alice"}"#)
        let error = try #require(client.take("error"))
        #expect(error["code"] as? String == "rate-limited")
        let retry = try #require(error["retryAfterMs"] as? Int)
        #expect((1...6_001).contains(retry))
        #expect(client.closedWith == .policy)
        _ = try lab.client("alice", address: 8)
        lab.advance(seconds: Double(retry) / 1_000)
        _ = try lab.client("alice", address: 7)
    }

    @Test func theConnectionsOfAUserAreBounded() throws {
        let lab = Lab { $0.connectionsPerUser = 3 }
        let clients = try (0..<3).map { try lab.client("alice", address: $0) }
        let fourth = lab.socket(address: 9)
        fourth.send(#"{"type":"hello","username":"alice","password":"pw-alice","id":"h"}"#)
        let error = try #require(fourth.take("error"))
        #expect(error["error"] as? String == "A user has at most 3 connections")
        #expect(error["code"] as? String == "too-many-connections" && error["id"] as? String == "h")
        #expect(fourth.closedWith == .policy)
        _ = try lab.client("bob")
        // One that is away makes room.
        clients[0].end(.lost(deliveredThrough: nil))
        _ = try lab.client("alice")
        #expect(lab.hub.statistics.sessions == 4)
    }

    @Test func theConnectionsOfAnAddressAreBounded() throws {
        let lab = Lab { $0.connectionsPerAddress = 2 }
        let first = try lab.client("alice", address: 1)
        _ = lab.socket(address: 1)
        let third = lab.socket(address: 1)
        #expect(third.refusal() == "too-many-connections: Too many connections")
        #expect(third.closedWith == .policy)
        #expect(lab.hub.refusal(of: AddressKey(ipv4: 1)) == .tooManyConnections)
        _ = try lab.client("bob", address: 2)
        first.end(.goodbye)
        _ = try lab.client("alice", address: 1)
    }

    @Test func anAddressIsAnIPv6NetworkOf64BitsAndAMappedOneIsIPv4() {
        #expect(AddressKey(ipv6: 0x2001_0DB8_0000_0001, 1) == AddressKey(ipv6: 0x2001_0DB8_0000_0001, 2))
        #expect(AddressKey(ipv6: 0x2001_0DB8_0000_0001, 1) != AddressKey(ipv6: 0x2001_0DB8_0000_0002, 1))
        #expect(AddressKey(ipv6: 0, 0xFFFF_C000_0201) == AddressKey(ipv4: 0xC000_0201))
        #expect(AddressKey(ipv6: 1, 0) != AddressKey(ipv4: 1))
    }

    @Test func connectionsThatHaveNotAuthenticatedAreBounded() throws {
        let lab = Lab { $0.connectionsPerAddress = 10_000 }
        for _ in 0..<SignalingLimits.unauthenticatedConnectionsMax { _ = lab.socket() }
        #expect(lab.socket().closedWith == .policy)
        #expect(lab.socket(grant: lab.grant("alice")).closedWith == nil)
        lab.advance(seconds: 5.1)
        #expect(lab.hub.statistics.unauthenticatedConnections == 0)
    }

    /// Case SG-11: within the second that the gateway needs to hear of it.
    @Test func sg11ARevokedUserIsOutAtOnce() throws {
        let lab = Lab()
        let alice = try lab.peer("alice")
        let bob = try lab.peer("bob")
        try bob.join("r", as: "bob")
        try alice.join("r", as: "alice")
        let away = try lab.peer("alice/away")
        away.end(.lost(deliveredThrough: nil))
        lab.disabledUsers = ["alice"]
        lab.perform { lab.hub.revoke(user: "alice", now: lab.now, into: &$0) }
        #expect(alice.closedWith == .revoked)
        #expect(bob.take("peer-left")?["peerId"] as? String == "alice")
        #expect(lab.hub.statistics.sessions == 1)
        for token in [alice.token, away.token] {
            let back = lab.socket()
            back.send(["type": "hello", "resume": token])
            #expect(back.refusal() == "forbidden: The session cannot be resumed")
        }
    }

    @Test func anEndThatIsSetDuringTheCheckHolds() throws {
        let lab = Lab()
        lab.answersAtOnce = false
        let client = lab.socket()
        client.send(#"{"type":"hello","username":"alice","password":"pw-alice"}"#)
        lab.hub.limit(user: "alice", untilWallMilliseconds: lab.now.wallMilliseconds + 10_000, now: lab.now)
        lab.perform { _ in lab.answerChecks() }
        #expect(client.take("welcome") != nil)
        lab.advance(seconds: 11)
        #expect(client.refusal() == "unauthenticated: The credentials have expired")
        #expect(client.closedWith == .unauthenticated)
        lab.advance(seconds: 130)
        #expect(lab.hub.limitations.isEmpty)
    }

    @Test func aCheckThatBeganBeforeTheRevocationDoesNotCount() throws {
        let lab = Lab()
        lab.answersAtOnce = false
        let client = lab.socket()
        client.send(#"{"type":"hello","username":"alice","password":"pw-alice"}"#)
        lab.perform { lab.hub.revoke(user: "alice", now: lab.now, into: &$0) }
        lab.advance(seconds: 1)
        lab.perform { _ in lab.answerChecks() }
        #expect(client.closedWith == .revoked)
        #expect(client.take("welcome") == nil)
        // Enabled again, and checked after that.
        lab.answersAtOnce = true
        _ = try lab.client("alice")
        lab.advance(seconds: 130)
        #expect(lab.hub.revocations.isEmpty && lab.hub.revokedEveryoneAt == nil)
    }

    @Test func whatIsRememberedOfRevocationsIsBounded() throws {
        let lab = Lab()
        let early = lab.grant("someone")
        lab.perform { actions in
            for number in 0...SignalingLimits.revocationsRemembered {
                lab.hub.revoke(user: "user-\(number)", now: lab.now, into: &actions)
            }
        }
        #expect(lab.hub.revocations.count <= SignalingLimits.revocationsRemembered)
        #expect(lab.socket(grant: early).closedWith == .revoked, "it cannot be told from one of those")
        lab.advance(seconds: 0.001)
        _ = try lab.client("alice")
    }

    @Test func aKickedSessionIsGone() throws {
        let lab = Lab()
        let alice = try lab.peer("alice")
        let id = try #require(alice.welcome["sessionId"] as? String)
        var found = false
        lab.perform { found = lab.hub.kick(sessionID: id, now: lab.now, into: &$0) }
        #expect(found && alice.closedWith == .revoked)
        lab.perform { found = lab.hub.kick(sessionID: id, now: lab.now, into: &$0) }
        #expect(!found)
        _ = try lab.peer("alice")
    }
}
