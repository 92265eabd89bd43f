import Glibc
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
    /// Of a port that all its connections share.
    private let port: Endpoint?
    /// The connection before it is one.
    private var unopened: (any Channel)?

    /// - Parameter port: where it is to come from; nil for any.
    init(
        _ loop: any EventLoop,
        to endpoint: Endpoint,
        from port: Endpoint? = nil,
        _ receive: @escaping (StreamEvent) -> Void
    ) {
        self.loop = loop
        self.receive = receive
        self.port = port
        subject = "TCP to \(AddressText.text(endpoint))"
        waiting = ByteBuffer()
        connect(endpoint)
    }

    /// One that has come in by `port`. Its bytes are read from `begin` on.
    init(_ loop: any EventLoop, accepted channel: any Channel, from endpoint: Endpoint, at port: Endpoint) {
        self.loop = loop
        self.channel = channel
        self.port = port
        subject = "TCP from \(AddressText.text(endpoint))"
        waiting = ByteBuffer()
    }

    /// - Parameter receive: nil to be rid of it.
    func begin(_ receive: ((StreamEvent) -> Void)?) {
        guard let channel else { return }
        guard let receive else {
            self.channel = nil
            return Self.reset(channel)
        }
        self.receive = receive
        let handler = NIOLoopBound(StreamHandler(self), eventLoop: loop)
        do {
            try channel.pipeline.syncOperations.addHandler(handler.value)
        } catch {
            note(error)
            return ended()
        }
        read(channel)
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
        unopened?.close(promise: nil)
        guard let channel else { return }
        self.channel = nil
        if port != nil {
            // The side that ends a connection in good order cannot have another between the same ends for a minute or
            // more (RFC 9293 section 3.6.1). What was sent has its time, and then the connection is reset.
            loop.assumeIsolated().scheduleTask(in: .nanoseconds(Int64(ClientLimits.streamFarewell))) {
                Self.reset(channel)
            }
            return
        }
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
        var bootstrap = ClientBootstrap(group: loop)
        if let port {
            for option in NIOStreamPort.sharing { bootstrap = bootstrap.channelOption(option, value: 1) }
            bootstrap = bootstrap.bind(to: SystemAddress.socketAddress(port))
        }
        let made =
            bootstrap
            .connectTimeout(.nanoseconds(Int64(ClientLimits.connectTime)))
            .channelOption(.socketOption(.so_keepalive), value: 1)
            .channelOption(.autoRead, value: false)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    handler.value.link.unopened = channel
                    try channel.pipeline.syncOperations.addHandler(handler.value)
                }
            }
            .connect(to: SystemAddress.socketAddress(endpoint))
        made.assumeIsolated().whenComplete { result in
            // Not from within `init`, whose caller does not have the link yet.
            self.loop.assumeIsolated().execute { self.connected(result) }
        }
    }

    private func connected(_ result: Result<any Channel, any Error>) {
        unopened = nil
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
            read(channel)
        }
    }

    /// What came before anybody could be told is read from here on.
    private func read(_ channel: any Channel) {
        channel.read()
        try? channel.syncOptions?.setOption(.autoRead, value: true)
    }

    private static func reset(_ channel: any Channel) {
        // With no time to linger, closing resets.
        _ = (channel as? any SocketOptionProvider)?.setSoLinger(linger(l_onoff: 1, l_linger: 0))
        channel.close(promise: nil)
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

    let link: NIOStream

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
