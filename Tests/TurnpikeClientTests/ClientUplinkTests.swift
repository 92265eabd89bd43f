import Lab
import STUN
import Testing
import Traversal

@testable import TurnpikeClient

/// Machines that are unplugged from one network and plugged into another while data flows.
@Suite struct ClientUplinkTests {
    enum Uplink: String, CaseIterable, Sendable {
        case v4, v6, dual
    }

    struct Change: Sendable, CustomTestStringConvertible {
        var from: Uplink
        var to: Uplink
        /// The one that called, or the one that was called.
        var mover: String

        var testDescription: String { "\(mover): \(from) -> \(to)" }

        static let all = Uplink.allCases.flatMap { from in
            Uplink.allCases.flatMap { to in ["alice", "bob"].map { Change(from: from, to: to, mover: $0) } }
        }
    }

    private static let quality = LinkQuality(delayMilliseconds: 12, jitterMilliseconds: 3)

    private static func world(seed: UInt64, _ mover: String, from uplink: Uplink) throws -> ClientWorld {
        let world = try ClientWorld(
            [.init(name: "alice", behavior: .portRestricted), .init(name: "bob", behavior: .portRestricted)],
            quality: quality,
            v6: true,
            seed: seed
        )
        let attachment = world.internet.host(mover).interfaces[0]
        for address in attachment.addresses where !uplink.has(address.family) { attachment.remove(address) }
        try world.start()
        return world
    }

    /// Where the system tells nothing, they are looked for.
    @Test(arguments: [true, false])
    func changesOfAddressesAndSleepAreSeen(systemTells: Bool) throws {
        let lab = Internet(seed: 1) { $0.host("ada") }
        let host = lab.host("ada")
        let network = try LabNetwork(host, seed: 1)
        network.tellsChanges = systemTells
        var moves: [[LocalAddress]] = []
        var sleeps = 0
        let watch = UplinkWatch(network) { event in
            switch event {
            case .moved(let addresses): moves.append(addresses)
            case .resumed: sleeps += 1
            case .stirred: break
            }
        }
        watch.start()
        try lab.run(seconds: 10)
        #expect(moves.isEmpty && sleeps == 0)
        let new = lab.core.newAddresses(v4: false, v6: true)
        host.interfaces[0].add(new[0])
        try lab.run(seconds: systemTells ? 0.1 : 3.1)
        #expect(moves.map { $0.map(\.address) } == [host.addresses])
        host.interfaces[0].remove(new[0])
        try lab.run(seconds: systemTells ? 0.1 : 3.1)
        #expect(moves.last?.map(\.address) == host.addresses && moves.count == 2)
        network.suspendedNanoseconds += 60_000_000_000
        try lab.run(seconds: 3.1)
        #expect(moves.count == 2 && sleeps == 1)
        network.stop()
        try lab.run(seconds: 60)
        network.proceed()
        try lab.run(seconds: 3.1)
        #expect(moves.count == 2 && sleeps == 2)
        watch.close()
    }

    @Test(arguments: Change.all)
    func aConnectionGoesAlongToAnotherUplink(change: Change) async {
        let (gaps, returns) = (Figures(), Figures())
        await withWorlds(runs(1)) { seed in
            let world = try Self.world(seed: seed, change.mover, from: change.from)
            #expect(try world.meet(), world.comment)
            #expect(try world.internet.run(while: { !world.areDirect }, atMostSeconds: 5), world.comment)
            let traffic = ClientTraffic(world)
            try world.internet.run(seconds: 4.3 + Double(seed) / 7)
            let start = world.internet.now
            world.replug(change.mover, change.to)
            returns.add(try world.secondsUntilDirect(since: start, atMostSeconds: 10, "moved"))
            try world.internet.run(seconds: 3)
            gaps.add(traffic.longestGapSeconds(since: start))
            #expect(traffic.longestGapSeconds(since: start) <= 2, world.comment)
            #expect(try traffic.stop(), world.comment)
            #expect(traffic.misplaced == 0)
            #expect(world.alice.disconnections.isEmpty && world.bob.disconnections.isEmpty)
            #expect(world.alice.isRegistered && world.bob.isRegistered)
            try world.close()
        }
        #expect(returns.quantile(1) <= 3)
        print(gaps.text("\(change.testDescription): data stalls, s"))
        print(returns.text("\(change.testDescription): direct again, s"))
    }
}

extension ClientUplinkTests {
    /// The server has an address of each family, and lets allocations move (RFC 8016) or not.
    @Test(arguments: [true, false])
    func aRelayGoesAlongFromOneFamilyToTheOther(isMobile: Bool) async {
        let (gaps, kept) = (Figures(), Figures())
        await withWorlds(runs(1)) { seed in
            let world = try ClientWorld(
                [.init(name: "alice", behavior: .symmetric), .init(name: "bob", behavior: .symmetric)],
                quality: Self.quality,
                v6: true,
                isMobile: isMobile,
                seed: seed
            ) { _, configuration in configuration.turnServers[0].url += "?transport=udp" }
            let attachment = world.internet.host("alice").interfaces[0]
            for address in attachment.addresses where address.family == .ipv6 { attachment.remove(address) }
            try world.start()
            #expect(try world.meet(), world.comment)
            let traffic = ClientTraffic(world)
            for uplink in [Uplink.v6, .v4, .v6] {
                try world.internet.run(seconds: 11)
                let before = world.alice.client.servers.relays?.up.map(\.relayed) ?? []
                #expect(!before.isEmpty)
                let start = world.internet.now
                world.replug("alice", uplink)
                try world.internet.run(seconds: 5)
                let relays = world.alice.client.servers.relays?.up ?? []
                kept.add(relays.map(\.relayed) == before ? 1 : 0)
                #expect(!relays.isEmpty && world.areOpen, world.comment)
                gaps.add(traffic.longestGapSeconds(since: start))
            }
            #expect(try traffic.stop(), world.comment)
            #expect(world.internet.relay("turn").allocationCount == (isMobile ? 2 : 5))
            try world.close()
        }
        #expect(kept.quantile(0) == (isMobile ? 1 : 0) && kept.quantile(1) == kept.quantile(0))
        #expect(gaps.quantile(1) <= 3)
        print(gaps.text("from one family to the other \(isMobile ? "with" : "without") mobility: data stalls, s"))
    }

    /// More networks than the lists of candidates and pairs hold addresses of.
    @Test(arguments: ["alice", "bob"])
    func aConnectionGoesAlongToFortyUplinksInARow(mover: String) async {
        let (gaps, returns) = (Figures(), Figures())
        await withWorlds(runs(1)) { seed in
            let world = try Self.world(seed: seed, mover, from: .dual)
            #expect(try world.meet(), world.comment)
            #expect(try world.internet.run(while: { !world.areDirect }, atMostSeconds: 5), world.comment)
            let traffic = ClientTraffic(world)
            for number in 0..<40 {
                try world.internet.run(seconds: 1 + Double(number % 4) / 3)
                let start = world.internet.now
                world.replug(mover, [.v4, .dual, .v6, .dual][number % 4])
                returns.add(try world.secondsUntilDirect(since: start, atMostSeconds: 10, "move \(number)"))
                gaps.add(traffic.longestGapSeconds(since: start))
            }
            #expect(try traffic.stop(), world.comment)
            #expect(traffic.misplaced == 0)
            #expect(world.alice.disconnections.isEmpty && world.bob.disconnections.isEmpty)
            try world.close()
        }
        #expect(gaps.quantile(1) <= 3)
        #expect(returns.quantile(1) <= 3)
        print(gaps.text("forty uplinks of \(mover) in a row: data stalls, s"))
        print(returns.text("forty uplinks of \(mover) in a row: direct again, s"))
    }
}

extension ClientUplinkTests {
    /// As between a desk and a meeting room: addresses are those of before, and what they stand for is not.
    @Test(arguments: ["alice", "bob"])
    func aConnectionGoesToAndFroBetweenTwoNetworks(mover: String) async {
        let (gaps, returns) = (Figures(), Figures())
        await withWorlds(runs(1)) { seed in
            let world = try Self.world(seed: seed, mover, from: .dual)
            #expect(try world.meet(), world.comment)
            #expect(try world.internet.run(while: { !world.areDirect }, atMostSeconds: 5), world.comment)
            let host = world.internet.host(mover)
            let homes = (0..<2).map { number in
                let home = world.internet.core.nat("network \(number)", .portRestricted, host.link.quality)
                return (home: home, addresses: home.inside.newAddresses(v4: true, v6: true))
            }
            let traffic = ClientTraffic(world)
            for number in 0..<30 {
                try world.internet.run(seconds: 1 + Double(number % 4) / 5)
                let start = world.internet.now
                for old in host.interfaces { host.detach(old) }
                try world.internet.run(seconds: 0.05)
                host.attach(to: homes[number % 2].home.inside, homes[number % 2].addresses)
                returns.add(try world.secondsUntilDirect(since: start, atMostSeconds: 30, "move \(number)"))
                gaps.add(traffic.longestGapSeconds(since: start))
            }
            #expect(try traffic.stop(), world.comment)
            #expect(traffic.misplaced == 0)
            try world.close()
        }
        #expect(gaps.quantile(1) <= 3)
        #expect(returns.quantile(1) <= 3)
        print(gaps.text("to and fro thirty times, \(mover): data stalls, s"))
        print(returns.text("to and fro thirty times, \(mover): direct again, s"))
    }
}

extension ClientUplinkTests.Uplink {
    fileprivate func has(_ family: AddressFamily) -> Bool { self == .dual || (self == .v4) == (family == .ipv4) }
}

extension ClientWorld {
    /// Runs until both are direct by a path that was not there at `start`, which is now.
    fileprivate func secondsUntilDirect(since start: UInt64, atMostSeconds: Double, _ what: String) throws -> Double {
        // Until the other side has noticed, the path is what it was before.
        try internet.run(seconds: 0.5)
        let isBack = try internet.run(while: { !self.areDirectAnew(since: start) }, atMostSeconds: atMostSeconds)
        #expect(isBack, "\(what): \(comment)")
        return Double(internet.now - start) / 1e9
    }

    /// Unplugs the machine and plugs it into a new home, where it has an address a moment later.
    func replug(_ name: String, _ uplink: ClientUplinkTests.Uplink, secondsBetween: Double = 0.1) {
        let host = internet.host(name)
        let home = internet.core.nat("\(name)'s home at \(internet.now)", .portRestricted, host.link.quality)
        for old in host.interfaces { host.detach(old) }
        internet.scheduler.after(seconds: secondsBetween) {
            let addresses = home.inside.newAddresses(v4: uplink.has(.ipv4), v6: uplink.has(.ipv6))
            host.attach(to: home.inside, addresses)
        }
    }

    /// Both send without a relay by addresses that their machines have, and hear each other.
    func areDirectAnew(since start: UInt64) -> Bool {
        areDirect
            && [(alice, "bob"), (bob, "alice")].allSatisfy { client, peer in
                guard let path = client.path(to: peer) else { return false }
                let isSent = client.client.gatherer.candidates.contains { $0.base == path.base }
                let changedAt = client.pathChanges.last?.at ?? 0
                return isSent && changedAt > start
            }
    }
}
