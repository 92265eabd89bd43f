import Testing

@testable import Signaling

/// What worked between two networks: reported by clients, kept by the server, told to both ends of the next offer.
@Suite struct PathMemoryTests {
    private static let home: UInt32 = 0xC633_6401  // 198.51.100.1
    private static let office: UInt32 = 0xCB00_7101  // 203.0.113.1

    /// A client that says it understands.
    private func peer(_ lab: Lab, _ id: String, at address: UInt32, wants: Bool = true) throws -> Client {
        let client = try lab.client(id, address: address)
        client.send(wants ? ["type": "register", "peerId": id, "memory": true] : ["type": "register", "peerId": id])
        _ = try #require(client.take("registered"))
        return client
    }

    private func meet(_ one: Client, _ other: Client, _ name: String, _ otherName: String) {
        one.send(["type": "offer", "to": otherName, "offer": ["sdp": "x"]])
        other.send(["type": "answer", "to": name, "answer": ["sdp": "x"]])
        _ = (one.takeAll(), other.takeAll())
    }

    private func report(_ client: Client, _ to: String, _ method: String, worked: Bool = true, milliseconds: Int = 300)
    {
        client.send(["type": "report", "to": to, "method": method, "worked": worked, "milliseconds": milliseconds])
    }

    /// What comes with the next offer: the methods with their scores.
    private func told(_ client: Client) -> [String: Int]? {
        guard let signal = client.take("signal"), let payload = signal["payload"] as? [String: Any],
            payload["kind"] as? String == "memory", let methods = payload["methods"] as? [[String: Any]]
        else { return nil }
        return Dictionary(
            uniqueKeysWithValues: methods.compactMap { entry in
                (entry["method"] as? String).flatMap { name in (entry["score"] as? Int).map { (name, $0) } }
            }
        )
    }

    @Test func whatWorkedIsToldToBothEndsOfTheNextOffer() throws {
        let lab = Lab()
        let alice = try peer(lab, "alice", at: Self.home)
        let bob = try peer(lab, "bob", at: Self.office)
        alice.send(["type": "offer", "to": "bob", "offer": 1])
        #expect(alice.take("signal") == nil && bob.take("signal") == nil)
        meet(alice, bob, "alice", "bob")
        report(alice, "bob", "birthday", milliseconds: 4_000)
        report(alice, "bob", "udp-hole-punch", worked: false)
        #expect(alice.takeAll().isEmpty)
        bob.send(["type": "offer", "to": "alice", "offer": 1])
        let signal = try #require(alice.take("signal"))
        #expect(signal["from"] as? String == "bob" && signal["to"] as? String == "alice")
        let methods = (signal["payload"] as? [String: Any])?["methods"] as? [[String: Any]]
        #expect(methods?.first?["milliseconds"] as? Int == 4_000)
        #expect(told(bob) == ["birthday": 2, "udp-hole-punch": -1])
        // It is there before the offer that it is for.
        let types = alice.takeAll().compactMap { $0["type"] as? String }
        #expect(types == ["offer"])
    }

    @Test func neighboursInTheSameNetworksShareIt() throws {
        let lab = Lab()
        let alice = try peer(lab, "alice", at: Self.home)
        let bob = try peer(lab, "bob", at: Self.office)
        meet(alice, bob, "alice", "bob")
        report(bob, "alice", "direct")
        let carol = try peer(lab, "carol", at: Self.office + 77)
        let dave = try peer(lab, "dave", at: Self.home + 200)
        carol.send(["type": "offer", "to": "dave", "offer": 1])
        #expect(told(carol) == ["direct": 2] && told(dave) == ["direct": 2])
        let elsewhere = try peer(lab, "erin", at: Self.home + 256)
        elsewhere.send(["type": "offer", "to": "bob", "offer": 1])
        #expect(told(elsewhere) == nil)
    }

    @Test func anIPv6NetworkIsASite() {
        let site = AddressKey(ipv6: 0x2001_0DB8_0007_0001, 1).network
        #expect(site == AddressKey(ipv6: 0x2001_0DB8_0007_FFFF, 9).network)
        #expect(site != AddressKey(ipv6: 0x2001_0DB8_0008_0001, 1).network)
        #expect(AddressKey(ipv4: Self.home).network == AddressKey(ipv4: Self.home ^ 0xFF).network)
        #expect(AddressKey(ipv4: Self.home).network != AddressKey(ipv4: Self.home ^ 0x100).network)
        let (one, other) = (AddressKey(ipv4: Self.home).network, site)
        #expect(NetworkPair(one, other) == NetworkPair(other, one))
    }

    @Test func aBrowserIsNeverToldAndNeverRemembered() throws {
        let lab = Lab()
        let alice = try peer(lab, "alice", at: Self.home)
        let browser = try peer(lab, "bob", at: Self.office, wants: false)
        meet(alice, browser, "alice", "bob")
        #expect(lab.hub.statistics.networkPairs == 0)
        report(alice, "bob", "direct")
        #expect(lab.hub.counters.pathReportsIgnored == 1)
        alice.send(["type": "offer", "to": "bob", "offer": 1])
        #expect(browser.take("signal") == nil && alice.take("signal") == nil)
    }

    @Test func scoresStayInTheirRange() throws {
        let lab = Lab { $0.messagesPerSecond = 10_000 }
        let alice = try peer(lab, "alice", at: Self.home)
        let bob = try peer(lab, "bob", at: Self.office)
        meet(alice, bob, "alice", "bob")
        for _ in 0..<14 {
            report(alice, "bob", "birthday")
            report(alice, "bob", "direct", worked: false)
        }
        bob.send(["type": "offer", "to": "alice", "offer": 1])
        #expect(told(bob) == ["birthday": 10, "direct": -10])
    }

    @Test func moreReportsThanConnectionsAreIgnored() throws {
        let lab = Lab { ($0.messagesPerSecond, $0.burst) = (10_000, 10_000) }
        let alice = try peer(lab, "alice", at: Self.home)
        let bob = try peer(lab, "bob", at: Self.office)
        meet(alice, bob, "alice", "bob")
        for _ in 0..<100 { report(alice, "bob", "direct") }
        #expect(lab.hub.counters.pathReportsTaken == 30 && lab.hub.counters.pathReportsIgnored == 70)
        // Nothing is refused: the client has nothing to mend.
        #expect(alice.takeAll().isEmpty)
        lab.advance(seconds: 60)
        report(bob, "alice", "direct")
        report(alice, "bob", "direct")
        #expect(lab.hub.counters.pathReportsTaken == 32)
    }

    @Test func aStrangerCannotReportOnWhoHasNotAnswered() throws {
        let lab = Lab()
        let mallory = try peer(lab, "mallory", at: Self.home)
        let bob = try peer(lab, "bob", at: Self.office)
        mallory.send(["type": "offer", "to": "bob", "offer": 1])
        report(mallory, "bob", "birthday", worked: false)
        #expect(lab.hub.counters.pathReportsIgnored == 1 && lab.hub.statistics.networkPairs == 0)
        report(mallory, "nobody", "direct")
        #expect(mallory.refusal() == "not-found: Peer nobody not found")
        _ = bob.takeAll()
        try bob.join("room", as: "bob")
        report(mallory, "bob", "direct")
        #expect(mallory.refusal() == "not-found: Peer bob not found")
    }

    @Test(arguments: [
        (#""to":"bob""#, "to and method are required"), (#""method":"direct""#, "to and method are required"),
        (#""to":"bob","method":"magic""#, "method must be one of direct, udp-hole-punch"),
        (#""to":"bob","method":"direct","worked":1"#, "worked must be true or false"),
        (#""to":"bob","method":"direct","milliseconds":-1"#, "milliseconds must be a whole number"),
        (#""to":"bob","method":7"#, "method must be a string"),
    ])
    func aReportThatMakesNoSenseIsRefused(members: String, words: String) throws {
        let lab = Lab()
        let alice = try peer(lab, "alice", at: Self.home)
        _ = try peer(lab, "bob", at: Self.office)
        alice.send(#"{"type":"report",\#(members)}"#)
        let refusal = alice.refusal() ?? "none"
        #expect(refusal.hasPrefix("bad-message: \(words)"), "\(refusal)")
    }

    @Test func aPairIsForgottenAfterAWeekOfSilence() throws {
        let lab = Lab { $0.peerTimeoutSeconds = 30 * 86_400 }
        let alice = try peer(lab, "alice", at: Self.home)
        let bob = try peer(lab, "bob", at: Self.office)
        meet(alice, bob, "alice", "bob")
        report(alice, "bob", "direct")
        lab.advance(seconds: 6 * 86_400)
        report(bob, "alice", "direct")
        lab.advance(seconds: 6 * 86_400)
        #expect(lab.hub.statistics.networkPairs == 1)
        lab.advance(seconds: 86_400 + 1)
        #expect(lab.hub.statistics.networkPairs == 0)
    }

    @Test func theOldestPairMakesRoom() {
        var table = PathMemoryTable()
        func pair(_ number: Int) -> NetworkPair {
            NetworkPair(NetworkKey(ipv4: 1 << 8), NetworkKey(ipv4: UInt32(number) << 8))
        }
        func time(_ second: Int) -> HubTime {
            HubTime(monotonicNanoseconds: UInt64(second) * 1_000_000_000, wallMilliseconds: 0)
        }
        let limit = SignalingLimits.networkPairsRemembered
        for number in 0..<limit { table.meet(pair(number), now: time(number)) }
        // The very first is of use once more, so it is the second that goes.
        let first = table.note(pair(0), .direct, worked: true, milliseconds: 5, now: time(limit))
        #expect(first)
        table.meet(pair(limit), now: time(limit + 1))
        #expect(table.count == limit)
        let second = table.note(pair(1), .direct, worked: true, milliseconds: 5, now: time(limit + 2))
        #expect(!second)
        #expect(table.advice(pair(0)) == [PathAdvice(method: .direct, score: 2, milliseconds: 5)])
    }
}
