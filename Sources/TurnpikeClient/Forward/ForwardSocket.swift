import Glibc
import NIOCore
import NIOPosix
import Traversal

/// A TCP connection of NIO's that is read one piece at a time, when asked, and whose directions end one by one.
final class ForwardSocket {
    enum Event {
        case bytes(ByteBuffer)
        /// The other side has ended its direction.
        case ended
        /// The system took so many of the bytes that were written.
        case written(Int)
        /// Nothing follows. Before both directions ended it is a reset.
        case closed
    }

    /// Set by who uses it, and told then what came before.
    var receive: ((Event) -> Void)? {
        didSet {
            let events = early
            early = []
            for event in events { receive?(event) }
        }
    }

    /// The connection broke before anybody used it.
    var onLoss: (() -> Void)?
    /// Nothing is read before somebody uses it; but NIO reads what the system holds when the other side ends its
    /// direction.
    private var early: [Event] = []
    fileprivate var onActive: ((ForwardSocket) -> Void)?
    private let channel: any Channel
    private var isReading = false
    private var isOver = false
    private var hasEndedWriting = false
    private var hasEndedReading = false
    fileprivate var hasFailed = false

    fileprivate init(_ channel: any Channel) { self.channel = channel }

    func read() {
        guard !isReading else { return }
        isReading = true
        channel.read()
    }

    /// `written` follows once all of it is taken.
    func write(_ pieces: [[UInt8]]) {
        guard let last = pieces.last else { return }
        var count = last.count
        for piece in pieces.dropLast() {
            count += piece.count
            channel.write(ByteBuffer(bytes: piece), promise: nil)
        }
        let total = count
        let written = channel.eventLoop.makePromise(of: Void.self)
        written.futureResult.assumeIsolated().whenSuccess { [weak self] in self?.receive?(.written(total)) }
        channel.writeAndFlush(ByteBuffer(bytes: last), promise: written)
    }

    func endWriting() {
        hasEndedWriting = true
        channel.close(mode: .output, promise: nil)
    }

    /// Nothing is told any more.
    func close() {
        isOver = true
        (receive, onLoss) = (nil, nil)
        channel.close(promise: nil)
    }

    /// The other side sees that the connection broke, instead of an end.
    func reset() {
        // Lingering for no time makes the system send RST (socket(7)).
        let linger = linger(l_onoff: 1, l_linger: 0)
        if let options = channel as? any SocketOptionProvider { _ = options.setSoLinger(linger) }
        close()
    }

    // MARK: For the handler

    fileprivate func becameActive() {
        let onActive = onActive
        self.onActive = nil
        onActive?(self)
    }

    fileprivate func take(_ bytes: ByteBuffer) {
        isReading = false
        tell(.bytes(bytes))
    }

    fileprivate func noteInputEnded() {
        hasEndedReading = true
        tell(.ended)
    }

    fileprivate func noteClosed() {
        // Where this side has ended, NIO closes at the other's end without telling of it.
        if hasEndedWriting, !hasEndedReading, !hasFailed { noteInputEnded() }
        let (receive, onLoss) = (receive, onLoss)
        close()
        if let receive { receive(.closed) } else { onLoss?() }
    }

    private func tell(_ event: Event) {
        if let receive { receive(event) } else if !isOver { early.append(event) }
    }
}

extension ForwardSocket {
    /// Connects to an endpoint.
    static func connect(
        to endpoint: Endpoint,
        on loop: any EventLoop,
        _ done: @escaping (Result<ForwardSocket, NetworkFailure>) -> Void
    ) {
        let subject = AddressText.text(endpoint)
        let made = ClientBootstrap(group: loop)
            .connectTimeout(.nanoseconds(Int64(ClientLimits.forwardConnectTime)))
            .channelOption(.socketOption(.so_rcvbuf), value: ClientLimits.forwardBufferBytes)
            .channelOption(.tcpOption(.tcp_nodelay), value: 1)
            .channelOption(.autoRead, value: false)
            .channelOption(.maxMessagesPerRead, value: 1)
            .channelOption(.allowRemoteHalfClosure, value: true)
            .channelOption(.recvAllocator, value: FixedSizeRecvByteBufferAllocator(capacity: room))
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(ForwardHandler(ForwardSocket(channel)))
                }
            }
            .connect(to: SystemAddress.socketAddress(endpoint))
        made.assumeIsolated().whenComplete { result in
            switch result {
            case .success(let channel):
                let handler = try? channel.pipeline.syncOperations.handler(type: ForwardHandler.self)
                guard let handler, channel.isActive else {
                    channel.close(promise: nil)
                    return done(.failure(NetworkFailure(.reset, subject)))
                }
                done(.success(handler.socket))
            case .failure(let error): done(.failure(NetworkFailure(error, subject)))
            }
        }
    }

    /// Takes connections at an endpoint.
    /// - Parameter done: gets the channel that listens, and where.
    static func listen(
        at endpoint: Endpoint,
        on loop: any EventLoop,
        _ accept: @escaping (ForwardSocket) -> Void,
        _ done: @escaping (Result<(listener: any Channel, local: Endpoint), NetworkFailure>) -> Void
    ) {
        let taker = NIOLoopBound(accept, eventLoop: loop)
        let made = ServerBootstrap(group: loop)
            .serverChannelOption(.backlog, value: 256)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            // Here, so that the window that is offered at the beginning is already that of the connection.
            .serverChannelOption(.socketOption(.so_rcvbuf), value: ClientLimits.forwardBufferBytes)
            .childChannelOption(.tcpOption(.tcp_nodelay), value: 1)
            .childChannelOption(.autoRead, value: false)
            .childChannelOption(.maxMessagesPerRead, value: 1)
            .childChannelOption(.allowRemoteHalfClosure, value: true)
            .childChannelOption(.recvAllocator, value: FixedSizeRecvByteBufferAllocator(capacity: room))
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    let socket = ForwardSocket(channel)
                    socket.onActive = taker.value
                    try channel.pipeline.syncOperations.addHandler(ForwardHandler(socket))
                }
            }
            .bind(to: SystemAddress.socketAddress(endpoint))
        made.assumeIsolated().whenComplete { result in
            done(
                result
                    .map { ($0, $0.localAddress.flatMap { SystemAddress.endpoint($0) } ?? endpoint) }
                    .mapError { NetworkFailure($0, AddressText.text(endpoint)) }
            )
        }
    }

    private static let room = ClientLimits.forwardReadBytes
}

private final class ForwardHandler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer

    let socket: ForwardSocket

    init(_ socket: ForwardSocket) { self.socket = socket }

    func channelActive(context: ChannelHandlerContext) { socket.becameActive() }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) { socket.take(unwrapInboundIn(data)) }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if case ChannelEvent.inputClosed? = event as? ChannelEvent { socket.noteInputEnded() }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        socket.hasFailed = true
        context.close(promise: nil)
    }

    func channelInactive(context: ChannelHandlerContext) { socket.noteClosed() }
}
