import STUN
import TURN
import TestSupport
import Testing

/// PC: what passes between client and peer, and what does not.
@Suite struct ForwardTests {
    private let peer = Endpoint("8.8.8.8", 4_000)

    private func allocated(_ configure: (inout Configuration) -> Void = { _ in }) throws -> Client {
        let client = try Lab(configure).client()
        try #require(client.allocate()?.isSuccess == true)
        return client
    }

    @Test func pc01_nothingLeavesWithoutAPermission() throws {
        let client = try allocated()
        #expect(client.indicate(peer).drop == .noPermission)
        #expect(client.channelData(0x4000).drop == .unboundChannel)
        _ = client.permit([Endpoint("8.8.8.9", 4_000)])
        #expect(client.indicate(peer).drop == .noPermission)
    }

    @Test func pc02_nothingEntersWithoutAPermission() throws {
        let client = try allocated()
        let relay = try #require(client.relay())
        #expect(client.lab.receive(from: peer, at: relay.local)?.drop == .peerNotPermitted)
        _ = client.permit([peer])
        #expect(client.lab.receive(from: peer, at: relay.local)?.peer == peer)
        #expect(client.lab.receive(from: Endpoint("8.8.8.9", 4_000), at: relay.local)?.drop == .peerNotPermitted)
        // A v4-mapped source is another address than the one permitted.
        let mapped = Endpoint(address: IPAddress(high: 0, low: peer.address.low), port: peer.port)
        #expect(client.lab.receive(from: mapped, at: relay.local)?.drop == .peerNotPermitted)
    }

    @Test func sendTakesThePayloadWhereItLies() throws {
        let client = try allocated()
        let relay = try #require(client.relay())
        _ = client.permit([peer])
        for length in [0, 1, 2, 3, 4, 5, 1_200, 65_400] {
            let data = (0..<length).map { UInt8(truncatingIfNeeded: $0 &* 31) }
            let outcome = client.indicate(peer, data)
            #expect(outcome.payload == data)
            #expect(outcome.forward?.destination == peer)
            #expect(outcome.forward?.descriptor == relay.descriptor)
        }
    }

    @Test func pc17_aSendIndicationNeedsAddressAndData() throws {
        let client = try allocated()
        _ = client.permit([peer])
        func outcome(_ attributes: (inout MessageBuilder) -> Void) -> Lab.Outcome {
            client.send(client.message(MessageType(.send, .indication), attributes))
        }
        #expect(outcome { $0.append(.xorPeerAddress, xor: peer) }.drop == .badIndication)
        #expect(outcome { $0.append(.data, [1]) }.drop == .badIndication)
        #expect(outcome { _ in }.drop == .badIndication)
        let twice = outcome {
            $0.append(.data, [1])
            $0.append(.xorPeerAddress, xor: peer)
            $0.append(.data, [2])
        }
        #expect(twice.payload == [1])
        let empty = outcome {
            $0.append(.xorPeerAddress, xor: peer)
            $0.append(.data, [])
        }
        #expect(empty.payload == [])
    }

    @Test func sp16_anUnknownRequiredAttributeDropsAnIndicationAndAnOptionalOneDoesNot() throws {
        let client = try allocated()
        _ = client.permit([peer])
        for (type, passes) in [(0x7FFF, false), (0x0000, false), (0x0001, false), (0xC0FF, true)] as [(UInt16, Bool)] {
            let outcome = client.send(
                client.message(MessageType(.send, .indication)) {
                    $0.append(AttributeType(rawValue: type), [1])
                    $0.append(.xorPeerAddress, xor: peer)
                    $0.append(.data, [1])
                }
            )
            #expect((outcome.forward != nil) == passes)
            if !passes { #expect(outcome.drop == .badIndication) }
        }
    }

    @Test func sp17_ofTwoPeerAddressesTheFirstCounts() throws {
        let client = try allocated()
        let stranger = Endpoint("8.8.4.4", 1)
        _ = client.permit([peer])
        func outcome(_ peers: [Endpoint]) -> Lab.Outcome {
            client.send(
                client.message(MessageType(.send, .indication)) { builder in
                    for peer in peers { builder.append(.xorPeerAddress, xor: peer) }
                    builder.append(.data, [1])
                }
            )
        }
        #expect(outcome([stranger, peer]).drop == .noPermission)
        #expect(outcome([peer, stranger]).forward?.destination == peer)
    }

    @Test func pc12_aChannelOfAnotherOrOfNobodyIsSilent() throws {
        let client = try allocated()
        _ = client.bind(0x4000, peer)
        #expect(client.channelData(0x4001).drop == .unboundChannel)
        let stranger = client.lab.client("bob", at: Endpoint("198.51.100.9", 9_000))
        #expect(stranger.channelData(0x4000).drop == .noAllocation)
        _ = stranger.allocate()
        #expect(stranger.channelData(0x4000).drop == .unboundChannel)
    }

    @Test func pc13_aLengthBeyondTheDatagramNeverRelaysWhatHasNotCome() throws {
        let client = try allocated()
        _ = client.bind(0x4000, peer)
        for bytes in [
            hex("4000 8ab6 616263"), hex("4000 0004 616263"), hex("4000 ffff"), hex("4000 00"), hex("40"), [],
        ] {
            #expect(client.lab.receiveChannelData(bytes, from: client.tuple).drop == .badChannelData)
        }
    }

    @Test func pc14_onlyLengthBytesAreRelayed() throws {
        let client = try allocated()
        _ = client.bind(0x4000, peer)
        func payload(_ bytes: [UInt8]) -> [UInt8]? {
            client.lab.receiveChannelData(bytes, from: client.tuple).payload
        }
        #expect(payload(hex("4000 0000")) == [])
        #expect(payload(hex("4000 0000 616263")) == [])
        #expect(payload(hex("4000 0003 61626300")) == hex("616263"))
        #expect(payload(hex("4000 0001 616263")) == hex("61"))
    }

    @Test func pc16_aBoundChannelIsUsedAndOtherwiseAnIndication() throws {
        let client = try allocated()
        let lab = client.lab
        let relay = try #require(client.relay())
        _ = client.permit([peer])
        #expect(lab.receive(from: peer, at: relay.local)?.peer == peer)
        _ = client.bind(0x4000, peer)
        _ = client.bind(0x4001, Endpoint("8.8.8.8", 4_001))
        for _ in 0..<2 {
            #expect(lab.receive(from: peer, at: relay.local)?.channel == 0x4000)
            #expect(lab.receive(from: Endpoint("8.8.8.8", 4_001), at: relay.local)?.channel == 0x4001)
            #expect(lab.receive(from: Endpoint("8.8.8.8", 4_002), at: relay.local)?.peer == Endpoint("8.8.8.8", 4_002))
        }
    }

    @Test(arguments: [Endpoint("8.8.8.8", 4_000), Endpoint("2606:4700::1111", 443)])
    func aDataIndicationIsAMessageAroundThePayload(_ peer: Endpoint) throws {
        let lab = try Lab()
        for length in [0, 1, 2, 3, 4, 1_200] {
            let headerLength = Engine.indicationHeaderLength(peer.family)
            var bytes = [UInt8](repeating: 0xEE, count: headerLength)
            bytes.withUnsafeMutableBytes { buffer in
                guard let base = buffer.baseAddress else { return }
                lab.engine.writeIndicationHeader(peer: peer, length: length, at: base)
            }
            let data = [UInt8](repeating: 0x11, count: length)
            bytes += data + Array(repeating: 0, count: (4 - length % 4) % 4)
            let answer = try #require(Answer(bytes))
            #expect(answer.type == MessageType(.data, .indication))
            #expect(answer.types == [.xorPeerAddress, .data])
            #expect(answer.endpoints(.xorPeerAddress) == [peer])
            #expect(answer.value(.data) == data)
        }
    }

    @Test func trafficIsCountedForTheSummary() throws {
        let client = try allocated()
        let relay = try #require(client.relay())
        _ = client.bind(0x4000, peer)
        _ = client.indicate(peer, [1, 2, 3])
        _ = client.channelData(0x4000, [1, 2, 3, 4])
        _ = client.lab.receive(from: peer, at: relay.local, bytes: 100)
        _ = client.lab.receive(from: Endpoint("8.8.8.8", 9), at: relay.local, bytes: 10)
        _ = client.lab.receive(from: Endpoint("8.8.4.4", 9), at: relay.local, bytes: 10)
        client.lab.advance(seconds: 30)
        _ = client.refresh(0)
        let summary = try #require(client.lab.relays.ended.first?.summary)
        #expect(summary.traffic.packetsToPeers == 2 && summary.traffic.bytesToPeers == 7)
        #expect(summary.traffic.packetsToClient == 2 && summary.traffic.bytesToClient == 110)
        #expect(summary.durationSeconds == 30)
        #expect(summary.user == "alice")
        #expect(summary.relayed == relay.advertised)
    }
}
