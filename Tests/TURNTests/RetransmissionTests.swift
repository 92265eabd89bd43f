import STUN
import TURN
import Testing

/// Requests that come twice: the second gets the answer of the first, byte for byte, and does nothing (RFC 8489 section
/// 6.3.1).
@Suite struct RetransmissionTests {
    private let peer = Endpoint("8.8.8.8", 4_000)

    /// Sends the same bytes now, again, and after a pause; all answers must be the same.
    private func thrice(
        _ client: Client,
        _ method: STUN.Method,
        pauseSeconds: UInt64 = 5,
        _ attributes: (inout MessageBuilder) -> Void
    ) throws -> Answer {
        if client.nonce.isEmpty { client.challenge() }
        let bytes = client.request(method, signing: client.signing(), fingerprint: true, attributes)
        let first = try #require(client.send(bytes).answer)
        #expect(client.send(bytes).answer == first)
        client.lab.advance(seconds: pauseSeconds)
        #expect(client.send(bytes).answer == first)
        #expect(first.types.last == .fingerprint)
        return first
    }

    @Test(arguments: [Client.Mode.legacy, .sha256])
    func everyRequestAnswersItsCopyAlikeAndActsOnce(_ mode: Client.Mode) throws {
        let lab = try Lab()
        let client = lab.client()
        client.mode = mode
        #expect(
            try thrice(client, .allocate) {
                $0.append(.requestedTransport, 0x1100_0000 as UInt32)
                $0.append(.evenPort, [0x80])
            }.isSuccess
        )
        #expect(lab.relays.requests.count == 1)
        #expect(lab.shared.quota.total == 1)
        #expect(try thrice(client, .createPermission) { $0.append(.xorPeerAddress, xor: peer) }.isSuccess)
        let bound = try thrice(client, .channelBind) {
            $0.append(.channelNumber, 0x4000_0000 as UInt32)
            $0.append(.xorPeerAddress, xor: peer)
        }
        #expect(bound.isSuccess)
        #expect(try thrice(client, .refresh) { $0.append(.lifetime, 900 as UInt32) }.lifetimeSeconds == 900)
        #expect(try thrice(client, .refresh) { $0.append(.lifetime, 0 as UInt32) }.lifetimeSeconds == 0)
        #expect(lab.relays.closings == 1)
        #expect(lab.relays.ended.count == 1)
        #expect(lab.engine.counters.allocationsMade == 1)
        #expect(try thrice(client, .binding) { _ in }.isSuccess)
    }

    @Test func aCopyProlongsNothing() throws {
        let lab = try Lab { $0.nonceLifetimeSeconds = 3_600 }
        let client = lab.client()
        _ = client.allocate(lifetimeSeconds: 3_600)
        _ = try thrice(client, .createPermission, pauseSeconds: 100) { $0.append(.xorPeerAddress, xor: peer) }
        lab.advance(seconds: 199)
        #expect(client.indicate(peer).forward != nil)
        lab.advance(seconds: 2)
        #expect(client.indicate(peer).drop == .noPermission)
        _ = try thrice(client, .refresh, pauseSeconds: 100) { $0.append(.lifetime, 600 as UInt32) }
        lab.advance(seconds: 502)
        #expect(lab.engine.allocationCount == 0)
    }

    @Test func refusalsAnswerTheirCopiesAlikeToo() throws {
        let lab = try Lab()
        let client = lab.client()
        _ = client.allocate()
        #expect(
            try thrice(client, .createPermission) { $0.append(.xorPeerAddress, xor: Endpoint("10.0.0.1", 1)) }.error
                == 403
        )
        #expect(try thrice(client, .createPermission) { _ in }.error == 400)
        #expect(try thrice(client, .channelBind) { $0.append(.channelNumber, 0 as UInt32) }.error == 400)
        #expect(try thrice(client, .refresh) { $0.append(.requestedAddressFamily, [2, 0, 0, 0]) }.error == 443)
        #expect(try thrice(client, .allocate) { $0.append(.requestedTransport, 0x1100_0000 as UInt32) }.error == 437)
    }

    @Test func aLateCopyOfAnEndingRefreshSparesTheNextAllocation() throws {
        let lab = try Lab()
        let client = lab.client()
        _ = client.allocate()
        let ending = client.request(.refresh, signing: client.signing()) { $0.append(.lifetime, 0 as UInt32) }
        let first = try #require(client.send(ending).answer)
        #expect(client.allocate()?.isSuccess == true)
        #expect(client.send(ending).answer == first)
        #expect(lab.engine.allocationCount == 1)
        #expect(lab.relays.open.count == 1)
        // A client retransmits for 40 seconds; later it is a new request.
        lab.advance(seconds: 41)
        #expect(client.send(ending).answer?.isSuccess == true)
        #expect(lab.engine.allocationCount == 0)
    }

    @Test func aCopyOfAFamilysEndIsAnsweredAlikeAfterOtherRequests() throws {
        let lab = try Lab()
        lab.relays.addresses[.ipv6] = FakeRelays.Address(
            inside: IPAddress("2600:1::5"),
            advertised: IPAddress("2600:1::5")
        )
        let client = lab.client()
        _ = client.allocate { $0.append(.additionalAddressFamily, [2, 0, 0, 0]) }
        let ending = client.request(.refresh, signing: client.signing()) {
            $0.append(.lifetime, 0 as UInt32)
            $0.append(.requestedAddressFamily, [2, 0, 0, 0])
        }
        let first = try #require(client.send(ending).answer)
        #expect(first.isSuccess)
        #expect(client.permit([peer])?.isSuccess == true)
        #expect(client.send(ending).answer == first)
        #expect(lab.relays.closings == 1)
        #expect(client.indicate(peer).forward != nil)
    }

    @Test func endingsAreRememberedForTheClientThatSentThem() throws {
        let lab = try Lab()
        let first = lab.client(at: Endpoint("198.51.100.7", 1_024))
        let second = lab.client(at: Endpoint("198.51.100.7", 1_025))
        let transaction = first.newTransaction()
        _ = first.allocate()
        _ = second.allocate()
        #expect(first.refresh(0, transaction: transaction)?.isSuccess == true)
        #expect(second.refresh(0, transaction: transaction)?.isSuccess == true)
        #expect(lab.engine.allocationCount == 0)
        #expect(second.refresh(600, transaction: transaction)?.error == 437)
    }
}
