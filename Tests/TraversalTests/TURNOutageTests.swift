import OpenSSLCrypto
import STUN
import TURN
import TestSupport
import Testing
import Traversal

/// Ways that fail for a while, and servers that do not sign what they refuse.
@Suite struct TURNOutageTests {
    private static let peer = Endpoint("9.9.9.10", 5_000)

    private func world(transport: TURNConfiguration.Transport = .udp) throws -> TURNWorld {
        let world = try TURNWorld(transport: transport)
        world.start()
        world.perform { $0.permit([Self.peer.address, IPAddress("9.9.9.77")], now: $1, into: &$2) }
        world.perform { $0.bindChannel(to: Self.peer, now: $1, into: &$2) }
        #expect(world.client.isPermitted(Self.peer.address, now: world.now))
        return world
    }

    /// Over it come the refreshes of the permissions at 240 s, and of the channel and the allocation at 540 s.
    @Test(arguments: [(230, 55), (530, 55), (470, 120), (235, 4)] as [(UInt64, UInt64)])
    func anAllocationOutlivesAnyOutageThatIsShorterThanWhatIsLeftOfIt(start: UInt64, length: UInt64) throws {
        let world = try world()
        for _ in 0..<start / 10 {
            world.advance(seconds: 10)
            world.send("x", to: Self.peer)
        }
        world.onRequest = { _ in nil }
        world.advance(seconds: min(length, 599 - start / 10 * 10))
        world.onRequest = { $0 }
        // A pause, and the rest of a request that is under way.
        world.advance(seconds: 15)
        #expect(world.failure == nil)
        #expect(world.send("again", to: Self.peer) == .sent)
        #expect(world.client.isPermitted(IPAddress("9.9.9.77"), now: world.now))
        let count = world.atPeers.count
        for _ in 0..<240 {
            world.advance(seconds: 30)
            world.send("x", to: Self.peer)
        }
        #expect(world.failure == nil)
        #expect(world.atPeers.count == count + 240)
        #expect(!world.events.contains { if case .refused = $0 { true } else { false } })
    }

    /// Between the transmissions of a request there may be eight seconds; who waits for the server does not wait so
    /// long.
    @Test func whatIsNotAnsweredIsRepeatedWhenThereIsAHurry() throws {
        let world = try world()
        var copies: [[UInt8]] = []
        world.onRequest = {
            copies.append($0)
            return nil
        }
        world.perform { $0.check(now: $1, into: &$2) }
        world.advance(seconds: 2)
        let count = copies.count
        for _ in 0..<3 { world.perform { $0.repeatRequests(now: $1, into: &$2) } }
        #expect(copies.count == count + 1, "not more than once in a moment")
        #expect(copies.last == copies.first, "a repetition is identical (RFC 8489 section 6.2.1)")
        world.onRequest = { $0 }
        world.advance(seconds: 1)
        world.perform { $0.repeatRequests(now: $1, into: &$2) }
        let refreshes = world.requests[.refresh]
        world.perform { $0.repeatRequests(now: $1, into: &$2) }
        #expect(world.requests[.refresh] == refreshes, "it was answered")
        #expect(world.failure == nil && world.client.isLive)
    }

    @Test func anOutageThatOutlivesTheAllocationIsNamedWhenItEnds() throws {
        let world = try world()
        world.advance(seconds: 500)
        world.stopServer()
        world.advance(seconds: 99)
        #expect(world.failure == nil)
        world.advance(seconds: 1)
        #expect(world.failure?.reason == .serverSilent)
        #expect(world.failure?.operation == .refresh)
        #expect(world.client.nextDeadline == nil)
    }

    /// Data goes on for as long as the server has granted, though it takes the password no more.
    @Test func aPasswordThatIsTakenNoMoreLeavesTheAllocationToItsEnd() throws {
        let world = try TURNWorld()
        var challenge: [UInt8] = []
        world.onAnswer = {
            if challenge.isEmpty { challenge = $0 }
            return $0
        }
        world.start()
        world.advance(seconds: 500)
        world.onRequest = { bytes in
            guard bytes[0] == 0, bytes[1] == 4 else { return bytes }
            // The same 401 as for the first Allocate, to the Refresh.
            world.deliver([1, 0x14] + challenge[2..<8] + bytes[8..<20] + challenge[20...])
            return nil
        }
        let requests = world.requests[.refresh, default: 0]
        world.advance(seconds: 95)
        #expect(world.failure == nil)
        world.advance(seconds: 6)
        #expect(world.failure?.reason == .wrongCredentials)
        // One each five seconds.
        #expect((10...14).contains(world.requests[.refresh, default: 0] - requests))
    }

    // MARK: Unsigned refusals

    /// Some servers sign no error but 401 and 438.
    private func refuseUnsigned(_ world: TURNWorld, _ method: STUN.Method, _ code: UInt16, drops: Bool = true) {
        world.onRequest = { bytes in
            let refusal = bytes.withUnsafeBytes { bytes -> [UInt8]? in
                guard let view = try? MessageView(bytes), view.hasIntegrity, view.type.method == method else {
                    return nil
                }
                return try? message(method, .errorResponse, view.transactionID) { $0.append(code: code) }
            }
            guard let refusal else { return bytes }
            world.deliver(refusal)
            return drops ? nil : bytes
        }
    }

    @Test(
        arguments: [
            (400, .badRequest), (420, .unknownAttributes), (508, .outOfCapacity), (486, .quotaReached),
            (300, .unverifiedAnswers),
        ] as [(UInt16, TURNFailure.Reason)],
        [.udp, .tcp] as [TURNConfiguration.Transport]
    )
    func anUnsignedRefusalIsNamedOnceTheRequestHasHadItsTime(
        refusal: (code: UInt16, reason: TURNFailure.Reason),
        transport: TURNConfiguration.Transport
    ) throws {
        let world = try TURNWorld(transport: transport)
        refuseUnsigned(world, .allocate, refusal.code)
        world.start()
        // RFC 8489 section 9.2.5: by datagram as if it had not come; by a stream the end.
        #expect(world.hasEnded == transport.isStream)
        world.advance(seconds: 10)
        #expect(world.failure?.reason == refusal.reason)
        #expect(world.failure?.code == refusal.code)
        #expect(world.reconnections.isEmpty)
    }

    @Test func anUnsigned437IsAnsweredWithOtherPorts() throws {
        let world = try TURNWorld()
        refuseUnsigned(world, .allocate, 437)
        for _ in 0..<4 {
            #expect(!world.hasEnded)
            world.start()
            world.advance(seconds: 10)
            world.source.port += 1
        }
        #expect(world.failure?.reason == .portInUse)
        #expect(world.reconnections.count == 3)
    }

    @Test func anUnsigned420LeavesOutWhatIsNotEssential() throws {
        let world = try TURNWorld(client: { $0.prohibitsFragments = true })
        world.onRequest = { bytes in
            let refusal = bytes.withUnsafeBytes { bytes -> [UInt8]? in
                guard let view = try? MessageView(bytes), view.hasIntegrity, view.first(.dontFragment) != nil else {
                    return nil
                }
                return try? message(.allocate, .errorResponse, view.transactionID) { $0.append(code: 420) }
            }
            guard let refusal else { return bytes }
            world.deliver(refusal)
            return nil
        }
        world.start()
        world.advance(seconds: 10)
        #expect(world.allocation != nil)
    }

    @Test func anUnsigned437ForARefreshSaysThatTheAllocationIsGone() throws {
        let world = try world()
        world.advance(seconds: 530)
        refuseUnsigned(world, .refresh, 437)
        world.advance(seconds: 20)
        #expect(world.failure?.reason == .allocationLost)
    }

    /// Anybody on the way can make one up; the server's answer counts.
    @Test func aForgedRefusalBesideTheServersAnswerChangesNothing() throws {
        let world = try TURNWorld()
        refuseUnsigned(world, .allocate, 508, drops: false)
        world.start()
        #expect(world.allocation != nil)
        refuseUnsigned(world, .refresh, 437, drops: false)
        world.advance(seconds: 3_600)
        #expect(world.failure == nil)
    }
}
