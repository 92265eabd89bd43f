import NIOCore
import OpenSSLCrypto

/// TLS as a client on a channel of NIO: records on the side of the socket, plaintext on the other. The channel is
/// active for the handlers behind once the handshake is over.
final class ClientTLSHandler: ChannelDuplexHandler {
    typealias InboundIn = ByteBuffer
    typealias InboundOut = ByteBuffer
    typealias OutboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private let session: TLSSession
    private let subject: String
    private var isActive = false
    private var isOver = false

    init(_ session: TLSSession, subject: String) {
        self.session = session
        self.subject = subject
    }

    func channelActive(context: ChannelHandlerContext) {
        session.advance()
        send(context)
        settle(context)
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard !isOver else { return }
        let ciphertext = unwrapInboundIn(data)
        ciphertext.withUnsafeReadableBytes { session.receive($0) }
        session.advance()
        send(context)
        if session.state == .established, !isActive {
            isActive = true
            context.fireChannelActive()
        }
        while isActive, !isOver {
            var room = context.channel.allocator.buffer(capacity: Self.recordBytes)
            room.writeWithUnsafeMutableBytes(minimumWritableBytes: Self.recordBytes) { max(session.read(into: $0), 0) }
            guard room.readableBytes > 0 else { break }
            context.fireChannelRead(wrapInboundOut(room))
        }
        send(context)
        settle(context)
    }

    func channelInactive(context: ChannelHandlerContext) {
        if !isActive, !isOver {
            isOver = true
            let detail = "the server closed the connection in the handshake"
            context.fireErrorCaught(NetworkFailure(.tls, subject, detail: detail))
        }
        isOver = true
        context.fireChannelInactive()
    }

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        guard unwrapOutboundIn(data).withUnsafeReadableBytes({ session.write($0) }) else {
            promise?.fail(ChannelError.ioOnClosedChannel)
            return
        }
        // Sealed at once, and handed on with everything before it.
        let sealed = takeOutput(context)
        context.write(wrapOutboundOut(sealed), promise: promise)
    }

    func close(context: ChannelHandlerContext, mode: CloseMode, promise: EventLoopPromise<Void>?) {
        if !isOver, mode != .input {
            isOver = true
            session.shutdown()
            send(context)
        }
        context.close(mode: mode, promise: promise)
    }

    private func settle(_ context: ChannelHandlerContext) {
        guard !isOver, session.state == .failed || session.state == .closed else { return }
        isOver = true
        if session.state == .failed || !isActive {
            context.fireErrorCaught(NetworkFailure(session, subject))
        }
        context.close(promise: nil)
    }

    private func send(_ context: ChannelHandlerContext) {
        guard session.pendingOutput > 0 else { return }
        context.writeAndFlush(wrapOutboundOut(takeOutput(context)), promise: nil)
    }

    private func takeOutput(_ context: ChannelHandlerContext) -> ByteBuffer {
        let waiting = session.pendingOutput
        var sealed = context.channel.allocator.buffer(capacity: waiting)
        sealed.writeWithUnsafeMutableBytes(minimumWritableBytes: waiting) { session.takeOutput(into: $0) }
        return sealed
    }

    /// The longest plaintext of a record (RFC 8446 section 5.1).
    private static let recordBytes = 16_384
}
