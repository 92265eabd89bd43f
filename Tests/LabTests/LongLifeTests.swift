import Foundation
import Lab
import STUN
import Testing
import Traversal

/// Connections that live for hours while everything about them happens: NATs forget and get other addresses, links
/// lose packets and are cut, servers start anew. `LAB_HOURS=8` is the whole time, and `LAB_RUNS=n` says how
/// often.
@Suite struct LongLifeTests {
    private static let hours = ProcessInfo.processInfo.environment["LAB_HOURS"].flatMap { Double($0) } ?? 0.2

    private enum Event: CaseIterable {
        case oneForgets, otherForgets, oneRenumbers, otherRenumbers, pathCut, linkCut, loss, relayRestart, hubRestart
    }

    /// How long nothing may come to one of them once the network lets it. Something is sent every second.
    private static let patienceSeconds = 6.0

    /// Of the long run there are more.
    private static let homes: [(NATSide, NATSide)] =
        [(.portRestricted, .portRestricted), (.symmetric, .portRestricted), (.open, .symmetric)]
        + (hours < 2
            ? []
            : [
                (.portRestricted, .symmetric), (.symmetric, .symmetric), (.fullCone, .restricted),
                (.restricted, .symmetric), (.symmetric, .fullCone), (.open, .portRestricted),
            ])

    @Test(arguments: homes)
    func nothingIsLostThatTheNetworkAllowsToLive(one: NATSide, other: NATSide) async {
        await withSeeds(runs(1)) { seed in
            let behavior = { (side: NATSide) in side.behavior?.with { $0.allocation = .random } }
            let quality = LinkQuality(delayMilliseconds: 12, jitterMilliseconds: 3, lossRatio: 0.002)
            let meeting = Meeting(behavior(one), behavior(other), firewalls: (.open, .stateful), quality, seed: seed)
            try meeting.begin(gathers: true)
            #expect(try meeting.internet.run(while: { !meeting.isConnected }, atMostSeconds: 10))
            let traffic = Traffic(meeting, everySeconds: 1)
            var dice = Dice(seed: seed, for: "events of \(one) and \(other)")
            var worst = 0.0
            var happened: [String] = []
            var sizes: [Sizes] = []
            while meeting.internet.seconds < Self.hours * 3_600 {
                try meeting.internet.run(seconds: 40 + 160 * dice.unit())
                let event = Event.allCases[Int(dice.below(UInt64(Event.allCases.count)))]
                happened.append("\(event) at \(meeting.internet.seconds) s")
                let duration = Self.happen(event, to: meeting, quality, &dice)
                try meeting.internet.run(seconds: duration)
                let start = meeting.internet.now
                traffic.forget()
                try meeting.internet.run(seconds: 40)
                let seconds = traffic.longestGapSeconds(since: start)
                worst = max(worst, seconds)
                #expect(
                    seconds <= Self.patienceSeconds,
                    "\(event) at \(meeting.internet.seconds) s\n\(meeting.comment)"
                )
                sizes.append(Sizes(meeting))
            }
            for (name, peer) in [("alice", meeting.alice), ("bob", meeting.bob)] {
                happened += peer.states.map { "\(name) \($0.state) at \(Double($0.at) / 1e9 - 1_000) s" }
            }
            // The direct path is there again wherever it can be.
            try meeting.internet.run(seconds: 150)
            #expect(meeting.isDirect == NATPair(offerer: one, answerer: other).isDirect, meeting.comment)
            #expect(meeting.alice.restarts == 0 && meeting.bob.restarts == 0, "\(happened)")
            #expect(meeting.peers.flatMap(\.states).allSatisfy { $0.state != .failed }, "\(happened)")
            let most = sizes.reduce(Sizes.none) { $0.larger($1) }
            #expect(most.isBounded, "\(most)")
            // Nor does any of it grow with time. Candidates come with every event until a new session forgets them, so
            // it is what is left then that tells: whatever is kept for good is in all that follows.
            let first = sizes.prefix(sizes.count / 2).map(\.weight).min() ?? 0
            let last = sizes.suffix(sizes.count / 4).map(\.weight).min() ?? 0
            if Self.hours >= 2 { #expect(last <= first + first / 2 + 1_000, "\(sizes.map(\.weight))") }
            #expect(meeting.internet.log.isConserved)
            let share = Double(traffic.received) / Double(traffic.sent) * 100
            print("\(one) and \(other), \(sizes.count) events in \(Self.hours) h: longest \(worst) s, \(share) % came")
            print("at most \(most)")
        }
    }

    /// - Returns: for how many seconds the network lets nothing through.
    private static func happen(
        _ event: Event,
        to meeting: Meeting,
        _ quality: LinkQuality,
        _ dice: inout Dice
    ) -> Double {
        let internet = meeting.internet
        // Where there is no NAT there is a host, whose only cable is the home's.
        func router(_ name: String) -> Router? { internet.hasRouter(name) ? internet.router(name) : nil }
        let link = router("one")?.link ?? internet.host("a").link
        switch event {
        case .oneForgets: router("one")?.reboot()
        case .otherForgets: router("other")?.reboot()
        case .oneRenumbers: router("one")?.renumber()
        case .otherRenumbers: router("other")?.renumber()
        case .pathCut:
            let homes = [(router("one"), "a"), (router("other"), "b")].map { router, host in
                router?.publicAddresses ?? internet.host(host).addresses
            }
            internet.core.partition(homes[0], from: homes[1])
            internet.scheduler.after(seconds: 60) { [unowned internet] in internet.core.heal() }
        case .linkCut:
            // Shorter than consent, which is the peer's leave to send at all (RFC 7675).
            let duration = 2 + 16 * dice.unit()
            link.cut(afterSeconds: 0, forSeconds: duration)
            return duration
        case .loss:
            link.quality.lossRatio = 0.05
            internet.scheduler.after(seconds: 60) { [unowned link] in link.quality = quality }
        case .relayRestart: internet.relay("turn").restart()
        case .hubRestart: internet.rendezvous("signaling").restart()
        }
        return 0
    }

    /// What could grow.
    private struct Sizes {
        var pairs = 0
        var remotes = 0
        var bases = 0
        var allocations = 0
        var mappings = 0
        var events = 0
        /// Of all that both peers hold.
        var weight = 0

        static let none = Sizes()

        private init() {}

        init(_ meeting: Meeting) {
            let reports = meeting.peers.map(\.ice.report)
            pairs = reports.map(\.pairs.count).max() ?? 0
            remotes = reports.map(\.remoteCandidates).max() ?? 0
            bases = meeting.peers.map(\.openBaseCount).max() ?? 0
            allocations = meeting.internet.relay("turn").allocationCount
            mappings =
                ["one", "other"].filter(meeting.internet.hasRouter).map {
                    meeting.internet.router($0).mappingCount
                }.max() ?? 0
            events = meeting.internet.scheduler.waitingCount
            weight = meeting.peers.reduce(0) { $0 + $1.weight }
        }

        func larger(_ other: Sizes) -> Sizes {
            var larger = self
            for size in [\.pairs, \.remotes, \.bases, \.allocations, \.mappings, \.events, \.weight]
                as [WritableKeyPath<Sizes, Int>]
            {
                larger[keyPath: size] = max(self[keyPath: size], other[keyPath: size])
            }
            return larger
        }

        /// The agent's own limits; two relays of a peer while one takes the other's place, and what the server keeps of
        /// those that could not say goodbye, for ten minutes each.
        var isBounded: Bool {
            pairs <= ICELimits.pairs && remotes <= ICELimits.remoteCandidates && bases <= 5 && allocations <= 16
                && mappings <= 200 && events <= 500 && weight <= 60_000
        }
    }
}
