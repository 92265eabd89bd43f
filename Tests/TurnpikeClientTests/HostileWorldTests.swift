import Lab
import STUN
import TestSupport
import Testing
import Traversal

@testable import TurnpikeClient

/// Whole clients in a network that changes what it carries, and with a peer whose descriptions are changed.
@Suite struct HostileWorldTests {
    private let usualRounds = 60

    /// Nothing of it ends a client: once the network is well, the two meet again.
    @Test func changedPacketsAndMessagesDoNoHarm() async throws {
        let rounds = fuzzRounds(usualRounds)
        // A few rounds are the same ones in every run: what a message that was changed has a client wait for may be
        // longer than this waits.
        var random =
            rounds > usualRounds
            ? SeededGenerator(for: "changedPacketsAndMessagesDoNoHarm") : SeededGenerator(seed: 1)
        let start = random.next()
        let changed = Changes()
        // As many worlds as it takes; the first fails fast.
        while changed.datagrams < rounds {
            let seed = start &+ UInt64(changed.worlds)
            let before = changed.datagrams
            await withWorlds(seed..<(seed + 1)) { seed in try Self.live(seed: seed, atMost: 3_000, changed) }
            changed.worlds += 1
            try #require(changed.datagrams > before)
        }
        #expect(changed.meetings > 0)
        if rounds >= 1_000 { #expect(changed.texts > 0) }
    }

    /// What all worlds together came to.
    // Unchecked: the worlds follow one another.
    private final class Changes: @unchecked Sendable {
        var worlds = 0
        var datagrams = 0
        var texts = 0
        var meetings = 0
    }

    private static func live(seed: UInt64, atMost limit: Int, _ changed: Changes) throws {
        var random = SeededGenerator(seed: seed)
        let homes: [NATBehavior?] = [nil, .fullCone, .portRestricted, .symmetric]
        let world = try ClientWorld(
            [
                .init(name: "alice", behavior: homes.randomElement(using: &random) ?? nil),
                .init(name: "bob", behavior: homes.randomElement(using: &random) ?? nil),
            ],
            seed: seed
        )
        try world.start()
        let end = changed.datagrams + limit
        for client in [world.alice, world.bob] {
            var dice = SeededGenerator(seed: random.next())
            let share = Int.random(in: 2...20, using: &random)
            var seen: [[UInt8]] = []
            client.network.onDatagram = { bytes in
                if seen.count < 200 { seen.append(bytes) } else { seen[Int.random(in: 0..<200, using: &dice)] = bytes }
                guard changed.datagrams < end, Int.random(in: 0..<share, using: &dice) == 0 else { return [bytes] }
                changed.datagrams += 1
                var other = Bool.random(using: &dice) ? bytes : seen.randomElement(using: &dice) ?? bytes
                for _ in 0..<Int.random(in: 0...3, using: &dice) { mutate(&other, &dice) }
                // In its place, before it or behind it.
                return [[other], [other, bytes], [bytes, other]].randomElement(using: &dice) ?? [bytes]
            }
            client.network.onText = { text in
                guard changed.datagrams < end, Int.random(in: 0..<4, using: &dice) == 0 else { return [text] }
                changed.texts += 1
                var bytes = Array(text.utf8)
                for _ in 0..<Int.random(in: 1...4, using: &dice) { mutate(&bytes, &dice) }
                let other = String(decoding: bytes, as: UTF8.self)
                return [[other], [other, text], [text, other], [text, text]].randomElement(using: &dice) ?? [text]
            }
        }
        var steps = 0
        while changed.datagrams < end, steps < 400 {
            steps += 1
            if world.areOpen { changed.meetings += 1 }
            if Int.random(in: 0..<6, using: &random) == 0 || !world.areOpen {
                (Bool.random(using: &random) ? world.alice : world.bob).connect(
                    to: Bool.random(using: &random) ? "bob" : "alice",
                    ConnectOptions(timeout: .seconds(3))
                )
            }
            if Int.random(in: 0..<30, using: &random) == 0 { world.alice.session(with: "bob")?.close() }
            for (one, other) in [(world.alice, "bob"), (world.bob, "alice")] {
                one.send(Message(String(repeating: "x", count: .random(in: 0...3_000, using: &random))), to: other)
            }
            try world.internet.run(seconds: .random(in: 0.01...0.5, using: &random))
        }
        for client in [world.alice, world.bob] {
            client.network.onDatagram = { [$0] }
            client.network.onText = { [$0] }
            #expect(client.client.sessions.count <= 2)
        }
        // Whoever was told something that the other was not finds out by silence, within a minute.
        try world.internet.run(seconds: 90)
        for _ in 0..<10 where !world.areOpen {
            world.alice.connect(to: "bob")
            try world.internet.run(while: { !world.areOpen }, atMostSeconds: 30)
        }
        #expect(world.areOpen, world.comment)
        #expect(try world.exchange(atMostSeconds: 10), world.comment)
        try world.close()
    }
}

/// Flips a bit, cuts, repeats or inserts.
func mutate(_ bytes: inout [UInt8], _ random: inout SeededGenerator) {
    guard let index = bytes.indices.randomElement(using: &random) else { return }
    switch Int.random(in: 0..<6, using: &random) {
    case 0: bytes[index] ^= 1 << UInt8.random(in: 0..<8, using: &random)
    case 1: bytes.removeSubrange(index...)
    case 2: bytes += bytes[index...].prefix(64)
    case 3: bytes.removeSubrange(index..<min(bytes.count, index + .random(in: 1...16, using: &random)))
    case 4: bytes[index] = [0, 0xFF, 0x7F, 0x80, 0x30, 0x22].randomElement(using: &random) ?? 0
    default: bytes.insert(UInt8.random(in: .min ... .max, using: &random), at: index)
    }
}
