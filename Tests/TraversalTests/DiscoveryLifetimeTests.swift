import STUN
import Testing
import Traversal

/// How long mappings live: to a tenth, or as far as keep-alives need it.
@Suite struct DiscoveryLifetimeTests {
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
            let nat = NATModel.home(lifetimeSeconds: lifetime, seed: seed)
            let world = try World(servers, nat, lifetimes: .forKeepAlives, lossPercent: Int(seed), seed: seed)
            world.run(seconds: 37)
            let found = try #require(world.report?.lifetime.value)
            #expect(found == NATLifetime(atLeastSeconds: atLeast, lessThanSeconds: lessThan))
            #expect(world.sockets.keys.sorted() == [0])
            #expect(world.openedEver <= 16)
            #expect(world.discovery.nextDeadline == nil)
        }
    }

    @Test func aLifetimeIsFinalWhenItHasEndedOrIsLongerThanIsLooked() {
        let longest = Limits.lifetimesSeconds.last ?? 0
        #expect(!NATLifetime(atLeastSeconds: 28, lessThanSeconds: nil).isFinal)
        #expect(NATLifetime(atLeastSeconds: 28, lessThanSeconds: 33).isFinal)
        #expect(NATLifetime(atLeastSeconds: longest, lessThanSeconds: nil).isFinal)
    }

    @Test func aLifetimeIsToldToATenth() {
        let times = Limits.lifetimesSeconds.dropFirst().map { Double($0) }
        for (low, high) in zip(times, times.dropFirst()) {
            let mean = (low * high).squareRoot()
            #expect(mean / low <= 1.1 && high / mean <= 1.1)
        }
    }
}
