import Lab
import STUN
import Testing
import Traversal

/// The table of NAT pairs with the real agent, TURN client, TURN engine and hub: what can be direct without guessing
/// ports is direct in every run, and the rest is connected over the relay. `LAB_RUNS=100` is the whole count.
@Suite struct MatrixTests {
    /// Each home has another delay.
    private static func quality(_ seed: UInt64) -> LinkQuality {
        var dice = Dice(seed: seed, for: "quality")
        return LinkQuality(
            delayMilliseconds: 2 + 40 * dice.unit(),
            jitterMilliseconds: 8 * dice.unit(),
            reorderRatio: 0.02
        )
    }

    @Test(arguments: NATPair.all.filter(\.isDirect))
    func pairsThatNeedNoGuessingAreDirectInEveryRun(cell: NATPair) async {
        await withSeeds(runs(3)) { seed in
            let meeting = Meeting(cell, Self.quality(seed), seed: seed)
            try meeting.begin()
            let isDirect = try meeting.internet.run(while: { !meeting.isDirect }, atMostSeconds: 5)
            #expect(isDirect, meeting.comment)
            #expect(try meeting.echo(), meeting.comment)
            #expect(meeting.internet.log.isConserved)
        }
    }

    @Test(arguments: NATPair.all.filter { !$0.isDirect })
    func theOthersAreConnectedOverTheRelay(cell: NATPair) async {
        await withSeeds(runs(3)) { seed in
            let meeting = Meeting(cell, Self.quality(seed), seed: seed)
            try meeting.begin()
            #expect(try meeting.internet.run(while: { !meeting.isConnected }, atMostSeconds: 3), meeting.comment)
            #expect(try meeting.echo(), meeting.comment)
            try meeting.internet.run(seconds: 25)
            #expect(meeting.isRelayed, meeting.comment)
            #expect(try meeting.echo(), meeting.comment)
        }
    }

    enum Blocked: String, CaseIterable, Sendable {
        case offerer, answerer, both

        var firewalls: (Firewall, Firewall) {
            switch self {
            case .offerer: (.noUDP, .stateful)
            case .answerer: (.stateful, .noUDP)
            case .both: (.noUDP, .noUDP)
            }
        }
    }

    /// No datagram gets out of one house, or of both.
    @Test(arguments: Blocked.allCases)
    func withoutUDPTheyAreConnectedByTURNOverTCP(blocked: Blocked) async {
        await withSeeds(runs(5)) { seed in
            let meeting = Meeting(
                .portRestricted,
                .portRestricted,
                firewalls: blocked.firewalls,
                Self.quality(seed),
                seed: seed
            )
            try meeting.begin()
            #expect(try meeting.internet.run(while: { !meeting.isConnected }, atMostSeconds: 3), meeting.comment)
            #expect(meeting.isRelayed, meeting.comment)
            #expect(try meeting.echo(), meeting.comment)
        }
    }

    /// Nothing but TCP to port 443 gets out: the port of TURN over TLS.
    @Test func whereOnlyPort443IsOpenTheyAreConnectedByIt() async {
        await withSeeds(runs(3)) { seed in
            var options = LabPeer.Options()
            options.streamPort = 443
            let users = ["alice": LabPeer.password("alice"), "bob": LabPeer.password("bob")]
            let internet = Internet(seed: seed) { net in
                net.relay("turn", users: users)
                net.rendezvous("signaling", users: users) { $0.port = 443 }
                net.nat("one", .symmetric, firewall: .httpsOnly) { $0.host("a") }
                net.nat("other", .portRestricted) { $0.host("b") }
            }
            let alice = LabPeer(internet, "alice", on: "a", options)
            let bob = LabPeer(internet, "bob", on: "b", options)
            bob.start()
            alice.connect(to: "bob")
            try internet.run(while: { !(alice.isRelayed && bob.isRelayed) }, atMostSeconds: 5)
            #expect(alice.isRelayed && bob.isRelayed)
        }
    }

    /// Five of a hundred packets are lost on each link.
    @Test func lossDelaysAndDoesNotPrevent() async {
        await withSeeds(runs(10)) { seed in
            let quality = LinkQuality(delayMilliseconds: 15, jitterMilliseconds: 5, lossRatio: 0.05)
            let meeting = Meeting(.portRestricted, .portRestricted, quality, seed: seed)
            try meeting.begin()
            #expect(try meeting.internet.run(while: { !meeting.isDirect }, atMostSeconds: 15), meeting.comment)
        }
    }

    /// A carrier's NAT before the home's on one side, and IPv6 with a firewall on both.
    @Test func doubleNATIsPunchedAndIPv6ComesFirst() async {
        await withSeeds(runs(3)) { seed in
            let users = ["alice": LabPeer.password("alice"), "bob": LabPeer.password("bob")]
            for v6 in [false, true] {
                let internet = Internet(seed: seed) { net in
                    net.relay("turn", users: users, v6: v6)
                    net.rendezvous("signaling", users: users)
                    net.nat("carrier", .carrierGrade) { isp in
                        isp.nat("flat", .portRestricted) { $0.host("a", v6: v6) }
                    }
                    net.nat("home", .portRestricted) { $0.host("b", v6: v6) }
                }
                let (alice, bob) = (LabPeer(internet, "alice", on: "a"), LabPeer(internet, "bob", on: "b"))
                bob.start()
                try internet.run(seconds: 1)
                alice.connect(to: "bob")
                try internet.run(while: { !(alice.isDirect && bob.isDirect) }, atMostSeconds: 5)
                #expect(alice.isDirect && bob.isDirect, "\(alice.ice.report)")
                try internet.run(seconds: 5)
                #expect(alice.path?.remote.family == (v6 ? .ipv6 : .ipv4))
            }
        }
    }

    /// Two in one house meet by their own addresses, whatever the NAT is.
    @Test func twoInOneHouseMeetWithinIt() async {
        await withSeeds(runs(3)) { seed in
            let users = ["alice": LabPeer.password("alice"), "bob": LabPeer.password("bob")]
            let internet = Internet(seed: seed) { net in
                net.relay("turn", users: users)
                net.rendezvous("signaling", users: users)
                net.nat("home", .symmetric) { lan in
                    lan.host("a")
                    lan.host("b")
                }
            }
            let (alice, bob) = (LabPeer(internet, "alice", on: "a"), LabPeer(internet, "bob", on: "b"))
            bob.start()
            try internet.run(seconds: 1)
            alice.connect(to: "bob")
            try internet.run(while: { !(alice.isDirect && bob.isDirect) }, atMostSeconds: 5)
            #expect(alice.path?.localType == .host && alice.path?.remoteType == .host)
        }
    }

    /// Two symmetric NATs, and no relay.
    @Test func withoutAnyWayThereIsAReportOfEachPair() async {
        await withSeeds(0..<1) { seed in
            var options = LabPeer.Options()
            options.transports = []
            let meeting = Meeting(.symmetric, .symmetric, options: options, seed: seed)
            try meeting.begin()
            try meeting.internet.run(while: { meeting.alice.reports.isEmpty }, atMostSeconds: 60)
            let report = try #require(meeting.alice.reports.first)
            #expect(report.failure == .allPairsFailed && report.pairs.count >= 2)
            #expect(report.pairs.allSatisfy { $0.failure != nil })
        }
    }
}
