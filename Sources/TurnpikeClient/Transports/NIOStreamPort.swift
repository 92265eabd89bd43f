import Glibc
import NIOCore
import NIOPosix
import Traversal

/// A TCP port on an event loop: a listener, and connections from the same address and port.
final class NIOStreamPort: StreamPort {
    /// What all sockets of one port need before they are bound: Linux lets a second one in only if the first said so.
    static var sharing: [ChannelOptions.Types.SocketOption] {
        [.socketOption(.so_reuseaddr), .socket(SocketOptionLevel(SOL_SOCKET), SocketOptionName(SO_REUSEPORT))]
    }

    let local: Endpoint

    private let loop: any EventLoop
    private var listener: (any Channel)?
    private var receive: ((StreamPortEvent) -> Void)?

    init(
        _ loop: any EventLoop,
        at address: IPAddress,
        port: UInt16,
        _ receive: @escaping (StreamPortEvent) -> Void
    ) throws(NetworkFailure) {
        let wanted = Endpoint(address: address, port: port)
        let subject = "a TCP port at \(AddressText.text(wanted))"
        let descriptor = socket(address.isIPv4 ? AF_INET : AF_INET6, SystemAddress.streams, 0)
        guard descriptor >= 0 else { throw NetworkFailure(errno: errno, subject) }
        var one: CInt = 1
        for option in [SO_REUSEADDR, SO_REUSEPORT] {
            setsockopt(descriptor, SOL_SOCKET, option, &one, socklen_t(MemoryLayout<CInt>.size))
        }
        guard SystemAddress.with(wanted, { bind(descriptor, $0, $1) }) == 0,
            listen(descriptor, CInt(ClientLimits.streamBacklog)) == 0
        else {
            let failure = NetworkFailure(errno: errno, subject)
            Glibc.close(descriptor)
            throw failure
        }
        local = SystemAddress.local(descriptor) ?? wanted
        self.loop = loop
        self.receive = receive
        adopt(descriptor, subject)
    }

    deinit { listener?.close(promise: nil) }

    func connect(to endpoint: Endpoint, _ receive: @escaping (StreamEvent) -> Void) -> any StreamLink {
        NIOStream(loop, to: endpoint, from: local, receive)
    }

    func close() {
        receive = nil
        listener?.close(promise: nil)
        listener = nil
    }

    private func adopt(_ descriptor: CInt, _ subject: String) {
        let port = NIOLoopBound(WeakPort(self), eventLoop: loop)
        let made = ServerBootstrap(group: loop)
            .childChannelOption(.socketOption(.so_keepalive), value: 1)
            .childChannelOption(.autoRead, value: false)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(ArrivalHandler(port.value.port))
                }
            }
            .withBoundSocket(descriptor)
        made.assumeIsolated().whenComplete { [weak self] result in
            switch result {
            case .success(let channel):
                guard let self, receive != nil else { return channel.close(promise: nil) }
                listener = channel
            case .failure(let error):
                guard let self else { return }
                loop.assumeIsolated().execute { self.receive?(.failed(NetworkFailure(error, subject))) }
            }
        }
    }

    fileprivate func take(_ channel: any Channel) {
        guard let receive, channel.isActive,
            let remote = channel.remoteAddress.flatMap({ SystemAddress.endpoint($0) })
        else { return channel.close(promise: nil) }
        let link = NIOStream(loop, accepted: channel, from: remote, at: local)
        var taker: ((StreamEvent) -> Void)?
        receive(.accepted(link, from: remote) { taker = $0 })
        link.begin(taker)
    }

    private final class WeakPort {
        weak var port: NIOStreamPort?

        init(_ port: NIOStreamPort) { self.port = port }
    }
}

/// A connection that comes in knows its ends once it is active.
private final class ArrivalHandler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer

    private weak var port: NIOStreamPort?

    init(_ port: NIOStreamPort?) { self.port = port }

    func channelActive(context: ChannelHandlerContext) {
        guard let port else { return context.close(promise: nil) }
        port.take(context.channel)
    }
}
