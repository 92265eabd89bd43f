import NIOCore
import NIOEmbedded
import NIOWebSocket
import Testing

@testable import Gateway

/// The pipeline behind the upgrade, on a channel without a socket and with a clock that is moved by hand.
struct WebSocketTests {
    @Test func aMessageInFragmentsArrivesWholeWithAPingBetween() throws {
        let peer = try EmbeddedPeer()
        try peer.send(frame(0x01, "hel"))
        try peer.send(frame(0x89, "?"))
        try peer.send(frame(0x80, "lo"))
        #expect(peer.delegate.texts == ["hello"])
        #expect(try peer.sent() == [Sent(opcode: 0x8A, payload: Array("?".utf8))])
    }

    @Test(
        arguments: [
            (frame(0xC1, "x"), 1002), (frame(0x83, ""), 1002), (frame(0x80, "x"), 1002), (frame(0x09, "x"), 1002),
            (frame(0x89, String(repeating: "x", count: 126)), 1002), ([0x81, 0x01, 0x61], 1002),
            ([0x81, 0xFF, 0x80, 0, 0, 0, 0, 0, 0, 0], 1002),
            ([0x81, 0xFF, 0x7F, 255, 255, 255, 255, 255, 255, 255], 1009),
            ([0x81, 0xFE, 0x04, 0x01], 1009), (frame(0x88, "x"), 1002), (frame(0x01, "a") + frame(0x81, "b"), 1002),
            (frame(0x01, String(repeating: "a", count: 1_000)) + [0x80, 0x99], 1009),
        ] as [([UInt8], UInt16)]
    )
    func whatBreaksARuleEndsWithItsCode(_ bytes: [UInt8], code: UInt16) throws {
        let peer = try EmbeddedPeer()
        try peer.send(bytes)
        #expect(try peer.sent().last?.closeCode == code)
        #expect(peer.delegate.end == .byServer)
    }

    @Test func fragmentsAreCountedThoughTheyAreEmpty() throws {
        let peer = try EmbeddedPeer()
        try peer.send(frame(0x01, ""))
        for _ in 1..<GatewayLimits.fragments { try peer.send(frame(0x00, "")) }
        #expect(try peer.sent().isEmpty)
        try peer.send(frame(0x00, ""))
        #expect(try peer.sent().last?.closeCode == 1008)
    }

    @Test func aPeerThatSaysGoodbyeHearsItsCodeAndNothingMoreIsTaken() throws {
        let peer = try EmbeddedPeer()
        try peer.send(frame(0x88, [0x0F, 0xA1]) + frame(0x81, "late"))
        #expect(try peer.sent().map(\.closeCode) == [4001])
        #expect(peer.delegate.texts.isEmpty && peer.delegate.end == .byClient(4001))
        #expect(!peer.channel.isActive)
    }

    @Test func silenceIsAskedAboutAndThenEnded() throws {
        let peer = try EmbeddedPeer()
        peer.delegate.ping = ByteBuffer(integer: 7 as UInt64)
        peer.advance(.seconds(30))
        #expect(try peer.sent() == [Sent(opcode: 0x89, payload: [0, 0, 0, 0, 0, 0, 0, 7])])
        try peer.send(frame(0x8A, [0, 0, 0, 0, 0, 0, 0, 7]))
        #expect(peer.delegate.pongs.count == 1)
        // From then on, nothing: it is asked once more, and is gone 75 seconds later at the latest.
        peer.advance(.seconds(45))
        #expect(peer.channel.isActive)
        peer.advance(.seconds(30))
        #expect(!peer.channel.isActive && peer.delegate.end == .lost)
    }

    @Test func whatAClientDoesNotAnswerAfterACloseIsCutOff() throws {
        let peer = try EmbeddedPeer()
        peer.handler.close(1008, "policy")
        #expect(peer.channel.isActive)
        peer.advance(.seconds(2))
        #expect(!peer.channel.isActive)
    }

    @Test func pongsThatThePingsAskedForAreNoFlood() throws {
        let peer = try EmbeddedPeer()
        let asked = GatewayLimits.controlBurst * 3
        for _ in 0..<asked {
            peer.handler.ping(ByteBuffer())
            peer.handler.flush()
            try peer.send(frame(0x8A, ""))
        }
        #expect(peer.delegate.pongs.count == asked && peer.handler.isOpen)
        // What nobody asked for is counted.
        for _ in 0...GatewayLimits.controlBurst { try peer.send(frame(0x8A, "")) }
        #expect(try peer.sent().last?.closeCode == 1008)
    }

    @Test func theMaskIsTakenOffWhateverTheLengthAndHoweverTheFrameIsCut() throws {
        let peer = try EmbeddedPeer()
        let texts = (0...70).map { length in String((0..<length).map { Character(UnicodeScalar(UInt8(97 + $0 % 26))) })
        }
        for text in texts { try peer.send(frame(0x81, text)) }
        #expect(peer.delegate.texts == texts)
        peer.delegate.texts = []
        try peer.send(texts.flatMap { frame(0x81, $0) })
        #expect(peer.delegate.texts == texts)
        peer.delegate.texts = []
        for byte in texts.prefix(20).flatMap({ frame(0x81, $0) }) { try peer.send([byte]) }
        #expect(peer.delegate.texts == Array(texts.prefix(20)))
    }

    /// So that they arrive together or not: what a client has of half a record it cannot open.
    @Test func framesLeaveTogetherAsFarAsARecordOfTLSHoldsThem() throws {
        let peer = try EmbeddedPeer()
        let sizes = [100, 16_000, 280, 200, 20_000, 50, 16_380, 3]
        for size in sizes { peer.handler.send(text: Array(repeating: 0x61, count: size)) }
        peer.handler.ping(ByteBuffer(string: "?"))
        peer.handler.flush()
        var writes: [Int] = []
        while let bytes = try peer.channel.readOutbound(as: ByteBuffer.self) { writes.append(bytes.readableBytes) }
        // The frames' heads are 2 or 4 bytes long.
        #expect(writes == [102 + 16_004, 284 + 204, 20_004, 52, 16_384, 5 + 3])
    }

    @Test func afterACutNothingMoreIsSentAndTheEndIsALoss() throws {
        let peer = try EmbeddedPeer()
        peer.channel.pipeline.fireUserInboundEventTriggered(GatewayEvent.isCut)
        peer.handler.send(text: Array("late".utf8), sequence: 1)
        peer.handler.close(1001, "late")
        peer.handler.flush()
        peer.advance(.seconds(200))
        #expect(try peer.sent().isEmpty && peer.delegate.end == nil, "it is not known what arrived")
        peer.channel.close(promise: nil)
        #expect(peer.delegate.end == .lost && peer.handler.deliveredThrough == nil)
    }

    @Test func aStrangersMessageIsShorterThanOneOfWhoIsKnown() throws {
        let stranger = try EmbeddedPeer(anteroomBytes: 100)
        try stranger.send(frame(0x81, String(repeating: "a", count: 101)))
        #expect(try stranger.sent().last?.closeCode == 1009)

        let peer = try EmbeddedPeer(anteroomBytes: 100)
        try peer.send(frame(0x81, String(repeating: "a", count: 100)))
        peer.handler.admit()
        try peer.send(frame(0x81, String(repeating: "b", count: 1_024)))
        #expect(peer.delegate.texts.map(\.count) == [100, 1_024])
        try peer.send(frame(0x81, String(repeating: "c", count: 1_025)))
        #expect(try peer.sent().last?.closeCode == 1009)
    }

    @Test func pingsAreAnsweredUpToABudget() throws {
        let peer = try EmbeddedPeer()
        for _ in 0..<(GatewayLimits.controlBurst + 1) { try peer.send(frame(0x89, "")) }
        let sent = try peer.sent()
        #expect(sent.count { $0.opcode == 0x8A } == GatewayLimits.controlBurst)
        #expect(sent.last?.closeCode == 1008)
    }
}

/// What the server sent.
struct Sent: Equatable {
    let opcode: UInt8
    let payload: [UInt8]

    var closeCode: UInt16? {
        opcode == 0x88 && payload.count >= 2 ? UInt16(payload[0]) << 8 | UInt16(payload[1]) : nil
    }
}

final class RecordingDelegate: WebSocketDelegate {
    var texts: [String] = []
    var pongs: [ByteBuffer] = []
    var end: WebSocketEnd?
    var ping = ByteBuffer()

    func opened(_ socket: WebSocketHandler) {}
    func received(_ text: ByteBuffer, on socket: WebSocketHandler) { texts.append(String(buffer: text)) }
    func received(binary: ByteBuffer, on socket: WebSocketHandler) {}
    func ponged(_ payload: ByteBuffer, on socket: WebSocketHandler) { pongs.append(payload) }
    func paused(_ socket: WebSocketHandler) {}
    func pingPayload(_ socket: WebSocketHandler) -> ByteBuffer { ping }
    func closed(_ socket: WebSocketHandler, _ end: WebSocketEnd) { self.end = end }
}

/// A channel with the WebSocket's handlers, for messages of at most 1,024 bytes.
final class EmbeddedPeer {
    let channel = EmbeddedChannel()
    let delegate = RecordingDelegate()
    let handler: WebSocketHandler

    init(anteroomBytes: Int? = nil) throws {
        let allowance = MessageAllowance(1_024, anteroom: anteroomBytes)
        handler = WebSocketHandler(delegate, fragments: GatewayLimits.fragments, allowance: allowance)
        let decoder = ByteToMessageHandler(WebSocketDecoder(allowance))
        try channel.pipeline.syncOperations.addHandlers([decoder, handler])
        try channel.connect(to: SocketAddress(ipAddress: "127.0.0.1", port: 1)).wait()
    }

    func send(_ bytes: [UInt8]) throws {
        guard channel.isActive else { return }
        // A rule that is broken ends the connection, and NIO tells the writer of it besides.
        _ = try? channel.writeInbound(ByteBuffer(bytes: bytes))
    }

    func advance(_ time: TimeAmount) { channel.embeddedEventLoop.advanceTime(by: time) }

    /// Frames since the last call.
    func sent() throws -> [Sent] {
        var frames: [Sent] = []
        while var bytes = try channel.readOutbound(as: ByteBuffer.self) {
            // Frames leave together where they are flushed together.
            while let opcode = bytes.readInteger(as: UInt8.self), let length = bytes.readInteger(as: UInt8.self),
                length <= 125, let payload = bytes.readBytes(length: Int(length))
            {
                frames.append(Sent(opcode: opcode, payload: payload))
            }
        }
        return frames
    }
}

/// A frame as a client sends it, masked.
func frame(_ first: UInt8, _ payload: [UInt8]) -> [UInt8] {
    let key: [UInt8] = [0x12, 0x34, 0x56, 0x78]
    let length: [UInt8] =
        payload.count <= 125
        ? [0x80 | UInt8(payload.count)] : [0xFE, UInt8(payload.count >> 8), UInt8(payload.count & 255)]
    return [first] + length + key + payload.enumerated().map { $1 ^ key[$0 % 4] }
}

func frame(_ first: UInt8, _ payload: String) -> [UInt8] { frame(first, Array(payload.utf8)) }
