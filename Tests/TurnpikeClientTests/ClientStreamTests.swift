import Foundation
import Lab
import STUN
import Testing
import Traversal

@testable import TurnpikeClient

/// Whole clients in houses that let no datagram out: they meet over TCP where their NATs allow it.
///
///     LAB_RUNS=1000 swift test --filter ClientStreamTests
@Suite struct ClientStreamTests {
    private static func quality(_ seed: UInt64, lossRatio: Double = 0) -> LinkQuality {
        var dice = Dice(seed: seed, for: "quality")
        return LinkQuality(
            delayMilliseconds: 2 + 40 * dice.unit(),
            jitterMilliseconds: 8 * dice.unit(),
            lossRatio: lossRatio,
            reorderRatio: 0.02
        )
    }

    private static func home(_ name: String, _ side: NATSide, _ dice: inout Dice) -> ClientWorld.Home {
        // One without a NAT lets everybody in, over TCP.
        .init(
            name: name,
            behavior: side.behavior(&dice),
            firewall: .noUDP.with { if side == .open { $0.filtering = .endpointIndependent } }
        )
    }

    private func areDirectByTCP(_ world: ClientWorld) -> Bool {
        world.areDirect
            && [world.alice.path(to: "bob"), world.bob.path(to: "alice")].allSatisfy { $0?.transport.isTCP == true }
    }

    /// The table of section 2.3 of `nat-traversal`: by TCP the same cells are direct as by UDP, for NATs that do with
    /// TCP as they do with UDP.
    @Test(arguments: NATPair.all) func everyPairWithoutUDPEndsOnTheBestPathThereIs(cell: NATPair) async {
        await withWorlds(0..<1) { seed in
            var dice = Dice(seed: seed, for: "\(cell.offerer) and \(cell.answerer) by TCP")
            let homes = [Self.home("alice", cell.offerer, &dice), Self.home("bob", cell.answerer, &dice)]
            let world = try ClientWorld(homes, quality: Self.quality(seed), seed: seed)
            try world.start()
            #expect(try world.meet(), world.comment)
            if cell.isDirect {
                #expect(
                    try world.internet.run(while: { !areDirectByTCP(world) }, atMostSeconds: 5),
                    world.comment
                )
                let method = world.alice.session(with: "bob")?.connection?.method
                #expect(method == (cell.offerer == .open && cell.answerer == .open ? .direct : .tcpHolePunch))
            } else {
                try world.internet.run(seconds: 10)
                #expect(world.areRelayed, world.comment)
            }
            #expect(try world.exchange(), world.comment)
            #expect(world.internet.log.isConserved)
            try world.close()
        }
    }

    enum Manner: String, CaseIterable, Sendable {
        case dropping, resetting, mixed

        func answer(_ name: String) -> NATBehavior.Unsolicited {
            self == .resetting || self == .mixed && name == "alice" ? .reject : .drop
        }

        /// What part of all runs has to be direct within three seconds.
        var share: Double { self == .dropping ? 0.99 : 0.95 }
    }

    /// Port-restricted homes on both sides, whatever ports they choose.
    @Test(arguments: Manner.allCases) func portRestrictedHomesMeetByTCPWithinThreeSeconds(manner: Manner) async {
        let (times, met) = (Figures(), Figures())
        await withWorlds(runs(3)) { seed in
            var dice = Dice(seed: seed, for: "\(manner) homes")
            let homes = ["alice", "bob"].map { name in
                var home = Self.home(name, .portRestricted, &dice)
                home.behavior?.unsolicitedTCP = manner.answer(name)
                return home
            }
            let world = try ClientWorld(homes, quality: Self.quality(seed), seed: seed)
            try world.start()
            let began = world.internet.seconds
            world.alice.connect(to: "bob")
            let isDirect = try world.internet.run(while: { !areDirectByTCP(world) }, atMostSeconds: 3)
            met.add(isDirect ? 1 : 0)
            if isDirect { times.add(world.internet.seconds - began) }
            try world.close()
        }
        #expect(met.mean >= manner.share)
        print("\(manner): \(met.text("direct by TCP")); \(times.text("seconds"))")
    }

    /// A home, and a NAT that counts its ports and has others' connections as well: the home connects to the few that
    /// can be the next.
    @Test(arguments: [false, true], [false, true])
    func aHomeMeetsANATThatCountsByTCP(isTurned: Bool, isAtOnce: Bool) async {
        let (times, met) = (Figures(), Figures())
        await withWorlds(runs(4)) { seed in
            var dice = Dice(seed: seed, for: "a home and one that counts")
            let step = [1, 1, 2, -1][Int(dice.below(4))]
            let rate = dice.chance(0.3) ? 0 : 20 * dice.unit()
            let home = Self.home(isTurned ? "bob" : "alice", .portRestricted, &dice)
            let counting = ClientWorld.Home(
                name: isTurned ? "alice" : "bob",
                behavior: .symmetric.with {
                    ($0.allocation, $0.backgroundFlowsPerSecond) = (.sequential(step: step), rate)
                },
                firewall: .noUDP
            )
            let quality = Self.quality(seed, lossRatio: LabLoss.ratio())
            let world = try ClientWorld([home, counting], quality: quality, seed: seed)
            if isAtOnce {
                // The caller does not know yet what its NAT does.
                world.bob.start()
                try world.internet.run(seconds: 5)
                world.alice.client.start {}
            } else {
                try world.start(atMostSeconds: 30)
                try world.internet.run(seconds: 3)
            }
            let began = world.internet.seconds
            #expect(try world.meet(atMostSeconds: 10), world.comment)
            let isDirect = try world.internet.run(while: { !areDirectByTCP(world) }, atMostSeconds: 5)
            met.add(isDirect ? 1 : 0)
            if isDirect {
                times.add(world.internet.seconds - began)
                #expect(try world.exchange(atMostSeconds: 10), world.comment)
            } else {
                print("seed \(seed): \(world.comment)")
            }
            try world.close()
        }
        #expect(met.mean >= 0.9)
        let name = "one that counts\(isTurned ? " calls" : "")\(isAtOnce ? " at once" : "")"
        print("\(name): \(met.text("direct by TCP")); \(times.text("seconds"))")
    }

    /// Both count: what the one aims at has moved on by then, so nobody aims.
    @Test func twoNATsThatCountStayOnTheRelayByTCP() async {
        await withWorlds(runs(1)) { seed in
            let homes = ["alice", "bob"].map {
                ClientWorld.Home(name: $0, behavior: .symmetricSequential, firewall: .noUDP)
            }
            let world = try ClientWorld(homes, seed: seed)
            try world.start()
            try world.internet.run(seconds: 3)
            #expect(try world.meet(), world.comment)
            try world.internet.run(seconds: 10)
            #expect(world.areRelayed, world.comment)
            try world.close()
        }
    }

    /// With loss on every link, where a lost segment costs a second.
    @Test func lossDelaysTheMeetingByTCPAndDoesNotPreventIt() async {
        let times = Figures()
        await withWorlds(runs(2)) { seed in
            var dice = Dice(seed: seed, for: "lossy homes")
            let homes = ["alice", "bob"].map { Self.home($0, .portRestricted, &dice) }
            let world = try ClientWorld(homes, quality: Self.quality(seed, lossRatio: 0.03), seed: seed)
            try world.start(atMostSeconds: 30)
            let began = world.internet.seconds
            world.alice.connect(to: "bob")
            #expect(
                try world.internet.run(while: { !areDirectByTCP(world) }, atMostSeconds: 25),
                world.comment
            )
            times.add(world.internet.seconds - began)
            try world.close()
        }
        print("3 % loss on each link: \(times.text("seconds to the direct path by TCP"))")
    }

    /// Bar B6: a second and a half and four round trips after the call, from a cold start, with both sides behind
    /// firewalls that pass no UDP, and NATs that keep TCP apart as well.
    @Test func withoutUDPTheRelayIsThereInASecondAndAHalfAndFourRoundTrips() async {
        let excess = Figures()
        await withWorlds(runs(3)) { seed in
            let delay = Self.quality(seed).delayMilliseconds
            let homes = ["alice", "bob"].map {
                ClientWorld.Home(name: $0, behavior: .symmetric, firewall: .noUDP)
            }
            let world = try ClientWorld(homes, quality: LinkQuality(delayMilliseconds: delay), seed: seed)
            let roundTrip = 4 * (0.5 + 2 * delay) / 1_000
            world.bob.start()
            try world.internet.run(seconds: 5)
            world.alice.client.start {}
            let began = world.internet.seconds
            world.alice.connect(to: "bob")
            #expect(try world.internet.run(while: { !world.areOpen }, atMostSeconds: 10), world.comment)
            let took = world.internet.seconds - began
            #expect(took <= 1.5 + 4 * roundTrip)
            excess.add(took - 4 * roundTrip)
            #expect(try world.internet.run(while: { !world.areRelayed }, atMostSeconds: 1), world.comment)
            try world.close()
        }
        print("without UDP: \(excess.text("seconds beyond four round trips"))")
    }

    /// UDP is there: no connection over TCP is opened.
    @Test func whereUDPWorksNobodyConnectsOverTCP() async {
        await withWorlds(0..<1) { seed in
            let homes = ["alice", "bob"].map { ClientWorld.Home(name: $0, behavior: .portRestricted) }
            let world = try ClientWorld(homes, seed: seed)
            try world.start()
            let routers = ["alice", "bob"].map { world.internet.router(ClientWorld.router($0)).publicAddress }
            var segments = 0
            world.internet.log.observe = { entry in
                guard case .segment = entry.packet.body else { return }
                if routers.contains(entry.packet.destination.address), routers.contains(entry.packet.source.address) {
                    segments += 1
                }
            }
            #expect(try world.meet(), world.comment)
            #expect(try world.internet.run(while: { !world.areDirect }, atMostSeconds: 2), world.comment)
            try world.internet.run(seconds: 10)
            #expect(segments == 0)
            #expect(world.alice.path(to: "bob")?.transport == .udp)
            try world.close()
        }
    }

    /// The connection is cut off from under the path: data goes on over the relay, and another one is opened.
    @Test func aConnectionThatIsCutIsReplaced() async {
        await withWorlds(0..<1) { seed in
            let homes = ["alice", "bob"].map {
                ClientWorld.Home(name: $0, behavior: .portRestricted, firewall: .noUDP)
            }
            let world = try ClientWorld(homes, seed: seed)
            try world.start()
            #expect(try world.meet(), world.comment)
            #expect(try world.internet.run(while: { !areDirectByTCP(world) }, atMostSeconds: 5), world.comment)
            let remote = try #require(world.alice.path(to: "bob")?.remote)
            world.alice.host.abortStreams(to: remote)
            try world.internet.run(seconds: 0.5)
            #expect(try world.exchange(), world.comment)
            #expect(try world.internet.run(while: { !areDirectByTCP(world) }, atMostSeconds: 10), world.comment)
            #expect(world.alice.disconnections.isEmpty)
            try world.close()
        }
    }
}
