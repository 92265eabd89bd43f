import OpenSSLCrypto
import STUN
import TURN
import Testing

/// RFC 8016 between workers: who has the allocation when, and what it has with it.
@Suite struct MobilityTests {
    private let peer = Endpoint("8.8.8.8", 4_000)

    private func allocate(_ client: Client, _ more: (inout MessageBuilder) -> Void = { _ in }) throws -> [UInt8] {
        let answer = client.allocate { builder in
            builder.append(.mobilityTicket, [])
            more(&builder)
        }
        return try #require(answer?.value(.mobilityTicket))
    }

    private func relays(_ client: Client, _ number: UInt16 = 0x4000) -> Bool {
        client.channelData(number).forward?.destination == peer
    }

    @Test(arguments: [0, 1]) func theAllocationStaysUntilDataComesByTheNewPath(_ target: Int) throws {
        let lab = try MobilityLab(workers: 2)
        let old = lab.client(on: 0, port: 40_000)
        let new = lab.client(on: target, port: 40_001)
        let ticket = try allocate(old)
        #expect(old.bind(0x4000, peer)?.isSuccess == true)
        let answer = try #require(lab.move(new, ticket))
        #expect(answer.isSuccess)
        #expect(answer.value(.mobilityTicket) != ticket)
        #expect(answer.lifetimeSeconds == 600)
        #expect(relays(old))
        #expect(new.channelData(0x4000).drop == .noAllocation)
        #expect(new.lab.isArriving(new.tuple))
        lab.sendData(new)
        #expect(relays(new))
        #expect(old.channelData(0x4000).drop == .noAllocation)
        #expect(lab.open.reduce(0, +) == 1)
        #expect(lab.open[target] == 1)
        #expect(lab.labs[target].relays.events.contains { if case .moved = $0 { true } else { false } })
        #expect(new.refresh(0)?.isSuccess == true)
        #expect(lab.open == [0, 0])
        #expect(lab.relays.allSatisfy { $0.strayClosings == 0 })
        #expect(lab.labs[0].shared.quota.total == 0)
    }

    @Test func permissionsChannelsAndTimesMoveAlong() throws {
        let lab = try MobilityLab(workers: 2)
        let old = lab.client(on: 0, port: 40_000)
        let new = lab.client(on: 1, port: 40_001)
        let ticket = try allocate(old) { $0.append(.additionalAddressFamily, 0x0200_0000 as UInt32) }
        let six = Endpoint("2606:4700::1111", 4_000)
        #expect(old.bind(0x4000, peer)?.isSuccess == true)
        #expect(old.bind(0x4001, six)?.isSuccess == true)
        let others = (1...40).map { Endpoint("8.8.4.\($0)", 9) }
        #expect(old.permit(others)?.isSuccess == true)
        lab.advance(seconds: 100)
        #expect(lab.move(new, ticket, lifetimeSeconds: 1_000)?.isSuccess == true)
        lab.sendData(new)
        #expect(relays(new))
        #expect(new.channelData(0x4001).forward?.destination == six)
        #expect(others.allSatisfy { new.indicate($0).forward?.destination == $0 })
        #expect(new.relay(.ipv4) != nil && new.relay(.ipv6) != nil)
        // Permissions keep the time they had.
        lab.advance(seconds: 199)
        #expect(others.allSatisfy { new.indicate($0).forward != nil })
        lab.advance(seconds: 1)
        #expect(others.allSatisfy { new.indicate($0).drop == .noPermission })
        #expect(new.bind(0x4000, peer)?.isSuccess == true)
        lab.advance(seconds: 799)
        #expect(lab.open == [0, 2])
        lab.advance(seconds: 2)
        #expect(lab.open == [0, 0])
        #expect(lab.labs[0].shared.quota.total == 0)
    }

    @Test func anAllocationIsNotTakenOverFromWhereNoneIsMade() throws {
        let lab = try MobilityLab(workers: 1)
        let old = lab.client(on: 0, port: 40_000)
        let ticket = try allocate(old)
        let sources: [(String, UInt16?)] = [("2002:c633:6407::7", 403), ("2001:0:1::7", 403), ("2a00:7::7", nil)]
        for (address, error) in sources {
            let new = lab.client(on: 0, port: 40_001)
            new.tuple.client.address = IPAddress(address)
            #expect(lab.move(new, ticket)?.error == error)
        }
        #expect(old.refresh(0)?.isSuccess == true)
    }

    /// It would be handed over to carry another's data, and the allocation come to whoever has its number then.
    @Test func aConnectionThatAnAllocationIsToComeToCarriesNoData() throws {
        let lab = try MobilityLab(workers: 1) { $0.relaysTCP = true }
        let old = lab.client(on: 0, port: 40_000)
        let ticket = try allocate(old)
        let new = lab.client(on: 0, port: 40_001)
        new.tuple.transport = .tcp
        #expect(lab.move(new, ticket)?.isSuccess == true)
        let other = lab.client("bob", on: 0, port: 40_001)
        other.tuple.transport = .tcp
        #expect(other.connectionBind(7).answer?.error == 400)
    }

    @Test func theOldTimerFindsNothing() throws {
        let lab = try MobilityLab(workers: 2)
        let old = lab.client(on: 0, port: 40_000)
        let new = lab.client(on: 1, port: 40_001)
        let ticket = try allocate(old)
        #expect(lab.move(new, ticket, lifetimeSeconds: 3_600)?.isSuccess == true)
        lab.sendData(new)
        lab.advance(seconds: 3_000)
        #expect(lab.open == [0, 1])
        lab.advance(seconds: 601)
        #expect(lab.open == [0, 0])
    }

    @Test func anAllocationThatExpiresDuringTheMoveIsGoneForBoth() throws {
        let lab = try MobilityLab(workers: 2)
        let old = lab.client(on: 0, port: 40_000)
        let new = lab.client(on: 1, port: 40_001)
        let ticket = try allocate(old)
        #expect(lab.move(new, ticket)?.isSuccess == true)
        lab.advance(seconds: 601)
        lab.deliverAll()
        #expect(!new.lab.isArriving(new.tuple))
        #expect(lab.open == [0, 0])
        // Between the call and its arrival at the owner, too.
        let second = try allocate(old)
        #expect(lab.move(new, second)?.isSuccess == true)
        lab.labs[1].engine.callAllocation(to: new.tuple)
        lab.advance(seconds: 601)
        lab.deliverAll()
        #expect(!new.lab.isArriving(new.tuple))
        #expect(new.allocate()?.isSuccess == true)
        #expect(lab.labs[0].shared.quota.total == 1)
    }

    @Test func aUserWhoIsRevokedWhileTheAllocationIsOnItsWayLosesIt() throws {
        let lab = try MobilityLab(workers: 2)
        let old = lab.client(on: 0, port: 40_000)
        let new = lab.client(on: 1, port: 40_001)
        let ticket = try allocate(old)
        #expect(lab.move(new, ticket)?.isSuccess == true)
        lab.labs[1].engine.callAllocation(to: new.tuple)
        lab.deliver()
        // The allocation lies in the mailbox: the owner has nothing to revoke, and the other does not have it yet.
        lab.labs[1].revoke("alice")
        lab.labs[0].revoke("alice")
        lab.deliverAll()
        #expect(lab.open == [0, 0])
        #expect(lab.relays[1].ended.map(\.end) == [.revoked])
        #expect(lab.labs[0].shared.quota.total == 0)
    }

    @Test func oneUserRevokedIsNotAnother() throws {
        let lab = try MobilityLab(workers: 2)
        let old = lab.client(on: 0, port: 40_000)
        let new = lab.client(on: 1, port: 40_001)
        let ticket = try allocate(old)
        #expect(lab.move(new, ticket)?.isSuccess == true)
        lab.labs[1].engine.callAllocation(to: new.tuple)
        lab.deliver()
        lab.labs[1].revoke("bob")
        lab.deliverAll()
        #expect(lab.open == [0, 1])
    }

    @Test func aPeerThatIsDeniedMeanwhileStaysBehind() throws {
        let lab = try MobilityLab(workers: 2)
        let old = lab.client(on: 0, port: 40_000)
        let new = lab.client(on: 1, port: 40_001)
        let ticket = try allocate(old)
        #expect(old.bind(0x4000, peer)?.isSuccess == true)
        #expect(lab.move(new, ticket)?.isSuccess == true)
        lab.labs[1].engine.callAllocation(to: new.tuple)
        lab.deliver()
        lab.labs[1].reconfigure {
            $0.allowsMobility = true
            $0.policy.deny = [AddressRange.v4(0x0808_0800, 24)]
        }
        lab.deliverAll()
        #expect(new.channelData(0x4000).drop == .noPermission)
    }

    @Test func aNewPathThatIsGoneLeavesTheOldOne() throws {
        let lab = try MobilityLab(workers: 2)
        let old = lab.client(on: 0, port: 40_000)
        let new = lab.client(on: 1, port: 40_001)
        let ticket = try allocate(old)
        #expect(old.bind(0x4000, peer)?.isSuccess == true)
        let next = try #require(lab.move(new, ticket)?.value(.mobilityTicket))
        lab.labs[1].disconnect(new.tuple)
        lab.deliverAll()
        #expect(relays(old))
        // The old 5-tuple's end is then the allocation's.
        lab.labs[0].disconnect(old.tuple)
        #expect(lab.open == [0, 0])
        #expect(lab.move(new, next)?.error == 437)
    }

    @Test func aNewPathThatIsGoneAfterItsDataEndsTheAllocation() throws {
        let lab = try MobilityLab(workers: 2)
        let old = lab.client(on: 0, port: 40_000)
        let new = lab.client(on: 1, port: 40_001)
        let ticket = try allocate(old)
        #expect(lab.move(new, ticket)?.isSuccess == true)
        lab.labs[1].engine.callAllocation(to: new.tuple)
        lab.labs[1].disconnect(new.tuple)
        lab.deliverAll()
        #expect(lab.open == [0, 0])
        #expect(lab.relays[1].ended.map(\.end) == [.disconnected])
        #expect(lab.labs[0].shared.quota.total == 0)
        #expect(lab.relays.allSatisfy { $0.strayClosings == 0 })
    }

    @Test func theOldConnectionsEndSendsTheAllocationOn() throws {
        let lab = try MobilityLab(workers: 2)
        let old = lab.client(on: 0, port: 40_000)
        let new = lab.client(on: 1, port: 40_001)
        let ticket = try allocate(old)
        #expect(old.bind(0x4000, peer)?.isSuccess == true)
        #expect(lab.move(new, ticket)?.isSuccess == true)
        lab.labs[0].disconnect(old.tuple)
        lab.deliverAll()
        #expect(relays(new))
    }

    @Test func chainedMovesKeepOneArrivalAtMost() throws {
        let lab = try MobilityLab(workers: 4)
        let old = lab.client(on: 0, port: 40_000)
        var ticket = try allocate(old)
        #expect(old.bind(0x4000, peer)?.isSuccess == true)
        for step in 1...200 {
            let new = lab.client(on: step % 4, port: UInt16(40_000 + step))
            ticket = try #require(lab.move(new, ticket)?.value(.mobilityTicket))
        }
        // GHSA-hpq3-g7x4-h7xx: moves that are never completed must not pile up.
        #expect(lab.labs.map(\.arrivals).reduce(0, +) == 1)
        #expect(relays(old))
        #expect(lab.labs[0].shared.quota.total == 1)
    }

    @Test func whatTheUserHasRelayedIsToldOnce() throws {
        let lab = try MobilityLab(workers: 2)
        let old = lab.client(on: 0, port: 40_000)
        let new = lab.client(on: 1, port: 40_001)
        let ticket = try allocate(old)
        #expect(old.bind(0x4000, peer)?.isSuccess == true)
        for _ in 0..<10 { #expect(relays(old)) }
        #expect(lab.move(new, ticket)?.isSuccess == true)
        lab.sendData(new)
        for _ in 0..<5 { #expect(relays(new)) }
        #expect(new.refresh(0)?.isSuccess == true)
        let usage = lab.labs[0].shared.usage.take()
        #expect(usage.map(\.traffic.packetsToPeers) == [15])
        #expect(lab.relays[1].ended.map(\.summary.traffic.packetsToPeers) == [15])
    }

    @Test func refusalsComeInTheRFCsOrder() throws {
        let lab = try MobilityLab(workers: 2)
        let old = lab.client(on: 0, port: 40_000)
        let new = lab.client(on: 1, port: 40_001)
        let ticket = try allocate(old)
        for wrong in [[], [UInt8](repeating: 0x80, count: 4), Array(ticket.dropLast()), ticket + [0]] {
            #expect(lab.move(new, wrong)?.error == 400)
        }
        for index in ticket.indices {
            var changed = ticket
            changed[index] ^= 1
            #expect(lab.move(new, changed)?.error == 400)
        }
        #expect(lab.move(old, ticket)?.error == 400)
        #expect(lab.move(lab.client("bob", on: 1, port: 40_002), ticket)?.error == 441)
        #expect(new.allocate { $0.append(.mobilityTicket, ticket) }?.error == 400)
        #expect(
            lab.perform(new) {
                $0.append(.mobilityTicket, ticket)
                $0.append(.requestedAddressFamily, 0x0200_0000 as UInt32)
            }?.error == 443
        )
        #expect(lab.labs[1].arrivals == 0)
        #expect(old.refresh(0)?.isSuccess == true)
        #expect(lab.move(new, ticket)?.error == 437)
    }

    @Test func anotherServersTicketIsNone() throws {
        let here = try MobilityLab(workers: 1)
        let there = try MobilityLab(workers: 1)
        let ticket = try allocate(here.client(on: 0, port: 40_000))
        #expect(there.move(there.client(on: 0, port: 40_001), ticket)?.error == 400)
    }

    @Test func aRequestThatMeetsAnAllocationOnItsWayIsPassedOn() throws {
        for target in [0, 1] {
            let lab = try MobilityLab(workers: 3)
            let old = lab.client(on: 0, port: 40_000)
            let new = lab.client(on: target, port: 40_001)
            let third = lab.client(on: 2, port: 40_002)
            let ticket = try allocate(old)
            let next = try #require(lab.move(new, ticket)?.value(.mobilityTicket))
            third.challenge()
            // The owner finds both in its mailbox: the allocation has left when it comes to the second.
            lab.labs[target].engine.callAllocation(to: new.tuple)
            #expect(lab.move(third, next)?.isSuccess == true)
            lab.sendData(third)
            #expect(lab.open == [0, 0, 1])
        }
    }

    @Test func withoutMobilityATicketIsIgnored() throws {
        let lab = try MobilityLab(workers: 1) { $0.allowsMobility = false }
        let client = lab.client(on: 0, port: 40_000)
        for garbage in [[], [UInt8](repeating: 0x80, count: 4), [UInt8](repeating: 0, count: 255)] {
            let answer = client.allocate { $0.append(.mobilityTicket, garbage) }
            #expect(answer?.isSuccess == true)
            #expect(answer?.value(.mobilityTicket) == nil)
            #expect(lab.move(client, garbage)?.isSuccess == true)
            #expect(client.refresh(0)?.isSuccess == true)
        }
    }
}
