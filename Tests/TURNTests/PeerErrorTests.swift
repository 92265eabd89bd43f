import STUN
import TURN
import Testing

/// RFC 8656 section 11.5: what of ICMP is told to a client, and in which form.
@Suite struct PeerErrorTests {
    private let peer = Endpoint("8.8.8.8", 4_000)
    private let peer6 = Endpoint("2606:4700::1111", 4_000)

    private func permitted(_ peers: [Endpoint]) throws -> Client {
        let relays = FakeRelays()
        let six = IPAddress("2a00:1::5")
        relays.addresses[.ipv6] = FakeRelays.Address(inside: six, advertised: six)
        let client = try Lab(relays: relays).client()
        try #require(client.allocate { $0.append(.additionalAddressFamily, 0x0200_0000 as UInt32) }?.isSuccess == true)
        try #require(client.permit(peers)?.isSuccess == true)
        return client
    }

    /// The answer to a report, parsed.
    private func told(_ client: Client, _ report: PeerErrorReport) -> Answer? {
        var bytes = [UInt8](repeating: 0xA5, count: 100)
        let length = client.lab.peerError(report, of: client.tuple, into: &bytes)
        return length.flatMap { Answer(Array(bytes.prefix($0))) }
    }

    @Test func theIndicationHasPeerTypeAndCode() throws {
        let client = try permitted([peer, peer6])
        let four = try #require(told(client, PeerErrorReport(destination: peer, type: 3, code: 3, mtu: 0)))
        #expect(four.type == MessageType(.data, .indication))
        #expect(four.endpoints(.xorPeerAddress) == [peer])
        #expect(four.value(.data) == nil)
        // Seven bits of type and nine of code: 3 << 9 | 3.
        #expect(four.value(.icmp) == [0, 0, 0x06, 0x03, 0, 0, 0, 0])
        let six = try #require(told(client, PeerErrorReport(destination: peer6, type: 1, code: 4, mtu: 0)))
        #expect(six.endpoints(.xorPeerAddress) == [peer6])
        #expect(six.value(.icmp) == [0, 0, 0x02, 0x04, 0, 0, 0, 0])
    }

    @Test func theMTUIsToldWhereTheErrorIsAboutIt() throws {
        let client = try permitted([peer, peer6])
        func value(_ destination: Endpoint, _ type: UInt8, _ code: UInt8) -> [UInt8]? {
            told(client, PeerErrorReport(destination: destination, type: type, code: code, mtu: 1_280))?.value(.icmp)
        }
        #expect(value(peer, 3, 4) == [0, 0, 0x06, 0x04, 0, 0, 5, 0])
        #expect(value(peer6, 2, 0) == [0, 0, 0x04, 0x00, 0, 0, 5, 0])
        // Elsewhere the field has to be zero, whatever came in it.
        #expect(value(peer, 3, 1) == [0, 0, 0x06, 0x01, 0, 0, 0, 0])
        #expect(value(peer, 11, 0) == [0, 0, 0x16, 0x00, 0, 0, 0, 0])
        #expect(value(peer6, 1, 0) == [0, 0, 0x02, 0x00, 0, 0, 0, 0])
        #expect(told(client, PeerErrorReport(tooLongFor: peer, mtu: 1_280))?.value(.icmp) == value(peer, 3, 4))
        #expect(told(client, PeerErrorReport(tooLongFor: peer6, mtu: 1_280))?.value(.icmp) == value(peer6, 2, 0))
    }

    @Test func otherTypesAreNotTold() throws {
        let client = try permitted([peer, peer6])
        let told4 = (0...255).filter { type in
            client.lab.advance(seconds: 1)
            return told(client, PeerErrorReport(destination: peer, type: UInt8(type), code: 0, mtu: 0)) != nil
        }
        #expect(told4 == [3, 11])
        _ = client.permit([peer, peer6])
        let told6 = (0...255).filter { type in
            client.lab.advance(seconds: 1)
            return told(client, PeerErrorReport(destination: peer6, type: UInt8(type), code: 0, mtu: 0)) != nil
        }
        #expect(told6 == [1, 2, 3])
    }

    @Test func onlyPeersWithALivePermissionCount() throws {
        let client = try permitted([peer])
        let report = PeerErrorReport(destination: peer, type: 3, code: 3, mtu: 0)
        var stranger = report
        stranger.destination = Endpoint("8.8.8.9", 4_000)
        #expect(told(client, stranger) == nil)
        #expect(told(client, report) != nil)
        client.lab.advance(seconds: Limits.permissionLifetimeSeconds)
        #expect(told(client, report) == nil)
        stranger.destination = Endpoint(address: peer.address, port: 0)
        #expect(told(client, stranger) == nil)
    }

    @Test func anAllocationIsToldSoMuchInASecond() throws {
        let client = try permitted([peer])
        let report = PeerErrorReport(destination: peer, type: 3, code: 3, mtu: 0)
        for _ in 0..<3 {
            let count = (0..<100).count { _ in told(client, report) != nil }
            #expect(count == Int(Limits.peerErrorsPerSecond))
            client.lab.advance(seconds: 1)
        }
        // Its own count, and no part in the packets' sum.
        let counters = client.lab.engine.counters
        #expect(counters.peerErrors == 300)
        #expect(counters.peerErrorsTold == 30)
        #expect(counters.packetsDropped == 0)
    }
}
