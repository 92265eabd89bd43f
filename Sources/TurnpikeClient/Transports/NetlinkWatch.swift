import Glibc
import NIOCore
import NIOPosix
import Traversal

/// Hears from the kernel that addresses, links or routes are others than before (rtnetlink(7)). What it says in detail
/// is not read: whoever is told looks for himself.
final class NetlinkWatch {
    private let loop: any EventLoop
    private let changed: () -> Void
    private var channel: (any Channel)?
    private lazy var alarm = NIOAlarm(loop) { [weak self] in self?.open() }

    init(_ loop: any EventLoop, _ changed: @escaping () -> Void) {
        self.loop = loop
        self.changed = changed
        open()
    }

    deinit { channel?.close(promise: nil) }

    private func open() {
        let descriptor = socket(AF_NETLINK, CInt(SOCK_RAW.rawValue) | SystemAddress.socketFlags, 0)
        guard descriptor >= 0 else { return openLater() }
        guard Self.bind(descriptor) else {
            close(descriptor)
            return openLater()
        }
        let handler = NIOLoopBound(NetlinkHandler(self), eventLoop: loop)
        let made = NIOPipeBootstrap(group: loop)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture { try channel.pipeline.syncOperations.addHandler(handler.value) }
            }
            .takingOwnershipOfDescriptor(input: descriptor)
        made.assumeIsolated().whenComplete { [weak self] result in
            switch result {
            case .success(let channel):
                guard let self else { return channel.close(promise: nil) }
                self.channel = channel
            case .failure:
                close(descriptor)
                self?.openLater()
            }
        }
    }

    /// Some containers have no netlink. Addresses are looked at every few seconds all the same.
    private func openLater() { alarm.set(at: NIODeadline.now().uptimeNanoseconds &+ ClientLimits.netlinkRetry) }

    fileprivate func heard() { changed() }

    /// As when it was told more than its buffer holds (ENOBUFS).
    fileprivate func ended() {
        channel = nil
        openLater()
        changed()
    }

    /// A `sockaddr_nl`, which Swift's Glibc does not have: family, padding, port and groups, in the machine's order.
    private static func bind(_ descriptor: CInt) -> Bool {
        // linux/rtnetlink.h: links, and addresses and routes of IPv4 and IPv6.
        let groups: UInt32 = 0x1 | 0x10 | 0x40 | 0x100 | 0x400
        let address: (UInt16, UInt16, UInt32, UInt32) = (UInt16(AF_NETLINK), 0, 0, groups)
        return withUnsafeBytes(of: address) { bytes in
            guard let base = bytes.baseAddress else { return false }
            return base.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                Glibc.bind(descriptor, $0, socklen_t(bytes.count)) == 0
            }
        }
    }
}

private final class NetlinkHandler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer

    private weak var watch: NetlinkWatch?

    init(_ watch: NetlinkWatch) { self.watch = watch }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) { watch?.heard() }

    func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }

    func channelInactive(context: ChannelHandlerContext) { watch?.ended() }
}
