import NIOCore
import NIOPosix
import Traversal

/// A TCP connection on an event loop.
final class NIOStream: StreamLink {
    private let loop: any EventLoop
    private let subject: String
    private var receive: ((StreamEvent) -> Void)?
    private var channel: (any Channel)?
    /// What was sent before the connection was up, or since the loop's last turn.
    private var waiting: ByteBuffer
    private var isFlushing = false
    /// The other side was slower than we; `.writable` is owed.
    private var isBehind = false
    private var error: (any Error)?

    init(_ loop: any EventLoop, to endpoint: Endpoint, _ receive: @escaping (StreamEvent) -> Void) {
        self.loop = loop
        self.receive = receive
        subject = "TCP to \(AddressText.text(endpoint))"
        waiting = ByteBuffer()
        connect(endpoint)
    }

    var queuedBytes: Int { waiting.readableBytes + buffered }

    func send(_ bytes: UnsafeRawBufferPointer) {
        guard receive != nil, error == nil else { return }
        waiting.writeBytes(bytes)
        guard queuedBytes <= ClientLimits.streamQueueBytes else {
            error = NetworkFailure(.overflow, subject)
            loop.assumeIsolated().execute { self.ended() }
            return
        }
        // One write for all that one turn of the loop sends.
        if channel != nil { flushSoon() }
    }

    func close() {
        guard receive != nil else { return }
        receive = nil
        flush()
        guard let channel else { return }
        self.channel = nil
        // What waits in NIO would be thrown away by closing; half closing sends it first.
        guard (try? channel.syncOptions?.getOption(.bufferedWritableBytes)) ?? 0 > 0 else {
            return channel.close(promise: nil)
        }
        channel.close(mode: .output, promise: nil)
        channel.eventLoop.scheduleTask(in: .nanoseconds(Int64(ClientLimits.farewellTime))) {
            channel.close(promise: nil)
        }
    }

    // MARK: For the handler

    fileprivate func take(_ bytes: UnsafeRawBufferPointer) { receive?(.bytes(bytes)) }

    fileprivate func note(_ error: any Error) { if self.error == nil { self.error = error } }

    fileprivate func ended() {
        let channel = channel
        self.channel = nil
        channel?.close(promise: nil)
        let receive = receive
        self.receive = nil
        receive?(.closed(error.map { NetworkFailure($0, subject) }))
    }

    private func connect(_ endpoint: Endpoint) {
        let handler = NIOLoopBound(StreamHandler(self), eventLoop: loop)
        let made = ClientBootstrap(group: loop)
            .connectTimeout(.nanoseconds(Int64(ClientLimits.connectTime)))
            .channelOption(.socketOption(.so_keepalive), value: 1)
            .channelOption(.autoRead, value: false)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture { try channel.pipeline.syncOperations.addHandler(handler.value) }
            }
            .connect(to: SystemAddress.socketAddress(endpoint))
        made.assumeIsolated().whenComplete { result in
            // Not from within `init`, whose caller does not have the link yet.
            self.loop.assumeIsolated().execute { self.connected(result) }
        }
    }

    private func connected(_ result: Result<any Channel, any Error>) {
        switch result {
        case .failure(let error):
            note(error)
            ended()
        case .success(let channel):
            guard let receive else { return channel.close(promise: nil) }
            guard channel.isActive, let local = channel.localAddress.flatMap({ SystemAddress.endpoint($0) }) else {
                return ended()
            }
            self.channel = channel
            receive(.opened(local: local))
            if waiting.readableBytes > 0 { flushSoon() }
            // What came before anybody could be told is read from here on.
            channel.read()
            try? channel.syncOptions?.setOption(.autoRead, value: true)
        }
    }

    private var buffered: Int { (try? channel?.syncOptions?.getOption(.bufferedWritableBytes)) ?? 0 }

    private func flushSoon() {
        guard !isFlushing else { return }
        isFlushing = true
        loop.assumeIsolated().execute { self.flush() }
    }

    private func flush() {
        isFlushing = false
        guard let channel, waiting.readableBytes > 0 else { return }
        let bytes = waiting
        waiting = ByteBuffer()
        let written = loop.makePromise(of: Void.self)
        channel.writeAndFlush(bytes, promise: written)
        isBehind = isBehind || buffered > 0
        guard isBehind else { return }
        written.futureResult.assumeIsolated().whenSuccess {
            guard self.isBehind, self.queuedBytes == 0 else { return }
            self.isBehind = false
            self.receive?(.writable)
        }
    }
}

private final class StreamHandler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer

    private let link: NIOStream

    init(_ link: NIOStream) { self.link = link }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        unwrapInboundIn(data).withUnsafeReadableBytes { link.take($0) }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        link.note(error)
        context.close(promise: nil)
    }

    func channelInactive(context: ChannelHandlerContext) { link.ended() }
}
