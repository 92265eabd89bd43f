import Lab
import STUN
import Testing
import Traversal

/// How soon there is a connection, in virtual time and in round trips from peer to relay to peer and back.
@Suite struct TimingTests {
    /// A pair of port-restricted homes.
    private struct Run {
        let meeting: Meeting
        let roundTripSeconds: Double

        init(_ seed: UInt64, lossRatio: Double = 0) {
            var dice = Dice(seed: seed, for: "quality")
            let delay = 5 + 35 * dice.unit()
            let quality = LinkQuality(delayMilliseconds: delay, lossRatio: lossRatio)
            meeting = Meeting(.portRestricted, .portRestricted, quality, seed: seed)
            // Half a millisecond in the house, the home's link, the server's; there and back, twice.
            roundTripSeconds = 4 * (0.5 + 2 * delay) / 1_000
        }

        /// Both send as soon as they may.
        /// - Returns: when the first byte of an application is there, in seconds from the call to connect.
        func firstByte(gathers: Bool) throws -> Double {
            var arrival: Double?
            for peer in meeting.peers {
                peer.onPath = { [unowned peer] path in if path != nil { peer.send("2 first") } }
                peer.onData = { [meeting] _, _ in arrival = arrival ?? meeting.internet.seconds }
            }
            meeting.bob.start(gathers: gathers)
            if gathers { meeting.alice.start(gathers: true) }
            try meeting.internet.run(seconds: 3)
            let began = meeting.internet.seconds
            meeting.alice.connect(to: "bob")
            try meeting.internet.run(while: { arrival == nil }, atMostSeconds: 10)
            return try #require(arrival, meeting.comment) - began
        }
    }

    @Test func overAWarmRelayTheFirstByteIsThereInTwoRoundTripsAnd50Milliseconds() async {
        let excess = Times()
        await withSeeds(runs(20)) { seed in
            let run = Run(seed)
            let seconds = try run.firstByte(gathers: true)
            #expect(seconds <= 2 * run.roundTripSeconds + 0.050, "\(seconds) s, round trip \(run.roundTripSeconds) s")
            excess.add(seconds: seconds - 2 * run.roundTripSeconds)
        }
        print(excess.text("first byte over a warm relay, after two round trips"))
    }

    @Test func fromAColdStartTheFirstByteIsThereInSixRoundTripsAnd300Milliseconds() async {
        let excess = Times()
        await withSeeds(runs(20)) { seed in
            let run = Run(seed)
            let seconds = try run.firstByte(gathers: false)
            #expect(seconds <= 6 * run.roundTripSeconds + 0.300, "\(seconds) s, round trip \(run.roundTripSeconds) s")
            excess.add(seconds: seconds - 6 * run.roundTripSeconds)
        }
        print(excess.text("first byte from a cold start, after six round trips"))
    }

    @Test func fromTheRelayToTheDirectPathItTakesTwoRoundTripsAnd150Milliseconds() async {
        let excess = Times()
        await withSeeds(runs(40)) { seed in
            let run = Run(seed)
            try run.meeting.begin(gathers: seed % 2 == 0)
            try run.meeting.internet.run(while: { !run.meeting.isConnected }, atMostSeconds: 5)
            let began = run.meeting.internet.seconds
            #expect(try run.meeting.internet.run(while: { !run.meeting.isDirect }, atMostSeconds: 5))
            excess.add(seconds: run.meeting.internet.seconds - began - 2 * run.roundTripSeconds)
        }
        #expect(excess.quantile(0.5) <= 150)
        print(excess.text("from the relay to the direct path, after two round trips"))
    }

    /// One of twenty packets is lost on each link of the homes and the servers.
    @Test func withLossTheDirectPathIsThereInTwoSecondsNearlyAlways() async {
        let times = Times()
        await withSeeds(runs(40)) { seed in
            let run = Run(seed, lossRatio: 0.025)
            try run.meeting.begin(gathers: true)
            try run.meeting.internet.run(while: { !run.meeting.isConnected }, atMostSeconds: 10)
            let began = run.meeting.internet.seconds
            #expect(try run.meeting.internet.run(while: { !run.meeting.isDirect }, atMostSeconds: 20))
            times.add(seconds: run.meeting.internet.seconds - began)
        }
        print(times.text("from the relay to the direct path with loss"))
    }
}
