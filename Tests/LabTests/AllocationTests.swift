import Lab
import STUN
import Testing

/// Which external port and address a NAT gives (RFC 4787 sections 4.1 and 4.2), and hairpins (section 6).
@Suite struct AllocationTests {
    private func ports(_ yard: Yard, inner ports: some Sequence<UInt16>, from host: Host? = nil) throws -> [UInt16] {
        let far = try #require(yard.other.udp(port: 1_000))
        defer { far.close() }
        return try ports.map { port in
            try yard.mapped(port, of: host, by: far).port
        }
    }

    @Test func aPreservingNATKeepsThePortUnlessItIsTaken() throws {
        let yard = Yard(.portRestricted)
        #expect(try ports(yard, inner: [5_000, 6_000, 7_000]) == [5_000, 6_000, 7_000])
        let second = try ports(yard, inner: [5_000, 8_000], from: yard.neighbour)
        #expect(second[0] != 5_000 && second[1] == 8_000)
    }

    @Test func anOverloadingNATGivesThePortTwiceAndTellsTheTwoApartByTheOtherEnd() throws {
        let yard = Yard(NATBehavior.portRestricted.with { $0.overloading = .always })
        let sockets = try yard.farSockets()
        let one = try #require(yard.inner.udp(port: 5_000))
        let two = try #require(yard.neighbour.udp(port: 5_000))
        let seen = try yard.mapped(one, by: [sockets[0]]) + yard.mapped(two, by: [sockets[1]])
        #expect(seen.map(\.port) == [5_000, 5_000])
        sockets[0].send("for one", to: seen[0])
        sockets[1].send("for two", to: seen[1])
        try yard.internet.run(seconds: 1)
        #expect(one.takeTexts() == ["for one"])
        #expect(two.takeTexts() == ["for two"])
    }

    @Test func linuxIsEndpointIndependentUntilTwoWantOnePortForOneDestination() throws {
        let yard = Yard(.linux)
        let sockets = try yard.farSockets()
        let one = try #require(yard.inner.udp(port: 5_000))
        let two = try #require(yard.neighbour.udp(port: 5_000))
        let first = try yard.mapped(one, by: Array(sockets[..<2]))
        let second = try yard.mapped(two, by: sockets)
        #expect(first.map(\.port) == [5_000, 5_000])
        #expect(second[0].port != 5_000 && second[1].port != 5_000 && second[2].port == 5_000)
        for (index, sender) in sockets.enumerated() { sender.send("\(index)", to: second[index]) }
        sockets[0].send("for one", to: first[0])
        try yard.internet.run(seconds: 1)
        #expect(one.takeTexts() == ["for one"])
        #expect(two.takeTexts() == ["0", "1", "2"])
    }

    /// What punching has to live with behind a router whose own firewall takes unsolicited packets in.
    @Test(arguments: [false, true])
    func aRememberedStrangerCostsTheInnerHostItsPort(remembers: Bool) throws {
        let yard = Yard(NATBehavior.linux.with { $0.remembersUnsolicited = remembers })
        let sockets = try yard.farSockets()
        let target = Endpoint(yard.router.publicAddress, 5_000)
        sockets[0].send("too early", to: target)
        try yard.internet.run(seconds: 1)
        let socket = try #require(yard.inner.udp(port: 5_000))
        let seen = try yard.mapped(socket, by: sockets)
        #expect((seen[0] == target) == !remembers)
        #expect(seen[1] == target && seen[2] == target, "the others never knocked")
        // It is forgotten after half a minute.
        sockets[0].send("again", to: Endpoint(yard.router.publicAddress, 6_000))
        try yard.internet.run(seconds: 31)
        #expect(try yard.mapped(6_000, by: sockets[0]).port == 6_000)
    }

    @Test(arguments: [1, 2, -3])
    func aSequentialNATGoesByItsStep(step: Int) throws {
        let yard = Yard(NATBehavior.symmetric.with { $0.allocation = .sequential(step: step) })
        let given = try ports(yard, inner: 5_000..<5_020).map(Int.init)
        for (one, next) in zip(given, given.dropFirst()) { #expect(next - one == step) }
    }

    @Test func aSequentialNATSkipsWhatIsTakenAndBeginsAnewAtTheEnd() throws {
        let yard = Yard(
            NATBehavior.symmetric.with {
                $0.allocation = .sequential(step: 1)
                $0.ports = 2_000...2_004
            }
        )
        let given = try ports(yard, inner: 5_000..<5_005)
        #expect(Set(given) == Set(2_000...2_004))
        // There is no sixth.
        let sixth = try #require(yard.inner.udp(port: 5_005))
        sixth.send("none left", to: Endpoint("20.1.0.9", 1_000))
        try yard.internet.run(seconds: 1)
        #expect(yard.internet.log.dropped(.portsExhausted) == 1)
        // After the lifetime all are free again.
        try yard.internet.run(seconds: 121)
        #expect(try ports(yard, inner: 6_000..<6_005).count == 5)
    }

    @Test func othersBehindASequentialNATUsePortsUpMeanwhile() throws {
        let yard = Yard(
            NATBehavior.symmetric.with {
                $0.allocation = .sequential(step: 1)
                $0.backgroundFlowsPerSecond = 20
            }
        )
        let far = try #require(yard.other.udp(port: 1_000))
        let first = try yard.mapped(by: far).port
        try yard.internet.run(seconds: 99.8)
        let second = try yard.mapped(by: far).port
        let distance = (Int(second) - Int(first) + 64_512) % 64_512
        // 2,000 on average, with a deviation of 45.
        #expect((1_800...2_200).contains(distance))
    }

    @Test func aRandomNATHasNoOrder() throws {
        let yard = Yard(.symmetric)
        let given = try ports(yard, inner: 5_000..<5_200)
        #expect(Set(given).count == 200)
        #expect(given.allSatisfy { $0 >= 1_024 })
        let low = given.count { $0 < 33_280 }
        #expect((60...140).contains(low), "half of them should lie in either half of the range")
    }

    @Test func aChunkedNATKeepsEachSubscriberInABlockOfItsOwn() throws {
        let yard = Yard(NATBehavior.symmetric.with { $0.allocation = .chunked(ports: 64) })
        let one = try ports(yard, inner: 5_000..<5_064)
        let two = try ports(yard, inner: 5_000..<5_064, from: yard.neighbour)
        func block(_ ports: [UInt16]) -> Set<Int> { Set(ports.map { (Int($0) - 1_024) / 64 }) }
        #expect(block(one).count == 1 && block(two).count == 1 && block(one) != block(two))
        #expect(Set(one).count == 64 && Set(two).count == 64)
        let more = try #require(yard.inner.udp(port: 6_000))
        more.send("one too many", to: Endpoint("20.1.0.9", 1_000))
        try yard.internet.run(seconds: 1)
        #expect(yard.internet.log.dropped(.portsExhausted) == 1)
    }

    @Test func pairedPoolingKeepsAHostAtOneAddressAndArbitraryPoolingDoesNot() throws {
        for pooling in [NATBehavior.Pooling.paired, .arbitrary] {
            let yard = Yard(
                NATBehavior.portRestricted.with {
                    $0.publicAddressCount = 4
                    $0.pooling = pooling
                }
            )
            #expect(yard.router.publicAddresses.count == 4)
            let far = try #require(yard.other.udp(port: 1_000))
            let seen = try (0..<20).map { _ in
                try yard.mapped(by: far).address
            }
            #expect(seen.allSatisfy(yard.router.publicAddresses.contains))
            #expect((Set(seen).count == 1) == (pooling == .paired))
        }
    }

    // MARK: Hairpins

    @Test(arguments: [
        NATBehavior.Hairpinning.none, .externalSource, .internalSource,
    ])
    func aHairpinComesFromWhereItSays(hairpinning: NATBehavior.Hairpinning) throws {
        let yard = Yard(NATBehavior.fullCone.with { $0.hairpinning = hairpinning })
        let far = try yard.farSockets()[0]
        let one = try #require(yard.inner.udp(port: 5_000))
        let two = try #require(yard.neighbour.udp(port: 6_000))
        let (outsideOne, outsideTwo) = (try yard.mapped(one, by: [far])[0], try yard.mapped(two, by: [far])[0])
        one.send("by the outside", to: outsideTwo)
        try yard.internet.run(seconds: 1)
        switch hairpinning {
        case .none:
            #expect(two.inbox.isEmpty)
            #expect(yard.internet.log.dropped(.hairpin) == 1)
        case .externalSource: #expect(two.inbox.map(\.from) == [outsideOne])
        case .internalSource: #expect(two.inbox.map(\.from) == [one.local()])
        }
    }

    @Test func aHairpinIsFilteredAsWhatComesFromOutside() throws {
        let yard = Yard(NATBehavior.portRestricted.with { $0.hairpinning = .externalSource })
        let far = try yard.farSockets()[0]
        let one = try #require(yard.inner.udp(port: 5_000))
        let two = try #require(yard.neighbour.udp(port: 6_000))
        let (outsideOne, outsideTwo) = (try yard.mapped(one, by: [far])[0], try yard.mapped(two, by: [far])[0])
        one.send("first", to: outsideTwo)
        try yard.internet.run(seconds: 1)
        #expect(two.inbox.isEmpty)
        two.send("opens", to: outsideOne)
        one.send("second", to: outsideTwo)
        try yard.internet.run(seconds: 1)
        #expect(two.takeTexts() == ["second"])
        #expect(one.takeTexts() == ["opens"])
    }
}
