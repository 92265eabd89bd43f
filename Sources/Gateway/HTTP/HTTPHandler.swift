import HTTPTypes
import NIOCore

/// Who answers requests. Runs on any thread.
package protocol HTTPAnswering: Sendable {
    func answer(_ request: HTTPRequest, body: ByteBuffer, from source: ClientSource) async -> HTTPOutcome
}

package enum HTTPOutcome: Sendable {
    case answer(HTTPAnswer)
    /// The connection becomes a WebSocket.
    case upgrade(WebSocketAcceptance)
}

/// One HTTP/1.1 connection: one request at a time, each whole before it is answered, under deadlines and bounds.
package final class HTTPHandler: ChannelDuplexHandler, RemovableChannelHandler {
    package typealias InboundIn = ByteBuffer
    package typealias InboundOut = ByteBuffer
    package typealias OutboundIn = ByteBuffer
    package typealias OutboundOut = ByteBuffer

    private enum State {
        case head
        case body(RequestHead)
        /// Nothing is read meanwhile: who sends more waits.
        case answering
        case ended
    }

    private let source: ClientSource
    private let answering: any HTTPAnswering
    private var state = State.head
    private var reader = RequestHeadReader()
    private var received = ByteBuffer()
    private var deadline: Scheduled<Void>?
    private var requests = 0
    private var isReadWanted = false

    package init(source: ClientSource, answering: any HTTPAnswering) {
        self.source = source
        self.answering = answering
    }

    /// - Parameter isSecure: false where a TLS handshake is still to come, which has a deadline of its own.
    package func handlerAdded(context: ChannelHandlerContext) {
        if context.channel.isActive { expect(.head, context) }
    }

    package func channelActive(context: ChannelHandlerContext) {
        expect(.head, context)
        context.fireChannelActive()
    }

    package func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if case .isSecure? = event as? GatewayEvent { expect(.head, context) }
        context.fireUserInboundEventTriggered(event)
    }

    package func handlerRemoved(context: ChannelHandlerContext) { deadline?.cancel() }

    package func channelInactive(context: ChannelHandlerContext) {
        deadline?.cancel()
        state = .ended
        context.fireChannelInactive()
    }

    package func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }

    package func read(context: ChannelHandlerContext) {
        if case .answering = state {
            isReadWanted = true
        } else {
            context.read()
        }
    }

    package func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        if case .ended = state { return }
        var bytes = unwrapInboundIn(data)
        // Moving the whole would copy it for nothing where nothing waits, as almost always.
        if received.readableBytes == 0 { received = bytes } else { received.writeBuffer(&bytes) }
        proceed(context)
    }

    private func proceed(_ context: ChannelHandlerContext) {
        if case .head = state, received.readableBytes > 0 {
            switch received.withUnsafeReadableBytes({ reader.read($0) }) {
            case .incomplete:
                break
            case .refused(let refusal):
                refuse(.problem(refusal.status, refusal.detail, closes: true), context)
            case .complete(let head, let count):
                received.moveReaderIndex(forwardBy: count)
                state = .body(head)
                if received.readableBytes < head.bodyBytes { expect(.body(head), context) }
            }
        }
        if case .body(let head) = state, let body = received.readSlice(length: head.bodyBytes) {
            begin(head, body, context)
        }
    }

    /// Has the request answered, on a task of its own: an answer may have to wait for the account store.
    private func begin(_ head: RequestHead, _ body: ByteBuffer, _ context: ChannelHandlerContext) {
        state = .answering
        requests += 1
        deadline?.cancel()
        let (answering, source) = (answering, source)
        let request = head.request
        let keepsAlive = head.keepsAlive && requests < GatewayLimits.requestsPerConnection
        let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
        let eventLoop = context.eventLoop
        Task {
            let outcome = await answering.answer(request, body: body, from: source)
            eventLoop.execute {
                let (handler, context) = bound.value
                guard case .answering = handler.state else { return }
                switch outcome {
                case .answer(let answer):
                    handler.send(answer, to: request.method, keepsAlive: keepsAlive, context)
                case .upgrade(let acceptance):
                    handler.upgrade(acceptance, context)
                }
            }
        }
    }

    private func send(
        _ answer: HTTPAnswer,
        to method: HTTPRequest.Method,
        keepsAlive: Bool,
        _ context: ChannelHandlerContext
    ) {
        let keepsAlive = keepsAlive && !answer.closes
        let bytes = answer.bytes(hasBody: method != .head, keepsAlive: keepsAlive, context.channel.allocator)
        guard keepsAlive else {
            end(with: bytes, context)
            return
        }
        // Until it has been taken, the client's next request waits: pipelining must not pile up answers.
        let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
        let channel = context.channel
        deadline = context.eventLoop.scheduleTask(in: GatewayLimits.responseTime) { channel.close(promise: nil) }
        let sent = context.eventLoop.makePromise(of: Void.self)
        sent.futureResult.whenSuccess {
            let (handler, context) = bound.value
            guard case .answering = handler.state else { return }
            handler.state = .head
            handler.expect(.head, context)
            handler.proceed(context)
            handler.resumeReading(context)
        }
        context.writeAndFlush(wrapOutboundOut(bytes), promise: sent)
    }

    private func resumeReading(_ context: ChannelHandlerContext) {
        if case .answering = state { return }
        guard isReadWanted else { return }
        isReadWanted = false
        context.read()
    }

    private func refuse(_ answer: HTTPAnswer, _ context: ChannelHandlerContext) {
        end(with: answer.bytes(hasBody: true, keepsAlive: false, context.channel.allocator), context)
    }

    /// Sends the last bytes and ends. They have as long to leave as any answer, and then the client is given a moment
    /// to read them: a socket closed with unread input is reset, and what was sent is lost with it.
    private func end(with bytes: ByteBuffer, _ context: ChannelHandlerContext) {
        state = .ended
        received.clear()
        deadline?.cancel()
        let channel = context.channel
        let bound = NIOLoopBound(self, eventLoop: context.eventLoop)
        let eventLoop = context.eventLoop
        let sent = eventLoop.makePromise(of: Void.self)
        sent.futureResult.whenComplete { _ in
            let handler = bound.value
            handler.deadline?.cancel()
            handler.deadline = eventLoop.scheduleTask(in: GatewayLimits.closeTime) { channel.close(promise: nil) }
        }
        deadline = eventLoop.scheduleTask(in: GatewayLimits.responseTime) { channel.close(promise: nil) }
        context.writeAndFlush(wrapOutboundOut(bytes), promise: sent)
        // The loop has to go on reading, and `read` lets it.
        if isReadWanted {
            isReadWanted = false
            context.read()
        }
        channel.close(mode: .output, promise: nil)
    }

    private func upgrade(_ acceptance: WebSocketAcceptance, _ context: ChannelHandlerContext) {
        deadline?.cancel()
        context.write(wrapOutboundOut(acceptance.answer(context.channel.allocator)), promise: nil)
        let allowance = MessageAllowance(acceptance.messageBytes, anteroom: acceptance.anteroomBytes)
        let handler = WebSocketHandler(
            acceptance.makeDelegate(context.eventLoop),
            fragments: acceptance.fragments,
            allowance: allowance
        )
        let decoder = ByteToMessageHandler(
            WebSocketDecoder(allowance),
            maximumBufferSize: acceptance.messageBytes + 1_024
        )
        let left = received
        received = ByteBuffer()
        state = .ended
        do {
            try context.pipeline.syncOperations.addHandlers([decoder, handler], position: .after(self))
        } catch {
            context.close(promise: nil)
            return
        }
        context.flush()
        // Frames that came early are frames all the same (case WS-17).
        if left.readableBytes > 0 {
            context.fireChannelRead(wrapInboundOut(left))
            context.fireChannelReadComplete()
        }
        let isReadWanted = isReadWanted
        let channel = context.channel
        context.pipeline.syncOperations.removeHandler(context: context, promise: nil)
        if isReadWanted { channel.read() }
    }

    private enum Expectation {
        case head
        case body(RequestHead)
    }

    private func expect(_ what: Expectation, _ context: ChannelHandlerContext) {
        deadline?.cancel()
        let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
        let time: TimeAmount
        switch what {
        case .head: time = GatewayLimits.headTime
        case .body: time = GatewayLimits.bodyTime
        }
        deadline = context.eventLoop.scheduleTask(in: time) {
            let (handler, context) = bound.value
            handler.isOverdue(context)
        }
    }

    private func isOverdue(_ context: ChannelHandlerContext) {
        switch state {
        case .head where received.readableBytes == 0:
            context.close(promise: nil)
        case .head, .body:
            refuse(.problem(408, "the request did not come within 10 seconds", closes: true), context)
        case .answering, .ended:
            break
        }
    }
}
