import Lab
import STUN
import TestSupport
import Testing
import Traversal

@testable import TurnpikeClient

/// Datagrams as long as the path takes them, and links that become narrower under a transfer.
@Suite struct ClientPathMTUTests {
    private static func world(_ quality: LinkQuality, v6: Bool = false, seed: UInt64) throws -> ClientWorld {
        try ClientWorld(
            [.init(name: "alice", behavior: .portRestricted), .init(name: "bob", behavior: .portRestricted)],
            quality: quality,
            v6: v6,
            seed: seed
        )
    }

    private static let quality = LinkQuality(delayMilliseconds: 10, bitsPerSecond: 20_000_000)

    /// Long messages one behind the other, each checked.
    private final class Transfer {
        private(set) var arrived = 0
        private(set) var wrong = 0
        private let client: LabClient
        private let peer: String
        private var next = 0

        init(from client: LabClient, to receiver: LabClient) {
            (self.client, peer) = (client, receiver.name)
            receiver.onMessage = { [weak self] _, message in
                guard let self else { return }
                if message == Self.message(arrived) { arrived += 1 } else { wrong += 1 }
            }
        }

        /// So many more wait to be sent.
        func send(_ count: Int) {
            for _ in 0..<count {
                client.send(Self.message(next), to: peer)
                next += 1
            }
        }

        var isComplete: Bool { arrived == next && wrong == 0 }

        private static func message(_ number: Int) -> Message {
            Message((0..<50_000).map { UInt8(truncatingIfNeeded: ($0 &* 31 &+ number) >> 2) })
        }
    }

    private static func meetDirectly(_ world: ClientWorld) throws {
        try world.start(atMostSeconds: 30)
        // A narrow black hole holds up the signaling's TCP for a while.
        #expect(try world.meet(atMostSeconds: 25), world.comment)
        #expect(try world.internet.run(while: { !world.areDirect }, atMostSeconds: 10), world.comment)
        try world.internet.run(seconds: 1)
    }

    private static func datagramBytes(_ client: LabClient, to peer: String) -> Int {
        client.session(with: peer)?.connection?.statistics.datagramBytes ?? 0
    }

    @Test(arguments: [false, true]) func aTransferFindsTheLongestDatagramThatThePathTakes(v6: Bool) async {
        await withWorlds(0..<1) { seed in
            for (link, least) in [(1_500, 1_452), (1_420, 1_372), (1_280, 1_232)] {
                var quality = Self.quality
                quality.mtuBytes = link
                quality.isBlackHole = true
                let world = try Self.world(quality, v6: v6, seed: seed)
                try Self.meetDirectly(world)
                #expect(Self.datagramBytes(world.alice, to: "bob") == 1_147, "nothing is asked for nothing")
                let transfer = Transfer(from: world.alice, to: world.bob)
                transfer.send(20)
                #expect(try world.internet.run(while: { !transfer.isComplete }, atMostSeconds: 20), world.comment)
                let expected = v6 ? least : least + 20
                #expect(Self.datagramBytes(world.alice, to: "bob") == expected, world.comment)
                #expect(Self.datagramBytes(world.bob, to: "alice") == 1_147, world.comment)
                var longest = 0
                world.internet.log.observe = { entry in
                    guard case .datagram(let bytes) = entry.packet.body else { return }
                    // Checks that ask for more go on.
                    if bytes.withUnsafeBytes(Demultiplexer.kind) != .stun { longest = max(longest, bytes.count) }
                }
                transfer.send(4)
                #expect(try world.internet.run(while: { !transfer.isComplete }, atMostSeconds: 20), world.comment)
                #expect(expected - 8...expected ~= longest, world.comment)
                try world.close()
            }
        }
    }

    enum Narrowing: String, CaseIterable, Sendable { case silent, told }

    /// Nothing is lost of the stream, and it goes on within a few seconds.
    @Test(arguments: Narrowing.allCases, [false, true])
    func aLinkMayBecomeNarrowerUnderATransfer(_ narrowing: Narrowing, isTwoWay: Bool) async {
        let pauses = Figures()
        await withWorlds(runs(2)) { seed in
            let world = try Self.world(Self.quality, seed: seed)
            try Self.meetDirectly(world)
            let transfer = Transfer(from: world.alice, to: world.bob)
            let back = Transfer(from: world.bob, to: world.alice)
            transfer.send(20)
            if isTwoWay { back.send(20) }
            #expect(try world.internet.run(while: { transfer.arrived < 20 }, atMostSeconds: 20), world.comment)
            #expect(Self.datagramBytes(world.alice, to: "bob") == 1_472, world.comment)
            transfer.send(20)
            if isTwoWay { back.send(20) }
            try world.internet.run(seconds: 0.1)
            let link = world.internet.router(ClientWorld.router("bob")).link
            link.quality.mtuBytes = 1_300
            link.quality.isBlackHole = narrowing == .silent
            let arrived = transfer.arrived
            let narrowed = world.internet.seconds
            #expect(
                try world.internet.run(while: { transfer.arrived <= arrived + 1 }, atMostSeconds: 20),
                world.comment
            )
            pauses.add(world.internet.seconds - narrowed)
            #expect(
                try world.internet.run(while: { !transfer.isComplete || !back.isComplete }, atMostSeconds: 30),
                world.comment
            )
            #expect(Self.datagramBytes(world.alice, to: "bob") == 1_252 && world.areDirect, world.comment)
            #expect(world.alice.disconnections.isEmpty && world.bob.disconnections.isEmpty)
            try world.close()
        }
        #expect(pauses.quantile(1) <= 5)
        print(pauses.text("\(narrowing) narrowing\(isTwoWay ? ", data both ways" : ""): data flows after, s"))
    }

    /// Links that are wider and narrower every few seconds, in both directions, lose packets besides, and now and then
    /// there is only the relay: everything arrives, once and in order.
    @Test func whateverTheLinksDoNothingIsLost() async {
        await withWorlds(runs(3)) { seed in
            let world = try Self.world(Self.quality, seed: seed)
            try Self.meetDirectly(world)
            let (there, back) = (
                Transfer(from: world.alice, to: world.bob), Transfer(from: world.bob, to: world.alice)
            )
            let homes = ["alice", "bob"].map { world.internet.router(ClientWorld.router($0)) }
            var dice = SeededGenerator(seed: seed)
            for round in 0..<20 {
                for home in homes {
                    home.link.quality.mtuBytes = [1_280, 1_300, 1_400, 1_492, 1_500].randomElement(using: &dice) ?? 0
                    home.link.quality.isBlackHole = Bool.random(using: &dice)
                    home.link.quality.lossRatio = [0, 0.005, 0.02].randomElement(using: &dice) ?? 0
                }
                if round % 7 == 5 {
                    world.internet.core.partition(homes[0].publicAddresses, from: homes[1].publicAddresses)
                } else {
                    world.internet.core.heal()
                }
                there.send(.random(in: 1...8, using: &dice))
                if Bool.random(using: &dice) { back.send(.random(in: 1...8, using: &dice)) }
                try world.internet.run(seconds: .random(in: 0.2...5, using: &dice))
            }
            world.internet.core.heal()
            #expect(
                try world.internet.run(while: { !there.isComplete || !back.isComplete }, atMostSeconds: 60),
                world.comment
            )
            #expect(world.alice.disconnections.isEmpty && world.bob.disconnections.isEmpty)
            #expect(there.wrong == 0 && back.wrong == 0)
            try world.close()
        }
    }

    /// What was made for the direct path goes by the relay in pieces, and by the direct path whole once it is back.
    @Test func aTransferGoesOnOverTheRelayAndBack() async {
        await withWorlds(runs(2)) { seed in
            let world = try Self.world(Self.quality, seed: seed)
            try Self.meetDirectly(world)
            let transfer = Transfer(from: world.alice, to: world.bob)
            transfer.send(20)
            #expect(try world.internet.run(while: { !transfer.isComplete }, atMostSeconds: 20), world.comment)
            let homes = ["alice", "bob"].map { world.internet.router(ClientWorld.router($0)).publicAddresses }
            for _ in 0..<2 {
                transfer.send(20)
                try world.internet.run(seconds: 0.1)
                var tooLong = 0
                world.internet.core.partition(homes[0], from: homes[1])
                #expect(try world.internet.run(while: { !world.areRelayed }, atMostSeconds: 5), world.comment)
                #expect(Self.datagramBytes(world.alice, to: "bob") == 1_147)
                let relay = world.internet.relay("turn").endpoint(.ipv4).address
                world.internet.log.observe = { entry in
                    let ends = [entry.packet.source.address, entry.packet.destination.address]
                    guard case .datagram(let bytes) = entry.packet.body, ends.contains(relay) else { return }
                    if bytes.count > 1_147 + 48 { tooLong += 1 }
                }
                #expect(try world.internet.run(while: { !transfer.isComplete }, atMostSeconds: 30), world.comment)
                #expect(tooLong == 0, world.comment)
                world.internet.log.observe = { _ in }
                world.internet.core.heal()
                #expect(try world.internet.run(while: { !world.areDirect }, atMostSeconds: 60), world.comment)
                transfer.send(20)
                #expect(try world.internet.run(while: { !transfer.isComplete }, atMostSeconds: 20), world.comment)
                #expect(Self.datagramBytes(world.alice, to: "bob") == 1_472, world.comment)
            }
            try world.close()
        }
    }

    /// A program of this library that is older, or any other make of peer.
    @Test(arguments: ["alice", "bob"]) func aPeerThatTakesNoProbesGetsTheLengthOfEveryPath(older: String) async {
        await withWorlds(0..<1) { seed in
            let world = try Self.world(Self.quality, seed: seed)
            let newer = older == "alice" ? world.bob : world.alice
            newer.network.onText = { [$0.replacing(" \(ICERemoteParameters.padding)", with: "")] }
            try Self.meetDirectly(world)
            var longest = 0
            let own = newer.host.addresses
            world.internet.log.observe = { entry in
                guard case .datagram(let bytes) = entry.packet.body, own.contains(entry.packet.source.address) else {
                    return
                }
                longest = max(longest, bytes.count)
            }
            let other = older == "alice" ? world.alice : world.bob
            let transfer = Transfer(from: newer, to: other)
            transfer.send(20)
            #expect(try world.internet.run(while: { !transfer.isComplete }, atMostSeconds: 20), world.comment)
            #expect(1_130...1_147 ~= longest, world.comment)
            #expect(Self.datagramBytes(newer, to: older) == 1_147)
            try world.close()
        }
    }
}
