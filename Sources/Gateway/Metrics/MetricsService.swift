import Foundation
import Logging
import NIOCore
import NIOPosix
import Synchronization

/// Plain HTTP for Prometheus, on a thread of its own, so that nobody's signaling waits while a page is sent.
package final class MetricsService: Sendable {
    /// Where it listens, with the ports the kernel chose.
    package let listeners: [GatewayListener]

    private let group: MultiThreadedEventLoopGroup
    private let channels: [any Channel]

    /// Opens the sockets, and serves from the moment it returns.
    ///
    /// - Parameter collect: makes a page in Prometheus' text format (`MetricsText`).
    /// - Throws: `GatewayError` when it cannot listen where somebody wanted it to.
    package init(
        _ wanted: [GatewayListener],
        logger: Logger,
        collect: @escaping @Sendable () async -> String
    ) throws(GatewayError) {
        let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        let page = MetricsPage(collect: collect)
        let connections = OpenConnections()
        var channels: [any Channel] = []
        var listeners: [GatewayListener] = []
        for listener in wanted {
            do throws(GatewayError) {
                let channel = try Self.listen(listener, group, page, connections)
                channels.append(channel)
                var bound = listener
                bound.port = channel.localAddress?.port ?? listener.port
                listeners.append(bound)
            } catch {
                guard listener.isImplied else {
                    for channel in channels { channel.close(promise: nil) }
                    group.shutdownGracefully { _ in }
                    throw error
                }
                logger.warning("\(error); metrics are not served there")
            }
        }
        self.group = group
        self.channels = channels
        self.listeners = listeners
    }

    /// Closes what is open, and ends.
    package func stop() async {
        for channel in channels { try? await channel.close() }
        try? await group.shutdownGracefully()
    }

    private static func listen(
        _ listener: GatewayListener,
        _ group: MultiThreadedEventLoopGroup,
        _ page: MetricsPage,
        _ connections: OpenConnections
    ) throws(GatewayError) -> any Channel {
        do {
            var bootstrap = ServerBootstrap(group: group)
                .serverChannelOption(.backlog, value: 64)
                .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
                .childChannelOption(.tcpOption(.tcp_nodelay), value: 1)
                .childChannelInitializer { channel in
                    guard connections.enter() else {
                        return channel.eventLoop.makeFailedFuture(ChannelError.ioOnClosedChannel)
                    }
                    channel.closeFuture.whenComplete { _ in connections.leave() }
                    let source = ClientSource(channel.remoteAddress)
                    return channel.eventLoop.makeCompletedFuture {
                        try channel.pipeline.syncOperations.addHandler(HTTPHandler(source: source, answering: page))
                    }
                }
            if listener.host.contains(":") {
                let only = ChannelOptions.Types.SocketOption(level: .ipv6, name: .ipv6_v6only)
                bootstrap = bootstrap.serverChannelOption(only, value: 1)
            }
            return try bootstrap.bind(host: listener.host, port: listener.port).wait()
        } catch {
            let reason = (error as? IOError).map { String(cString: strerror($0.errnoCode)) } ?? "\(error)"
            throw GatewayError("cannot listen on \(listener.description) for metrics: \(reason)")
        }
    }
}

/// How many connections there are, up to `GatewayLimits.metricsConnections`.
private final class OpenConnections: Sendable {
    private let count = Mutex(0)

    func enter() -> Bool {
        count.withLock { count in
            guard count < GatewayLimits.metricsConnections else { return false }
            count += 1
            return true
        }
    }

    func leave() { count.withLock { $0 -= 1 } }
}
