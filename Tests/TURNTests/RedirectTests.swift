import STUN
import TURN
import Testing

/// RFC 8489 section 10, as a server that drains uses it.
@Suite struct RedirectTests {
    private let four = Endpoint("192.0.2.9", 3_479)
    private let six = Endpoint("2001:db8::9", 3_479)

    private func draining(_ servers: [Endpoint]) throws -> Lab {
        try Lab {
            $0.isDraining = true
            $0.alternateServers = servers
        }
    }

    private func alternates(_ answer: Answer?) -> [Endpoint] {
        (answer?.attributes ?? []).filter { $0.type == .alternateServer }.compactMap { attribute in
            attribute.value.withUnsafeBytes { AddressAttribute.decode($0) }
        }
    }

    @Test func theFirstServerIsOfTheClientsFamily() throws {
        let lab = try draining([six, four])
        let client = lab.client()
        let answer = try #require(client.allocate())
        #expect(answer.error == 300)
        #expect(alternates(answer) == [four, six])
        #expect(client.isSigned(answer, .sha1, .md5))
        let other = lab.client(at: Endpoint("2a00:1::7", 40_000), server: Endpoint("2a00:1::5", 3_478))
        #expect(alternates(other.allocate()) == [six, four])
    }

    @Test func withoutOneOfTheFamilyThereIsNoCapacity() throws {
        #expect(try draining([]).client().allocate()?.error == 508)
        #expect(try draining([six]).client().allocate()?.error == 508)
    }

    @Test func onlyWhoHasProvedHimselfIsTold() throws {
        let client = try draining([four]).client()
        #expect(client.challenge()?.error == 401)
        client.password = "wrong"
        #expect(client.allocate()?.error == 401)
    }

    @Test func withoutAPortItIsTheOneTheClientCameTo() throws {
        let lab = try draining([Endpoint(address: four.address, port: 0)])
        let client = lab.client(server: Endpoint("203.0.113.5", 5_349))
        #expect(alternates(client.allocate()) == [Endpoint(address: four.address, port: 5_349)])
    }

    @Test func noClientIsSentToLoopbackOrBackToThisServer() throws {
        let loopback = Endpoint("127.0.0.1", 3_480)
        #expect(try draining([loopback]).client().allocate()?.error == 508)
        let local = try draining([loopback])
            .client(at: Endpoint("127.0.0.3", 40_000), server: Endpoint("127.0.0.1", 3_478))
        #expect(alternates(local.allocate()) == [loopback])
        let own = Endpoint("203.0.113.5", 3_478)
        #expect(try draining([own]).client().allocate()?.error == 508)
        let lab = try Lab {
            $0.isDraining = true
            $0.alternateServers = [Endpoint("203.0.113.6", 3_478)]
            $0.policy.listeners = [Endpoint("203.0.113.6", 3_478)]
        }
        #expect(lab.client().allocate()?.error == 508)
    }

    @Test func clientsAreSpreadAndARetransmissionStays() throws {
        let servers = (1...4).map { Endpoint("192.0.2.\($0)", 3_478) }
        let lab = try draining(servers)
        var seen: Set<Endpoint> = []
        for port in 0..<200 {
            let client = lab.client(at: Endpoint("198.51.100.7", 40_000 + UInt16(port)))
            client.challenge()
            let transaction = client.newTransaction()
            let first = alternates(client.allocate(transaction: transaction))
            #expect(first.count == 1)
            #expect(alternates(client.allocate(transaction: transaction)) == first)
            seen.formUnion(first)
        }
        #expect(seen == Set(servers))
    }

    @Test func whoHasAnAllocationKeepsIt() throws {
        let lab = try Lab()
        let client = lab.client()
        #expect(client.allocate()?.isSuccess == true)
        lab.reconfigure {
            $0.isDraining = true
            $0.alternateServers = [four]
        }
        #expect(client.refresh()?.isSuccess == true)
        #expect(client.permit([Endpoint("8.8.8.8", 4_000)])?.isSuccess == true)
        #expect(client.allocate()?.error == 437)
    }
}
