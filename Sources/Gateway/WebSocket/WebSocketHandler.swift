import NIOCore
import NIOWebSocket

/// Who takes what a WebSocket receives. All calls come on the connection's loop.
package protocol WebSocketDelegate: AnyObject {
    func opened(_ socket: WebSocketHandler)
    func received(_ text: ByteBuffer, on socket: WebSocketHandler)
    func received(binary: ByteBuffer, on socket: WebSocketHandler)
    /// The answer to a ping.
    func ponged(_ payload: ByteBuffer, on socket: WebSocketHandler)
    /// What was read at once has been handed over.
    func paused(_ socket: WebSocketHandler)
    /// More waits for the client than may.
    func isTooSlow(_ socket: WebSocketHandler)
    /// What the next ping of the connection's own carries.
    func pingPayload(_ socket: WebSocketHandler) -> ByteBuffer
    /// A frame to send before the connection is closed for that.
    func lastWords(_ failure: WebSocketFailure) -> ByteBuffer?
    /// The connection is gone, or nothing more is taken from it. Comes once.
    func closed(_ socket: WebSocketHandler, _ end: WebSocketEnd)
}

/// How a WebSocket ended.
package enum WebSocketEnd: Equatable {
    /// The client said goodbye, with a code or without.
    case byClient(UInt16?)
    case byServer
    /// Without a word.
    case lost
}

/// What most have no use for.
extension WebSocketDelegate {
    package func ponged(_ payload: ByteBuffer, on socket: WebSocketHandler) {}
    package func isTooSlow(_ socket: WebSocketHandler) { socket.close(1008, "slow consumer") }
    package func pingPayload(_ socket: WebSocketHandler) -> ByteBuffer { ByteBuffer() }
    package func lastWords(_ failure: WebSocketFailure) -> ByteBuffer? { nil }
}

/// One WebSocket: messages in, messages out, liveness, and the end.
package final class WebSocketHandler: ChannelInboundHandler {
    package typealias InboundIn = WebSocketFrame
    package typealias OutboundOut = ByteBuffer

    private enum State {
        case open
        /// The client is gone without a word, and what it got is being found out.
        case cut
        case closing
        case closed
    }

    let delegate: any WebSocketDelegate
    private var context: ChannelHandlerContext?
    private var assembler: MessageAssembler
    private var state = State.open
    private(set) var hasUnflushed = false
    /// Frames that wait for a flush, one behind the other, so that they leave as one write and in few records of TLS.
    private var outgoing: ByteBuffer?
    private var control = ControlBudget()
    private var lastHeard = NIODeadline.uptimeNanoseconds(0)
    private var isPinged = false
    /// Pings that the peer has not answered: their pongs are not of its own will.
    private var pingsOpen = 0
    private var timer: Scheduled<Void>?
    /// Where what was sent is followed to the client. Without TLS the other end of TCP is a proxy, which tells nothing
    /// of it.
    private var tls: TLSHandler?
    /// The number of the newest message in `outgoing`; 0 for none that is counted.
    private var outgoingSequence: UInt64 = 0

    init(_ delegate: any WebSocketDelegate, fragments: Int) {
        self.delegate = delegate
        assembler = MessageAssembler(fragments: fragments)
    }

    var isOpen: Bool { state == .open }

    // MARK: Sending

    /// Queues a frame of `OutgoingFrame`; `flush` sends what is queued. A client that does not read what waits for it is closed.
    package func send(_ frame: ByteBuffer) {
        guard state == .open, let context else { return }
        queue(frame, context)
    }

    /// Queues a text message.
    /// - Parameter sequence: its number; 0 for one that is not counted, behind which numbers begin anew.
    func send(text: [UInt8], sequence: UInt64 = 0) {
        guard state == .open, let context else { return }
        makeRoom(for: text.count + 10, context)
        if sequence == 0 { tls?.restartMarks() }
        outgoingSequence = sequence
        var frames = outgoing ?? context.channel.allocator.buffer(capacity: text.count + 10)
        outgoing = nil
        text.withUnsafeBytes { OutgoingFrame.append(.text, $0, to: &frames) }
        outgoing = frames
        queued(context)
    }

    private func queue(_ frame: ByteBuffer, _ context: ChannelHandlerContext) {
        makeRoom(for: frame.readableBytes, context)
        if outgoing == nil { outgoing = frame } else { outgoing?.writeImmutableBuffer(frame) }
        queued(context)
    }

    /// Frames that leave together fit one record of TLS, so that they arrive together or not.
    private func makeRoom(for byteCount: Int, _ context: ChannelHandlerContext) {
        if let outgoing, outgoing.readableBytes + byteCount > Self.queuedBytes { writeQueued(context) }
    }

    private func queued(_ context: ChannelHandlerContext) {
        hasUnflushed = true
        // The channel has to know of it, to say that it is too much.
        if let outgoing, outgoing.readableBytes >= Self.queuedBytes { writeQueued(context) }
    }

    private func writeQueued(_ context: ChannelHandlerContext) {
        guard let bytes = outgoing else { return }
        outgoing = nil
        context.write(wrapOutboundOut(bytes), promise: nil)
        if outgoingSequence > 0 { tls?.mark(outgoingSequence, context.channel) }
        outgoingSequence = 0
    }

    /// Of frames that wait for a flush: what a record of TLS holds (RFC 8446 section 5.1).
    private static let queuedBytes = 16_384

    func ping(_ payload: ByteBuffer) {
        guard state == .open, let context else { return }
        pingsOpen += 1
        send(OutgoingFrame.make(.ping, payload, context.channel.allocator))
    }

    /// The number of the newest message that the client's TCP has acknowledged; nil where that is not known.
    var deliveredThrough: UInt64? { tls?.deliveredThrough(context?.channel) }

    /// The client has read up to this message.
    func confirm(through sequence: UInt64) { tls?.confirm(through: sequence) }

    package func flush() {
        guard hasUnflushed, let context else { return }
        hasUnflushed = false
        writeQueued(context)
        context.flush()
    }

    /// Says goodbye, and ends the connection when the peer has answered or does not.
    package func close(_ code: UInt16, _ reason: String) {
        guard state == .open, let context else { return }
        state = .closing
        queue(OutgoingFrame.close(code, reason, context.channel.allocator), context)
        flush()
        timer?.cancel()
        let channel = context.channel
        timer = context.eventLoop.scheduleTask(in: GatewayLimits.closeTime) { channel.close(promise: nil) }
        delegate.closed(self, .byServer)
    }

    // MARK: Channel

    package func handlerAdded(context: ChannelHandlerContext) {
        self.context = context
        lastHeard = context.eventLoop.now
        tls = try? context.pipeline.syncOperations.handler(type: TLSHandler.self)
        tls?.watchDelivery(context.channel)
        scheduleHeartbeat(context)
        delegate.opened(self)
        flush()
    }

    package func handlerRemoved(context: ChannelHandlerContext) { end() }

    package func channelInactive(context: ChannelHandlerContext) {
        end()
        context.fireChannelInactive()
    }

    package func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if case .isCut? = event as? GatewayEvent, state == .open {
            state = .cut
            timer?.cancel()
        }
        context.fireUserInboundEventTriggered(event)
    }

    package func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard state != .closed else { return }
        lastHeard = context.eventLoop.now
        isPinged = false
        do throws(WebSocketFailure) {
            guard let event = try assembler.take(unwrapInboundIn(data)) else { return }
            try handle(event, context)
        } catch {
            fail(error)
        }
    }

    private func fail(_ failure: WebSocketFailure) {
        guard state == .open else { return }
        if let words = delegate.lastWords(failure) { send(words) }
        close(failure.code, failure.reason)
    }

    package func channelReadComplete(context: ChannelHandlerContext) {
        delegate.paused(self)
        flush()
    }

    package func channelWritabilityChanged(context: ChannelHandlerContext) {
        if state == .open, !context.channel.isWritable { delegate.isTooSlow(self) }
    }

    package func errorCaught(context: ChannelHandlerContext, error: any Error) {
        switch error {
        case let failure as WebSocketFailure:
            fail(failure)
        case is NIOWebSocketError:
            close(1002, "a frame breaks the protocol")
        default:
            context.close(promise: nil)
        }
    }

    private func handle(_ event: MessageAssembler.Event, _ context: ChannelHandlerContext) throws(WebSocketFailure) {
        if case .message(let bytes, let isText) = event {
            // After its own goodbye this end takes nothing more (RFC 6455 section 5.5.1).
            guard state == .open else { return }
            if isText { delegate.received(bytes, on: self) } else { delegate.received(binary: bytes, on: self) }
            return
        }
        switch event {
        case .close(let code):
            answerClose(code, context)
        case .ping(let payload):
            guard state == .open else { return }
            guard control.take(context.eventLoop.now) else { throw .policy("too many pings") }
            send(OutgoingFrame.make(.pong, payload, context.channel.allocator))
        case .pong(let payload):
            guard state == .open else { return }
            if pingsOpen > 0 {
                pingsOpen -= 1
            } else {
                guard control.take(context.eventLoop.now) else { throw .policy("too many pongs") }
            }
            delegate.ponged(payload, on: self)
        case .message:
            break
        }
    }

    private func answerClose(_ code: UInt16?, _ context: ChannelHandlerContext) {
        let channel = context.channel
        if state == .open {
            state = .closing
            let frame =
                code.map { OutgoingFrame.close($0, "", channel.allocator) }
                ?? OutgoingFrame.make(.connectionClose, ByteBuffer(), channel.allocator)
            queue(frame, context)
            flush()
            delegate.closed(self, .byClient(code))
        }
        // Both sides have said it: the server closes the connection first (section 7.1.1).
        timer?.cancel()
        channel.close(promise: nil)
    }

    private func end() {
        timer?.cancel()
        timer = nil
        let wasOpen = state == .open || state == .cut
        state = .closed
        context = nil
        if wasOpen { delegate.closed(self, .lost) }
    }

    // MARK: Liveness

    private func scheduleHeartbeat(_ context: ChannelHandlerContext) {
        let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
        timer = context.eventLoop.scheduleTask(in: GatewayLimits.heartbeat) {
            let (handler, context) = bound.value
            handler.beat(context)
        }
    }

    private func beat(_ context: ChannelHandlerContext) {
        guard state == .open else { return }
        tls?.trimMarks(context.channel)
        let silence = context.eventLoop.now - lastHeard
        guard silence < GatewayLimits.deadAfter else {
            // There is nobody to say goodbye to.
            context.close(promise: nil)
            return
        }
        if silence >= GatewayLimits.pingAfter, !isPinged {
            isPinged = true
            ping(delegate.pingPayload(self))
            flush()
        }
        scheduleHeartbeat(context)
    }
}

/// How many control frames a peer may send: a bucket that fills by the second.
private struct ControlBudget {
    private var left = GatewayLimits.controlBurst
    private var filled: NIODeadline?

    mutating func take(_ now: NIODeadline) -> Bool {
        let seconds = (now - (filled ?? now)).nanoseconds / 1_000_000_000
        if filled == nil || seconds > 0 {
            left = min(
                left + Int(clamping: min(seconds, 3_600)) * GatewayLimits.controlPerSecond,
                GatewayLimits.controlBurst
            )
            filled = now
        }
        guard left > 0 else { return false }
        left -= 1
        return true
    }
}

/// Frames as a server sends them: whole, and not masked (RFC 6455 section 5.1).
package enum OutgoingFrame {
    package static func make(_ opcode: WebSocketOpcode, _ payload: ByteBuffer, _ allocator: ByteBufferAllocator)
        -> ByteBuffer
    {
        payload.withUnsafeReadableBytes { make(opcode, $0, allocator) }
    }

    static func text(_ text: String) -> ByteBuffer {
        var text = text
        return text.withUTF8 { make(.text, UnsafeRawBufferPointer($0), ByteBufferAllocator()) }
    }

    static func text(_ bytes: [UInt8]) -> ByteBuffer {
        bytes.withUnsafeBytes { make(.text, $0, ByteBufferAllocator()) }
    }

    static func make(
        _ opcode: WebSocketOpcode,
        _ payload: UnsafeRawBufferPointer,
        _ allocator: ByteBufferAllocator
    ) -> ByteBuffer {
        var frame = allocator.buffer(capacity: payload.count + 10)
        append(opcode, payload, to: &frame)
        return frame
    }

    static func append(_ opcode: WebSocketOpcode, _ payload: UnsafeRawBufferPointer, to frame: inout ByteBuffer) {
        frame.writeInteger(0x80 | UInt8(webSocketOpcode: opcode))
        switch payload.count {
        case ...125:
            frame.writeInteger(UInt8(truncatingIfNeeded: payload.count))
        case ...0xFFFF:
            frame.writeInteger(126 as UInt8)
            frame.writeInteger(UInt16(truncatingIfNeeded: payload.count))
        default:
            frame.writeInteger(127 as UInt8)
            frame.writeInteger(UInt64(payload.count))
        }
        frame.writeBytes(payload)
    }

    static func close(_ code: UInt16, _ reason: String, _ allocator: ByteBufferAllocator) -> ByteBuffer {
        var payload = allocator.buffer(capacity: 2 + reason.utf8.count)
        payload.writeInteger(code)
        payload.writeString(reason)
        return make(.connectionClose, payload, allocator)
    }
}
