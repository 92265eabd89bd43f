import Lab
import STUN
import Signaling
import Testing
import Traversal

@testable import TurnpikeClient

/// What the server remembers of two networks, as whole clients report it and are told of it.
@Suite struct ClientMemoryTests {
    private static func world(_ behavior: NATBehavior, _ seed: UInt64) throws -> ClientWorld {
        let world = try ClientWorld(
            [.init(name: "alice", behavior: behavior), .init(name: "bob", behavior: behavior)],
            seed: seed
        )
        try world.start()
        return world
    }

    private static func part(_ world: ClientWorld) throws {
        world.alice.session(with: "bob")?.close()
        try world.internet.run(
            while: { !world.alice.client.sessions.isEmpty || !world.bob.client.sessions.isEmpty },
            atMostSeconds: 10
        )
    }

    @Test func whatWorkedIsKnownToBothAtTheNextCall() async {
        await withWorlds(runs(1)) { seed in
            let world = try Self.world(.portRestricted, seed)
            #expect(try world.meet(), world.comment)
            try world.internet.run(while: { !world.areDirect }, atMostSeconds: 5)
            #expect(world.alice.session(with: "bob")?.pathMemory == nil)
            try Self.part(world)
            #expect(try world.meet(), world.comment)
            for (one, other) in [(world.alice, "bob"), (world.bob, "alice")] {
                let memory = one.session(with: other)?.pathMemory
                #expect(memory?.bestDirect?.method == .udpHolePunch, "\(String(describing: memory))")
                #expect(memory?.score(of: .udpHolePunch) == 2)
                #expect((1...5_000).contains(memory?.milliseconds(of: .udpHolePunch) ?? 0))
                #expect(memory?.words.contains("udp-hole-punch has led to a path before, in about ") == true)
            }
            try world.close()
        }
    }

    @Test func whatLedNowhereIsKnownToo() async {
        await withWorlds(runs(1)) { seed in
            let world = try Self.world(.symmetric, seed)
            #expect(try world.meet(), world.comment)
            try world.internet.run(seconds: 22)
            try Self.part(world)
            #expect(try world.meet(), world.comment)
            let memory = world.bob.session(with: "alice")?.pathMemory
            #expect(memory?.score(of: .udpHolePunch) == -1 && memory?.score(of: .relay) == 2)
            #expect(memory?.bestDirect == nil)
            #expect(memory?.words == "Between these two networks, udp-hole-punch has led nowhere before.")
            try world.close()
        }
    }

    @Test func whatMakesNoSenseInAMemoryIsPassedOver() throws {
        let text = #"""
            {"kind":"memory","methods":[{"method":"magic","score":1},{"method":"direct","score":99},
            {"method":"birthday","score":3,"milliseconds":9e9},{"score":1},7,{"method":"direct","score":-2}]}
            """#
        let memory = try #require(PathMemory(try JSONText(text).value))
        #expect(
            memory.advice == [
                PathAdvice(method: .birthday, score: 3, milliseconds: 60_000),
                PathAdvice(method: .direct, score: -2, milliseconds: 0),
            ]
        )
        #expect(PathMemory(try JSONText(#"{"kind":"other","methods":[]}"#).value) == nil)
    }
}
