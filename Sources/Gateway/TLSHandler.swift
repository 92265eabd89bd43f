import NIOCore
import OpenSSLCrypto

/// TLS on a channel: records on the side of the socket, plaintext on the other. `TLSSession` does the protocol; this
/// carries its bytes and holds it to its deadline.
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
    /// Ciphertext that the connection was given since it began.
    private var sentBytes: UInt64
    private var marks = DeliveryMarks()
    /// Of a connection whose messages are marked, while it is open.
    private var descriptor: CInt?
    /// Something was not sent. What comes behind it does not tell that all has arrived.
    private var hasGap = false
    /// Until when it need not be asked again before a write.
    private var askedUntil = NIODeadline.uptimeNanoseconds(0)

    /// - Parameters:
    ///   - session: what it has given before went by the same connection.
    ///   - onHandshakeEnd: called once, when the handshake is over or never will be.
    init(_ session: TLSSession, onHandshakeEnd: @escaping () -> Void) {
        self.session = session
        sentBytes = session.takenBytes
        self.onHandshakeEnd = onHandshakeEnd
    }

    func handlerAdded(context: ChannelHandlerContext) {
        let channel = context.channel
        deadline = context.eventLoop.scheduleTask(in: GatewayLimits.handshakeTime) { channel.close(promise: nil) }
    }

    func handlerRemoved(context: ChannelHandlerContext) { endHandshake() }

    func channelInactive(context: ChannelHandlerContext) {
        isClosed = true
        descriptor = nil
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
            noteAcknowledged(context.channel)
            // What has been sent now is the alert, or the answer to close_notify.
            send(context, thenFlush: true)
            context.close(promise: nil)
        }
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        guard case ChannelEvent.inputClosed? = event as? ChannelEvent else {
            return context.fireUserInboundEventTriggered(event)
        }
        // A FIN without close_notify is no goodbye: anybody on the way can make one (RFC 8446 section 6.1).
        guard !isClosed else { return }
        noteAcknowledged(context.channel)
        if !marks.isEmpty { context.fireUserInboundEventTriggered(GatewayEvent.isCut) }
        settle(context, until: context.eventLoop.now + GatewayLimits.settleTime)
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        // A reset. The channel closes the socket next.
        noteAcknowledged(context.channel)
        context.fireErrorCaught(error)
    }

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        let plaintext = unwrapOutboundIn(data)
        // The session refuses once much has been sealed and nothing taken; the socket's own queue bounds the whole.
        if session.pendingOutput > Self.sealedBytes { send(context, thenFlush: false) }
        guard plaintext.withUnsafeReadableBytes({ session.write($0) }) else {
            promise?.fail(ChannelError.ioOnClosedChannel)
            hasGap = true
            return
        }
        if let promise { promises.append(promise) }
    }

    func flush(context: ChannelHandlerContext) { send(context, thenFlush: true) }

    func close(context: ChannelHandlerContext, mode: CloseMode, promise: EventLoopPromise<Void>?) {
        if mode != .input, !isClosed {
            noteAcknowledged(context.channel)
            session.shutdown()
            send(context, thenFlush: true)
        }
        context.close(mode: mode, promise: promise)
    }

    // MARK: What has arrived

    /// Messages are marked from here on.
    func watchDelivery(_ channel: any Channel) {
        descriptor = try? channel.pipeline.syncOperations.withUnsafeTransportIfAvailable(of: CInt.self) { $0 }
    }

    /// What was written last ends with this message.
    func mark(_ sequence: UInt64, _ channel: any Channel) {
        guard descriptor != nil, !hasGap else { return }
        if marks.isFull { noteAcknowledged(channel) }
        marks.append(sequence: sequence, endsAt: sentBytes + UInt64(session.pendingOutput))
    }

    /// The newest message that the client's TCP has acknowledged; as of the end of a connection that is closed.
    func deliveredThrough(_ channel: (any Channel)?) -> UInt64 {
        if let channel { noteAcknowledged(channel) }
        return marks.deliveredThrough
    }

    func confirm(through sequence: UInt64) { marks.confirm(through: sequence) }

    func restartMarks() { marks.restart() }

    func trimMarks(_ channel: any Channel) {
        noteAcknowledged(channel)
        marks.trim()
    }

    /// A write to a connection that has been reset closes the socket, and what it knew is lost.
    private func askBeforeWriting(_ context: ChannelHandlerContext) {
        guard marks.isAny(within: sentBytes) else { return }
        let now = context.eventLoop.now
        guard now >= askedUntil else { return }
        askedUntil = now + GatewayLimits.acknowledgementAge
        noteAcknowledged(context.channel)
    }

    private func noteAcknowledged(_ channel: any Channel) {
        guard !marks.isEmpty, let descriptor, channel.isActive,
            let bytes = TCPInformation.acknowledgedBytes(descriptor)
        else { return }
        marks.acknowledge(bytes: bytes)
    }

    /// Ends a connection whose client says nothing more, but may still take what is on its way to it: that is
    /// acknowledged, or answered by a reset, within a round trip.
    private func settle(_ context: ChannelHandlerContext, until deadline: NIODeadline) {
        guard !isClosed else { return }
        noteAcknowledged(context.channel)
        guard marks.isAny(within: sentBytes), descriptor != nil, context.eventLoop.now < deadline else {
            return context.close(promise: nil)
        }
        let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
        context.eventLoop.scheduleTask(in: GatewayLimits.settleStep) {
            let (handler, context) = bound.value
            handler.settle(context, until: deadline)
        }
    }

    /// Sealed bytes that may wait for a flush.
    private static let sealedBytes = 65_536

    /// What the session opens of the ciphertext it was lent; nil for nothing.
    private func open(_ session: TLSSession, _ allocator: ByteBufferAllocator, atMost count: Int) -> ByteBuffer? {
        // Records may have waited for their ends, and then there is more than was lent; else this is room enough. One
        // buffer that nobody else holds takes them all, as a second holder would have it copied for each.
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
            askBeforeWriting(context)
            sentBytes += UInt64(waiting)
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
    /// The client sends nothing more, and did not say goodbye. The connection ends when what was sent has arrived or
    /// has not.
    case isCut
}
