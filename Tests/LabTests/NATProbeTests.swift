import Lab
import STUN
import Testing
import Traversal

/// NAT discovery against the lab's NATs, by the real server with its second address (RFC 5780): the right name, or the
/// reason why there is none. `LAB_RUNS=200` is the whole count.
@Suite struct NATProbeTests {
    private static func internet(
        _ behavior: NATBehavior?,
        _ quality: LinkQuality = .access,
        firewall: Firewall = .open,
        seed: UInt64
    ) -> Internet {
        Internet(seed: seed) { net in
            net.relay("turn", quality)
            if let behavior {
                net.nat("home", behavior, firewall: firewall, quality) { $0.host("a") }
            } else {
                net.firewall("home", firewall, quality) { $0.host("a") }
            }
        }
    }

    private static func quality(_ seed: UInt64, lossRatio: Double = 0) -> LinkQuality {
        var dice = Dice(seed: seed, for: "quality")
        return LinkQuality(
            delayMilliseconds: 2 + 40 * dice.unit(),
            jitterMilliseconds: 8 * dice.unit(),
            lossRatio: lossRatio,
            reorderRatio: 0.02
        )
    }

    /// Runs it to its end.
    private static func probe(
        _ internet: Internet,
        asking servers: [BehaviourDiscovery.Server]? = nil
    ) throws -> (probe: NATProbe, report: NATReport) {
        let probe = NATProbe(internet, on: "a", asking: servers)
        try internet.run(while: { probe.report == nil }, atMostSeconds: 30)
        return (probe, try #require(probe.report))
    }

    @Test(arguments: NATSide.allCases)
    func eachTypeIsNamedRightAndInTime(side: NATSide) async {
        await withSeeds(runs(20)) { seed in
            var dice = Dice(seed: seed, for: "nat")
            var behavior = side.behavior(&dice)
            // Symmetric is also who looks at the address alone, and may let in whom it likes.
            if side == .symmetric {
                behavior?.mapping = seed % 3 == 0 ? .addressDependent : .addressAndPortDependent
                behavior?.filtering = NATBehavior.Dependence.allCases[Int(seed % 3)]
            }
            let internet = Self.internet(behavior, Self.quality(seed), seed: seed)
            let (probe, report) = try Self.probe(internet)
            #expect(report.name == .determined(side.name), "\(report)")
            let taken = try #require(probe.concludedAt) - (try #require(probe.answeredAt))
            #expect(taken <= 1_500 * millisecond, "\(taken / millisecond) ms")
            #expect(probe.openSockets == 1, "the first socket, whose mapping it is, stays")
            try Self.check(report, behavior)
        }
    }

    /// All else that the report says, against the NAT that it is about.
    private static func check(_ report: NATReport, _ behavior: NATBehavior?) throws {
        guard let behavior else {
            #expect(report.isTranslated == .determined(false) && report.isFirewalled == .determined(false))
            #expect(report.hairpin.value == nil && report.hairpin.reason != nil)
            return
        }
        let mapping: NATMapping =
            switch behavior.mapping {
            case .endpointIndependent: .endpointIndependent
            case .addressDependent: .addressDependent
            case .addressAndPortDependent: .addressAndPortDependent
            }
        let filtering: NATFiltering =
            switch behavior.filtering {
            case .endpointIndependent: .endpointIndependent
            case .addressDependent: .addressDependent
            case .addressAndPortDependent: .addressAndPortDependent
            }
        #expect(report.mapping == .determined(mapping), "\(report)")
        #expect(report.filtering == .determined(filtering), "\(report)")
        if mapping.isIndependent {
            #expect(report.hairpin == .determined(behavior.hairpinning != .none), "\(report)")
        } else {
            #expect(report.hairpin.value != .some(behavior.hairpinning == .none), "\(report)")
        }
        switch (report.allocation, behavior.allocation) {
        case (.determined(.preserving), .preserving), (.determined(.random), .random): break
        case (.determined(.sequential(let step)), .sequential(let real)): #expect(step == real)
        case (.determined(.chunked(let seen)), .chunked(let ports)): #expect(seen.count <= ports)
        default: Issue.record("\(report.allocation), and it is \(behavior.allocation)")
        }
    }

    /// Three of a hundred packets are lost on each of the four links of a round trip.
    @Test(arguments: NATSide.allCases)
    func withLossANameIsRightOrWithheld(side: NATSide) async {
        let named = Counter()
        let all = runs(20)
        await withSeeds(all) { seed in
            var dice = Dice(seed: seed, for: "nat")
            let internet = Self.internet(side.behavior(&dice), Self.quality(seed, lossRatio: 0.03), seed: seed)
            let (probe, report) = try Self.probe(internet)
            if let name = report.name.value {
                named.add()
                #expect(name == side.name, "\(report)")
            } else {
                #expect(report.name.reason?.isEmpty == false)
            }
            if let answered = probe.answeredAt {
                #expect(try #require(probe.concludedAt) - answered <= 1_500 * millisecond)
            }
        }
        #expect(named.value * 10 >= all.count * 9, "\(named.value) of \(all.count) had a name")
    }

    // MARK: NAT behind NAT, and no NAT at all

    @Test func ofTwoNATsTheStricterOneGivesTheName() async {
        let cases: [(NATBehavior, NATBehavior, NATName)] = [
            (.carrierGrade, .restricted, .restricted), (.portRestricted, .fullCone, .portRestricted),
            (.symmetric, .fullCone, .symmetric), (.carrierGrade, .symmetric, .symmetric),
            (.fullCone, .fullCone, .fullCone),
        ]
        await withSeeds(runs(5)) { seed in
            for (outer, inner, name) in cases {
                let internet = Internet(seed: seed) { net in
                    net.relay("turn")
                    net.nat("carrier", outer) { isp in isp.nat("home", inner) { $0.host("a") } }
                }
                let report = try Self.probe(internet).report
                #expect(report.name == .determined(name), "\(report)")
            }
        }
    }

    @Test func aFirewallWithoutNATIsOpenAndSaidToFilter() async {
        await withSeeds(runs(5)) { seed in
            let report = try Self.probe(Self.internet(nil, firewall: .stateful, seed: seed)).report
            #expect(report.name == .determined(.open))
            #expect(report.isFirewalled == .determined(true))
            #expect(report.filtering == .determined(.addressAndPortDependent))
        }
    }

    // MARK: What cannot be told

    @Test func blockedUDPIsNamedWhereTheServerIsKnownToRun() async {
        await withSeeds(runs(3)) { seed in
            let internet = Self.internet(.portRestricted, firewall: .noUDP, seed: seed)
            let server = internet.relay("turn").endpoint()
            let began = internet.seconds
            let known = try Self.probe(internet, asking: [.init(server, isKnownToRun: true)]).report
            #expect(known.name == .determined(.blocked))
            #expect(internet.seconds - began <= 3.5)

            // One that nobody has heard of may be down; when it is reached by TCP, that is not why.
            let (probe, unknown) = try Self.probe(internet)
            #expect(unknown.name.value == nil && unknown.name.reason != nil)
            probe.confirmRunning(server)
            #expect(probe.report?.name == .determined(.blocked))

            // Two servers are not down at once.
            let both = [server, internet.relay("turn").alternate()].map { BehaviourDiscovery.Server($0) }
            #expect(try Self.probe(internet, asking: both).report.name == .determined(.blocked))
        }
    }

    @Test func withoutTheSecondAddressNeitherMappingNorFilterIsGuessed() async {
        await withSeeds(runs(3)) { seed in
            let internet = Self.internet(.restricted, seed: seed)
            let second = internet.relay("turn").alternate().address
            internet.core.partition(internet.router("home").publicAddresses, from: [second])
            let report = try Self.probe(internet).report
            #expect(report.name.value == nil && report.mapping.value == nil && report.filtering.value == nil)
            #expect([report.name.reason, report.mapping.reason, report.filtering.reason].allSatisfy { $0 != nil })
            #expect(report.isTranslated == .determined(true), "that one server shows as well")
        }
    }

    // MARK: Lifetime

    @Test(arguments: [25, 60, 120, 400])
    func theLifetimeOfAMappingIsBracketed(seconds: Double) async {
        await withSeeds(runs(2)) { seed in
            let behavior = NATBehavior.portRestricted.with { $0.udpLifetimeSeconds = seconds }
            let internet = Self.internet(behavior, Self.quality(seed), seed: seed)
            let probe = NATProbe(internet, on: "a", lifetimes: .thorough)
            try internet.run(seconds: 400)
            let lifetime = try #require(probe.report?.lifetime.value, "\(String(describing: probe.report))")
            #expect(Double(lifetime.atLeastSeconds) <= seconds + 1)
            #expect(lifetime.lessThanSeconds.map { Double($0) >= seconds - 1 } ?? (seconds > 325))
        }
    }
}
