import Lab
import STUN
import Testing

/// Mapping and filtering, each of the nine pairs by an exchange of packets (RFC 4787 sections 4.1 and 5).
@Suite struct MappingTests {
    typealias Dependence = NATBehavior.Dependence

    @Test(arguments: Dependence.allCases, Dependence.allCases)
    func aMappingDependsOnWhatItSays(mapping: Dependence, filtering: Dependence) throws {
        let yard = Yard(NATBehavior(mapping: mapping, filtering: filtering, allocation: .random))
        let socket = try #require(yard.inner.udp(port: 5_000))
        let seen = try yard.mapped(socket, by: yard.farSockets())
        let again = try #require(yard.inner.udp(port: 5_001))
        #expect(seen.allSatisfy { $0.address == yard.router.publicAddress })
        #expect((seen[0] == seen[1]) == (mapping != .addressAndPortDependent))
        #expect((seen[0] == seen[2]) == (mapping == .endpointIndependent))
        #expect(seen[1] != seen[2] || mapping == .endpointIndependent)
        #expect(again.local() != socket.local())
        #expect(yard.router.mappingCount == [.endpointIndependent: 1, .addressDependent: 2][mapping, default: 3])
    }

    @Test(arguments: Dependence.allCases, Dependence.allCases)
    func aFilterAdmitsWhatItSays(mapping: Dependence, filtering: Dependence) throws {
        let yard = Yard(NATBehavior(mapping: mapping, filtering: filtering, allocation: .random))
        let socket = try #require(yard.inner.udp(port: 5_000))
        let sockets = try yard.farSockets()
        let outside = try yard.mapped(socket, by: [sockets[0]])[0]
        for (sender, text) in zip(sockets, ["same", "other port", "other address"]) { sender.send(text, to: outside) }
        try yard.internet.run(seconds: 1)
        let admitted = [
            .endpointIndependent: ["same", "other port", "other address"], .addressDependent: ["same", "other port"],
        ][filtering, default: ["same"]]
        #expect(socket.takeTexts() == admitted)
        #expect(yard.internet.log.dropped(.filtered) == UInt64(3 - admitted.count))
    }

    @Test func theFilterOpensForAnotherOnceItIsSentTo() throws {
        let yard = Yard(.portRestricted)
        let socket = try #require(yard.inner.udp(port: 5_000))
        let sockets = try yard.farSockets()
        let outside = try yard.mapped(socket, by: sockets)
        #expect(Set(outside.map(\.port)) == [5_000])
        for sender in sockets { sender.send("in", to: outside[0]) }
        try yard.internet.run(seconds: 1)
        #expect(socket.takeTexts().count == 3)
    }

    @Test func anAddressWithoutMappingReachesNobody() throws {
        let yard = Yard(.fullCone)
        let socket = try #require(yard.inner.udp(port: 5_000))
        let far = try #require(yard.far.udp(port: 1_000))
        far.send("hello", to: Endpoint(yard.router.publicAddress, 5_000))
        try yard.internet.run(seconds: 1)
        #expect(socket.inbox.isEmpty)
        #expect(yard.internet.log.dropped(.unmapped) == 1)
        #expect(yard.internet.log.sent == 1, "a NAT that drops answers nothing")
    }

    @Test func aNATThatRejectsAnswersByICMP() throws {
        let yard = Yard(NATBehavior.portRestricted.with { $0.unsolicitedUDP = .reject })
        let far = try #require(yard.far.udp(port: 1_000))
        var problems: [Problem] = []
        far.onProblem = { problems.append($0) }
        let target = Endpoint(yard.router.publicAddress, 5_000)
        far.send("hello", to: target)
        try yard.internet.run(seconds: 1)
        #expect(problems.map(\.kind) == [.portUnreachable])
        #expect(problems.first?.destination == target)
    }

    // MARK: Lifetime

    @Test func aMappingEndsWhenItsLifetimeHasPassedWithoutAPacketFromInside() throws {
        let yard = Yard(NATBehavior.fullCone.with { $0.udpLifetimeSeconds = 30 })
        let socket = try #require(yard.inner.udp(port: 5_000))
        let far = try yard.farSockets()[0]
        let outside = try yard.mapped(socket, by: [far])[0]
        try yard.internet.run(seconds: 29)
        far.send("in time", to: outside)
        try yard.internet.run(seconds: 0.5)
        #expect(socket.takeTexts() == ["in time"])
        // What comes in does not keep it (RFC 4787 REQ-6).
        try yard.internet.run(seconds: 1)
        far.send("too late", to: outside)
        try yard.internet.run(seconds: 1)
        #expect(socket.takeTexts() == [])
        #expect(yard.router.mappingCount == 0)
    }

    @Test func aPacketFromInsideRenewsTheLifetime() throws {
        let yard = Yard(NATBehavior.portRestricted.with { $0.udpLifetimeSeconds = 30 })
        let socket = try #require(yard.inner.udp(port: 5_000))
        let far = try yard.farSockets()[0]
        let outside = try yard.mapped(socket, by: [far])[0]
        for _ in 0..<5 {
            try yard.internet.run(seconds: 25)
            socket.send("keep-alive", to: try #require(far.local()))
        }
        try yard.internet.run(seconds: 25)
        far.send("still there", to: outside)
        try yard.internet.run(seconds: 1)
        #expect(socket.takeTexts() == ["still there"])
        #expect(Set(far.inbox.map(\.from)) == [outside])
    }

    @Test func whereBothDirectionsRefreshWhatComesInKeepsTheMapping() throws {
        let yard = Yard(
            NATBehavior.portRestricted.with {
                $0.udpLifetimeSeconds = 30
                $0.refresh = .both
            }
        )
        let socket = try #require(yard.inner.udp(port: 5_000))
        let sockets = try yard.farSockets()
        let outside = try yard.mapped(socket, by: [sockets[0]])[0]
        for _ in 0..<4 {
            try yard.internet.run(seconds: 25)
            sockets[0].send("in", to: outside)
            // What is filtered refreshes nothing and opens nothing.
            sockets[1].send("stranger", to: outside)
        }
        try yard.internet.run(seconds: 1)
        #expect(socket.takeTexts() == ["in", "in", "in", "in"])
    }

    @Test func aFilterLapsesForOneThatIsSpokenWithNoLonger() throws {
        let yard = Yard(NATBehavior.portRestricted.with { $0.udpLifetimeSeconds = 30 })
        let socket = try #require(yard.inner.udp(port: 5_000))
        let sockets = try yard.farSockets()
        let outside = try yard.mapped(socket, by: sockets)
        try yard.internet.run(seconds: 20)
        socket.send("again", to: try #require(sockets[0].local()))
        try yard.internet.run(seconds: 20)
        for sender in sockets { sender.send("in", to: outside[0]) }
        try yard.internet.run(seconds: 1)
        #expect(socket.inbox.map(\.from) == [sockets[0].local()])
    }

    // MARK: Changes

    @Test func aRebootForgetsEverythingAndARenumberedNATHasAnotherAddress() throws {
        let yard = Yard(.portRestricted)
        let socket = try #require(yard.inner.udp(port: 5_000))
        let far = try yard.farSockets()[0]
        let before = try yard.mapped(socket, by: [far])[0]
        yard.router.reboot()
        far.send("lost", to: before)
        try yard.internet.run(seconds: 1)
        #expect(socket.inbox.isEmpty)
        let old = yard.router.publicAddress
        yard.router.renumber()
        #expect(yard.router.publicAddress != old)
        let after = try yard.mapped(socket, by: [far])[0]
        #expect(after.address == yard.router.publicAddress)
        far.send("to nobody", to: before)
        far.send("back", to: after)
        try yard.internet.run(seconds: 1)
        #expect(socket.takeTexts() == ["back"])
        #expect(yard.internet.log.dropped(.noRoute) == 1)
    }

    @Test func anInnerHostsComplaintReachesTheOneItIsAbout() throws {
        let yard = Yard(.fullCone)
        let socket = try #require(yard.inner.udp(port: 5_000))
        let far = try yard.farSockets()[0]
        let outside = try yard.mapped(socket, by: [far])[0]
        socket.close()
        var problems: [Problem] = []
        far.onProblem = { problems.append($0) }
        far.send("to a closed socket", to: outside)
        try yard.internet.run(seconds: 1)
        #expect(problems.map(\.destination) == [outside], "the complaint must name the external endpoint")
    }

    @Test func aComplaintFromOutsideReachesTheInnerSocket() throws {
        let yard = Yard(.portRestricted)
        let socket = try #require(yard.inner.udp(port: 5_000))
        var problems: [Problem] = []
        socket.onProblem = { problems.append($0) }
        let closed = Endpoint("20.1.0.9", 777)
        socket.send("anybody?", to: closed)
        try yard.internet.run(seconds: 1)
        #expect(problems.map(\.destination) == [closed])
        #expect(problems.map(\.source) == [socket.local()])
    }
}
