import STUN
import TestSupport
import Testing

@testable import Traversal

struct PortMappingTests {
    private let outside = MappingWorld.outside

    @Test func pcpMapsAPortAtOnce() throws {
        var world = try MappingWorld(speaking: [.pcp, .natPMP, .upnp])
        world.map()
        world.run(seconds: 0.005)
        #expect(
            world.granted == [
                PortMapping(
                    port: InternalPort(.udp, 40_000),
                    external: Endpoint(address: outside, port: 40_000),
                    by: .pcp,
                    lifetimeSeconds: 7_200
                )
            ]
        )
        world.run(seconds: 3)
        let report = world.mapper.report
        #expect((report.pcp, report.natPMP, report.upnp) == (.available, .available, .available))
        #expect(report.externalAddress == outside && report.isSettled)
        // UPnP was looked for, and had nothing to map.
        #expect(world.device?.leases.isEmpty == true)
    }

    @Test func aGatewayOfNATPMPAloneIsUsedAsSoonAsItSaysSo() throws {
        var world = try MappingWorld(speaking: [.natPMP])
        world.map()
        world.run(seconds: 0.01)
        #expect(world.mapping?.by == .natPMP)
        #expect(world.mapping?.external == Endpoint(address: outside, port: 40_000))
        #expect(world.mapper.report.pcp == .refused(.unsupportedVersion))
    }

    @Test func aGatewayOfNATPMPAloneThatIgnoresPCPIsUsedAfterAQuarterOfASecond() throws {
        var world = try MappingWorld(speaking: [])
        world.map()
        world.run(seconds: 0.005)
        #expect(world.mapping == nil)
        // It begins to answer NAT-PMP, and says nothing to version 2.
        world.inject([0, 128, 0, 0, 0, 0, 0, 9, 198, 51, 100, 7])
        world.gateway.speaksNATPMP = true
        world.run(seconds: 0.3)
        #expect(world.mapping?.by == .natPMP)
    }

    @Test func requestsAreRepeatedAtDoublingTimesUntilTheyAreGivenUp() throws {
        var world = try MappingWorld(speaking: [])
        world.map()
        world.run(seconds: 200)
        let maps = world.sent.filter { $0.bytes.first == 2 }.map(\.milliseconds)
        #expect(maps == [0, 250, 750, 1_750, 3_750, 7_750, 15_750, 31_750, 63_750])
        let report = world.mapper.report
        #expect((report.pcp, report.natPMP, report.upnp) == (.silent, .silent, .silent))
        #expect(report.isSettled && world.granted.isEmpty)
    }

    @Test func anAnswerThatWasLostIsAskedForAgain() throws {
        var world = try MappingWorld(speaking: [.pcp])
        world.isCut = true
        world.map()
        world.run(seconds: 0.6)
        world.isCut = false
        world.run(seconds: 0.2)
        #expect(world.mapping?.by == .pcp)
        // The gateway has one mapping, however often it was asked.
        #expect(world.gateway.mappings.count == 1)
    }

    @Test(arguments: [PortMappingProtocol.pcp, .natPMP])
    func aMappingIsRenewedAtHalfItsLifetime(_ by: PortMappingProtocol) throws {
        var world = try MappingWorld(speaking: [by])
        world.gateway.longestLifetimeSeconds = 120
        world.map()
        world.run(seconds: 1)
        let asked = world.gateway.requests.count { $0.hasSuffix("map") }
        world.run(seconds: 58)
        #expect(world.gateway.requests.count { $0.hasSuffix("map") } == asked)
        world.run(seconds: 18)
        #expect(world.gateway.requests.count { $0.hasSuffix("map") } == asked + 1)
        world.run(seconds: 3_600)
        #expect(world.gateway.mappings.count == 1 && world.lost.isEmpty && world.granted.count == 1)
    }

    @Test func aMappingThatCannotBeRenewedIsLostAtItsEndAndComesBack() throws {
        var world = try MappingWorld(speaking: [.pcp])
        world.gateway.longestLifetimeSeconds = 120
        world.map()
        world.run(seconds: 1)
        world.isCut = true
        world.run(seconds: 118)
        #expect(world.lost.isEmpty)
        world.run(seconds: 2)
        #expect(world.lost == [InternalPort(.udp, 40_000)])
        #expect(world.mapper.report.mappings.isEmpty)
        world.isCut = false
        world.run(seconds: 64)
        #expect(world.granted.count == 2)
    }

    @Test(arguments: [PortMappingProtocol.pcp, .natPMP])
    func aGatewayThatAnnouncesItsStartIsAskedAnewWithinFiveSeconds(_ by: PortMappingProtocol) throws {
        var world = try MappingWorld(speaking: [by])
        world.map()
        world.run(seconds: 30)
        world.reboot(announcing: true)
        #expect(world.gateway.mappings.isEmpty)
        world.run(seconds: 5.1)
        #expect(world.gateway.mappings.count == 1)
    }

    @Test func anAnnouncementByTheOtherProtocolIsLookedInto() throws {
        var world = try MappingWorld(speaking: [.natPMP])
        world.map()
        world.run(seconds: 30)
        world.reboot(announcing: false)
        // PCP's alone, as miniupnpd sends it.
        world.inject([2, 128, 0, 0] + [UInt8](repeating: 0, count: 20), isAnnouncement: true)
        world.run(seconds: 5.1)
        #expect(world.gateway.mappings.count == 1)
    }

    @Test(arguments: [PortMappingProtocol.pcp, .natPMP])
    func aGatewayThatStartsAnewInSilenceIsFoundByItsEpoch(_ by: PortMappingProtocol) throws {
        var world = try MappingWorld(speaking: [by])
        world.map()
        world.run(seconds: 300)
        world.reboot(announcing: false)
        world.run(seconds: 61)
        #expect(world.gateway.mappings.count == 1)
        // A path that was lost asks at once.
        world.run(seconds: 100)
        world.reboot(announcing: false)
        world.run(seconds: 1)
        world.verify()
        world.run(seconds: 0.1)
        #expect(world.gateway.mappings.count == 1 && world.lost.isEmpty)
    }

    /// - Parameter answers: an epoch, and when it came, in seconds.
    private func starts(_ by: PortMappingProtocol, _ answers: [(UInt32, UInt64)]) -> [Bool] {
        var epoch = GatewayEpoch()
        return answers.map { epoch.note($0.0, by: by, now: $0.1 * seconds) }
    }

    @Test func epochsThatRunAsClocksDoAreNoStart() {
        // A sixteenth and two seconds off, and one back (RFC 6887 section 8.5).
        #expect(starts(.pcp, [(1_000, 0), (1_108, 100), (1_107, 101)]) == [false, false, false])
        #expect(starts(.pcp, [(1_000, 0), (1_020, 100), (1_220, 200)]) == [false, true, true])
        #expect(starts(.pcp, [(1_000, 0), (0, 1)]) == [false, true])
        // Seven eighths less two seconds (RFC 6886 section 3.6).
        #expect(starts(.natPMP, [(1_000, 0), (1_086, 100), (1_100, 200)]) == [false, false, true])
    }

    @Test func aHailOfAnnouncementsCostsARoundInTenSeconds() throws {
        var world = try MappingWorld(speaking: [.pcp])
        world.map()
        world.run(seconds: 30)
        let before = world.sent.count
        for round in 0..<1_000 {
            var bytes = [UInt8](repeating: 0, count: 24)
            (bytes[0], bytes[1], bytes[11]) = (2, 128, UInt8(round % 2) * 100)
            world.inject(bytes, isAnnouncement: true)
            world.run(seconds: 0.02)
        }
        #expect(world.sent.count - before <= 8)
    }

    @Test func answersThatNobodyAskedForAreNotBelieved() throws {
        var world = try MappingWorld(speaking: [])
        world.map()
        world.run(seconds: 0.01)
        let request = try #require(world.sent.first { $0.bytes.count == 60 }?.bytes)
        var answer: [UInt8] = [2, 129, 0, 0, 0, 0, 14, 16, 0, 0, 0, 5] + [UInt8](repeating: 0, count: 12)
        answer += request[24..<42] + [156, 65] + [UInt8](repeating: 0, count: 10) + [255, 255, 198, 51, 100, 9]
        // From elsewhere, with another nonce, for another port, another transport; cut, and not of whole words.
        world.inject(answer, from: Endpoint(address: IPAddress("192.168.1.9"), port: 5_351))
        world.inject(answer, from: Endpoint(address: MappingWorld.gateway, port: 5_352))
        for place in [24, 36, 41] {
            var other = answer
            other[place] ^= 1
            world.inject(other)
        }
        world.inject(Array(answer.dropLast()))
        world.inject(Array(answer.dropLast(4)))
        world.inject(answer + [UInt8](repeating: 0, count: 1_100))
        world.inject(answer, isAnnouncement: true)
        #expect(world.granted.isEmpty)
        world.inject(answer)
        #expect(world.granted.map(\.external) == [Endpoint(address: IPAddress("198.51.100.9"), port: 40_001)])
    }

    @Test func refusalsHaveNamesAndAreTriedAgainWhenTheGatewaySays() throws {
        var world = try MappingWorld(speaking: [.pcp])
        world.gateway.refusal = 8
        world.map()
        world.run(seconds: 1)
        #expect(world.mapper.report.pcp == .refused(.noResources))
        world.gateway.refusal = 0
        world.run(seconds: 28)
        #expect(world.mapping == nil)
        world.run(seconds: 2)
        #expect(world.mapping != nil && world.mapper.report.pcp == .available)
    }

    @Test func anotherNATBetweenIsTold() throws {
        var world = try MappingWorld(speaking: [.pcp])
        world.gateway.refusal = 12
        world.map()
        world.run(seconds: 1)
        guard case .refused(let failure) = world.mapper.report.pcp else {
            Issue.record("\(world.mapper.report)")
            return
        }
        #expect(failure.words.contains("another NAT"))
        #expect(
            PortMapping(
                port: InternalPort(.udp, 1),
                external: Endpoint("100.64.3.4", 1),
                by: .pcp,
                lifetimeSeconds: 1
            ).isBehindAnotherNAT
        )
    }

    @Test func aPortThatIsTakenIsMappedToAnother() throws {
        var world = try MappingWorld(speaking: [.pcp])
        world.gateway.taken = [40_000, 40_001]
        world.map()
        world.run(seconds: 0.1)
        #expect(world.mapping?.external.port == 40_002)
    }

    @Test func udpAndTCPOfOnePortAreTwoMappings() throws {
        var world = try MappingWorld(speaking: [.natPMP])
        world.map(40_000, .udp)
        world.map(40_000, .tcp)
        world.run(seconds: 1)
        #expect(Set(world.granted.map(\.port.transport)) == [.udp, .tcp])
        #expect(Set(world.gateway.mappings.map(\.transport)) == [17, 6])
    }

    @Test(arguments: [PortMappingProtocol.pcp, .natPMP, .upnp])
    func whatIsMappedIsGivenBack(_ by: PortMappingProtocol) throws {
        var world = try MappingWorld(speaking: [by])
        world.map()
        world.run(seconds: 2)
        #expect(world.mapping?.by == by)
        world.release()
        world.run(seconds: 0.02)
        #expect(world.isReleased && world.gateway.mappings.isEmpty)
        #expect(world.device?.leases.isEmpty ?? true)
        let sent = world.sent.count
        world.run(seconds: 8_000)
        #expect(world.sent.count == sent && world.mapper.nextDeadline == nil)
    }

    @Test func nobodyWaitsLongForAGatewayThatIsGone() throws {
        var world = try MappingWorld(speaking: [.pcp])
        world.map()
        world.run(seconds: 2)
        world.isCut = true
        let before = world.sent.count
        let began = world.now
        world.release()
        world.run(seconds: 2)
        #expect(world.isReleased && world.releasedAt - began <= seconds)
        #expect(world.sent.count - before == 3)
    }

    @Test func nobodyWaitsForAGatewayThatNeverAnswered() throws {
        var world = try MappingWorld(speaking: [])
        world.map()
        world.run(seconds: 2)
        world.release()
        #expect(world.isReleased)
    }
}
