import Testing

@testable import Signaling

@Suite struct DrainTests {
    /// Promise P10 and case SG-16: everyone is told, at his own time, and nobody is cut before the window begins.
    @Test func p10ClientsAreToldAndClosedOneAfterTheOther() throws {
        let lab = Lab { $0.connectionsPerAddress = 1_000 }
        let clients = try (0..<200).map { try lab.client("user\($0)") }
        lab.perform {
            lab.hub.drain(windowSeconds: 10, reconnectAfterMilliseconds: 1_000...5_000, now: lab.now, into: &$0)
        }
        let hints = try clients.map { client in
            let shutdown = try #require(client.take("server-shutdown"))
            #expect(shutdown["message"] as? String == "Server is shutting down")
            return try #require(shutdown["reconnectAfterMs"] as? Int)
        }
        #expect(hints.allSatisfy { (1_000...5_000).contains($0) })
        #expect(Set(hints).count > 100)
        var closed: [Int] = []
        for _ in 0..<10 {
            closed.append(clients.count { $0.closedWith != nil })
            lab.advance(seconds: 1)
        }
        #expect(closed[0] == 0 && zip(closed, closed.dropFirst()).allSatisfy { $1 - $0 < 60 }, "\(closed)")
        #expect(clients.allSatisfy { $0.closedWith == .shutdown })
        #expect(lab.hub.statistics.connections == 0 && lab.hub.statistics.sessions == 0)
    }

    /// Case SG-16: after a restart a thousand come back within a second, into rooms of fifty.
    @Test func sg16AThousandClientsComeBackAtOnce() throws {
        let lab = Lab()
        let clients = try (0..<1_000).map { number in
            let client = lab.socket(address: UInt32(number))
            client.send([
                "type": "hello", "username": "user\(number)", "password": "pw-user\(number)",
                "resume": "0123456789abcdef0123456789abcdef.\(number)", "received": 5,
            ])
            #expect(try #require(client.take("welcome"))["resumed"] as? Bool == false)
            client.send(["type": "register", "peerId": "user\(number)"])
            try client.join("room\(number % 20)", as: "user\(number)")
            lab.advance(seconds: 0.001)
            return client
        }
        #expect(lab.hub.statistics.peers == 1_000 && lab.hub.statistics.rooms == 20)
        #expect(clients.allSatisfy { $0.closedWith == nil && $0.take("error") == nil })
    }

    @Test func nobodyNewIsTakenWhileTheServerGoes() throws {
        let lab = Lab()
        let old = try lab.peer("alice")
        let half = lab.socket()
        lab.perform { lab.hub.drain(windowSeconds: 5, reconnectAfterMilliseconds: 0...0, now: lab.now, into: &$0) }
        let new = lab.socket(grant: lab.grant("bob"))
        #expect(new.refusal() == "draining: Server is shutting down")
        #expect(new.closedWith == .shutdown)
        #expect(lab.hub.refusal(of: AddressKey(ipv4: 7)) == .draining)
        // Who is connected goes on until its turn comes, a client that only now says hello too.
        half.send(["type": "hello", "username": "bob", "password": "pw-bob"])
        half.send(["type": "register", "peerId": "bob"])
        half.send(["type": "signal", "to": "alice", "signal": 1])
        #expect(old.take("signal") != nil)
        lab.advance(seconds: 5)
        #expect(old.closedWith == .shutdown && half.closedWith == .shutdown)
    }

    /// Case SG-17: a message to someone whose turn was before is answered by an error, not swallowed.
    @Test func sg17AMessageIsDeliveredOrReported() throws {
        let lab = Lab { $0.messagesPerSecond = 1_000 }
        let names = (0..<20).map { "user\($0)" }
        let clients = try names.map { try lab.peer($0) }
        lab.perform { lab.hub.drain(windowSeconds: 20, reconnectAfterMilliseconds: 0...0, now: lab.now, into: &$0) }
        var delivered = 0
        var reported = 0
        var sent = 0
        for _ in 0..<25 {
            for (number, client) in clients.enumerated() where client.closedWith == nil {
                client.send(["type": "signal", "to": names[(number + 7) % 20], "signal": sent, "id": sent])
                sent += 1
            }
            lab.advance(seconds: 1)
        }
        for client in clients {
            for message in client.takeAll() {
                if message["type"] as? String == "signal" { delivered += 1 }
                if message["code"] as? String == "not-found" { reported += 1 }
            }
        }
        #expect(
            sent == delivered + reported && reported > 0,
            "\(sent) sent, \(delivered) delivered, \(reported) reported"
        )
    }

    @Test func whoIsAwayWhenTheServerGoesIsNotWaitedFor() throws {
        let lab = Lab()
        let alice = try lab.peer("alice")
        lab.perform { lab.hub.drain(windowSeconds: 5, reconnectAfterMilliseconds: 0...0, now: lab.now, into: &$0) }
        alice.end(.lost(deliveredThrough: nil))
        #expect(lab.hub.statistics.sessions == 0)
    }
}
