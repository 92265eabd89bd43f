import STUN
import TURN
import Testing

/// AL: making allocations, keeping them, and what they cost.
@Suite struct AllocationTests {
    private func dualLab(_ configure: (inout Configuration) -> Void = { _ in }) throws -> Lab {
        let relays = FakeRelays()
        relays.addresses[.ipv6] = FakeRelays.Address(inside: IPAddress("2600:1::5"), advertised: IPAddress("2600:1::5"))
        return try Lab(relays: relays, configure)
    }

    @Test func anAllocationIsToldAsTheSpecificationSays() throws {
        let lab = try Lab()
        let client = lab.client()
        let answer = try #require(client.allocate())
        let relay = try #require(client.relay())
        #expect(answer.types == [.xorRelayedAddress, .lifetime, .xorMappedAddress, .messageIntegrity])
        #expect(answer.endpoints(.xorRelayedAddress) == [relay.advertised])
        #expect(answer.endpoints(.xorMappedAddress) == [client.tuple.client])
        let listener = lab.engine.client(of: lab.engine.allocation(of: client.tuple)).listener
        #expect(listener == 3)
        #expect(lab.relays.requests[0].clientSide == client.tuple.server.address)
    }

    @Test func al01_aSecondAllocateIs437AndTheSameOneIsAnsweredAlike() throws {
        let lab = try Lab()
        let client = lab.client()
        let transaction = client.newTransaction()
        let first = try #require(client.allocate(transaction: transaction))
        #expect(client.allocate()?.error == 437)
        #expect(client.allocate(transaction: transaction) == first)
        #expect(lab.engine.allocationCount == 1)
        #expect(lab.engine.counters.allocationsMade == 1)
        #expect(lab.shared.quota.total == 1)
    }

    @Test func al02_onlyUdpIsRelayed() throws {
        let client = try Lab().client()
        func error(_ transport: [UInt8]?) -> UInt16? {
            client.perform(.allocate) { if let transport { $0.append(.requestedTransport, transport) } }?.error
        }
        #expect(error(nil) == 400)
        #expect(error([6, 0, 0, 0]) == 442)
        #expect(error([0xFF, 0, 0, 0]) == 442)
        #expect(error([17, 0, 0, 0]) == nil)
    }

    @Test(
        arguments: [
            (0, 600), (1, 600), (599, 600), (601, 601), (3_600, 3_600), (3_601, 3_600), (.max, 3_600),
        ] as [(UInt32, UInt32)]
    )
    func al03_lifetimesStayWithinTheirBounds(_ wished: UInt32, _ granted: UInt32) throws {
        let lab = try Lab { $0.nonceLifetimeSeconds = 3_600 }
        let client = lab.client()
        #expect(client.allocate(lifetimeSeconds: wished)?.lifetimeSeconds == granted)
        lab.advance(seconds: UInt64(granted) - 1)
        #expect(lab.engine.allocationCount == 1)
        if wished > 0 { #expect(client.refresh(wished)?.lifetimeSeconds == granted) }
    }

    @Test func al04_refreshZeroFreesThePortAtOnce() throws {
        let lab = try Lab()
        let client = lab.client()
        let peer = Endpoint("8.8.8.8", 1)
        _ = client.allocate()
        let all = lab.relays.ports.count
        #expect(lab.relays.freePorts(.ipv4).count == all - 1)
        #expect(client.refresh(0)?.lifetimeSeconds == 0)
        #expect(lab.relays.freePorts(.ipv4).count == all)
        #expect(lab.relays.timers.isEmpty)
        #expect(client.refresh(600)?.error == 437)
        #expect(client.permit([peer])?.error == 437)
        #expect(client.bind(0x4000, peer)?.error == 437)
        #expect(client.indicate(peer).drop == .noAllocation)
        #expect(client.channelData(0x4000).drop == .noAllocation)
    }

    @Test func al05_aReservedPortIsClaimedOnceAndInTime() throws {
        let lab = try Lab()
        func reserve(_ port: UInt16) throws -> (UInt16, [UInt8]) {
            let answer = try #require(
                lab.client(at: Endpoint("198.51.100.7", port)).allocate { $0.append(.evenPort, [0x80]) }
            )
            let token = try #require(answer.value(.reservationToken))
            #expect(token.count == 8)
            return (try #require(answer.endpoints(.xorRelayedAddress).first).port, token)
        }
        func claim(_ port: UInt16, _ token: [UInt8]) -> Answer? {
            lab.client(at: Endpoint("198.51.100.8", port)).allocate { $0.append(.reservationToken, token) }
        }
        let (port, token) = try reserve(1_024)
        #expect(port % 2 == 0)
        lab.advance(seconds: 29)
        #expect(claim(1_024, token)?.endpoints(.xorRelayedAddress).first?.port == port + 1)
        #expect(claim(1_025, token)?.error == 508)
        #expect(claim(1_026, [1, 2, 3, 4, 5, 6, 7, 8])?.error == 508)
        let (_, late) = try reserve(1_025)
        lab.advance(seconds: 31)
        #expect(claim(1_027, late)?.error == 508)
        // Beside what it excludes (RFC 8656 section 7.2, item 5).
        let (_, unclaimed) = try reserve(1_026)
        let beside: [(AttributeType, [UInt8])] = [
            (.evenPort, [0]), (.requestedAddressFamily, [1, 0, 0, 0]), (.additionalAddressFamily, [2, 0, 0, 0]),
        ]
        for (index, (type, value)) in beside.enumerated() {
            let client = lab.client(at: Endpoint("198.51.100.9", 1_024 + UInt16(index)))
            let answer = client.allocate {
                $0.append(.reservationToken, unclaimed)
                $0.append(type, value)
            }
            #expect(answer?.error == 400)
        }
        #expect(claim(1_028, unclaimed)?.isSuccess == true)
    }

    @Test func al06_familiesThatExcludeEachOtherAre400AndAbsentOnes440() throws {
        let lab = try Lab()
        func error(_ attributes: [(AttributeType, [UInt8])]) -> UInt16? {
            lab.client().allocate { for (type, value) in attributes { $0.append(type, value) } }?.error
        }
        #expect(error([(.requestedAddressFamily, [1, 0, 0, 0]), (.additionalAddressFamily, [2, 0, 0, 0])]) == 400)
        #expect(error([(.requestedAddressFamily, [2, 0, 0, 0])]) == 440)
        #expect(error([(.requestedAddressFamily, [3, 0, 0, 0])]) == 440)
        #expect(error([(.additionalAddressFamily, [1, 0, 0, 0])]) == 400)
        #expect(error([(.evenPort, [0x80]), (.additionalAddressFamily, [2, 0, 0, 0])]) == 400)
        #expect(lab.engine.allocationCount == 0)
        #expect(lab.shared.quota.total == 0)
        #expect(error([(.requestedAddressFamily, [1, 0, 0, 0])]) == nil)
    }

    @Test func al07_evenPortsWithoutReservationLeakNothing() throws {
        let lab = try Lab()
        lab.relays.ports = 50_000...50_099
        let client = lab.client()
        for round in 0..<2_000 {
            let answer = client.allocate { $0.append(.evenPort, [0x00]) }
            guard answer?.isSuccess == true, answer?.value(.reservationToken) == nil,
                (answer?.endpoints(.xorRelayedAddress).first?.port ?? 1) % 2 == 0,
                client.refresh(0)?.isSuccess == true
            else {
                Issue.record("round \(round): \(String(describing: answer))")
                return
            }
        }
        #expect(lab.relays.freePorts(.ipv4).count == 100)
        #expect(lab.shared.quota.total == 0)
    }

    @Test func al08_theNextPortIsHeldHalfAMinuteAndGivenBack() throws {
        let lab = try Lab()
        lab.relays.ports = 50_000...50_001
        let first = lab.client(at: Endpoint("198.51.100.7", 1_024))
        #expect(first.allocate { $0.append(.evenPort, [0x80]) }?.isSuccess == true)
        lab.advance(seconds: 29)
        let second = lab.client(at: Endpoint("198.51.100.7", 1_025))
        #expect(second.allocate()?.error == 508)
        lab.advance(seconds: 2)
        #expect(second.allocate()?.endpoints(.xorRelayedAddress).first?.port == 50_001)
    }

    @Test func al10_quotasHoldAcrossWorkersAndComeBack() throws {
        let shared = Engine.Shared(seed: 1)
        let workers = try (0..<2).map { _ in
            let lab = try Lab(shared: shared) { $0.allocationsTotal = 50 }
            for user in 0..<20 { lab.add(user: "user\(user)", password: "x") }
            return lab
        }
        var clients: [Client] = []
        var errors: [UInt16?] = []
        for index in 0..<200 {
            let client = workers[index % 2].client("user0", at: Endpoint("198.51.100.7", 2_000 + UInt16(index)))
            errors.append(client.allocate()?.error)
            clients.append(client)
        }
        #expect(errors.count { $0 == nil } == 10)
        #expect(errors.count { $0 == 486 } == 190)
        for index in 0..<100 {
            let client = workers[index % 2].client(
                "user\(1 + index / 6)",
                at: Endpoint("198.51.100.8", 2_000 + UInt16(index))
            )
            let error = client.allocate()?.error
            #expect(error == (index < 40 ? nil : 508), "allocation \(index)")
            clients.append(client)
        }
        #expect(shared.quota.total == 50)
        for client in clients { _ = client.refresh(0) }
        #expect(shared.quota.total == 0)
        #expect(shared.quota.held(by: "user0") == 0)
        #expect(workers.allSatisfy { $0.engine.allocationCount == 0 && $0.relays.open.isEmpty })
    }

    @Test func aRefusedAllocateCostsNoQuotaAndNoSlot() throws {
        let lab = try Lab()
        lab.relays.ports = 50_000...50_000
        _ = lab.client(at: Endpoint("198.51.100.7", 1_024)).allocate()
        for port in 1_025..<1_100 as Range<UInt16> {
            #expect(lab.client(at: Endpoint("198.51.100.7", port)).allocate()?.error == 508)
        }
        #expect(lab.shared.quota.held(by: "alice") == 1)
        #expect(lab.engine.allocationCount == 1)
        #expect(lab.relays.madeCount == 1)
    }

    @Test func al13_aRefreshOfAnAbsentFamilyIs443() throws {
        let client = try Lab().client()
        _ = client.allocate()
        #expect(client.refresh(600, family: 2)?.error == 443)
        #expect(client.refresh(0, family: 2)?.error == 443)
        #expect(client.refresh(600, family: 3)?.error == 443)
        #expect(client.refresh(600, family: 1)?.isSuccess == true)
    }

    @Test func al14_ofTwoFamiliesOneMayBeMissing() throws {
        let lab = try Lab()
        let answer = try #require(lab.client().allocate { $0.append(.additionalAddressFamily, [2, 0, 0, 0]) })
        #expect(answer.isSuccess)
        #expect(answer.endpoints(.xorRelayedAddress).count == 1)
        // No relay address of that family at all: 440; its ports used up: 508 (below).
        #expect(answer.value(.addressErrorCode) == [2, 0, 4, 40])
    }

    @Test func al14_aFullSecondFamilyIsToldAs508() throws {
        let lab = try dualLab()
        lab.relays.ports = 50_000...50_000
        let first = lab.client(at: Endpoint("198.51.100.7", 1_024))
        #expect(first.allocate { $0.append(.requestedAddressFamily, [2, 0, 0, 0]) }?.isSuccess == true)
        let client = lab.client(at: Endpoint("198.51.100.7", 1_025))
        let answer = try #require(client.allocate { $0.append(.additionalAddressFamily, [2, 0, 0, 0]) })
        #expect(answer.value(.addressErrorCode) == [2, 0, 5, 8])
        #expect(answer.endpoints(.xorRelayedAddress).map(\.family) == [.ipv4])
    }

    @Test(arguments: [1, 2] as [UInt8])
    func al14_refreshZeroWithAFamilyRemovesThatOneOnly(_ family: UInt8) throws {
        let lab = try dualLab()
        let client = lab.client()
        let transaction = client.newTransaction()
        let answer = try #require(
            client.allocate(transaction: transaction) { $0.append(.additionalAddressFamily, [2, 0, 0, 0]) }
        )
        #expect(answer.endpoints(.xorRelayedAddress).map(\.family) == [.ipv4, .ipv6])
        #expect(answer.value(.addressErrorCode) == nil)
        let peers = [Endpoint("8.8.8.8", 1), Endpoint("2606:4700::1111", 1)]
        #expect(client.permit(peers)?.isSuccess == true)
        #expect(client.bind(0x4001, peers[0])?.isSuccess == true)
        #expect(client.bind(0x4002, peers[1])?.isSuccess == true)
        #expect(client.channelData(0x4001).forward?.descriptor == client.relay(.ipv4)?.descriptor)
        #expect(client.channelData(0x4002).forward?.descriptor == client.relay(.ipv6)?.descriptor)

        let gone = family == 1 ? 0 : 1
        #expect(client.refresh(0, family: family)?.lifetimeSeconds == 0)
        #expect(client.relay(family == 1 ? .ipv4 : .ipv6) == nil)
        #expect(client.relay(family == 1 ? .ipv6 : .ipv4) != nil)
        #expect(lab.engine.allocationCount == 1)
        #expect(client.indicate(peers[gone]).drop == .noPermission)
        #expect(client.indicate(peers[1 - gone]).forward != nil)
        #expect(client.channelData(gone == 0 ? 0x4001 : 0x4002).drop == .unboundChannel)
        #expect(client.channelData(gone == 0 ? 0x4002 : 0x4001).forward != nil)
        #expect(client.permit([peers[gone]])?.error == 443)
        #expect(client.bind(0x4003, peers[gone])?.error == 443)
        #expect(client.refresh(600, family: family)?.error == 443)
        // A late copy of the Allocate tells what is left, and never 0.0.0.0:0.
        let again = try #require(
            client.allocate(transaction: transaction) { $0.append(.additionalAddressFamily, [2, 0, 0, 0]) }
        )
        #expect(again.endpoints(.xorRelayedAddress).map(\.family) == [family == 1 ? .ipv6 : .ipv4])
        #expect(client.refresh(0)?.isSuccess == true)
        #expect(lab.relays.open.isEmpty)
        #expect(lab.shared.quota.total == 0)
    }

    @Test func al15_anUnknown5TupleLeavesNoState() throws {
        let lab = try Lab()
        let client = lab.client()
        #expect(client.refresh(600)?.error == 437)
        #expect(client.permit([Endpoint("8.8.8.8", 1)])?.error == 437)
        #expect(client.bind(0x4000, Endpoint("8.8.8.8", 1))?.error == 437)
        #expect(client.indicate(Endpoint("8.8.8.8", 1)).drop == .noAllocation)
        #expect(client.channelData(0x4000).drop == .noAllocation)
        #expect(lab.engine.allocationCount == 0 && lab.relays.timers.isEmpty && lab.relays.requests.isEmpty)
    }

    @Test func al16_dontFragmentIsUnderstood() throws {
        let client = try Lab().client()
        #expect(client.allocate { $0.append(.dontFragment, [1, 2, 3, 4]) }?.error == 400)
        #expect(client.allocate { $0.append(.dontFragment, []) }?.isSuccess == true)
        _ = client.permit([Endpoint("8.8.8.8", 1)])
        let marked = client.send(
            client.message(MessageType(.send, .indication)) {
                $0.append(.xorPeerAddress, xor: Endpoint("8.8.8.8", 1))
                $0.append(.dontFragment, [])
                $0.append(.data, [1])
            }
        )
        #expect(marked.forward?.dontFragment == true)
        #expect(client.indicate(Endpoint("8.8.8.8", 1)).forward?.dontFragment == false)
    }

    @Test func al17_aMobilityTicketIsIgnored() throws {
        for ticket in [[], [0x80, 0x80, 0x80, 0x80], Array(repeating: 0xFF, count: 255)] as [[UInt8]] {
            let answer = try Lab().client().allocate { $0.append(.mobilityTicket, ticket) }
            #expect(answer?.isSuccess == true)
            #expect(answer?.value(.mobilityTicket) == nil)
        }
    }

    @Test(arguments: ["2002:c000:201::1", "2002::1", "2001::1", "2001:0:4136:e378::1"])
    func al19_aTeredoOr6to4ClientIsRefused(_ source: String) throws {
        let lab = try Lab()
        #expect(lab.client(at: Endpoint(source, 5_000), server: Endpoint("2600:1::5", 3_478)).allocate()?.error == 403)
        #expect(lab.engine.allocationCount == 0)
    }

    @Test func aDrainingServerMakesNoAllocationsAndKeepsThoseItHas() throws {
        let lab = try Lab()
        let client = lab.client()
        let transaction = client.newTransaction()
        let first = client.allocate(transaction: transaction)
        var configuration = lab.engine.configuration
        configuration.isDraining = true
        lab.engine.reconfigure(configuration, at: lab.moment)
        #expect(lab.client(at: Endpoint("198.51.100.7", 9_000)).allocate()?.error == 508)
        #expect(client.allocate(transaction: transaction) == first)
        #expect(client.refresh()?.isSuccess == true)
        lab.engine.closeAll(.drained, at: lab.moment)
        #expect(lab.engine.allocationCount == 0)
        #expect(lab.relays.ended.map(\.end) == [.drained])
    }
}
