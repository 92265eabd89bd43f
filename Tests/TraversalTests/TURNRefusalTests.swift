import OpenSSLCrypto
import STUN
import TURN
import TestSupport
import Testing
import Traversal

/// Servers that refuse, redirect or lie, and packets that are none.
@Suite struct TURNRefusalTests {
    private static let peer = Endpoint("9.9.9.10", 5_000)

    /// Answers every signed Allocate with an error that is signed as the server would.
    private func refusing(
        _ code: UInt16,
        transport: TURNConfiguration.Transport = .udp,
        attributes: @escaping (inout MessageBuilder) -> Void = { _ in },
        client: (inout TURNConfiguration) -> Void = { _ in }
    ) throws -> TURNWorld {
        let world = try TURNWorld(transport: transport, client: client)
        let key = AnswerKey(.sha256, Digest.sha256(Array("alice:\(TURNWorld.realm):wonderland".utf8)))
        world.onRequest = { bytes in
            let refusal = bytes.withUnsafeBytes { bytes -> [UInt8]? in
                guard let view = try? MessageView(bytes), view.hasIntegrity, view.type.method == .allocate else {
                    return nil
                }
                return try? message(.allocate, .errorResponse, view.transactionID, key: key) {
                    $0.append(code: code, reason: "because\u{1B}[31m")
                    attributes(&$0)
                }
            }
            guard let refusal else { return bytes }
            world.deliver(refusal)
            return nil
        }
        world.start()
        return world
    }

    @Test(
        arguments: [
            (400, .badRequest), (403, .forbidden), (405, .mobilityForbidden), (420, .unknownAttributes),
            (440, .familyUnavailable), (441, .foreignAllocation), (442, .unsupportedTransport), (486, .quotaReached),
            (500, .serverError), (508, .outOfCapacity), (699, .unexpectedCode),
        ] as [(UInt16, TURNFailure.Reason)]
    )
    func everyRefusalIsNamedWithItsCodeAndTheServersWords(code: UInt16, reason: TURNFailure.Reason) throws {
        let world = try refusing(code)
        let failure = try #require(world.failure)
        #expect(failure.reason == reason)
        #expect(failure.code == code)
        // What would drive a terminal is left out.
        #expect(failure.phrase == "because[31m")
        #expect(failure.description.hasSuffix("(\(code) because[31m)"))
        #expect(world.requests[.allocate] == 2)
    }

    @Test func whatIsNotEssentialIsLeftOutWhereTheServerDoesNotKnowIt() throws {
        var refusals = 0
        let world = try TURNWorld(client: { $0.prohibitsFragments = true })
        let key = AnswerKey(.sha256, Digest.sha256(Array("alice:\(TURNWorld.realm):wonderland".utf8)))
        world.onRequest = { bytes in
            let refusal = bytes.withUnsafeBytes { bytes -> [UInt8]? in
                guard let view = try? MessageView(bytes), view.hasIntegrity, view.first(.dontFragment) != nil else {
                    return nil
                }
                return try? message(.allocate, .errorResponse, view.transactionID, key: key) {
                    $0.append(code: 420)
                    $0.append(unknown: [.dontFragment])
                }
            }
            guard let refusal else { return bytes }
            refusals += 1
            world.deliver(refusal)
            return nil
        }
        world.start()
        #expect(refusals == 1)
        #expect(world.allocation != nil)
    }

    @Test func threeOtherPortsAreTriedWhereTheServerHoldsAnOlderAllocation() throws {
        let world = try refusing(437)
        for _ in 0..<3 {
            #expect(!world.hasEnded)
            world.source.port += 1
            world.start()
        }
        #expect(world.failure?.reason == .portInUse)
        #expect(world.reconnections == Array(repeating: TURNWorld.server, count: 3))
    }

    @Test func aRedirectionIsFollowedByTheSameTransportWithTheSameCredential() throws {
        let elsewhere = Endpoint("203.0.113.77", 3_478)
        let world = try TURNWorld(transport: .tls) {
            $0.isDraining = true
            $0.alternateServers = [elsewhere]
        }
        world.start()
        #expect(world.reconnections == [elsewhere])
        #expect(world.client.server == elsewhere)
        world.restartServer()
        world.start()
        #expect(world.allocation != nil)
    }

    @Test func redirectionsInACircleEnd() throws {
        let world = try refusing(300) { $0.append(.alternateServer, plain: Endpoint("203.0.113.77", 3_478)) }
        #expect(world.reconnections.count == 1)
        world.start()
        #expect(world.failure?.reason == .redirectionLoop)
    }

    @Test func aLongChainOfRedirectionsEnds() throws {
        var last: UInt16 = 1
        let world = try refusing(300) {
            last += 1
            $0.append(.alternateServer, plain: Endpoint("203.0.113.77", last))
        }
        for _ in 0..<20 where !world.hasEnded { world.start() }
        #expect(world.failure?.reason == .redirectionLoop)
        #expect(world.reconnections.count == 5)
    }

    @Test(arguments: ["127.0.0.1", "0.0.0.0", "224.0.0.1", "255.255.255.255"])
    func aRedirectionToWhereNoServerCanBeIsRefused(address: String) throws {
        let world = try refusing(300) { $0.append(.alternateServer, plain: Endpoint(address, 3_478)) }
        #expect(world.failure?.reason == .redirectionRefused)
    }

    @Test func aRedirectionToLoopbackIsFollowedWhenAsked() throws {
        let world = try refusing(
            300,
            attributes: { $0.append(.alternateServer, plain: Endpoint("127.0.0.1", 3_478)) },
            client: { $0.followsToLoopback = true }
        )
        #expect(world.reconnections == [Endpoint("127.0.0.1", 3_478)])
    }

    @Test func aCloseBeforeAnyAnswerEndsAtOnceAndOneDuringAnAllocateGivesItBack() throws {
        let silent = try TURNWorld()
        silent.stopServer()
        silent.start()
        silent.perform { $0.close(now: $1, into: &$2) }
        #expect(silent.hasEnded && silent.failure == nil)

        // The answer to the signed Allocate is lost, and the allocation is there.
        let world = try TURNWorld()
        var answers = 0
        world.onAnswer = {
            answers += 1
            return answers == 2 ? nil : $0
        }
        world.start()
        #expect(world.relays.open.count == 1)
        world.perform { $0.close(now: $1, into: &$2) }
        #expect(world.hasEnded && world.failure == nil)
        #expect(world.relays.open.isEmpty)
    }

    @Test func aCloseToASilentServerEndsWithinSeconds() throws {
        let world = try TURNWorld()
        world.start()
        world.stopServer()
        world.perform { $0.close(now: $1, into: &$2) }
        #expect(!world.hasEnded)
        world.advance(seconds: 5)
        #expect(world.hasEnded && world.failure == nil)
    }

    @Test func dataOfPeersWithoutPermissionAndOfUnknownChannelsIsIgnored() throws {
        let world = try TURNWorld()
        world.start()
        world.deliver(
            try message(.data, .indication, TransactionID(high: 1, low: 1)) {
                $0.append(.xorPeerAddress, xor: Self.peer)
                $0.append(.data, [1, 2, 3])
            }
        )
        world.deliver([0x40, 0x00, 0, 1, 9])
        #expect(world.received.isEmpty)
        #expect(world.client.ignored == 2)
    }

    @Test func anErrorOnThePeersSideIsTold() throws {
        let world = try TURNWorld()
        world.start()
        world.perform { $0.permit([Self.peer.address], now: $1, into: &$2) }
        world.deliver(
            try message(.data, .indication, TransactionID(high: 1, low: 1)) {
                $0.append(.xorPeerAddress, xor: Self.peer)
                $0.append(.icmp, [0, 0, 3 << 1, 3, 0, 0, 0, 0])
            }
        )
        guard case .peerError(Self.peer, type: 3, code: 3)? = world.events.last else {
            Issue.record("\(world.events)")
            return
        }
    }

    @Test func whatIsNotTURNEndsAStreamWithItsName() throws {
        let world = try TURNWorld(transport: .tcp)
        world.stopServer()
        world.start()
        world.deliver(Array("HTTP/1.1 400 Bad Request\r\n".utf8))
        #expect(world.failure?.reason == .desynchronised)
    }

    @Test func aBrokenConnectionIsNamed() throws {
        let world = try TURNWorld(transport: .tls)
        world.start()
        world.perform { client, _, actions in client.connectionLost(into: &actions) }
        #expect(world.failure?.reason == .connectionLost)
        #expect(world.client.nextDeadline == nil)
    }

    @Test func anAllocationMovesWithItsTicketToAnotherAddress() throws {
        let world = try TURNWorld(server: { $0.allowsMobility = true }, client: { $0.wantsMobility = true })
        world.start()
        #expect(world.allocation?.isMobile == true)
        world.perform { $0.bindChannel(to: Self.peer, now: $1, into: &$2) }
        world.source = Endpoint("198.51.100.99", 41_000)
        // Whatever is wanted while the answer is on its way waits for it.
        var held: [[UInt8]] = []
        world.onRequest = {
            held.append($0)
            return nil
        }
        let other = IPAddress("9.9.9.77")
        world.perform { client, now, actions in #expect(client.moved(now: now, into: &actions)) }
        world.perform { $0.permit([other], now: $1, into: &$2) }
        #expect(held.count == 1)
        world.onRequest = { $0 }
        world.advance(seconds: 1)
        #expect(world.client.isPermitted(other, now: world.now))
        #expect(world.send("from elsewhere", to: Self.peer) == .sent)
        #expect(world.atPeers.last.map { String(decoding: $0.bytes, as: UTF8.self) } == "from elsewhere")
        world.advance(seconds: 3_600)
        #expect(world.failure == nil)
        let fixed = try TURNWorld(client: { $0.wantsMobility = true })
        fixed.start()
        #expect(fixed.allocation?.isMobile == false)
    }

    @Test(arguments: [.udp, .tcp] as [TURNConfiguration.Transport])
    func mutatedPacketsDoNoHarm(transport: TURNConfiguration.Transport) throws {
        var generator = SeededGenerator(for: "mutatedPacketsDoNoHarm")
        var world = try TURNWorld(transport: transport)
        var seen: [[UInt8]] = []
        world.onAnswer = {
            seen.append($0)
            return $0
        }
        world.start()
        world.perform { $0.permit([Self.peer.address], now: $1, into: &$2) }
        world.peerSends("data", from: Self.peer)
        world.perform { $0.bindChannel(to: Self.peer, now: $1, into: &$2) }
        world.peerSends("data", from: Self.peer)
        let redirect = try message(.allocate, .errorResponse, TransactionID(high: 1, low: 1)) {
            $0.append(code: 300)
            $0.append(.alternateServer, plain: Endpoint("203.0.113.77", 3_478))
            $0.append(.alternateDomain, Array("example.net".utf8))
        }
        let packets = seen + [redirect]
        #expect(packets.count >= 7)
        for round in 0..<fuzzRounds(50_000) {
            if world.hasEnded || round % 500 == 0 {
                world = try TURNWorld(transport: transport, client: { $0.families = .both })
                // Half of the time it waits for the answer to an Allocate.
                if round % 1_000 == 0 { world.stopServer() }
                world.start()
            }
            var packet = packets[round % packets.count]
            // With the id of the request that waits, an answer is looked at more closely.
            if round % 2 == 0, packet.count >= 20, packet[0] & 0xC0 == 0, let id = world.lastTransaction {
                packet.replaceSubrange(8..<20, with: id)
            }
            world.deliver(mutated(packet, &generator))
            if round % 97 == 0 { world.advance(seconds: 7) }
        }
    }
}
