import OpenSSLCrypto
import STUN
import TestSupport
import Testing
import Traversal

/// NAT discovery against every kind of NAT, with the real server (RFC 5780): the right name, or none.
@Suite struct BehaviourDiscoveryTests {
    typealias World = DiscoveryWorld

    struct Kind: CustomTestStringConvertible, Sendable {
        var mapping: NATModel.Mapping
        var filtering: NATModel.Filtering?
        var name: NATName

        var testDescription: String {
            "\(name.rawValue), mapping \(mapping), filtering \(filtering.map { "\($0)" } ?? "any")"
        }

        static let all = [
            Kind(mapping: .none, filtering: Optional.none, name: .open),
            Kind(mapping: .endpointIndependent, filtering: NATModel.Filtering.none, name: .fullCone),
            Kind(mapping: .endpointIndependent, filtering: .addressDependent, name: .restricted),
            Kind(mapping: .endpointIndependent, filtering: .addressAndPortDependent, name: .portRestricted),
            Kind(mapping: .addressDependent, filtering: Optional.none, name: .symmetric),
            Kind(mapping: .addressAndPortDependent, filtering: Optional.none, name: .symmetric),
        ]
    }

    /// One of every way of giving out ports, in turn.
    private static func allocation(_ number: Int, _ generator: inout SeededGenerator) -> NATModel.Allocation {
        switch number % 4 {
        case 0: .preserving
        case 1: .sequential([1, 2, 4, -1].randomElement(using: &generator) ?? 1)
        case 2:
            {
                let base = UInt16.random(in: 1_024...60_000, using: &generator)
                return .chunked(base...(base + [511, 1_023, 2_047][number / 4 % 3]))
            }()
        default: .random
        }
    }

    @Test(arguments: Kind.all)
    func theNameIsRightOrUndeterminedButNeverWrong(kind: Kind) throws {
        let servers = try World.Servers()
        var undetermined = 0
        var allocationsUndetermined = 0
        for seed in 0..<200 as Range<UInt64> {
            var generator = SeededGenerator(seed: seed)
            let number = Int(seed)
            let lossPercent = number % 11
            let allocation = Self.allocation(number, &generator)
            let filtering = kind.filtering ?? NATModel.Filtering.allCases[number / 4 % 3]
            let turnsRound = number / 12 % 2 == 0
            let nat = NATModel(kind.mapping, filtering, allocation, turnsRound: turnsRound, seed: seed)
            let world = try World(
                servers,
                nat,
                lossPercent: lossPercent,
                delayMilliseconds: [5, 20, 50, 90][number / 3 % 4],
                seed: seed
            )
            world.run()
            let report = try #require(world.report)
            let note: Comment = "seed \(seed), \(allocation), \(filtering), \(report)"
            if let name = report.name.value { #expect(name == kind.name, note) } else { undetermined += 1 }
            if lossPercent == 0 { #expect(report.name.value == kind.name, note) }
            check(report, kind.mapping, filtering, turnsRound, note)
            if kind.mapping != .none {
                if report.allocation.value == nil { allocationsUndetermined += 1 }
                check(report.allocation, allocation, note)
            }
            let concluded = try #require(world.concludedAt)
            let answered = try #require(world.lastServerAnswerAt)
            #expect(concluded - answered <= 1_500 * milliseconds, note)
            #expect(world.sockets.keys.sorted() == [0], note)
        }
        #expect(undetermined <= 10)
        #expect(allocationsUndetermined <= 20)
    }

    @Test(arguments: Kind.all)
    func underHeavyLossANameIsWithheldRatherThanGuessed(kind: Kind) throws {
        let servers = try World.Servers()
        var named = 0
        for seed in 0..<40 as Range<UInt64> {
            let filtering = kind.filtering ?? .addressAndPortDependent
            let nat = NATModel(kind.mapping, filtering, .random, seed: seed)
            let world = try World(servers, nat, lossPercent: 15 + Int(seed) / 2, seed: seed)
            world.run()
            guard let name = world.report?.name.value else { continue }
            named += 1
            #expect(name == kind.name, "seed \(seed)")
        }
        #expect(named > 10)
    }

    private func check(
        _ report: NATReport,
        _ mapping: NATModel.Mapping,
        _ filtering: NATModel.Filtering,
        _ turnsRound: Bool,
        _ note: Comment
    ) {
        switch mapping {
        case .none, .endpointIndependent: #expect([nil, .endpointIndependent].contains(report.mapping.value), note)
        case .addressDependent:
            #expect([nil, .addressDependent, .endpointDependent].contains(report.mapping.value), note)
        case .addressAndPortDependent:
            #expect([nil, .addressAndPortDependent, .endpointDependent].contains(report.mapping.value), note)
        }
        let expected: NATFiltering =
            switch filtering {
            case .none: .endpointIndependent
            case .addressDependent: .addressDependent
            case .addressAndPortDependent: .addressAndPortDependent
            }
        #expect([nil, expected].contains(report.filtering.value), note)
        if mapping == .none {
            #expect(report.hairpin.value == nil, note)
            #expect([nil, filtering != .none].contains(report.isFirewalled.value), note)
            #expect(report.isTranslated.value == false, note)
        } else {
            #expect(report.isTranslated.value == true, note)
            #expect([nil, turnsRound].contains(report.hairpin.value), note)
        }
    }

    private func check(_ found: Determination<NATPortAllocation>, _ real: NATModel.Allocation, _ note: Comment) {
        switch (found, real) {
        case (.undetermined, _), (.determined(.preserving), .preserving), (.determined(.random), .random): break
        case (.determined(.sequential(let step)), .sequential(let real)): #expect(step == real, note)
        case (.determined(.chunked(let range)), .chunked(let real)):
            #expect(real.contains(range.lowerBound) && real.contains(range.upperBound), note)
        default: Issue.record(note)
        }
    }

    // MARK: Servers of other kinds

    @Test func aServerWithoutASecondAddressShowsNoFilterAndSaysSo() throws {
        let servers = try World.Servers()
        let nat = NATModel(.endpointIndependent, .none, seed: 1)
        let two = try World(servers, nat, asking: World.plain, seed: 1)
        two.run()
        #expect(two.report?.mapping == .determined(.endpointIndependent))
        #expect(two.report?.filtering.value == nil)
        #expect(two.report?.name.reason == "no server has a second address to answer from")

        let one = try World(servers, nat, asking: [World.plain[0]], seed: 1)
        one.run()
        #expect(one.report?.mapping.value == nil)
        #expect(one.report?.name.value == nil)
        #expect(one.report?.allocation == .determined(.preserving))
    }

    @Test(arguments: [.addressDependent, .addressAndPortDependent] as [NATModel.Mapping])
    func twoServersShowASymmetricNAT(mapping: NATModel.Mapping) throws {
        let nat = NATModel(mapping, .addressAndPortDependent, .random, seed: 2)
        let world = try World(World.Servers(), nat, asking: World.plain, seed: 2)
        world.run()
        #expect(world.report?.name == .determined(.symmetric))
        #expect(world.report?.mapping == .determined(.endpointDependent))
    }

    @Test func aNATThatKeepsThePortIsNotOpen() throws {
        let nat = NATModel(.endpointIndependent, .addressAndPortDependent, .preserving, seed: 3)
        let world = try World(World.Servers(), nat, seed: 3)
        world.run()
        #expect(world.report?.mapped?.port == world.report?.local?.port)
        #expect(world.report?.name == .determined(.portRestricted))
    }

    @Test func aFirewallWithoutTranslationIsOpenAndSaysSo() throws {
        let world = try World(World.Servers(), NATModel(.none, .addressAndPortDependent, seed: 4), seed: 4)
        world.run()
        #expect(world.report?.name == .determined(.open))
        #expect(world.report?.isFirewalled == .determined(true))
    }

    @Test func iPv6IsDiscoveredTheSameWay() throws {
        let own = IPAddress("2001:db8:1::7")
        let open = try World(
            World.Servers(),
            NATModel(.none, .none, outside: own, seed: 5),
            asking: [World.first6],
            host: own,
            seed: 5
        )
        open.run()
        #expect(open.report?.name == .determined(.open))
        #expect(open.report?.isFirewalled == .determined(false))
        let translated = try World(
            World.Servers(),
            NATModel(.endpointIndependent, .addressDependent, outside: IPAddress("2001:db8:2::1"), seed: 5),
            asking: [World.first6],
            host: IPAddress("fd00::7"),
            seed: 5
        )
        translated.run()
        #expect(translated.report?.name == .determined(.restricted))
    }

    @Test func blockedUDPIsNamedWhereTheServerIsKnownToRunOrSeveralAreSilent() throws {
        let servers = try World.Servers()
        for (endpoints, isKnown, expected) in [
            ([World.first], true, .blocked), (World.plain, false, .blocked), ([World.first], false, nil),
        ] as [([Endpoint], Bool, NATName?)] {
            for seed in 0..<67 as Range<UInt64> {
                let nat = NATModel(.endpointIndependent, .none, seed: seed)
                let world = try World(servers, nat, asking: endpoints, isKnownToRun: isKnown, seed: seed)
                world.isBlocked = true
                world.run()
                #expect(world.report?.name.value == expected)
                #expect(try #require(world.concludedAt) - 100 * seconds <= 3 * seconds)
            }
        }
    }

    @Test func aServerThatTurnsOutToRunMakesTheNameBlocked() throws {
        let world = try World(World.Servers(), NATModel(.none, .none, seed: 6), seed: 6)
        world.isBlocked = true
        world.run()
        #expect(world.report?.name.value == nil)
        world.perform { discovery, _, actions in discovery.confirmRunning(World.first, into: &actions) }
        #expect(world.report?.name == .determined(.blocked))
    }

    @Test func theSilenceOfASecondAddressThatAnswersNobodyIsNotTheFilters() throws {
        let servers = try World.Servers()
        for (filtering, name) in [
            (.none, .fullCone), (.addressDependent, nil), (.addressAndPortDependent, nil),
        ] as [(NATModel.Filtering, NATName?)] {
            let nat = NATModel(.endpointIndependent, filtering, seed: 7)
            let world = try World(servers, nat, asking: [World.first] + World.plain, seed: 7)
            world.silent = [World.second.address]
            world.run()
            #expect(world.report?.mapping == .determined(.endpointIndependent))
            // An answer that came from there is proof enough; none is not.
            #expect(world.report?.name.value == name)
        }
    }

    @Test func aSecondAddressBehindOurOwnNATIsNotAskedForAServerInTheWorld() throws {
        let world = try World(World.Servers(), NATModel(.endpointIndependent, .none, seed: 11), seed: 11)
        world.onAnswer = { bytes in
            guard let index = bytes.indices.dropLast().first(where: { bytes[$0] == 0x80 && bytes[$0 + 1] == 0x2C })
            else { return bytes }
            var changed = bytes
            changed.replaceSubrange((index + 8)..<(index + 12), with: [192, 168, 1, 1])
            return changed
        }
        world.run()
        #expect(world.report?.mapped != nil)
        #expect(world.report?.filtering.reason == "no server has a second address to answer from")
    }

    @Test func aDeadServerBesideALiveOneDelaysNothing() throws {
        let nat = NATModel(.endpointIndependent, .addressDependent, seed: 8)
        let world = try World(World.Servers(), nat, asking: [World.plain[0], World.first], seed: 8)
        world.silent = [World.plain[0].address]
        world.run()
        #expect(world.report?.name == .determined(.restricted))
        #expect(world.report?.silentServers == [World.plain[0]])
    }

    @Test func answersWithTheWrongPlaceForASecondAddressAreNotBelieved() throws {
        let nat = NATModel(.endpointIndependent, .addressDependent, seed: 9)
        let world = try World(World.Servers(), nat, seed: 9)
        // OTHER-ADDRESS becomes an attribute that nobody knows.
        world.onAnswer = { bytes in
            guard let index = bytes.indices.dropLast().first(where: { bytes[$0] == 0x80 && bytes[$0 + 1] == 0x2C })
            else { return bytes }
            var changed = bytes
            changed[index] = 0xC1
            return changed
        }
        world.run()
        #expect(world.report?.filtering.value == nil)
    }

    @Test func aHostWithoutSocketsSaysSo() throws {
        let cryptography = ReplayableCryptography(seed: 1, try .init())
        var discovery = BehaviourDiscovery(servers: [.init(World.first)], with: cryptography)
        var actions: [BehaviourDiscovery.Action] = []
        discovery.start(now: 0, into: &actions)
        discovery.opened(0, at: nil, now: 1, into: &actions)
        #expect(discovery.report.name == .undetermined("no socket could be opened"))
        #expect(discovery.nextDeadline == nil)
        var none = BehaviourDiscovery(servers: [], with: cryptography)
        none.start(now: 0, into: &actions)
        #expect(none.report.name == .undetermined("there is no server to ask"))
    }

    // MARK: Lifetimes

    @Test(
        arguments: [
            (5, 0, 10), (15, 10, 20), (30, 28, 33), (50, 47, 56), (120, 112, 134), (300, 272, 325), (400, 325, nil),
        ] as [(UInt64, UInt64, UInt64?)]
    )
    func theLifetimeOfAMappingIsMeasuredInTheBackground(lifetime: UInt64, atLeast: UInt64, lessThan: UInt64?) throws {
        let servers = try World.Servers()
        for seed in 0..<6 as Range<UInt64> {
            let mapping: NATModel.Mapping = seed % 2 == 0 ? .endpointIndependent : .addressAndPortDependent
            let nat = NATModel(mapping, .addressAndPortDependent, .random, lifetimeSeconds: lifetime, seed: seed)
            let world = try World(
                servers,
                nat,
                lifetimes: .thorough,
                lossPercent: Int(seed),
                seed: seed
            )
            world.run()
            let found = try #require(world.report?.lifetime.value)
            #expect(found == NATLifetime(atLeastSeconds: atLeast, lessThanSeconds: lessThan))
            #expect(world.sockets.keys.sorted() == [0])
            #expect(world.openedEver <= 28)
            #expect(world.discovery.nextDeadline == nil)
        }
    }

    @Test func aServerThatAnswersOnlyWhereItWasAskedCannotMeasureALifetime() throws {
        let nat = NATModel(.endpointIndependent, .addressAndPortDependent, seed: 10)
        let world = try World(World.Servers(), nat, asking: World.plain, lifetimes: .thorough, seed: 10)
        world.run()
        #expect(world.report?.lifetime == .undetermined("the server does not answer to another port"))
        #expect(world.sockets.keys.sorted() == [0])
    }

    // MARK: Noise

    @Test func mutatedPacketsDoNoHarm() throws {
        var generator = SeededGenerator(for: "mutatedPacketsDoNoHarm")
        let servers = try World.Servers()
        var packets: [[UInt8]] = []
        let nat = NATModel(.endpointIndependent, .none, .random, turnsRound: true, seed: 1)
        let teacher = try World(servers, nat, lifetimes: .thorough, seed: 1)
        teacher.onAnswer = {
            packets.append($0)
            return $0
        }
        teacher.run()
        #expect(packets.count > 30)
        let rounds = fuzzRounds(100_000)
        for _ in 0..<10 {
            let world = try World(servers, nat, lifetimes: .thorough, seed: 1)
            var lastAnswer: [UInt8] = []
            world.onAnswer = {
                lastAnswer = $0
                return mutated($0, &generator)
            }
            for limit in [0, 1, 5, 30, 400] as [UInt64] {
                world.run(seconds: limit)
                for round in 0..<rounds / 50 {
                    var packet = packets[round % packets.count]
                    if round % 2 == 0, lastAnswer.count >= 20 {
                        packet.replaceSubrange(8..<20, with: lastAnswer[8..<20])
                    }
                    let source = round % 3 == 0 ? World.second : World.first
                    world.deliver(mutated(packet, &generator), on: round % 18, from: source)
                }
            }
        }
    }
}
