import Glibc
import NIOCore
import NIOPosix
import Traversal

/// A UDP socket on an event loop. NIO reads it, many datagrams by one call. It is written to directly: NIO closes a
/// socket for errors that say nothing but that one destination cannot be reached, and a peer may name any destination.
final class NIODatagramPort: DatagramPort {
    let local: Endpoint
    private(set) var refusal: NetworkFailure?

    private let loop: any EventLoop
    private var descriptor: CInt
    private var channel: (any Channel)?
    private var receive: ((DatagramEvent) -> Void)?
    /// The one destination. For it alone the system tells what ICMP says.
    private let remote: Endpoint?
    /// Destinations that the system has refused since the loop's last turn.
    private var unreachable: Set<Endpoint> = []

    init(
        _ loop: any EventLoop,
        at address: IPAddress,
        port: UInt16,
        to remote: Endpoint? = nil,
        isShared: Bool = false,
        _ receive: @escaping (DatagramEvent) -> Void
    ) throws(NetworkFailure) {
        let wanted = Endpoint(address: address, port: port)
        let subject = "a UDP socket at \(AddressText.text(wanted))"
        let descriptor = socket(address.isIPv4 ? AF_INET : AF_INET6, SystemAddress.datagrams, 0)
        guard descriptor >= 0 else { throw NetworkFailure(errno: errno, subject) }
        // IPv4 has sockets of its own, also on the wildcard and the same port.
        if !address.isIPv4 { Self.set(descriptor, CInt(IPPROTO_IPV6), IPV6_V6ONLY, 1) }
        if isShared { Self.set(descriptor, SOL_SOCKET, SO_REUSEADDR, 1) }
        if remote == nil, !isShared { Self.forbidFragments(descriptor, isIPv4: address.isIPv4) }
        Self.set(descriptor, SOL_SOCKET, SO_RCVBUF, CInt(ClientLimits.datagramBufferBytes))
        Self.set(descriptor, SOL_SOCKET, SO_SNDBUF, CInt(ClientLimits.datagramBufferBytes))
        guard SystemAddress.with(wanted, { bind(descriptor, $0, $1) }) == 0 else {
            let failure = NetworkFailure(errno: errno, subject)
            Glibc.close(descriptor)
            throw failure
        }
        if let remote, SystemAddress.with(remote, { connect(descriptor, $0, $1) }) != 0 {
            let failure = NetworkFailure(errno: errno, "UDP to \(AddressText.text(remote))")
            Glibc.close(descriptor)
            throw failure
        }
        let bound = SystemAddress.local(descriptor) ?? wanted
        let sending =
            bound.address.isAny
            ? SystemAddress.sendingAddress(address.family) ?? Self.anyLocal(address) : bound.address
        local = Endpoint(address: sending, port: bound.port)
        self.remote = remote
        self.loop = loop
        self.descriptor = descriptor
        self.receive = receive
        adopt(descriptor, subject)
    }

    deinit { channel?.close(promise: nil) }

    func send(_ bytes: UnsafeRawBufferPointer, to destination: Endpoint) {
        guard descriptor >= 0 else { return }
        let sent = SystemAddress.with(destination) { address, length in
            sendto(descriptor, bytes.baseAddress, bytes.count, CInt(MSG_DONTWAIT), address, length)
        }
        guard sent < 0 else { return }
        let code = errno
        switch code {
        // Full or too long: one datagram is lost.
        case EAGAIN, ENOBUFS, ENOMEM, EMSGSIZE, EINTR: break
        // ICMP's answer to an earlier datagram, whose destination is known where there is only one.
        case ECONNREFUSED: refused()
        default:
            refusal = NetworkFailure(errno: code, "UDP to \(AddressText.text(destination))")
            tellUnreachable(destination)
        }
    }

    func send(_ bytes: UnsafeRawBufferPointer, to destination: Endpoint, hopLimit: UInt8) {
        guard descriptor >= 0 else { return }
        let isIPv4 = destination.address.isIPv4
        let level = isIPv4 ? CInt(IPPROTO_IP) : CInt(IPPROTO_IPV6)
        let option = isIPv4 ? CInt(IP_TTL) : CInt(IPV6_UNICAST_HOPS)
        Self.set(descriptor, level, option, CInt(hopLimit))
        send(bytes, to: destination)
        // Back to the system's own.
        Self.set(descriptor, level, option, -1)
    }

    func close() {
        descriptor = -1
        receive = nil
        channel?.close(promise: nil)
        channel = nil
    }

    // MARK: For the handler

    fileprivate func take(_ bytes: UnsafeRawBufferPointer, from source: Endpoint) {
        receive?(.datagram(bytes, from: source))
    }

    fileprivate func refused() {
        guard let remote else { return }
        refusal = nil
        tellUnreachable(remote)
    }

    fileprivate func ended(_ error: (any Error)?) {
        guard descriptor >= 0 else { return }
        descriptor = -1
        channel = nil
        let receive = receive
        self.receive = nil
        let subject = "the UDP socket at \(AddressText.text(local))"
        receive?(.failed(error.map { NetworkFailure($0, subject) } ?? NetworkFailure(.other, subject)))
    }

    private func adopt(_ descriptor: CInt, _ subject: String) {
        let handler = NIOLoopBound(DatagramHandler(self), eventLoop: loop)
        let room = ClientLimits.datagramRoomBytes * ClientLimits.datagramsPerRead
        let made = DatagramBootstrap(group: loop)
            .channelOption(.datagramVectorReadMessageCount, value: ClientLimits.datagramsPerRead)
            .channelOption(.recvAllocator, value: FixedSizeRecvByteBufferAllocator(capacity: room))
            // A path's packets go in between those of others.
            .channelOption(.maxMessagesPerRead, value: 4)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture { try channel.pipeline.syncOperations.addHandler(handler.value) }
            }
            .withBoundSocket(descriptor)
        made.assumeIsolated().whenComplete { [weak self] result in
            switch result {
            case .success(let channel):
                // It was closed before it was there, or nobody wants it any more.
                guard let self, self.descriptor >= 0 else { return channel.close(promise: nil) }
                self.channel = channel
            case .failure(let error):
                guard let self else { return }
                self.loop.assumeIsolated().execute { self.ended(error) }
            }
        }
    }

    private func tellUnreachable(_ destination: Endpoint) {
        guard unreachable.count < ClientLimits.unreachableAtOnce else { return }
        let isFirst = unreachable.isEmpty
        unreachable.insert(destination)
        guard isFirst else { return }
        loop.assumeIsolated().execute { [weak self] in
            guard let self else { return }
            let destinations = self.unreachable
            self.unreachable = []
            for destination in destinations { self.receive?(.unreachable(destination)) }
        }
    }

    /// A machine without a default way has addresses all the same.
    private static func anyLocal(_ wildcard: IPAddress) -> IPAddress {
        LocalInterfaces.addresses().first { $0.address.family == wildcard.family }?.address
            ?? (wildcard.isIPv4 ? IPAddress(v4: 0x7F00_0001) : IPAddress(high: 0, low: 1))
    }

    /// RFC 8899 section 3: what is too long for a path is lost on it, and not sent in fragments, which NATs and
    /// firewalls lose more often. What the system believes of the path, by word of anybody's ICMP, counts for nothing.
    private static func forbidFragments(_ descriptor: CInt, isIPv4: Bool) {
        if isIPv4 {
            set(descriptor, CInt(IPPROTO_IP), IP_MTU_DISCOVER, IP_PMTUDISC_PROBE)
        } else {
            set(descriptor, CInt(IPPROTO_IPV6), IPV6_MTU_DISCOVER, IPV6_PMTUDISC_PROBE)
        }
    }

    private static func set(_ descriptor: CInt, _ level: CInt, _ option: CInt, _ value: CInt) {
        var value = value
        // What the system does not grant it leaves as it is.
        _ = setsockopt(descriptor, level, option, &value, socklen_t(MemoryLayout<CInt>.size))
    }
}

private final class DatagramHandler: ChannelInboundHandler {
    typealias InboundIn = AddressedEnvelope<ByteBuffer>

    private weak var port: NIODatagramPort?
    private var error: (any Error)?

    init(_ port: NIODatagramPort) { self.port = port }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let envelope = unwrapInboundIn(data)
        guard let port, let source = SystemAddress.endpoint(envelope.remoteAddress) else { return }
        envelope.data.withUnsafeReadableBytes { port.take($0, from: source) }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        // NIO goes on with a socket that says this.
        if let error = error as? IOError, error.errnoCode == ECONNREFUSED { return port?.refused() ?? () }
        self.error = error
    }

    func channelInactive(context: ChannelHandlerContext) { port?.ended(error) }
}
