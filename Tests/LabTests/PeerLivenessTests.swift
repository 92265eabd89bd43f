import Lab
import STUN
import Testing
import Traversal

/// What happens to a connection after it stands: paths that die, NATs that forget, servers that start anew.
@Suite struct PeerLivenessTests {
    private func connected(
        _ one: NATBehavior = .portRestricted,
        _ other: NATBehavior = .portRestricted,
        direct: Bool = true,
        renomination: Bool = true,
        seed: UInt64
    ) throws -> (Meeting, Traffic) {
        var options = LabPeer.Options()
        options.supportsRenomination = renomination
        var dice = Dice(seed: seed, for: "quality")
        let quality = LinkQuality(delayMilliseconds: 5 + 15 * dice.unit(), jitterMilliseconds: 4 * dice.unit())
        let meeting = Meeting(one, other, quality, options: options, seed: seed)
        try meeting.begin()
        try meeting.internet.run(
            while: { !(direct ? meeting.isDirect : meeting.isConnected) },
            atMostSeconds: 10
        )
        #expect(direct ? meeting.isDirect : meeting.isRelayed, meeting.comment)
        let traffic = Traffic(meeting, everySeconds: 0.05)
        try meeting.internet.run(seconds: 5 + 6 * dice.unit())
        return (meeting, traffic)
    }

    /// Within two seconds data arrives again, over the relay; and once the direct path works it comes back.
    @Test(arguments: [true, false])
    func aDeadDirectPathFallsBackToTheRelayInTwoSeconds(renomination: Bool) async {
        let back = Times()
        await withSeeds(runs(6)) { seed in
            let (meeting, traffic) = try connected(renomination: renomination, seed: seed)
            let homes = ["one", "other"].map { meeting.internet.router($0).publicAddresses }
            let cut = meeting.internet.now
            meeting.internet.core.partition(homes[0], from: homes[1])
            try meeting.internet.run(seconds: 5)
            #expect(meeting.isRelayed, meeting.comment)
            let seconds = traffic.backSeconds(since: cut)
            #expect(seconds <= 2, meeting.comment)
            back.add(seconds: seconds)
            meeting.internet.core.heal()
            // A peer that only a restart has moved looks for it anew after a while.
            let patience = renomination ? 3.0 : 60
            #expect(try meeting.internet.run(while: { !meeting.isDirect }, atMostSeconds: patience), meeting.comment)
            #expect(meeting.peers.reduce(0) { $0 + $1.renegotiations } == 0 || !renomination)
        }
        print(back.text("data again after the direct path has died"))
    }

    enum Rebinding: String, CaseIterable, Sendable {
        /// The NAT forgets, and gives other ports.
        case forgets
        /// The provider gives another address.
        case renumbers
    }

    /// The peer sees this side elsewhere, or nobody does until the relay is asked for anew. Whichever way it was, the
    /// direct path is back in the end.
    @Test(arguments: Rebinding.allCases, [NATSide.fullCone, .restricted, .portRestricted])
    func aNATThatRebindsIsFollowed(rebinding: Rebinding, side: NATSide) async {
        let back = Times()
        await withSeeds(runs(4)) { seed in
            let behavior = (side.behavior ?? .fullCone).with { $0.allocation = .random }
            let (meeting, traffic) = try connected(behavior, .portRestricted, seed: seed)
            let router = meeting.internet.router(seed % 2 == 0 ? "one" : "other")
            let start = meeting.internet.now
            switch rebinding {
            case .forgets: router.reboot()
            case .renumbers: router.renumber()
            }
            try meeting.internet.run(seconds: 8)
            let seconds = traffic.backSeconds(since: start)
            #expect(seconds <= (rebinding == .forgets ? 2 : 5), meeting.comment)
            back.add(seconds: seconds)
            #expect(try meeting.internet.run(while: { !meeting.isDirect }, atMostSeconds: 20), meeting.comment)
        }
        print(back.text("data again after the NAT \(rebinding), \(side)"))
    }

    /// All allocations are gone, and both sides have no other way.
    @Test func aRelayThatStartsAnewIsFoundAgain() async {
        let back = Times()
        await withSeeds(runs(6)) { seed in
            let (meeting, traffic) = try connected(.symmetric, .symmetric, direct: false, seed: seed)
            let start = meeting.internet.now
            meeting.internet.relay("turn").restart()
            try meeting.internet.run(seconds: 8)
            let seconds = traffic.backSeconds(since: start)
            #expect(seconds <= 5, meeting.comment)
            back.add(seconds: seconds)
            #expect(meeting.isRelayed && meeting.alice.restarts == 0, meeting.comment)
        }
        print(back.text("data again after the relay has started anew"))
    }

    /// While they are connected directly, nobody needs the servers; the relay is there again when somebody does.
    @Test func serversThatStartAnewDisturbNoDirectPath() async {
        await withSeeds(runs(3)) { seed in
            let (meeting, traffic) = try connected(seed: seed)
            let start = meeting.internet.now
            meeting.internet.relay("turn").restart()
            meeting.internet.rendezvous("signaling").restart()
            try meeting.internet.run(seconds: 30)
            #expect(meeting.isDirect && traffic.longestGapSeconds(since: start) < 0.2)
            #expect(meeting.alice.isRegistered && meeting.bob.isRegistered)
        }
    }

    /// Ten seconds in which nothing passes at one house: shorter than consent, so that the same connection goes on.
    @Test func anOutageShorterThanConsentIsSurvived() async {
        await withSeeds(runs(4)) { seed in
            let (meeting, traffic) = try connected(
                seed % 2 == 0 ? .symmetric : .portRestricted,
                direct: seed % 2 != 0,
                seed: seed
            )
            meeting.internet.router("one").link.cut(afterSeconds: 0, forSeconds: 10)
            try meeting.internet.run(seconds: 10)
            let start = meeting.internet.now
            try meeting.internet.run(seconds: 8)
            #expect(traffic.backSeconds(since: start) <= 5, meeting.comment)
            #expect(meeting.alice.restarts == 0)
        }
    }
}
