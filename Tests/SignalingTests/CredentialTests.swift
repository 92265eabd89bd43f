import Foundation
import Testing

@testable import Signaling

@Suite struct CredentialTests {
    @Test func newCredentialsComeBeforeTheOldOnesEnd() throws {
        let lab = Lab { $0.peerTimeoutSeconds = 100_000 }
        let alice = try lab.client("alice")
        lab.advance(seconds: 3_539)
        #expect(alice.take("ice-servers") == nil)
        lab.advance(seconds: 2)
        let fresh = try #require(alice.take("ice-servers"))
        #expect((fresh["iceServers"] as? [[String: Any]])?.first?["credential"] as? String == "n")
        #expect(fresh["ttl"] as? Int == 3_600 && fresh["id"] == nil)
        lab.advance(seconds: 3_541)
        #expect(alice.take("ice-servers") != nil, "and so on")
        // Whoever asks for shorter ones is served by those.
        alice.send(["type": "ice-servers", "ttl": 100])
        #expect(alice.take("ice-servers")?["ttl"] as? Int == 100)
        lab.advance(seconds: 51)
        #expect(alice.take("ice-servers") != nil)
    }

    @Test func aRefreshThatFailsIsTriedAgain() throws {
        let lab = Lab { $0.peerTimeoutSeconds = 100_000 }
        let alice = try lab.client("alice")
        lab.answersAtOnce = false
        lab.advance(seconds: 3_541)
        #expect(lab.pendingTickets.count == 1)
        lab.failTickets()
        lab.advance(seconds: 11)
        #expect(lab.pendingTickets.count == 1)
        lab.perform { _ in lab.answerTickets() }
        #expect(alice.takeAll().map { $0["type"] as? String } == ["ice-servers"], "and the client hears of no failure")
    }

    @Test func aRequestThatFailsIsAnswered() throws {
        let lab = Lab()
        let alice = try lab.client("alice")
        lab.answersAtOnce = false
        for number in 0..<6 { alice.send(["type": "ice-servers", "id": number]) }
        #expect(alice.takeAll().map { $0["id"] as? Int } == [4, 5], "four at a time")
        lab.failTickets()
        let errors = alice.takeAll()
        #expect(errors.map { $0["id"] as? Int } == [0, 1, 2, 3])
        #expect(errors.allSatisfy { $0["originalType"] as? String == "ice-servers" && $0["retryAfterMs"] != nil })
        #expect(lab.hub.tickets.isEmpty)
    }

    @Test func nothingIsMintedForWhoIsAway() throws {
        let lab = Lab { $0.resumeWindowSeconds = 10_000 }
        let alice = try lab.client("alice")
        alice.end(.lost(deliveredThrough: nil))
        lab.answersAtOnce = false
        lab.advance(seconds: 5_000)
        #expect(lab.pendingTickets.isEmpty)
    }

    @Test func anAnswerForASessionThatEndedGoesNowhere() throws {
        let lab = Lab()
        let alice = try lab.client("alice")
        lab.answersAtOnce = false
        alice.send(["type": "ice-servers"])
        alice.end(.goodbye)
        lab.perform { _ in lab.answerTickets() }
        #expect(alice.takeTexts().isEmpty && lab.hub.tickets.isEmpty)
    }

    @Test func administratorsSeeEverything() throws {
        let lab = Lab()
        for name in ["alice", "bob", "carol"] {
            let peer = try lab.peer(name)
            try peer.join("room-\(name)", as: name)
            try peer.join("hall", as: name)
        }
        #expect(lab.hub.rooms(after: nil, limit: 2).map(\.roomID) == ["hall", "room-alice"])
        #expect(lab.hub.rooms(after: "room-alice", limit: 9).map(\.roomID) == ["room-bob", "room-carol"])
        #expect(lab.hub.rooms(visibleTo: "bob").map(\.roomID) == ["hall", "room-bob"])
        #expect(lab.hub.peers(inRoom: "hall")?.map(\.peerID) == ["alice", "bob", "carol"])
        #expect(lab.hub.peers(inRoom: "hall", visibleTo: "bob")?.count == 3)
        let first = lab.hub.sessions(after: nil, limit: 2)
        let rest = lab.hub.sessions(after: first.last?.id, limit: 9)
        #expect(Set((first + rest).map(\.user)) == ["alice", "bob", "carol"] && rest.count == 1)
        #expect(first.allSatisfy { $0.roomIDs == ["hall", "room-\($0.user)"] && $0.peerIDs == [$0.user] })
    }

    @Test func aBucketGivesWhatItsRateSays() {
        let rate = Rate(perSecond: 50, burst: 100)
        var bucket = TokenBucket()
        var now: UInt64 = 5_000_000_000
        #expect((0..<100).allSatisfy { _ in bucket.tryTake(of: rate, now: now) == 0 })
        let wait = bucket.tryTake(of: rate, now: now)
        #expect(wait == 20_000_000)
        now += wait
        #expect(bucket.tryTake(of: rate, now: now) == 0)
        #expect(bucket.tryTake(of: rate, now: now) > 0)
        now += 2_000_000_000
        #expect(bucket.tryTake(1_000_000, of: rate, now: now) == 0, "a cost above the burst is the burst")
        #expect(bucket.waitNanoseconds(of: Rate(perSecond: 1, burst: .max), now: .max / 4) == 0)
    }

    @Test(arguments: 0..<4)
    func alarmsRingInOrder(seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        var queue = AlarmQueue()
        let items = (0..<200).map { _ in Alarmed() }
        var times: [ObjectIdentifier: UInt64] = [:]
        for _ in 0..<3_000 {
            let item = items[Int.random(in: 0..<items.count, using: &generator)]
            let time = Bool.random(using: &generator) ? UInt64.random(in: 0..<500, using: &generator) : nil
            queue.set(item, at: time)
            times[ObjectIdentifier(item)] = time
            #expect(queue.count == times.count && queue.earliest == times.values.min())
        }
        var last: UInt64 = 0
        while let item = queue.popDue(400) {
            let time = times.removeValue(forKey: ObjectIdentifier(item)) ?? .max
            #expect(time >= last && time <= 400)
            last = time
        }
        #expect(times.values.allSatisfy { $0 > 400 } && queue.count == times.count)
    }
}
