import Testing

@testable import TurnpikeClient

@Suite struct StrategyTests {
    private static let kinds: [NATType] = [.open, .fullCone, .restricted, .portRestricted, .symmetric]

    /// The table of NAT pairs: D is direct, P a punch, R a relay.
    private static let table = ["DDDDD", "DPPPP", "DPPPP", "DPPPR", "DPPRR"]

    @Test func everyPairOfNATsHasItsMethodInBothDirections() {
        for (row, local) in Self.kinds.enumerated() {
            for (column, remote) in Self.kinds.enumerated() {
                let mark = Array(Self.table[row])[column]
                let method: ConnectionMethod = mark == "D" ? .direct : mark == "P" ? .udpHolePunch : .turnRelay
                let strategy = Strategy(for: local, and: remote)
                #expect(strategy.method == method, "\(local) and \(remote)")
                #expect(strategy.requiresTurn == (method == .turnRelay), "\(local) and \(remote)")
            }
        }
    }

    /// What is guessed, as `PunchPlan` has it: the NAT's ports have to be known, and one side's address to be the same
    /// for everybody, or both to count.
    @Test func aPortThatCanBeGuessedIsPunched() {
        let home = NetworkFacts(type: .portRestricted)
        for ports in [NetworkFacts.Ports.sequential, .preserving, .chunked, .random] {
            let symmetric = NetworkFacts(type: .symmetric, ports: ports)
            for strategy in [Strategy(for: symmetric, and: home), Strategy(for: home, and: symmetric)] {
                #expect(strategy.method == .udpHolePunch && strategy.requiresTurn, "\(ports)")
                #expect(strategy.description.contains("guessing"), "\(strategy.description)")
            }
            let alone = Strategy(for: symmetric)
            #expect(alone.method == (ports == .random ? .turnRelay : .udpHolePunch) && alone.requiresTurn, "\(ports)")
            #expect(alone.description.contains("guessing"), "\(alone.description)")
            for other in [NetworkFacts.Ports.sequential, .preserving, .chunked, .random] {
                let strategy = Strategy(for: symmetric, and: NetworkFacts(type: .symmetric, ports: other))
                let isGuessed = ports == .sequential && other == .sequential
                #expect(strategy.method == (isGuessed ? .udpHolePunch : .turnRelay), "\(ports) and \(other)")
            }
            #expect(Strategy(for: symmetric, guesses: false).method == .turnRelay)
            #expect(Strategy(for: home, and: symmetric, guesses: false).method == .turnRelay)
        }
        var firewalled = NetworkFacts(type: .open)
        firewalled.isFirewalled = true
        let counting = NetworkFacts(type: .symmetric, ports: .sequential)
        #expect(Strategy(for: firewalled, and: counting).method == .udpHolePunch)
    }

    @Test(arguments: NATType.allCases)
    func withoutUDPOnOneSideThereIsARelay(other: NATType) {
        #expect(Strategy(for: .blocked, and: other).method == .turnRelay)
        #expect(Strategy(for: other, and: .blocked).requiresTurn)
    }

    @Test func aloneItIsAgainstTheUsualHomeRouter() {
        for kind in Self.kinds {
            #expect(Strategy(for: kind).method == Strategy(for: kind, and: .portRestricted).method)
        }
        #expect(Strategy(for: .unknown).requiresTurn)
    }

    @Test func methodsAreCalledAsInTheOriginal() {
        let names = ConnectionMethod.allCases.map(\.rawValue)
        #expect(names == ["direct", "udp-hole-punch", "tcp-hole-punch", "turn-relay"])
        #expect(Self.kinds.map(\.rawValue) == ["Open", "Full Cone", "Restricted", "Port-Restricted", "Symmetric"])
    }
}

@Suite struct StatisticsTests {
    @Test func ratesAreThoseOfTheOriginalsExample() {
        var counts = AttemptCounts()
        (counts.succeeded, counts.failed, counts.punched) = (10, 2, 10)
        let statistics = counts.statistics(registered: 5, active: 3, uptimeSeconds: 3_600)
        #expect(statistics.totalConnections == 12)
        #expect(statistics.performance.successRate == "83.33")
        #expect(statistics.performance.failureRate == "16.67")
    }

    @Test func withoutAttemptsThereAreNoRates() {
        let performance = AttemptCounts().statistics(registered: 0, active: 0, uptimeSeconds: 0).performance
        #expect(performance.successRate == "0.00" && performance.failureRate == "0.00")
    }

    @Test func aSmallShareKeepsItsZeros() {
        var counts = AttemptCounts()
        (counts.succeeded, counts.failed) = (1, 1_999)
        #expect(counts.statistics(registered: 0, active: 0, uptimeSeconds: 0).performance.successRate == "0.05")
    }
}
