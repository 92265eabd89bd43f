import Foundation
import Testing

@testable import Signaling

@Suite struct LimitTests {
    @Test func sg07AMessageThatIsTooLongIsTheLast() throws {
        let lab = Lab()
        let alice = try lab.peer("alice")
        let bob = try lab.peer("bob")
        let frame = #"{"type":"signal","to":"bob","signal":""#
        let room = 65_536 - frame.utf8.count - 2
        alice.send(frame + String(repeating: "x", count: room) + #""}"#)
        #expect(bob.take("signal") != nil)
        alice.send(frame + String(repeating: "x", count: room + 1) + #""}"#)
        #expect(alice.refusal() == "too-large: A message has at most 65536 bytes")
        #expect(alice.closedWith == .tooLarge)
        // The gateway may know it from the header.
        lab.perform { lab.hub.receiveTooLarge(from: bob.id, now: lab.now, into: &$0) }
        #expect(bob.takeAll().map { $0["code"] as? String } == ["too-large"])
        #expect(bob.closedWith == .tooLarge)
    }

    @Test func sg07TenThousandCandidatesAreTooMany() throws {
        let lab = Lab()
        let alice = try lab.peer("alice")
        let bob = try lab.peer("bob")
        var sent = 0
        while alice.closedWith == nil, sent < 10_000 {
            alice.send(["type": "ice-candidate", "to": "bob", "candidate": ["candidate": "c\(sent)"]])
            sent += 1
        }
        #expect(alice.closedWith == .policy)
        #expect(sent <= 202 && bob.takeTexts().count <= 100)
    }

    /// Case SG-09: 200 messages a second where 50 are allowed.
    @Test func sg09WhoSendsTooMuchIsToldWhenToGoOnAndThenClosed() throws {
        let lab = Lab()
        let alice = try lab.client("alice")
        var seconds = 0.0
        var hints: [Int] = []
        while alice.closedWith == nil, seconds < 10 {
            alice.send(["type": "ping", "id": 7])
            while let error = alice.take("error") {
                #expect(error["code"] as? String == "rate-limited" && error["originalType"] as? String == "ping")
                #expect(error["id"] as? Int == 7)
                hints.append(error["retryAfterMs"] as? Int ?? -1)
            }
            lab.advance(seconds: 0.005)
            seconds += 0.005
        }
        #expect(alice.closedWith == .policy)
        #expect((1...3).contains(seconds), "after \(seconds) s")
        #expect(hints.allSatisfy { (501...521).contains($0) })
        #expect(lab.hub.counters[.rateLimited] == UInt64(hints.count))
    }

    @Test func sg09WhileOneIsRefusedAndClosedTheMessagesOfAnotherAllArrive() throws {
        let lab = Lab()
        let loud = try lab.peer("mallory")
        let alice = try lab.peer("alice")
        let bob = try lab.peer("bob")
        var (sent, refusals) = (0, 0)
        for millisecond in 0..<3_000 {
            if loud.closedWith == nil { loud.send(["type": "signal", "to": "bob", "signal": "noise"]) }
            while let error = loud.take("error") {
                #expect(error["code"] as? String == "rate-limited" && error["retryAfterMs"] as? Int ?? 0 > 0)
                refusals += 1
            }
            if millisecond % 50 == 0 {
                alice.send(["type": "signal", "to": "bob", "signal": sent])
                sent += 1
            }
            lab.advance(seconds: 0.001)
        }
        #expect(loud.closedWith == .policy && refusals > 0)
        var heard: [Int?] = []
        while let message = bob.take("signal") {
            if message["from"] as? String == "alice" { heard.append(message["signal"] as? Int) }
        }
        #expect(heard == (0..<sent).map(Optional.some))
        #expect(alice.closedWith == nil && alice.take("error") == nil)
    }

    @Test func sg09WhoWaitsAsToldStays() throws {
        let lab = Lab()
        let alice = try lab.client("alice")
        var answered = 0
        for _ in 0..<2_000 {
            alice.send(["type": "ping"])
            if let error = alice.take("error") {
                lab.advance(seconds: Double(error["retryAfterMs"] as? Int ?? 0) / 1_000)
                alice.send(["type": "ping"])
                #expect(alice.take("error") == nil)
            }
            answered += alice.takeTexts().count
        }
        #expect(alice.closedWith == nil && answered == 2_000)
    }

    @Test func sg09TheConnectionsOfAUserShareABudget() throws {
        let lab = Lab {
            $0.connectionsPerUser = 50; $0.connectionsPerAddress = 1_000
        }
        let clients = try (0..<50).map { try lab.client("alice", address: UInt32($0)) }
        let other = try lab.client("bob", address: 99)
        var answered = 0
        for _ in 0..<40 {
            for client in clients { client.send(["type": "ping"]) }
        }
        for client in clients { answered += client.takeTexts().count { $0.contains("pong") } }
        // A quarter of fifty bursts of a hundred.
        #expect(answered == 1_200)
        other.send(["type": "ping"])
        #expect(other.take("pong") != nil)
    }

    @Test func sg09TheUsersOfAnAddressShareABudget() throws {
        let lab = Lab { $0.connectionsPerAddress = 8 }
        let clients = try (0..<8).map { try lab.client("user\($0)", address: 5) }
        for _ in 0..<60 {
            for client in clients { client.send(["type": "ping"]) }
        }
        #expect(clients.reduce(0) { $0 + $1.takeTexts().count { $0.contains("pong") } } == 200)
    }

    @Test func comingBackDoesNotRenewABudget() throws {
        let lab = Lab { $0.connectionsPerUser = 1 }
        var answered = 0
        for _ in 0..<5 {
            let client = try lab.client("alice")
            for _ in 0..<100 where client.closedWith == nil { client.send(["type": "ping"]) }
            answered += client.takeTexts().count { $0.contains("pong") }
            client.end(.goodbye)
        }
        #expect(answered == 100)
        lab.advance(seconds: 3)
        #expect(lab.hub.statistics.users == 0, "and is forgotten when it is whole")
        lab.advance(seconds: 60)
        #expect(lab.hub.addresses.isEmpty)
    }

    /// Case SG-10: copies are paid for, by the user and by the room.
    @Test func sg10BroadcastsInALargeRoomAreRationed() throws {
        let lab = Lab { $0.connectionsPerAddress = 1_000 }
        let members = try (0..<500).map { number in
            let peer = try lab.peer("user\(number)", address: UInt32(number))
            try peer.join("hall", as: "user\(number)")
            return peer
        }
        for member in members { _ = member.takeTexts() }
        var limited = 0
        var copies = 0
        for _ in 0..<50 {
            members[0].send(["type": "broadcast", "roomId": "hall", "data": 1])
            if members[0].take("error") != nil { limited += 1 }
        }
        for member in members { copies += member.takeTexts().count }
        #expect(copies <= 5_000 && limited == 40)
        for member in members[1..<100] {
            member.send(["type": "broadcast", "roomId": "hall", "data": 1])
            member.answerProbes()
        }
        for member in members {
            copies += member.takeTexts().count { $0.contains(#""broadcast""#) && !$0.contains("error") }
        }
        #expect(copies <= 20_000)
        // Another room has its own budget.
        let alice = try lab.peer("alice")
        let bob = try lab.peer("bob")
        try alice.join("small", as: "alice")
        try bob.join("small", as: "bob")
        alice.send(["type": "broadcast", "roomId": "small", "data": 1])
        #expect(bob.take("broadcast") != nil)
    }

    @Test func re17RoomsAndPeersAreBounded() throws {
        let lab = Lab {
            $0.messagesPerSecond = 1_000_000; $0.burst = 1_000_000
        }
        let alice = try lab.peer("alice")
        for number in 0..<SignalingLimits.roomsPerPeer { try alice.join("room-\(number)", as: "alice") }
        alice.send(["type": "join-room", "peerId": "alice", "roomId": "more"])
        #expect(alice.refusal() == "forbidden: A peer is in at most 32 rooms")
        for number in 1..<SignalingLimits.peersPerSession {
            alice.send(["type": "register", "peerId": "alice/\(number)"])
        }
        alice.send(["type": "register", "peerId": "alice/more"])
        #expect(alice.refusal() == "forbidden: A connection has at most 32 peers")
        var rooms = 32
        for number in 1..<SignalingLimits.peersPerSession {
            for room in 0..<32 {
                alice.send(["type": "join-room", "peerId": "alice/\(number)", "roomId": "r-\(number)-\(room)"])
                if alice.take("error") == nil { rooms += 1 }
            }
        }
        #expect(rooms == SignalingLimits.roomsPerUser)
        #expect(lab.hub.statistics.rooms == rooms)
        alice.end(.goodbye)
        #expect(lab.hub.statistics.rooms == 0 && lab.hub.statistics.peers == 0)
    }

    @Test func re17ARoomIsBounded() throws {
        let lab = Lab {
            $0.connectionsPerAddress = 2_000; $0.messagesPerSecond = 10_000
        }
        for number in 0..<SignalingLimits.membersPerRoom {
            let peer = try lab.peer("user\(number)")
            try peer.join("hall", as: "user\(number)")
            peer.isReading = false
        }
        let late = try lab.peer("late")
        late.send(["type": "join-room", "peerId": "late", "roomId": "hall"])
        #expect(late.refusal() == "forbidden: Room hall is full")
        // One of many words takes the place of many.
        let metadata = ["about": String(repeating: "x", count: 4_000)]
        var joined = 0
        for number in 0..<40 {
            let peer = try lab.client("wordy\(number)")
            peer.send(["type": "register", "peerId": "wordy\(number)", "metadata": metadata])
            peer.send(["type": "join-room", "peerId": "wordy\(number)", "roomId": "words"])
            if peer.take("room-joined") != nil { joined += 1 }
            if number == 39 {
                peer.send([
                    "type": "register", "peerId": "wordy39", "metadata": ["a": String(repeating: "x", count: 4_200)],
                ])
                #expect(peer.takeAll().last?["error"] as? String == "metadata must be an object of at most 4096 bytes")
            }
        }
        #expect(joined == SignalingLimits.rosterBytesPerRoom / 4_060)
    }

    @Test func aPeerThatIsNotHeardOfIsClosed() throws {
        let lab = Lab { $0.peerTimeoutSeconds = 300 }
        let alice = try lab.peer("alice")
        let bob = try lab.peer("bob")
        // The original dropped a peer that was active and never sent a ping.
        for _ in 0..<5 {
            lab.advance(seconds: 200)
            alice.send(["type": "lookup", "peerId": "bob"])
            lab.hub.acknowledged(bob.id, through: 1, now: lab.now)
        }
        #expect(alice.closedWith == nil && bob.closedWith == nil)
        lab.advance(seconds: 299)
        #expect(alice.closedWith == nil)
        lab.advance(seconds: 2)
        #expect(alice.closedWith == .policy)
        #expect(lab.hub.counters[.peerTimeout] == 2)
        #expect(lab.hub.statistics.sessions == 0)
    }

    /// Case RE-11, as far as the hub is concerned: the rest of the room notices nothing.
    @Test func re11ASlowConsumerIsClosedAndMayComeBack() throws {
        let lab = Lab()
        let alice = try lab.peer("alice")
        let bob = try lab.peer("bob")
        let carol = try lab.peer("carol")
        for (peer, id) in [(alice, "alice"), (bob, "bob"), (carol, "carol")] { try peer.join("r", as: id) }
        lab.perform { lab.hub.slowConsumer(bob.id, now: lab.now, into: &$0) }
        #expect(bob.closedWith == .policy)
        alice.send(["type": "broadcast", "roomId": "r", "data": 1])
        #expect(carol.take("broadcast") != nil)
        #expect(carol.takeAll().allSatisfy { $0["type"] as? String != "peer-left" })
        let again = lab.socket()
        again.send(["type": "hello", "resume": bob.token, "received": bob.received])
        #expect(again.take("broadcast") != nil)
        #expect(lab.hub.counters[.slowConsumer] == 1)
    }

    @Test func everyCounterCounts() throws {
        let lab = Lab()
        let alice = try lab.peer("alice")
        alice.send(["type": "ping"])
        alice.send("{}")
        let counters = lab.hub.counters
        #expect(counters[.hello] == 1 && counters[.register] == 1 && counters[.ping] == 1)
        #expect(counters[.badType] == 1 && counters.messagesReceived == 4)
        #expect(counters.messagesSent == 4 && counters.connectionsOpened == 1)
        #expect(Set(RejectionReason.allCases.map(\.label)).count == RejectionReason.allCases.count)
        for code in ErrorCode.allCases { #expect("\(RejectionReason(code))" == "\(code)") }
    }
}
