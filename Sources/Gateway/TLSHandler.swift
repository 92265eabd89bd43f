import NIOCore
import OpenSSLCrypto

/// TLS on a channel: records on the side of the socket, plaintext on the other. `TLSSession` does the protocol; this carries
/// its bytes and holds it to its deadline.
final class TLSHandler: ChannelDuplexHandler {
    typealias InboundIn = ByteBuffer
    typealias InboundOut = ByteBuffer
    typealias OutboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private let session: TLSSession
    private let onHandshakeEnd: () -> Void
    private var deadline: Scheduled<Void>?
    private var isHandshaking = true
    private var isClosed = false
    /// Promises of what was sealed and has not been handed to the socket.
    private var promises: [EventLoopPromise<Void>] = []

    /// - Parameter onHandshakeEnd: called once, when the handshake is over or never will be.
    init(_ session: TLSSession, onHandshakeEnd: @escaping () -> Void) {
        self.session = session
        self.onHandshakeEnd = onHandshakeEnd
    }

    func handlerAdded(context: ChannelHandlerContext) {
        let channel = context.channel
        deadline = context.eventLoop.scheduleTask(in: GatewayLimits.handshakeTime) { channel.close(promise: nil) }
    }

    func handlerRemoved(context: ChannelHandlerContext) { endHandshake() }

    func channelInactive(context: ChannelHandlerContext) {
        isClosed = true
        endHandshake()
        failPromises(ChannelError.ioOnClosedChannel)
        context.fireChannelInactive()
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let ciphertext = unwrapInboundIn(data)
        guard !isClosed else { return }
        let plaintext = ciphertext.withUnsafeReadableBytes { bytes in
            session.receive(lending: bytes) { open($0, context.channel.allocator, atMost: bytes.count) }
        }
        let isNew = isHandshaking && session.state != .handshaking
        if isNew { endHandshake() }
        send(context, thenFlush: true)
        if isNew, session.state != .failed { context.fireUserInboundEventTriggered(GatewayEvent.isSecure) }
        if let plaintext, plaintext.readableBytes > 0 { context.fireChannelRead(wrapInboundOut(plaintext)) }
        if session.state == .closed || session.state == .failed {
            // What has been sent now is the alert, or the answer to close_notify.
            send(context, thenFlush: true)
            context.close(promise: nil)
        }
    }

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        let plaintext = unwrapOutboundIn(data)
        // The session refuses once much has been sealed and nothing taken; the socket's own queue bounds the whole.
        if session.pendingOutput > Self.sealedBytes { send(context, thenFlush: false) }
        guard plaintext.withUnsafeReadableBytes({ session.write($0) }) else {
            promise?.fail(ChannelError.ioOnClosedChannel)
            return
        }
        if let promise { promises.append(promise) }
    }

    func flush(context: ChannelHandlerContext) { send(context, thenFlush: true) }

    func close(context: ChannelHandlerContext, mode: CloseMode, promise: EventLoopPromise<Void>?) {
        if mode != .input, !isClosed {
            session.shutdown()
            send(context, thenFlush: true)
        }
        context.close(mode: mode, promise: promise)
    }

    /// Sealed bytes that may wait for a flush.
    private static let sealedBytes = 65_536

    /// What the session opens of the ciphertext it was lent; nil for nothing.
    private func open(_ session: TLSSession, _ allocator: ByteBufferAllocator, atMost count: Int) -> ByteBuffer? {
        // Records may have waited for their ends, and then there is more than was lent; else this is room enough. One buffer
        // that nobody else holds takes them all, as a second holder would have it copied for each.
        var room = allocator.buffer(capacity: count + 256)
        var read = 0
        repeat {
            read = room.writeWithUnsafeMutableBytes(minimumWritableBytes: 256) { max(session.read(into: $0), 0) }
        } while read > 0 && session.mayHaveMore
        return room.readableBytes > 0 ? room : nil
    }

    private func send(_ context: ChannelHandlerContext, thenFlush: Bool) {
        let waiting = session.pendingOutput
        if waiting > 0 {
            var sealed = context.channel.allocator.buffer(capacity: waiting)
            sealed.writeWithUnsafeMutableBytes(minimumWritableBytes: waiting) { session.takeOutput(into: $0) }
            context.write(wrapOutboundOut(sealed), promise: takePromise(context))
        }
        if thenFlush { context.flush() }
    }

    private func takePromise(_ context: ChannelHandlerContext) -> EventLoopPromise<Void>? {
        guard let first = promises.first else { return nil }
        for other in promises.dropFirst() { first.futureResult.cascade(to: other) }
        promises.removeAll(keepingCapacity: true)
        return first
    }

    private func failPromises(_ error: any Error) {
        let failed = promises
        promises = []
        for promise in failed { promise.fail(error) }
    }

    private func endHandshake() {
        guard isHandshaking else { return }
        isHandshaking = false
        deadline?.cancel()
        deadline = nil
        onHandshakeEnd()
    }
}

/// What handlers tell those behind them.
enum GatewayEvent: Sendable {
    /// The TLS handshake is over.
    case isSecure
}
