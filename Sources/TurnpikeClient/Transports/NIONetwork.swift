import Glibc
import NIOCore
import NIOPosix
import OpenSSLCrypto
import Traversal

/// The machine's own network, on one event loop of NIO.
package final class NIONetwork: ClientNetwork {
    package let cryptography: any Cryptography
    let loop: any EventLoop
    let contexts = SecureContexts()
    private let names: NameLookup

    /// - Parameter loop: of `MultiThreadedEventLoopGroup`; everything here is called on it.
    package init(_ loop: any EventLoop, cryptography: any Cryptography) {
        self.loop = loop
        self.cryptography = cryptography
        names = NameLookup(loop)
    }

    package var nowNanoseconds: UInt64 { NIODeadline.now().uptimeNanoseconds }

    package var suspendedNanoseconds: UInt64 {
        let (awake, all) = (Self.nanoseconds(CLOCK_MONOTONIC), Self.nanoseconds(CLOCK_BOOTTIME))
        return all > awake ? all - awake : 0
    }

    private static func nanoseconds(_ clock: clockid_t) -> UInt64 {
        var time = timespec()
        clock_gettime(clock, &time)
        return UInt64(clamping: time.tv_sec) &* 1_000_000_000 &+ UInt64(clamping: time.tv_nsec)
    }

    package var wallMilliseconds: Int64 {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return Int64(time.tv_sec) * 1_000 + Int64(time.tv_nsec) / 1_000_000
    }

    package func localAddresses() -> [LocalAddress] { LocalInterfaces.addresses() }

    package func gateways() -> [Gateway] { DefaultRoutes.gateways() }

    package func openShared(
        port: UInt16,
        _ receive: @escaping (DatagramEvent) -> Void
    ) throws(NetworkFailure) -> any DatagramPort {
        try NIODatagramPort(loop, at: .anyIPv4, port: port, isShared: true, receive)
    }

    package func watchAddresses(_ changed: @escaping () -> Void) -> AnyObject? { NetlinkWatch(loop, changed) }

    package func openDatagrams(
        at address: IPAddress,
        port: UInt16,
        _ receive: @escaping (DatagramEvent) -> Void
    ) throws(NetworkFailure) -> any DatagramPort {
        try NIODatagramPort(loop, at: address, port: port, receive)
    }

    package func openDatagrams(
        to endpoint: Endpoint,
        _ receive: @escaping (DatagramEvent) -> Void
    ) throws(NetworkFailure) -> any DatagramPort {
        try NIODatagramPort(loop, at: .any(endpoint.family), port: 0, to: endpoint, receive)
    }

    package func connect(to endpoint: Endpoint, _ receive: @escaping (StreamEvent) -> Void) -> any StreamLink {
        NIOStream(loop, to: endpoint, receive)
    }

    package func openStreams(
        at address: IPAddress,
        port: UInt16,
        _ receive: @escaping (StreamPortEvent) -> Void
    ) throws(NetworkFailure) -> any StreamPort {
        try NIOStreamPort(loop, at: address, port: port, receive)
    }

    package func openWebSocket(
        _ request: WebSocketRequest,
        _ receive: @escaping (WebSocketEvent) -> Void
    ) -> any WebSocketLink {
        NIOWebSocketClient(self, request, receive)
    }

    package func resolve(_ name: String, _ answer: @escaping (Result<[IPAddress], NetworkFailure>) -> Void) {
        names.resolve(name, answer)
    }

    package func alarm(_ body: @escaping () -> Void) -> any Alarm { NIOAlarm(loop, body) }
}
