import Foundation
import NIOCore
import NIOPosix
import OpenSSLCrypto
import STUN
import TestSupport
import Testing

@testable import TurnpikeClient

/// A server that grants the upgrade and then says anything.
@Suite struct WebSocketFuzzTests {
    @Test func changedFramesEndAConnectionAtWorst() async throws {
        var random = SeededGenerator(for: "changedFramesEndAConnectionAtWorst")
        let rounds = fuzzRounds(3_000)
        var (sent, opened, texts) = (0, 0, 0)
        while sent < rounds {
            let script = Script(seed: random.next())
            sent += script.frames
            let outcome = try await talk(script)
            #expect(outcome.closings == 1, "it ends once")
            if outcome.opened { opened += 1 }
            texts += outcome.texts
        }
        #expect(opened > 0 && texts > 0, "\(opened) opened, \(texts) texts")
    }

    private struct Outcome: Sendable {
        var opened = false
        var texts = 0
        var closings = 0
    }

    private func talk(_ script: Script) async throws -> Outcome {
        let server = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(ScriptHandler(script))
                }
            }
            .bind(host: "127.0.0.1", port: 0).get()
        let port = UInt16(truncatingIfNeeded: server.localAddress?.port ?? 0)
        let outcome: Outcome = try await onLoop { network, done in
            var outcome = Outcome()
            let request = WebSocketRequest(host: "127.0.0.1", port: port, path: "/", isSecure: false)
            var held: (any WebSocketLink)?
            held = network.openWebSocket(request) { event in
                switch event {
                case .opened:
                    outcome.opened = true
                    held?.send("{}")
                case .text: outcome.texts += 1
                case .closed:
                    outcome.closings += 1
                    // A second one would come in the same turn of the loop, or the next.
                    network.loop.assumeIsolated().execute { done(outcome) }
                }
            }
            return [held]
        }
        try await server.close()
        return outcome
    }
}

/// What one connection of the server says.
private struct Script: Sendable {
    let seed: UInt64
    let frames: Int
    let hasChangedHead: Bool

    init(seed: UInt64) {
        self.seed = seed
        var random = SeededGenerator(seed: seed)
        frames = .random(in: 20...200, using: &random)
        hasChangedHead = Int.random(in: 0..<8, using: &random) == 0
    }

    func bytes(answering key: String) -> (head: [UInt8], frames: [UInt8]) {
        var random = SeededGenerator(seed: seed &+ 1)
        let accept = Data(Digest.sha1(Array("\(key)258EAFA5-E914-47DA-95CA-C5AB0DC85B11".utf8))).base64EncodedString()
        var head = Array(
            ("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                + "Date: Mon, 23 Nov 2026 06:00:00 GMT\r\nSec-WebSocket-Accept: \(accept)\r\n\r\n").utf8
        )
        if hasChangedHead { mutate(&head, &random) }
        var stream: [UInt8] = []
        let share = Int.random(in: 2...200, using: &random)
        for _ in 0..<frames {
            var frame = Self.frame(&random)
            if Int.random(in: 0..<share, using: &random) == 0 { mutate(&frame, &random) }
            stream += frame
        }
        return (head, stream)
    }

    /// Of any kind and length, whole or in parts.
    private static func frame(_ random: inout SeededGenerator) -> [UInt8] {
        let opcodes: [UInt8] = [1, 1, 1, 1, 1, 1, 1, 9, 9, 10, 10, 0]
        var opcode = opcodes.randomElement(using: &random) ?? 1
        var isEnd: UInt8 = 0x80
        if Int.random(in: 0..<200, using: &random) == 0 { opcode = .random(in: 0...15, using: &random) }
        if Int.random(in: 0..<200, using: &random) == 0 { isEnd = .random(in: 0...15, using: &random) << 4 }
        if opcode == 0 { (opcode, isEnd) = (1, 0x80) }
        let lengths = [0, 1, 2, 125, 126, 127, 1_000]
        var payload = Array(repeating: UInt8(ascii: "x"), count: lengths.randomElement(using: &random) ?? 0)
        if opcode > 7 { payload = Array(payload.prefix(125)) }
        let length = payload.count
        let size: [UInt8] = length < 126 ? [UInt8(length)] : [126, UInt8(length >> 8), UInt8(length & 0xFF)]
        // In two parts, with a ping between.
        if opcode == 1, Int.random(in: 0..<8, using: &random) == 0, length < 126 {
            return [0x01] + size + payload + [0x89, 0x00, 0x80] + size + payload
        }
        return [isEnd | opcode] + size + payload
    }
}

private final class ScriptHandler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private let script: Script
    private var head = ""
    private var rest: [UInt8]?

    init(_ script: Script) { self.script = script }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let bytes = unwrapInboundIn(data)
        if let rest {
            // The client's first frame says that it has taken the upgrade.
            self.rest = []
            if !rest.isEmpty { end(context, with: rest) }
            return
        }
        head += String(buffer: bytes)
        guard head.hasSuffix("\r\n\r\n") else { return }
        let lines = head.split(whereSeparator: \.isNewline).map { $0.split(separator: ":", maxSplits: 1) }
        let key = lines.first { $0.count == 2 && $0[0].lowercased() == "sec-websocket-key" }?[1] ?? ""
        let (answer, frames) = script.bytes(answering: key.trimmingCharacters(in: .whitespaces))
        rest = frames
        // A client that cannot read the head may wait for more of it.
        if script.hasChangedHead { return end(context, with: answer) }
        context.writeAndFlush(wrapOutboundOut(ByteBuffer(bytes: answer)), promise: nil)
    }

    private func end(_ context: ChannelHandlerContext, with bytes: [UInt8]) {
        let bound = NIOLoopBound(context, eventLoop: context.eventLoop)
        context.writeAndFlush(wrapOutboundOut(ByteBuffer(bytes: bytes))).assumeIsolated().whenComplete { _ in
            bound.value.close(promise: nil)
        }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }
}
