import Foundation
import Testing

@testable import Signaling

/// Who may speak as whom, and who sees what.
@Suite struct AuthorizationTests {
    @Test(arguments: ["offer", "answer", "signal", "broadcast"])
    func sg02FromIsNeverTakenFromTheClient(type: String) throws {
        let lab = Lab()
        let mallory = try lab.peer("mallory")
        let bob = try lab.peer("bob")
        try bob.join("r", as: "bob")
        try mallory.join("r", as: "mallory")
        bob.takeTexts().forEach { _ = $0 }
        for from in ["bob", "alice", "mallory/2", "mallory\u{0301}"] {
            mallory.send(["type": type, "from": from, "to": "bob", "roomId": "r", type: 1, "data": 1, "user": "root"])
            #expect(mallory.refusal() == "forbidden: from must be a peer id that this connection has registered")
        }
        #expect(bob.takeTexts().isEmpty)
        mallory.send(["type": type, "to": "bob", "roomId": "r", type: 1, "data": 1, "user": "root", "role": "admin"])
        let message = try #require(bob.take(type))
        #expect(message["from"] as? String == "mallory")
        #expect(message["user"] == nil && message["role"] == nil)
    }

    @Test(arguments: ["bob", "bob/1", "alic", "alice2", "alice/", "/alice", "Alice", "alice\u{0301}", "alice:1"])
    func aPeerIDBelongsToItsUser(id: String) throws {
        let alice = try Lab().client("alice")
        alice.send(["type": "register", "peerId": id])
        #expect(alice.refusal()?.hasPrefix("forbidden: Peer \(id) is not yours") == true)
    }

    @Test(arguments: ["alice", "alice/x", "alice/x/y z", "alice/'; DROP TABLE users", "alice/__proto__", "alice/é"])
    func aUserNamesItsPeersAsItLikes(id: String) throws {
        let alice = try Lab().client("alice")
        alice.send(["type": "register", "peerId": id])
        #expect(alice.take("registered")?["peerId"] as? String == id)
    }

    @Test func aPeerIDThatIsInUseIsTaken() throws {
        let lab = Lab()
        let first = try lab.peer("alice")
        let second = try lab.client("alice")
        second.send(["type": "register", "peerId": "alice"])
        #expect(second.refusal() == "peer-taken: Peer alice is already registered")
        // The original let the second in, and the first one's end then removed it.
        second.end(.goodbye)
        let bob = try lab.peer("bob")
        bob.send(["type": "signal", "to": "alice", "signal": 1])
        #expect(first.take("signal") != nil)
    }

    /// A client that lost its connection and does not resume is not locked out by its own ghost.
    @Test func aGhostMakesWayForItsUser() throws {
        let lab = Lab()
        let bob = try lab.peer("bob")
        try bob.join("r", as: "bob")
        let first = try lab.peer("alice")
        try first.join("r", as: "alice")
        first.end(.lost(deliveredThrough: nil))
        let second = try lab.peer("alice")
        #expect(bob.takeAll().map { $0["type"] as? String } == ["peer-joined", "peer-left"])
        bob.send(["type": "leave-room", "peerId": "bob", "roomId": "r"])
        bob.send(["type": "signal", "to": "alice", "signal": 1])
        #expect(second.take("signal") != nil)
        #expect(lab.hub.statistics.sessions == 2)
    }

    @Test func sg03APeerOfAnotherRoomLooksLikeNone() throws {
        let lab = Lab()
        let alice = try lab.peer("alice")
        let bob = try lab.peer("bob")
        try alice.join("a", as: "alice")
        try bob.join("b", as: "bob")
        for id in ["bob", "nobody"] {
            alice.send(["type": "offer", "to": id, "offer": 1])
            alice.send(["type": "lookup", "peerId": id])
        }
        let texts = alice.takeTexts()
        #expect(texts.count == 4)
        #expect(texts[0].replacing("bob", with: "nobody") == texts[2])
        #expect(texts[1].replacing("bob", with: "nobody") == texts[3])
        #expect(bob.takeTexts().isEmpty)
        try alice.join("b", as: "alice")
        alice.send(["type": "offer", "to": "bob", "offer": 1])
        #expect(bob.take("offer") != nil)
    }

    /// What `connectToPeer` of the original needs: no room at all.
    @Test func peersWithoutARoomReachEachOther() throws {
        let lab = Lab()
        let alice = try lab.peer("alice")
        let bob = try lab.peer("bob")
        alice.send(["type": "offer", "to": "bob", "offer": 1])
        #expect(bob.take("offer") != nil)
        // Whoever enters a room is out of sight of everybody outside, both ways.
        try bob.join("b", as: "bob")
        alice.send(["type": "offer", "to": "bob", "offer": 1])
        bob.send(["type": "offer", "to": "alice", "offer": 1])
        #expect(alice.refusal() == "not-found: Peer bob not found")
        #expect(bob.refusal() == "not-found: Peer alice not found")
        // A user's own peers see each other everywhere.
        let phone = try lab.peer("bob/phone")
        phone.send(["type": "signal", "to": "bob", "signal": 1])
        #expect(bob.take("signal") != nil)
    }

    @Test func sg04ARoomOfOthersLooksLikeNone() throws {
        let lab = Lab()
        let alice = try lab.peer("alice")
        let bob = try lab.peer("bob")
        try bob.join("secret", as: "bob")
        for room in ["secret", "absent"] {
            alice.send(["type": "broadcast", "roomId": room, "data": 1])
            alice.send(["type": "leave-room", "peerId": "alice", "roomId": room])
            #expect(lab.hub.peers(inRoom: room, visibleTo: "alice") == nil)
        }
        let texts = alice.takeTexts()
        #expect(texts.count == 4)
        #expect(texts[0].replacing("secret", with: "absent") == texts[2])
        #expect(texts[1].replacing("secret", with: "absent") == texts[3])
        #expect(bob.takeTexts().isEmpty)
    }

    @Test func sg05WhoIsNotInTheRoomHearsNothingOfIt() throws {
        let lab = Lab()
        let alice = try lab.peer("alice")
        let bob = try lab.peer("bob")
        let carol = try lab.peer("carol")
        try alice.join("r", as: "alice")
        try bob.join("r", as: "bob")
        alice.send(["type": "broadcast", "roomId": "r", "data": 1])
        #expect(carol.takeTexts().isEmpty)
        #expect(lab.hub.rooms(visibleTo: "carol").isEmpty)
        #expect(lab.hub.rooms(visibleTo: "alice").map(\.peerIDs) == [["alice", "bob"]])
        bob.send(["type": "leave-room", "peerId": "bob", "roomId": "r"])
        _ = bob.takeTexts()
        try carol.join("r", as: "carol")
        alice.send(["type": "broadcast", "roomId": "r", "data": 2])
        #expect(bob.takeTexts().isEmpty, "nothing after leaving")
        let id = try #require(carol.welcome["sessionId"] as? String)
        lab.perform { _ = lab.hub.kick(sessionID: id, now: lab.now, into: &$0) }
        _ = carol.takeTexts()
        alice.send(["type": "broadcast", "roomId": "r", "data": 3])
        #expect(carol.takeTexts().isEmpty, "nothing after the kick")
    }

    @Test func sg06AMessageThatNamesARoomStaysInIt() throws {
        let lab = Lab()
        let alice = try lab.peer("alice")
        let bob = try lab.peer("bob")
        try alice.join("a", as: "alice")
        try alice.join("both", as: "alice")
        try bob.join("both", as: "bob")
        try bob.join("b", as: "bob")
        for room in ["a", "b", "absent"] {
            alice.send(["type": "ice-candidate", "to": "bob", "roomId": room, "candidate": 1])
            #expect(alice.refusal() == "not-found: Peer bob not found", "\(room)")
        }
        alice.send(["type": "ice-candidate", "to": "bob", "roomId": "both", "candidate": 1])
        #expect(bob.take("ice-candidate") != nil)
    }

    @Test func sg14ANameThatCannotBeSeenIsRefused() throws {
        let alice = try Lab().peer("alice")
        let bad = ["a\u{0}", "a\u{7}", "a\u{200B}", "\u{202E}a", "a\u{FE0F}", " a", "a ", "a\nb", "\u{A0}", "\u{E000}"]
        for name in bad {
            alice.send(["type": "join-room", "peerId": "alice", "roomId": name])
            #expect(alice.refusal()?.hasPrefix("bad-message: roomId must not") == true, "\(name.debugDescription)")
            alice.send(["type": "register", "peerId": "alice/\(name)x\u{200B}"])
            #expect(alice.refusal()?.hasPrefix("bad-message: peerId must not") == true, "\(name.debugDescription)")
        }
        let long = String(repeating: "x", count: 129)
        alice.send(["type": "join-room", "peerId": "alice", "roomId": long])
        #expect(alice.refusal() == "bad-message: roomId is longer than 128 bytes")
        alice.send(["type": "register", "peerId": "alice/" + String(repeating: "x", count: 400)])
        #expect(alice.refusal() == "bad-message: peerId is longer than 384 bytes")
    }

    @Test(arguments: ["__proto__", "'; DROP TABLE rooms", "раypal", "комната 1", "a\"b\\c", "😀", "<b>", "../x"])
    func sg14OtherNamesAreKeptAsTheyAre(name: String) throws {
        let alice = try Lab().peer("alice")
        alice.send(["type": "join-room", "peerId": "alice", "roomId": name])
        #expect(alice.take("room-joined")?["roomId"] as? String == name)
    }

    @Test func sg15CredentialsAreForTheUserOfTheConnection() throws {
        let lab = Lab()
        let nobody = lab.socket()
        nobody.send(["type": "ice-servers"])
        #expect(nobody.closedWith == .unauthenticated)
        let alice = try lab.client("alice")
        alice.send(["type": "ice-servers", "user": "bob", "username": "bob", "ttl": 1_000_000_000])
        let reply = try #require(alice.take("ice-servers"))
        #expect((reply["iceServers"] as? [[String: Any]])?.first?["username"] as? String == "alice")
        #expect(reply["ttl"] as? Int == 86_400)
        alice.send(["type": "ice-servers", "ttl": 1])
        #expect(alice.take("ice-servers")?["ttl"] as? Int == 60)
        var limited = 0
        for _ in 0..<100 {
            alice.send(["type": "ice-servers"])
            if alice.refusal()?.hasPrefix("rate-limited") == true { limited += 1 }
        }
        #expect(limited >= 80)
    }

    @Test func sg20GuessesLookAlikeAndAreThrottled() throws {
        let lab = Lab()
        let bob = try lab.peer("bob/9999")
        try bob.join("room-9999", as: "bob/9999")
        let mallory = try lab.peer("mallory")
        var answers: Set<String> = []
        var guesses = 0
        while mallory.closedWith == nil, guesses < 100_000 {
            let guess = 9_900 + guesses % 200
            mallory.send(["type": "signal", "to": "bob/\(guess)", "signal": 1])
            mallory.send(["type": "broadcast", "roomId": "room-\(guess)", "data": 1])
            for text in mallory.takeTexts() where !text.contains("rate-limited") {
                answers.insert(text.replacing("\(guess)", with: "N"))
            }
            guesses += 1
        }
        #expect(mallory.closedWith == .policy && guesses < 300)
        #expect(answers.count == 2, "\(answers)")
        #expect(bob.takeTexts().isEmpty)
    }
}
