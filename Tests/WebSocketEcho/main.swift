import Foundation
import Gateway
import HTTPTypes
import NIOCore
import NIOPosix
import NIOWebSocket

// Sends every message back, over plain TCP on loopback: websocket-echo. Prints its port.

struct EchoAnswering: HTTPAnswering {
    func answer(_ request: HTTPRequest, body: ByteBuffer, from source: ClientSource) async -> HTTPOutcome {
        do throws(WebSocketHandshake.Refusal) {
            let handshake = try WebSocketHandshake(request)
            // The cases of the suites go further than any client of ours may.
            return .upgrade(
                WebSocketAcceptance(handshake: handshake, messageBytes: 1 << 26, fragments: 1 << 20) { _ in
                    Echo()
                }
            )
        } catch {
            return .answer(error.answer)
        }
    }
}

final class Echo: WebSocketDelegate {
    func opened(_ socket: WebSocketHandler) {}

    func received(_ text: ByteBuffer, on socket: WebSocketHandler) {
        socket.send(OutgoingFrame.make(.text, text, ByteBufferAllocator()))
    }

    func received(binary: ByteBuffer, on socket: WebSocketHandler) {
        socket.send(OutgoingFrame.make(.binary, binary, ByteBufferAllocator()))
    }

    func paused(_ socket: WebSocketHandler) {}

    func closed(_ socket: WebSocketHandler, _ end: WebSocketEnd) {}
}

let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
let channel = try await ServerBootstrap(group: group)
    .childChannelOption(.writeBufferWaterMark, value: .init(low: 1 << 20, high: 1 << 28))
    .childChannelInitializer { channel in
        channel.eventLoop.makeCompletedFuture {
            let handler = HTTPHandler(source: ClientSource(channel.remoteAddress), answering: EchoAnswering())
            try channel.pipeline.syncOperations.addHandler(handler)
        }
    }
    .bind(host: "127.0.0.1", port: 0)
    .get()
print(channel.localAddress?.port ?? 0)
fflush(nil)
try await channel.closeFuture.get()
