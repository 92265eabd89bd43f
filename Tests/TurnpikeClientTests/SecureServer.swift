import Foundation
import NIOCore
import NIOHTTP1
import NIOPosix
import NIOWebSocket
import OpenSSLCrypto
import STUN

/// A server on loopback with a certificate of its own for `localhost`.
struct SecureServer {
    enum Service: Sendable {
        /// Sends everything back.
        case echo
        /// Says goodbye at the first byte.
        case hangUp
        /// A WebSocket at `/echo` that sends texts back, closes with 4401 at `bye`, and does not answer pings.
        case webSocket
    }

    let endpoint: Endpoint
    let context: TLSContext
    /// Of the certificate, in PEM.
    let certificateFile: String
    private let channel: any Channel
    private let directory: URL

    init(_ service: Service, isSecure: Bool = true, hosts: [String] = ["localhost"]) async throws {
        directory = FileManager.default.temporaryDirectory.appending(path: "turnpike-client-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
        let made = try SelfSignedCertificate.make(hosts: hosts, addresses: [])
        let (certificate, key) = (directory.appending(path: "a.pem"), directory.appending(path: "a.key"))
        try Data(made.certificatePEM.utf8).write(to: certificate)
        try Data(made.privateKeyPEM.utf8).write(to: key)
        certificateFile = certificate.path
        let context = try TLSContext(
            kind: .tls,
            certificateChainPath: certificate.path,
            privateKeyPath: key.path,
            nowSeconds: Int64(Date().timeIntervalSince1970),
            applicationProtocols: ["http/1.1", "stun.turn"]
        )
        self.context = context
        channel = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    let pipeline = channel.pipeline.syncOperations
                    if isSecure { try pipeline.addHandler(ServerTLSHandler(TLSSession(context))) }
                    switch service {
                    case .echo: try pipeline.addHandler(EchoHandler(hangsUp: false))
                    case .hangUp: try pipeline.addHandler(EchoHandler(hangsUp: true))
                    case .webSocket: try Self.addWebSocket(pipeline)
                    }
                }
            }
            .bind(host: "127.0.0.1", port: 0).get()
        endpoint = Endpoint(
            address: IPAddress(v4: 0x7F00_0001),
            port: UInt16(truncatingIfNeeded: channel.localAddress?.port ?? 0)
        )
    }

    func stop() async throws {
        try await channel.close()
        try FileManager.default.removeItem(at: directory)
    }

    private static func addWebSocket(_ pipeline: ChannelPipeline.SynchronousOperations) throws {
        let upgrader = NIOWebSocketServerUpgrader(
            maxFrameSize: 1 << 20,
            shouldUpgrade: { channel, head in
                channel.eventLoop.makeSucceededFuture(head.uri == "/echo" ? HTTPHeaders() : nil)
            },
            upgradePipelineHandler: { channel, _ in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(WebSocketEchoHandler())
                }
            }
        )
        let refusal = RefusalHandler()
        let bound = NIOLoopBound(refusal, eventLoop: pipeline.eventLoop)
        try pipeline.configureHTTPServerPipeline(
            withServerUpgrade: (
                upgraders: [upgrader],
                completionHandler: { context in context.pipeline.syncOperations.removeHandler(bound.value, promise: nil)
                }
            )
        )
        try pipeline.addHandler(refusal)
    }
}

/// The server's side of TLS, for tests: records below, plaintext above.
private final class ServerTLSHandler: ChannelDuplexHandler {
    typealias InboundIn = ByteBuffer
    typealias InboundOut = ByteBuffer
    typealias OutboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private let session: TLSSession

    init(_ session: TLSSession) { self.session = session }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        unwrapInboundIn(data).withUnsafeReadableBytes { session.receive($0) }
        session.advance()
        flush(context)
        while session.state == .established {
            var room = context.channel.allocator.buffer(capacity: 16_384)
            room.writeWithUnsafeMutableBytes(minimumWritableBytes: 16_384) { max(session.read(into: $0), 0) }
            guard room.readableBytes > 0 else { break }
            context.fireChannelRead(wrapInboundOut(room))
        }
        flush(context)
        if session.state == .failed || session.state == .closed { context.close(promise: nil) }
    }

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        _ = unwrapOutboundIn(data).withUnsafeReadableBytes { session.write($0) }
        flush(context)
        promise?.succeed()
    }

    func close(context: ChannelHandlerContext, mode: CloseMode, promise: EventLoopPromise<Void>?) {
        session.shutdown()
        flush(context)
        context.close(mode: mode, promise: promise)
    }

    private func flush(_ context: ChannelHandlerContext) {
        guard session.pendingOutput > 0 else { return }
        var sealed = context.channel.allocator.buffer(capacity: session.pendingOutput)
        sealed.writeWithUnsafeMutableBytes(minimumWritableBytes: session.pendingOutput) {
            session.takeOutput(into: $0)
        }
        context.writeAndFlush(wrapOutboundOut(sealed), promise: nil)
    }
}

private final class EchoHandler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer

    private let hangsUp: Bool

    init(hangsUp: Bool) { self.hangsUp = hangsUp }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        if hangsUp { context.close(promise: nil) } else { context.writeAndFlush(data, promise: nil) }
    }
}

private final class WebSocketEchoHandler: ChannelInboundHandler {
    typealias InboundIn = WebSocketFrame
    typealias OutboundOut = WebSocketFrame

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let frame = unwrapInboundIn(data)
        let text = String(buffer: frame.unmaskedData)
        switch frame.opcode {
        case .text where text == "bye":
            var code = ByteBuffer()
            code.writeInteger(UInt16(4401))
            context.writeAndFlush(
                wrapOutboundOut(WebSocketFrame(fin: true, opcode: .connectionClose, data: code)),
                promise: nil
            )
        case .text where text == "bad":
            let bytes = ByteBuffer(bytes: [0xC3, 0x28])
            context.writeAndFlush(wrapOutboundOut(WebSocketFrame(fin: true, opcode: .text, data: bytes)), promise: nil)
        case .text:
            // In two pieces, as RFC 6455 section 5.4 lets any server do.
            var head = frame.unmaskedData
            let tail = head.readSlice(length: head.readableBytes / 2) ?? ByteBuffer()
            context.write(wrapOutboundOut(WebSocketFrame(fin: false, opcode: .text, data: tail)), promise: nil)
            context.writeAndFlush(
                wrapOutboundOut(WebSocketFrame(fin: true, opcode: .continuation, data: head)),
                promise: nil
            )
        default: break
        }
    }
}

/// Answers 404 to what is no upgrade.
private final class RefusalHandler: ChannelInboundHandler, RemovableChannelHandler {
    typealias InboundIn = HTTPServerRequestPart
    typealias OutboundOut = HTTPServerResponsePart

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard case .end = unwrapInboundIn(data) else { return }
        let head = HTTPResponseHead(version: .http1_1, status: .notFound, headers: ["Content-Length": "0"])
        context.write(wrapOutboundOut(.head(head)), promise: nil)
        context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: nil)
    }
}
