import Testing
import Traversal

/// The few lifetimes that a client in use measures.
@Suite struct KeepAliveLifetimeTests {
    typealias World = DiscoveryWorld

    /// What keep-alives go by takes half a minute, and eight sockets.
    @Test(
        arguments: [
            (5, 0, 8), (10, 8, 12), (14, 12, 17), (30, 27, 33), (32, 27, 33), (60, 33, nil), (400, 33, nil),
        ] as [(UInt64, UInt64, UInt64?)]
    )
    func whatKeepAlivesGoByIsKnownSoon(lifetime: UInt64, atLeast: UInt64, lessThan: UInt64?) throws {
        let servers = try World.Servers()
        for seed in 0..<6 as Range<UInt64> {
            let nat = NATModel(
                .endpointIndependent,
                .addressAndPortDependent,
                .random,
                lifetimeSeconds: lifetime,
                seed: seed
            )
            let world = try World(servers, nat, lifetimes: .forKeepAlives, lossPercent: Int(seed), seed: seed)
            world.run(seconds: 37)
            let found = try #require(world.report?.lifetime.value)
            #expect(found == NATLifetime(atLeastSeconds: atLeast, lessThanSeconds: lessThan))
            #expect(world.sockets.keys.sorted() == [0])
            #expect(world.openedEver <= 16)
            #expect(world.discovery.nextDeadline == nil)
        }
    }
}
