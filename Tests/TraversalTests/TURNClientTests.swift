import OpenSSLCrypto
import STUN
import TURN
import TestSupport
import Testing
import Traversal

/// The TURN client against the real server's engine: allocations, their lives and their ends.
@Suite struct TURNClientTests {
    private static let peer = Endpoint("9.9.9.10", 5_000)

    @Test(arguments: TURNConfiguration.Transport.allCases)
    func everyTransportAllocatesAndCarriesDataBothWays(transport: TURNConfiguration.Transport) throws {
        let world = try TURNWorld(transport: transport)
        world.pieceBytes = transport.isStream ? 3 : .max
        world.start()
        let allocation = try #require(world.allocation)
        #expect(allocation.mapped == world.source)
        #expect(allocation.relayed.map(\.family) == [.ipv4])
        #expect(world.send("early", to: Self.peer) == .awaitsPermission)
        for number in 0..<20 {
            #expect(world.send("out \(number)", to: Self.peer) == .sent)
            world.peerSends("in \(number)", from: Self.peer)
        }
        // What was sent before there was a permission came with it.
        let sent = ["early"] + (0..<20).map { "out \($0)" }
        #expect(world.atPeers.map { String(decoding: $0.bytes, as: UTF8.self) } == sent)
        #expect(world.atPeers.allSatisfy { $0.peer == Self.peer })
        #expect(world.received.map { String(decoding: $0.bytes, as: UTF8.self) } == (0..<20).map { "in \($0)" })
        #expect(world.received.allSatisfy { $0.peer == Self.peer })
        // After eight datagrams there was a channel, which carried the rest.
        #expect(world.channelDataSent >= 14)
        #expect(world.requests[.channelBind] == 1)
        world.perform { $0.close(now: $1, into: &$2) }
        #expect(world.hasEnded)
        #expect(world.failure == nil)
        #expect(world.relays.open.isEmpty)
    }

    /// On streams it has to be, and by DTLS it is for servers that read it as a stream.
    @Test(arguments: TURNConfiguration.Transport.allCases)
    func channelDataIsPaddedUnlessItGoesByUDP(transport: TURNConfiguration.Transport) throws {
        let world = try TURNWorld(transport: transport)
        var lengths: Set<Int> = []
        world.onRequest = {
            if $0[0] & 0xC0 == 0x40 { lengths.insert($0.count) }
            return $0
        }
        world.start()
        for _ in 0..<20 { world.send("five!", to: Self.peer) }
        #expect(lengths == [transport == .udp ? 9 : 12])
        #expect(world.atPeers.allSatisfy { $0.bytes == Array("five!".utf8) } && world.atPeers.count == 20)
    }

    @Test func strongerPasswordAlgorithmsAndTheUsersHashAreUsedWhereTheyAreOffered() throws {
        let world = try TURNWorld { $0.requiresSHA256 = true }
        var last: [UInt8] = []
        world.onRequest = {
            last = $0
            return $0
        }
        world.start()
        #expect(world.allocation != nil)
        try last.withUnsafeBytes { bytes in
            let view = try MessageView(bytes)
            #expect(view.first(.userhash)?.count == 32)
            #expect(view.first(.username) == nil)
            #expect(view.first(.passwordAlgorithms).map(Array.init) == [0, 2, 0, 0])
            #expect(view.first(.passwordAlgorithm).map(Array.init) == [0, 2, 0, 0])
            #expect(view.messageIntegrityOffset == 0)
            #expect(view.messageIntegritySHA256Offset != 0)
        }
    }

    @Test func algorithmsTakenOutOfAChallengeAreNoticed() throws {
        let world = try TURNWorld()
        world.onAnswer = { bytes in
            guard let index = bytes.indices.dropLast().first(where: { bytes[$0] == 0x80 && bytes[$0 + 1] == 0x02 })
            else { return bytes }
            var changed = bytes
            // PASSWORD-ALGORITHMS becomes an attribute that nobody knows or needs.
            changed[index] = 0xC7
            return changed
        }
        world.start()
        #expect(world.failure?.reason == .bidDown)
        #expect(world.requests[.allocate] == 1)
    }

    @Test(arguments: TURNConfiguration.Transport.allCases)
    func aWrongPasswordIsNamedAfterOneTry(transport: TURNConfiguration.Transport) throws {
        let world = try TURNWorld(transport: transport, password: "wrong")
        world.start()
        let failure = try #require(world.failure)
        #expect(failure.reason == .wrongCredentials)
        #expect(failure.code == 401)
        #expect(failure.description.contains("does not accept this username and password"))
        #expect(world.requests[.allocate] == 2)
    }

    @Test func aSilentServerIsNamedWhenAllRetransmissionsAreSpent() throws {
        let world = try TURNWorld()
        world.stopServer()
        world.start()
        world.advance(seconds: 39)
        #expect(!world.hasEnded)
        world.advance(seconds: 1)
        let failure = try #require(world.failure)
        #expect(failure.reason == .serverSilent)
        #expect(failure.description.contains("udp may be blocked"))
        #expect(world.requests[.allocate] == 7)
    }

    @Test func answersThatDoNotVerifyAreNamed() throws {
        let world = try TURNWorld()
        var answers = 0
        world.onAnswer = { bytes in
            answers += 1
            guard answers > 1 else { return bytes }
            var changed = bytes
            changed[changed.count - 1] ^= 1
            return changed
        }
        world.start()
        world.advance(seconds: 60)
        #expect(world.failure?.reason == .unverifiedAnswers)
    }

    @Test func aQuotaIsNamedWithTheTimeToWait() throws {
        let world = try TURNWorld(server: { $0.allocationsPerUser = 1 })
        world.start()
        #expect(world.allocation != nil)
        let first = world.client
        var configuration = first.configuration
        configuration.software = "second"
        world.client = TURNClient(configuration, with: try OpenSSLCryptography())
        world.source.port += 1
        world.start()
        #expect(world.failure?.reason == .quotaReached)
        #expect(world.failure?.code == 486)
        #expect(world.failure?.retryAfterSeconds == 60)
    }

    @Test func allocationsOfBothFamiliesComeInOne() throws {
        let world = try TURNWorld(client: { $0.families = .both })
        world.relays.families = [.ipv4, .ipv6]
        world.start()
        #expect(world.allocation?.relayed.map(\.family) == [.ipv4, .ipv6])
        world.send("hello", to: Endpoint("2001:4860::7", 9_000))
        #expect(world.send("hello", to: Endpoint("2001:4860::7", 9_000)) == .sent)
        #expect(world.atPeers.first?.peer == Endpoint("2001:4860::7", 9_000))
    }

    @Test func whereOneFamilyIsMissingTheOtherServes() throws {
        let both = try TURNWorld(client: { $0.families = .both })
        both.start()
        #expect(both.allocation?.relayed.map(\.family) == [.ipv4])
        #expect(both.send("x", to: Endpoint("2001:4860::7", 9_000)) == .familyUnavailable)

        let v6 = try TURNWorld(client: { $0.families = .both })
        v6.relays.families = [.ipv6]
        v6.start()
        #expect(v6.allocation?.relayed.map(\.family) == [.ipv6])

        let none = try TURNWorld(client: { $0.families = .ipv6 })
        none.start()
        #expect(none.failure?.reason == .familyUnavailable)
    }

    @Test func anEvenPortReservesTheNextOne() throws {
        let world = try TURNWorld(client: { $0.parity = .evenReservingNext })
        world.start()
        let first = try #require(world.allocation)
        let token = try #require(first.reservationToken)
        var configuration = world.client.configuration
        configuration.parity = nil
        configuration.reservationToken = token
        world.client = TURNClient(configuration, with: try OpenSSLCryptography())
        world.source.port += 1
        world.start()
        #expect(world.allocation?.relayed.first?.port == first.relayed[0].port + 1)
    }

    @Test(arguments: [nil, 1_800] as [UInt32?])
    func anAllocationWithItsPermissionsAndChannelsLivesForHours(lifetime: UInt32?) throws {
        let world = try TURNWorld(client: { $0.lifetimeSeconds = lifetime })
        world.start()
        world.perform { $0.permit([Self.peer.address], now: $1, into: &$2) }
        world.perform { $0.bindChannel(to: Self.peer, now: $1, into: &$2) }
        let bytes = world.atPeers.count
        for _ in 0..<(3 * 60) {
            world.advance(seconds: 60)
            #expect(world.send("still there", to: Self.peer) == .sent)
            world.peerSends("yes", from: Self.peer)
        }
        #expect(world.failure == nil)
        #expect(world.atPeers.count - bytes == 180)
        #expect(world.received.count == 180)
        // All by channel, though nonces went stale meanwhile.
        #expect(world.channelDataSent == 180)
        // Not more often than needed: a refresh for each 240 s, 540 s and lifetime less 60 s, and a fresh nonce for
        // some.
        #expect((18...45).contains(world.requests[.channelBind, default: 0]))
        #expect((44...110).contains(world.requests[.createPermission, default: 0]))
        #expect(world.requests[.refresh, default: 0] <= (lifetime == nil ? 45 : 15))
    }

    @Test func aChannelWithoutTrafficLapsesAndTheSamePairIsBoundAgain() throws {
        let world = try TURNWorld()
        world.start()
        world.perform { $0.bindChannel(to: Self.peer, now: $1, into: &$2) }
        world.advance(seconds: 650)
        #expect(world.requests[.channelBind] == 1)
        #expect(world.send("by indication", to: Self.peer) == .sent)
        #expect(world.channelDataSent == 0)
        world.perform { $0.bindChannel(to: Self.peer, now: $1, into: &$2) }
        let numbers = world.events.compactMap { if case .channelBound(let number, _) = $0 { number } else { nil } }
        #expect(numbers == [0x4000, 0x4000])
        // Five minutes after its end the pair is free, and a new channel takes another number.
        world.advance(seconds: 1_600)
        world.perform { $0.bindChannel(to: Self.peer, now: $1, into: &$2) }
        let last = world.events.compactMap { if case .channelBound(let number, _) = $0 { number } else { nil } }.last
        #expect(last == 0x4001)
    }

    @Test func oneBadPeerSpoilsNoOtherAndPermissionsAreRefreshedTogether() throws {
        let world = try TURNWorld()
        world.start()
        let peers = (1...20).map { IPAddress("9.9.9.\($0)") }
        world.perform { $0.permit(peers + [IPAddress("127.0.0.1")], now: $1, into: &$2) }
        #expect(peers.allSatisfy { world.client.isPermitted($0, now: world.now) })
        let refused = world.events.compactMap { if case .refused(let peer, let why) = $0 { (peer, why) } else { nil } }
        #expect(refused.map(\.0) == [IPAddress("127.0.0.1")])
        #expect(refused.first?.1.reason == .forbidden)
        // One for each: a request with a bad peer would have failed for all of them, and been made again.
        let before = world.requests[.createPermission, default: 0]
        #expect(before == 21)
        world.advance(seconds: 250)
        // Refreshed together.
        #expect(world.requests[.createPermission, default: 0] - before <= 2)
        world.perform { $0.permit([IPAddress("2001:4860::7")], now: $1, into: &$2) }
        let last = world.events.compactMap { if case .refused(_, let why) = $0 { why } else { nil } }.last
        #expect(last?.reason == .peerFamilyMismatch)
    }

    @Test func aServerThatWasRestartedIsNamed() throws {
        let world = try TURNWorld()
        world.start()
        world.restartServer()
        world.advance(seconds: 600)
        #expect(world.failure?.reason == .allocationLost)
    }

    @Test func anotherCredentialTakesOverWhileTheAllocationLives() throws {
        let world = try TURNWorld(server: { $0.sharedSecrets = [Array("secret".utf8)] }, client: { _ in })
        func credential(_ expiry: UInt64) -> TURNCredential {
            let username = "\(expiry):alice"
            let mac = HMAC.sha1(key: Array("secret".utf8), message: Array(username.utf8))
            return TURNCredential(username: username, password: base64(mac))
        }
        let start = world.moment.wallSeconds
        var configuration = world.client.configuration
        configuration.credential = credential(start + 900)
        world.client = TURNClient(configuration, with: try OpenSSLCryptography())
        world.start()
        #expect(world.allocation != nil)
        world.advance(seconds: 800)
        world.perform { $0.renew(credential(start + 80_000), now: $1, into: &$2) }
        #expect(world.events.contains { if case .renewed = $0 { true } else { false } })
        world.advance(seconds: 7_200)
        #expect(world.failure == nil)
        #expect(world.allocation != nil)
    }

    @Test func aRenewalWithAWrongCredentialLeavesTheOldOneInForce() throws {
        let world = try TURNWorld()
        world.start()
        for credential in [
            TURNCredential(username: "alice", password: "no"), TURNCredential(username: "bob", password: "builder"),
        ] { world.perform { $0.renew(credential, now: $1, into: &$2) } }
        let refusals = world.events.compactMap { if case .renewalRefused(let why) = $0 { why.reason } else { nil } }
        #expect(refusals == [.wrongCredentials, .foreignAllocation])
        world.advance(seconds: 3_600)
        #expect(world.failure == nil)
    }

    @Test func lossOfATenthOfAllPacketsIsBorne() throws {
        let world = try TURNWorld()
        var generator = SeededGenerator(seed: 5)
        world.onRequest = { Int.random(in: 0..<10, using: &generator) == 0 ? nil : $0 }
        world.start()
        for _ in 0..<240 {
            world.advance(seconds: 30)
            world.send("x", to: Self.peer)
        }
        #expect(world.failure == nil)
        #expect(world.atPeers.count > 190)
    }

    @Test func aBoundedNumberOfRequestsGoesToAServerThatCallsEveryNonceStale() throws {
        let world = try TURNWorld()
        world.onRequest = { bytes in
            guard let answer = try? self.challenge(bytes, code: 438) else { return nil }
            world.deliver(answer)
            return nil
        }
        world.start()
        #expect(world.failure?.reason == .nonceNeverFresh)
        #expect(world.requests[.allocate] == 2)
    }

    @Test func aServerWithAnotherRealmEachTimeIsGivenUp() throws {
        let world = try TURNWorld()
        var count = 0
        world.onRequest = { bytes in
            count += 1
            guard let answer = try? self.challenge(bytes, code: 401, realm: "realm \(count)") else { return nil }
            world.deliver(answer)
            return nil
        }
        world.start()
        #expect(world.failure?.reason == .wrongCredentials)
        #expect(world.requests[.allocate, default: 0] <= 8)
    }

    private func challenge(_ request: [UInt8], code: UInt16, realm: String = "example.org") throws -> [UInt8] {
        let (method, id) = try request.withUnsafeBytes { bytes in
            let view = try MessageView(bytes)
            return (view.type.method, view.transactionID)
        }
        return try message(method, .errorResponse, id) {
            $0.append(code: code)
            $0.append(.realm, Array(realm.utf8))
            $0.append(.nonce, Array("nonce".utf8))
        }
    }

    private func base64(_ bytes: [UInt8]) -> String {
        let alphabet = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
        var text = ""
        for start in stride(from: 0, to: bytes.count, by: 3) {
            let group = (0..<3).reduce(UInt32(0)) {
                $0 << 8 | (start + $1 < bytes.count ? UInt32(bytes[start + $1]) : 0)
            }
            for digit in 0..<4 {
                let isPadding = start + digit > bytes.count
                text.append(isPadding ? "=" : alphabet[Int(group >> UInt32(18 - 6 * digit)) & 63])
            }
        }
        return text
    }
}
