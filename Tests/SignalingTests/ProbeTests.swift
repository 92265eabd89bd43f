import Testing

@testable import Signaling

/// `probe-tcp`: the server connects to a client that asks for it, and to nobody else.
@Suite struct ProbeTests {
    @Test func theAnswerSaysWhatCameOfIt() throws {
        let lab = Lab()
        let alice = try lab.client("alice")
        for outcome in ProbeReport.Outcome.allCases {
            alice.send(["type": "probe-tcp", "id": "p", "port": 40_000])
            let probe = try #require(lab.takeProbe())
            #expect(probe.port == 40_000)
            let report =
                outcome == .impossible
                ? ProbeReport(outcome) : ProbeReport(outcome, address: "192.0.2.1", from: "203.0.113.11")
            lab.perform { lab.hub.probed(probe.ticket, report, now: lab.now, into: &$0) }
            let answer = try #require(alice.take("probe-tcp"))
            #expect(answer["id"] as? String == "p" && answer["outcome"] as? String == "\(outcome)")
            #expect(answer["address"] as? String == (outcome == .impossible ? nil : "192.0.2.1"))
            #expect(answer["from"] as? String == (outcome == .impossible ? nil : "203.0.113.11"))
        }
        #expect(lab.hub.probes.isEmpty)
    }

    @Test func aPortMustBeOneThatANATGivesAndNoAddressCanBeNamed() throws {
        let lab = Lab()
        let alice = try lab.client("alice")
        for port in [nil, 0, 22, 443, 1_023, 65_536, 1 << 40] as [Int?] {
            var message: [String: Any] = ["type": "probe-tcp"]
            message["port"] = port
            alice.send(message)
            #expect(alice.take("error")?["code"] as? String == "bad-message", "\(port ?? -1)")
        }
        #expect(lab.pendingProbes.isEmpty)
        // Whatever else a message says, what is to be done names a connection and a port.
        alice.send(["type": "probe-tcp", "port": 1_024, "address": "198.51.100.7", "host": "198.51.100.7"])
        #expect(lab.pendingProbes.count == 1)
    }

    @Test func aUserHasFewAndGetsThemBackSlowly() throws {
        let lab = Lab()
        let alice = try lab.client("alice")
        func ask() -> Bool {
            let before = lab.pendingProbes.count
            alice.send(["type": "probe-tcp", "port": 40_000])
            if lab.pendingProbes.count > before { return true }
            return alice.take("error")?["code"] as? String != "rate-limited"
        }
        #expect((0..<7).map { _ in ask() } == [true, true, true, true, true, true, false])
        lab.advance(seconds: 9)
        #expect(!ask())
        lab.advance(seconds: 2)
        #expect(ask() && !ask())
        // Another connection of the same user's has none of its own.
        let other = try lab.client("alice")
        other.send(["type": "probe-tcp", "port": 40_000])
        #expect(other.take("error")?["code"] as? String == "rate-limited")
    }

    @Test func manyAtOnceAreNotOpened() throws {
        let lab = Lab()
        for number in 0..<SignalingLimits.probesMax {
            let client = try lab.client("user\(number)", address: UInt32(number))
            client.send(["type": "probe-tcp", "port": 40_000])
        }
        #expect(lab.pendingProbes.count == SignalingLimits.probesMax)
        let late = try lab.client("late", address: 1 << 20)
        late.send(["type": "probe-tcp", "port": 40_000])
        #expect(late.take("error")?["code"] as? String == "rate-limited")
        let probe = lab.pendingProbes.removeFirst()
        lab.perform { lab.hub.probed(probe.ticket, ProbeReport(.dropped), now: lab.now, into: &$0) }
        late.send(["type": "probe-tcp", "port": 40_000])
        #expect(late.take("error") == nil)
    }

    @Test func nobodyIsConnectedToBeforeSayingWhoItIs() throws {
        let lab = Lab()
        let stranger = lab.socket()
        stranger.send(["type": "probe-tcp", "port": 40_000])
        #expect(stranger.take("error")?["code"] as? String == "unauthenticated")
        #expect(lab.pendingProbes.isEmpty)
    }

    @Test func anAnswerForASessionThatEndedGoesNowhere() throws {
        let lab = Lab()
        let alice = try lab.client("alice")
        alice.send(["type": "probe-tcp", "port": 40_000])
        let probe = try #require(lab.takeProbe())
        alice.end(.goodbye)
        lab.perform { lab.hub.probed(probe.ticket, ProbeReport(.accepted), now: lab.now, into: &$0) }
        #expect(lab.hub.probes.isEmpty)
    }
}
