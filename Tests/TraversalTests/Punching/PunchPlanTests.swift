import STUN
import Testing

@testable import Traversal

@Suite struct PunchPlanTests {
    private static let allocations: [NATPortAllocation?] = [
        nil, .preserving, .random, .sequential(step: 1), .sequential(step: -2), .chunked(20_000...20_400),
        .chunked(1_024...60_000),
    ]

    private static let reports: [PunchReport] = {
        var reports: [PunchReport] = []
        for mapping in [PunchReport.Mapping.independent, .dependent, .unknown] {
            for filtering in [PunchReport.Filtering.none, .address, .port, .unknown] {
                for allocation in allocations {
                    for wish in [PunchReport.Wish.auto, .never, .always] {
                        reports.append(
                            PunchReport(
                                mapping: mapping,
                                filtering: filtering,
                                allocation: allocation,
                                address: IPAddress(v4: 0xCB00_7101),
                                wish: wish
                            )
                        )
                    }
                }
            }
        }
        return reports
    }()

    @Test func bothSidesComeToTheSamePlan() {
        for own in Self.reports {
            for var peer in Self.reports {
                peer.address = IPAddress(v4: 0xC633_6401)
                let mirrored = PunchPlan.make(own: peer, peer: own)
                switch PunchPlan.make(own: own, peer: peer) {
                case .ask(let ports): #expect(mirrored == .open(ports))
                case .open(let ports): #expect(mirrored == .ask(ports))
                case .meet(let own, let peer): #expect(mirrored == .meet(ownStep: peer, peerStep: own))
                case .fixed: #expect(mirrored == .fixed)
                case nil: #expect(mirrored == nil)
                }
            }
        }
    }

    private static func plan(
        _ own: (PunchReport.Mapping, PunchReport.Filtering, NATPortAllocation?),
        _ peer: (PunchReport.Mapping, PunchReport.Filtering, NATPortAllocation?),
        _ wish: PunchReport.Wish = .auto,
        addresses: (UInt32, UInt32) = (0xCB00_7101, 0xC633_6401)
    ) -> PunchPlan? {
        func report(
            _ kind: (PunchReport.Mapping, PunchReport.Filtering, NATPortAllocation?),
            _ address: UInt32
        ) -> PunchReport {
            let address = IPAddress(v4: address)
            return PunchReport(mapping: kind.0, filtering: kind.1, allocation: kind.2, address: address, wish: wish)
        }
        return PunchPlan.make(own: report(own, addresses.0), peer: report(peer, addresses.1))
    }

    @Test func portsAreGuessedWhereNothingElseHelps() {
        let home = (PunchReport.Mapping.independent, PunchReport.Filtering.port, NATPortAllocation?.some(.preserving))
        let random = (PunchReport.Mapping.dependent, PunchReport.Filtering.port, NATPortAllocation?.some(.random))
        let counting = (random.0, random.1, NATPortAllocation?.some(.sequential(step: 2)))
        let block = (random.0, random.1, NATPortAllocation?.some(.chunked(20_000...20_400)))
        #expect(Self.plan(home, random) == .ask(.any))
        #expect(Self.plan(home, counting) == .ask(.counted(step: 2)))
        #expect(Self.plan(block, home) == .open(.block(20_000...20_400)))
        #expect(Self.plan(counting, counting) == .meet(ownStep: 2, peerStep: 2))
        // Ordinary checks get in where the port does not matter, and as a rule between two of one address for
        // everybody.
        #expect(Self.plan((.independent, .address, .preserving), random) == nil)
        #expect(Self.plan((.independent, .none, .preserving), random) == nil)
        #expect(Self.plan(home, home) == .fixed)
        #expect(Self.plan(home, (.independent, .address, .preserving)) == nil)
        // Both ports would have to be found.
        #expect(Self.plan(random, random) == nil && Self.plan(random, counting) == nil)
        #expect(Self.plan(block, block) == nil && Self.plan(block, counting) == nil)
        // Who does not want it, and what is not known.
        #expect(Self.plan(home, random, .never) == nil)
        #expect(Self.plan(home, (.dependent, .port, nil)) == nil)
        #expect(Self.plan(home, (.dependent, .port, nil), .always) == .ask(.any))
        // Behind one NAT, and where an address is none of the internet's.
        #expect(Self.plan(home, random, addresses: (0xCB00_7101, 0xCB00_7101)) == nil)
        #expect(Self.plan(home, random, addresses: (0xCB00_7101, 0x0A00_0001)) == nil)
    }

    @Test func packetsGoToTheInternetAlone() {
        func isAllowed(_ text: String) -> Bool { AddressText.address(text).map { PunchTarget.isAllowed($0) } ?? true }
        for text in [
            "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.127.255.255", "127.0.0.1", "169.254.1.1", "172.16.0.1",
            "172.31.255.255", "192.0.0.1", "192.168.1.1", "198.18.0.1", "224.0.0.1", "239.255.255.255", "240.0.0.1",
            "255.255.255.255", "2001:db8::1", "::1", "fe80::1",
        ] { #expect(!isAllowed(text), "\(text)") }
        for text in [
            "8.8.8.8", "100.63.255.255", "100.128.0.1", "172.15.0.1", "172.32.0.1", "192.0.2.1", "198.51.100.1",
            "203.0.113.1", "223.255.255.255",
        ] { #expect(isAllowed(text), "\(text)") }
    }

    // MARK: The gate

    @Test func noSecondHasMoreThanTheBurstAndOneRefillToAnAddress() {
        let gate = PunchGate()
        let (one, other) = (IPAddress(v4: 0xCB00_7101), IPAddress(v4: 0xC633_6401))
        var times: [UInt64] = []
        // Asked every 0.1 ms by two who share it, for four seconds.
        for now in stride(from: UInt64(1_000), to: 4_000_001_000, by: 100_000) {
            for _ in 0..<2 where gate.admit(one, now: now) == nil { times.append(now) }
        }
        for (index, time) in times.enumerated() {
            let inSecond = times[index...].prefix { $0 < time + 1_000_000_000 }.count
            #expect(inSecond <= 180)
        }
        #expect(times.count > 4 * 140)
        // Another address has its own.
        #expect(gate.admit(one, now: 4_000_000_000) != nil)
        #expect(gate.admit(other, now: 4_000_000_000) == nil)
    }

    @Test func thereIsOneSearchTowardAnAddressAtATimeAndARestBehindIt() {
        let (gate, second) = (PunchGate(), UInt64(1_000_000_000))
        let (one, other) = (IPAddress(v4: 0xCB00_7101), IPAddress(v4: 0xC633_6401))
        #expect(gate.beginSearch(one, until: 12 * second, now: second))
        #expect(!gate.beginSearch(one, until: 14 * second, now: 2 * second))
        #expect(gate.beginSearch(other, until: 14 * second, now: 2 * second))
        gate.endSearch(one, now: 4 * second)
        #expect(!gate.beginSearch(one, until: 30 * second, now: 23 * second))
        #expect(gate.beginSearch(one, until: 34 * second, now: 24 * second))
    }

    // MARK: Ports

    @Test func whatLiesBetweenTwoMeasuredPortsComesFirst() {
        #expect(PortGuesses.between(1_100, 1_102, step: 1).first == 1_101)
        #expect(PortGuesses.between(1_100, 1_096, step: -2).first == 1_098)
        #expect(PortGuesses.between(1_100, 1_110, step: 2).prefix(4) == [1_102, 1_104, 1_106, 1_108])
        // The step was a multiple of the true one.
        #expect(PortGuesses.between(1_100, 1_103, step: 2).prefix(2) == [1_101, 1_102])
        // Overtaken on the way, and an answer that was lost.
        #expect(PortGuesses.between(1_102, 1_100, step: 1).contains(1_101))
        #expect(PortGuesses.between(1_100, nil, step: 1).first == 1_101)
        #expect(PortGuesses.between(nil, 1_102, step: 1).first == 1_101)
        // The count has begun anew.
        let wrapped = PortGuesses.between(65_535, 1_025, step: 1)
        #expect(wrapped.contains(1_024) && wrapped.count <= PunchLimits.guesses)
        #expect(PortGuesses.between(nil, nil, step: 1).isEmpty && PortGuesses.between(1_100, 1_102, step: 0).isEmpty)
        for step in [1, -1, 7, -4, Int(Int8.max), Int(Int8.min)] {
            for (before, behind) in [(0, 65_535), (65_535, 0), (0, 0), (1_024, 65_535)] as [(UInt16, UInt16)] {
                let list = PortGuesses.between(before, behind, step: step)
                #expect(list.count <= PunchLimits.guesses && list.allSatisfy { $0 >= 1_024 })
            }
        }
    }

    @Test func eachPortOfARangeIsTriedOnceAndWhatLiesBesideItAfterwards() {
        var guesses = PortGuesses(20_000...20_511, margin: 1_024, seed: 7)
        let inside = (0..<512).compactMap { _ in guesses.take() }
        #expect(Set(inside) == Set(20_000...20_511) && inside != Array(20_000...20_511))
        var beside: [UInt16] = []
        while let port = guesses.take() { beside.append(port) }
        #expect(beside.count == 2_048 && Set(beside) == Set(18_976...19_999).union(20_512...21_535))
        var all = PortGuesses(0...65_535, margin: 0, seed: 0)
        var seen: Set<UInt16> = []
        while let port = all.take() { seen.insert(port) }
        #expect(seen.count == 64_512 && seen.min() == 1_024)
        var top = PortGuesses(65_000...65_535, margin: 1_024, seed: 1)
        while let port = top.take() { #expect(port >= 63_976) }
    }
}
