import Lab
import STUN
import Signaling
import Testing
import Traversal

@testable import TurnpikeClient

/// Connections that share their addresses, and what fits through a path.
@Suite struct ClientPathTests {
    private static let homes: [ClientWorld.Home] = [
        .init(name: "alice", behavior: .symmetric), .init(name: "bob", behavior: .symmetric),
    ]

    enum Callers: String, CaseIterable, Sendable {
        /// Both ids of alice's call bob.
        case oneSide
        /// One of alice's ids calls bob, who calls the other one.
        case bothSides
    }

    /// Two ids of one program connect to the same other program over the same two relays at the same time. Each message
    /// comes to the session that it was sent in.
    @Test(arguments: Callers.allCases) func twoHandshakesOverOneRelayPairStayApart(callers: Callers) async {
        await withWorlds(runs(4)) { seed in
            let quality = LinkQuality(delayMilliseconds: 15, jitterMilliseconds: 5, lossRatio: seed % 2 == 0 ? 0 : 0.03)
            let world = try ClientWorld(Self.homes, quality: quality, seed: seed)
            try world.start()
            let (first, second): (PeerID, PeerID) = ("alice", "alice/2")
            world.alice.client.register(second, metadata: .emptyObject) { _ in }
            #expect(
                try world.internet.run(
                    while: { !world.alice.client.registered.contains(second) },
                    atMostSeconds: 5
                )
            )
            var opened = 0
            func waiter(_ number: UInt64) -> PeerSession.Waiter {
                PeerSession.Waiter(number: number, require: .relay, deadline: world.internet.now + 20_000_000_000) {
                    if case .success = $0 { opened += 1 }
                }
            }
            world.alice.client.connect(from: first, to: "bob", waiter(1_001))
            world.internet.scheduler.after(seconds: 0.004 * Double(seed % 8)) {
                switch callers {
                case .oneSide: world.alice.client.connect(from: second, to: "bob", waiter(1_002))
                case .bothSides: world.bob.client.connect(from: "bob", to: second, waiter(1_002))
                }
            }
            func session(_ client: LabClient, _ local: PeerID, _ remote: PeerID) -> PeerSession? {
                client.client.sessions[PeerClient.SessionKey(local: local, remote: remote)]
            }
            let ends = [
                (world.alice, first, PeerID("bob")), (world.alice, second, "bob"), (world.bob, "bob", first),
                (world.bob, "bob", second),
            ]
            #expect(
                try world.internet.run(
                    while: { opened < 2 || ends.contains { session($0.0, $0.1, $0.2)?.phase != .open } },
                    atMostSeconds: 10
                )
            )
            var arrived: Set<String> = []
            for client in [world.alice, world.bob] {
                client.onMessage = { session, message in
                    let isRight = message.text == "\(session.remote) to \(session.local)"
                    arrived.insert(isRight ? message.text : "\(message.text) came to \(session.local)")
                }
            }
            for (client, local, remote) in ends {
                session(client, local, remote)?.send(Message("\(local) to \(remote)"), on: SessionChannels.own) { _ in }
            }
            try world.internet.run(while: { arrived.count < 4 }, atMostSeconds: 15)
            #expect(arrived == Set(ends.map { "\($0.1) to \($0.2)" }))
            #expect(world.alice.failures.isEmpty && world.bob.failures.isEmpty)
            try world.close()
        }
    }

    enum Way: String, CaseIterable, Sendable {
        case direct, directIPv6, relayed, relayedIPv6

        var isIPv6: Bool { self == .directIPv6 || self == .relayedIPv6 }
        var isDirect: Bool { self == .direct || self == .directIPv6 }
    }

    /// Links that take no more than IPv6 asks of every link, and say nothing of what they drop (RFC 4821).
    @Test(arguments: Way.allCases) func nothingIsTooLongForTheNarrowestLink(way: Way) async {
        await withWorlds(0..<1) { seed in
            var quality = LinkQuality(delayMilliseconds: 10, mtuBytes: 1_280)
            quality.isBlackHole = true
            let world = try ClientWorld(
                [.init(name: "alice", behavior: .portRestricted), .init(name: "bob", behavior: .portRestricted)],
                quality: quality,
                v6: way.isIPv6,
                seed: seed
            )
            var tooLong = 0
            world.internet.log.observe = { entry in
                // TCP has segments of the usual length, and finds out for itself.
                guard case .datagram(let bytes) = entry.packet.body, entry.event == .dropped(.tooBig) else { return }
                // Probes ask for more than there may be.
                if bytes.withUnsafeBytes(Demultiplexer.kind) != .stun { tooLong += 1 }
            }
            try world.start(atMostSeconds: 30)
            var options = ConnectOptions()
            options.require = way.isDirect ? .direct : .relay
            world.alice.connect(to: "bob", options)
            #expect(try world.internet.run(while: { !world.areOpen }, atMostSeconds: 25), world.comment)
            try world.internet.run(seconds: 2)
            #expect(way.isDirect ? world.areDirect : world.areRelayed, world.comment)
            let large = Message((0..<200_000).map { UInt8(truncatingIfNeeded: $0 &* 31 >> 3) })
            var arrived = 0
            for client in [world.alice, world.bob] {
                client.onMessage = { _, message in if message == large { arrived += 1 } }
            }
            world.alice.send(large, to: "bob")
            world.bob.send(large, to: "alice")
            #expect(try world.internet.run(while: { arrived < 2 }, atMostSeconds: 10), world.comment)
            #expect(tooLong == 0)
            try world.close()
        }
    }

    /// A NAT that forgets sooner than the usual refresh is refreshed more often, so that what peers are told is true.
    @Test func aMappingThatLapsesIsRefreshedMoreOften() async {
        await withWorlds(0..<1) { seed in
            let short = NATBehavior.portRestricted.with {
                $0.allocation = .random
                $0.udpLifetimeSeconds = 15
            }
            let world = try ClientWorld(
                [.init(name: "alice", behavior: short), .init(name: "bob", behavior: short)],
                seed: seed
            )
            try world.start()
            try world.internet.run(seconds: 120)
            let known = {
                world.alice.client.gatherer.candidates.filter { $0.type == .serverReflexive && $0.transport == .udp }
            }
            let before = known()
            try world.internet.run(seconds: 60)
            #expect(known().map(\.endpoint) == before.map(\.endpoint) && before.count == 1)
            #expect(try world.meet(), world.comment)
            #expect(try world.internet.run(while: { !world.areDirect }, atMostSeconds: 2), world.comment)
            try world.close()
        }
    }
}
