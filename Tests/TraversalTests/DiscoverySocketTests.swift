import STUN
import Testing
import Traversal

/// Sockets that cannot be opened, or break: whatever it costs, discovery ends and says so.
@Suite struct DiscoverySocketTests {
    private typealias World = DiscoveryWorld

    private func world(lifetime: UInt64 = 50, seed: UInt64) throws -> DiscoveryWorld {
        let nat = NATModel.home(lifetimeSeconds: lifetime, seed: seed)
        return try World(World.Servers(), nat, lifetimes: .thorough, seed: seed)
    }

    private func expectEnd(_ world: DiscoveryWorld) {
        #expect(world.discovery.nextDeadline == nil)
        #expect(world.sockets.keys.allSatisfy { $0 == 0 })
        #expect(world.report?.name == .determined(.portRestricted))
    }

    @Test(arguments: [[8], [9], Array(8...27)])
    func withoutTheSocketsThatAllElseNeedsNoLifetimeIsMeasured(missing: [Int]) throws {
        let world = try world(seed: 1)
        world.unopenable = Set(missing)
        world.run()
        #expect(world.report?.lifetime == .undetermined("no socket could be opened"))
        expectEnd(world)
    }

    /// Sockets 10 to 27 are those of `Limits.lifetimesSeconds`: 13 of 28 s, 14 of 33, 17 of 56, 27 of 325.
    @Test(
        arguments: [
            ([13], 30, 24, 33), ([14, 15, 16, 17], 30, 28, 66), ([27], 400, 272, nil), ([12, 27], 400, 272, nil),
        ] as [([Int], UInt64, UInt64, UInt64?)]
    )
    func aSocketThatCannotBeOpenedLeavesItsTimeOut(
        missing: [Int],
        lifetime: UInt64,
        atLeast: UInt64,
        lessThan: UInt64?
    ) throws {
        let world = try world(lifetime: lifetime, seed: 2)
        world.unopenable = Set(missing)
        world.run()
        #expect(
            world.report?.lifetime == .determined(NATLifetime(atLeastSeconds: atLeast, lessThanSeconds: lessThan))
        )
        expectEnd(world)
    }

    @Test func allIdleSocketsButTheFirstMissingEndsTheMeasurement() throws {
        let world = try world(seed: 3)
        world.unopenable = Set(10...27)
        world.run()
        #expect(world.report?.lifetime.value == nil)
        expectEnd(world)
    }

    @Test(arguments: [8, 13, 27])
    func aSocketThatBreaksLaterEndsNothingForEver(socket: Int) throws {
        let world = try world(lifetime: 400, seed: 4)
        world.run(seconds: socket == 8 ? 2 : 40)
        world.lose(socket)
        world.run()
        expectEnd(world)
        #expect((world.report?.lifetime.value?.atLeastSeconds ?? 0) == (socket == 13 ? 325 : socket == 27 ? 272 : 0))
    }

    @Test func theFirstSocketBreakingEndsTheSearchForTheName() throws {
        let world = try world(seed: 5)
        world.run(seconds: 0)
        world.lose(0)
        world.run()
        #expect(world.report?.name == .undetermined("the socket broke before there was an answer"))
        #expect(world.discovery.nextDeadline == nil)
    }

    @Test(arguments: 1...7)
    func anyOtherSocketBreakingCostsItsOwnTestAlone(socket: Int) throws {
        let world = try world(seed: 6)
        world.run(seconds: 0)
        world.unopenable = [socket]
        world.run()
        #expect(world.report?.isTranslated == .determined(true))
        #expect(world.report?.mapping == .determined(.endpointIndependent))
        #expect(world.report?.lifetime.value?.atLeastSeconds == 47)
        #expect(world.discovery.nextDeadline == nil)
    }
}
