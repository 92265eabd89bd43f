import Foundation
import Logging
import NIOCore
import NIOPosix
import OpenSSLCrypto
import Signaling
import Synchronization

/// The control plane's front: listeners for clients and for the command line, and what they share.
package final class GatewayService: Sendable {
    /// Where clients reach it, with the ports the kernel chose.
    package let listeners: [GatewayListener]
    /// Where the command line does; nil for nowhere.
    package let adminSocketPath: String?

    private let group: MultiThreadedEventLoopGroup
    private let channels: [any Channel]
    private let state: GatewayState
    private let signaling: SignalingService
    private let connections: ConnectionSetup
    /// Whether it takes connections that others have accepted.
    private let isOpen = Mutex(true)

    /// Opens the sockets. Clients are served from the moment it returns.
    /// - Throws: `GatewayError` when it cannot listen.
    package init(
        _ options: GatewayOptions,
        directory: any GatewayDirectory,
        control: any GatewayControl,
        logger: Logger
    ) throws(GatewayError) {
        let group = MultiThreadedEventLoopGroup(numberOfThreads: max(options.loops, 1))
        let state = GatewayState(options.configuration)
        let signaling = SignalingService(group: group, state: state, directory: directory, logger: logger)
        let core = GatewayCore(
            state: state,
            signaling: signaling,
            directory: directory,
            control: control,
            logger: logger
        )
        let connections = ConnectionSetup(certificate: options.certificate, state: state, core: core)
        var channels: [any Channel] = []
        var listeners: [GatewayListener] = []
        var adminSocketPath: String?
        do throws(GatewayError) {
            for listener in options.listeners {
                do throws(GatewayError) {
                    let channel = try Self.listen(listener, group, connections)
                    channels.append(channel)
                    var bound = listener
                    bound.port = channel.localAddress?.port ?? listener.port
                    listeners.append(bound)
                } catch {
                    guard listener.isImplied else { throw error }
                    logger.warning("\(error); signaling and the API are not served there")
                }
            }
            if let socket = options.adminSocket {
                do throws(GatewayError) {
                    channels.append(try Self.listen(socket, group, core))
                    adminSocketPath = socket.path
                } catch {
                    guard socket.isImplied else { throw error }
                    logger.warning("\(error); the command line cannot reach this server")
                }
            }
        } catch {
            for channel in channels { channel.close(promise: nil) }
            group.shutdownGracefully { _ in }
            throw error
        }
        self.group = group
        self.channels = channels
        self.listeners = listeners
        self.adminSocketPath = adminSocketPath
        self.state = state
        self.signaling = signaling
        self.connections = connections
    }

    /// Serves a connection that has made its TLS handshake elsewhere, and what it has sent since. Does not wait.
    ///
    /// - Parameters:
    ///   - descriptor: A connected socket that does not block, which is closed here from now on.
    ///   - session: Nobody has read from it since the handshake.
    package func adopt(_ descriptor: Int32, _ session: SessionTransfer) {
        let isTaken = isOpen.withLock { isOpen in
            if isOpen { connections.adopt(descriptor, session, on: group.next()) }
            return isOpen
        }
        if !isTaken { close(descriptor) }
    }

    /// New connections are secured with this; those there are keep theirs.
    package func renew(_ certificate: TLSContext) { connections.certificate.withLock { $0 = certificate } }

    package func reconfigure(_ configuration: GatewayConfiguration) {
        state.take(configuration)
        signaling.reconfigure(configuration)
    }

    /// A user is gone, disabled or expired: his sockets are closed (4403).
    package func revoke(user: String) { signaling.revoke(user: user) }

    /// A user's time ends then, in seconds since 1970: his sockets are closed by then (4401).
    package func limit(user: String, untilSeconds: Int64) { signaling.limit(user: user, untilSeconds: untilSeconds) }

    /// A token does not hold any more: what it opened is closed.
    package func revoke(token: String) { signaling.revoke(token: token) }

    /// Of all tokens these hold still.
    package func keep(tokens: Set<String>) { signaling.keep(tokens: tokens) }

    /// Any user may have changed: each who is connected is looked up again by the caller.
    package func connectedUsers() async -> Set<String> { await signaling.connectedUsers() }

    /// Health turns first; sockets are told when to come back, and closed over that time.
    package func beginDraining(window: Duration) {
        state.beginDraining()
        signaling.drain(over: window)
    }

    package func statistics() async -> GatewayStatistics {
        let counts = state.tally.counts
        var statistics = await signaling.statistics()
        statistics.connections = counts.total
        statistics.connectionsRefused = counts.refused
        statistics.connectionLimit = GatewayLimits.connections
        return statistics
    }

    /// Closes what is open, and ends. Later calls find nothing left to end.
    package func stop() async {
        isOpen.withLock { $0 = false }
        for channel in channels { try? await channel.close() }
        await signaling.stop()
        if let adminSocketPath { unlink(adminSocketPath) }
        try? await group.shutdownGracefully()
    }

    // MARK: Listening

    private static func listen(
        _ listener: GatewayListener,
        _ group: MultiThreadedEventLoopGroup,
        _ connections: ConnectionSetup
    ) throws(GatewayError) -> any Channel {
        do {
            var bootstrap = ServerBootstrap(group: group)
                .serverChannelOption(.backlog, value: GatewayLimits.backlog)
                .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
                .childChannelOption(.tcpOption(.tcp_nodelay), value: 1)
                .childChannelOption(.writeBufferWaterMark, value: Self.waterMark)
                // A second read would find nothing, nearly always. What waits all the same is told of again.
                .childChannelOption(.maxMessagesPerRead, value: 1)
                .childChannelOption(.recvAllocator, value: Self.receiving)
                .childChannelInitializer { connections.prepare($0) }
            if listener.host.contains(":") {
                // The IPv4 wildcard has a listener of its own.
                let only = ChannelOptions.Types.SocketOption(level: .ipv6, name: .ipv6_v6only)
                bootstrap = bootstrap.serverChannelOption(only, value: 1)
            }
            return try bootstrap.bind(host: listener.host, port: listener.port).wait()
        } catch {
            let mend = "free the port, or change listen.https"
            throw GatewayError("cannot listen on \(listener.description) for https: \(reason(error)); \(mend)")
        }
    }

    private static func listen(
        _ socket: AdminSocket,
        _ group: MultiThreadedEventLoopGroup,
        _ core: GatewayCore
    ) throws(GatewayError) -> any Channel {
        // sun_path, with its NUL.
        guard socket.path.utf8.count < 108 else {
            throw GatewayError(
                "the admin socket's path has \(socket.path.utf8.count) bytes and the system takes 107; "
                    + "set admin.socket to a shorter one"
            )
        }
        let probe = ClientBootstrap(group: group).connectTimeout(.seconds(1))
        if let other = try? probe.connect(unixDomainSocketPath: socket.path).wait() {
            other.close(promise: nil)
            throw GatewayError("another server listens on \(socket.path); stop it, or set admin.socket")
        }
        // The file must never be open to others, not even between bind and chmod.
        let mask = umask(0o177)
        defer { umask(mask) }
        do {
            return try ServerBootstrap(group: group)
                .childChannelOption(.writeBufferWaterMark, value: Self.waterMark)
                .childChannelInitializer { channel in
                    channel.eventLoop.makeCompletedFuture {
                        try channel.pipeline.syncOperations.addHandler(HTTPHandler(source: .local, answering: core))
                    }
                }
                .bind(unixDomainSocketPath: socket.path, cleanupExistingSocketFile: true)
                .wait()
        } catch {
            throw GatewayError("cannot make the admin socket \(socket.path): \(reason(error))")
        }
    }

    private static func reason(_ error: any Error) -> String {
        guard let error = error as? IOError else { return "\(error)" }
        return String(cString: strerror(error.errnoCode))
    }

    /// The channel keeps its last buffer: an idle one should be small.
    static let receiving = AdaptiveRecvByteBufferAllocator(
        minimum: 256,
        initial: GatewayLimits.receivedBytes,
        maximum: 65_536
    )

    /// Past the high mark a channel says that it is not writable, and a WebSocket is closed for it.
    static let waterMark = ChannelOptions.Types.WriteBufferWaterMark(
        low: GatewayLimits.outgoingBytes / 4,
        high: GatewayLimits.outgoingBytes
    )
}

/// What the gateway has done and holds.
package struct GatewayStatistics: Sendable {
    package var connections = 0
    package var connectionsRefused: UInt64 = 0
    /// How many there may be.
    package var connectionLimit = 0
    package var signalingConnections = 0
    package var sessions = 0
    package var peers = 0
    package var rooms = 0
    package var networkPairs = 0
    package var signaling = HubCounters()

    package init() {}
}

/// Makes the pipeline of each connection that is accepted.
final class ConnectionSetup: Sendable {
    let certificate: Mutex<TLSContext?>
    let state: GatewayState
    let core: GatewayCore
    private let spaces = Mutex<[ObjectIdentifier: NIOLoopBound<OutputSpace>]>([:])

    init(certificate: TLSContext?, state: GatewayState, core: GatewayCore) {
        self.certificate = Mutex(certificate)
        self.state = state
        self.core = core
    }

    func prepare(_ channel: any Channel) -> EventLoopFuture<Void> {
        let source = ClientSource(channel.remoteAddress)
        guard state.tally.admit(source, withHandshake: true) else {
            return channel.eventLoop.makeFailedFuture(ChannelError.ioOnClosedChannel)
        }
        let tally = state.tally
        channel.closeFuture.whenComplete { _ in tally.release(source) }
        return channel.eventLoop.makeCompletedFuture {
            if state.configuration.allowsPlaintext, source.isPrivate {
                try channel.pipeline.syncOperations.addHandler(FirstByteHandler(setup: self, source: source))
            } else {
                try secure(channel, source, position: .last)
            }
        }
    }

    func secure(
        _ channel: any Channel,
        _ source: ClientSource,
        position: ChannelPipeline.SynchronousOperations.Position
    ) throws {
        let tally = state.tally
        var source = source
        source.isSecure = true
        let session: TLSSession
        do {
            // An end of input is told of while the socket is open: what it knows is asked for then.
            try channel.syncOptions?.setOption(.allowRemoteHalfClosure, value: true)
            guard let context = certificate.withLock({ $0 }) else { throw GatewayError("there is no certificate") }
            // Many, and idle nearly always.
            session = try TLSSession(context, space: space(of: channel.eventLoop), isCompact: true)
        } catch {
            tally.handshakeEnded()
            throw error
        }
        try channel.pipeline.syncOperations.addHandlers(
            [TLSHandler(session) { tally.handshakeEnded() }, HTTPHandler(source: source, answering: core)],
            position: position
        )
    }

    /// Without TLS, for who came from where a proxy stands.
    func leavePlain(
        _ channel: any Channel,
        _ source: ClientSource,
        position: ChannelPipeline.SynchronousOperations.Position
    ) throws {
        try channel.pipeline.syncOperations.addHandler(HTTPHandler(source: source, answering: core), position: position)
    }

    /// Where all sessions of a loop seal: each takes what it sealed before another does.
    func space(of loop: any EventLoop) -> OutputSpace {
        spaces.withLock { spaces in
            let bound =
                spaces[ObjectIdentifier(loop)]
                ?? NIOLoopBound(OutputSpace(byteCount: GatewayLimits.sealingBytes), eventLoop: loop)
            spaces[ObjectIdentifier(loop)] = bound
            return bound
        }
        .value
    }

    func handshakeEnded() { state.tally.handshakeEnded() }
}

/// Tells TLS from plain HTTP by the first byte, where both may come (`signaling.allow_plaintext`).
private final class FirstByteHandler: ChannelInboundHandler, RemovableChannelHandler {
    typealias InboundIn = ByteBuffer
    typealias InboundOut = ByteBuffer

    private let setup: ConnectionSetup
    private let source: ClientSource
    private var deadline: Scheduled<Void>?
    private var isDecided = false

    init(setup: ConnectionSetup, source: ClientSource) {
        self.setup = setup
        self.source = source
    }

    func handlerAdded(context: ChannelHandlerContext) {
        let channel = context.channel
        deadline = context.eventLoop.scheduleTask(in: GatewayLimits.handshakeTime) { channel.close(promise: nil) }
    }

    func handlerRemoved(context: ChannelHandlerContext) {
        deadline?.cancel()
        if !isDecided {
            isDecided = true
            setup.handshakeEnded()
        }
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let bytes = unwrapInboundIn(data)
        guard !isDecided, let first = bytes.getInteger(at: bytes.readerIndex, as: UInt8.self) else { return }
        isDecided = true
        do {
            // A TLS record of type handshake (RFC 8446 section 5.1) begins with 22, and no HTTP method does.
            if first == 22 {
                try setup.secure(context.channel, source, position: .after(self))
            } else {
                setup.handshakeEnded()
                try setup.leavePlain(context.channel, source, position: .after(self))
            }
        } catch {
            context.close(promise: nil)
            return
        }
        context.fireChannelRead(wrapInboundOut(bytes))
        context.pipeline.syncOperations.removeHandler(context: context, promise: nil)
    }
}
