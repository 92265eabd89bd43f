import OpenSSLCrypto
import Traversal

/// The world as the client sees it: sockets, names, time. `NIONetwork` is the real one, and tests have one with virtual
/// time, so everything above this protocol is plain code that runs in both.
///
/// All of it belongs to one loop, a thread or what stands for one: every call is made on the loop, and every closure is
/// called on it, never from within the call that was given it. A closure is kept until its port, link or alarm is
/// closed, and not called after that.
package protocol ClientNetwork: AnyObject {
    /// Monotonic, from any beginning.
    var nowNanoseconds: UInt64 { get }
    /// How long the machine has been suspended while that clock stood still.
    var suspendedNanoseconds: UInt64 { get }
    /// Since 1970, by the clock on the wall: for the expiry of credentials alone.
    var wallMilliseconds: Int64 { get }
    var cryptography: any Cryptography { get }
    /// What all who guess ports in this world share.
    var punchGate: PunchGate { get }

    /// Addresses of interfaces that are up, best first; loopback only where there is nothing else.
    func localAddresses() -> [LocalAddress]

    /// The routers that packets of IPv4 to the world go to, best first.
    func gateways() -> [Gateway]

    /// A UDP socket on all of IPv4, whose port others on this machine may have as well: for what is told to everybody.
    func openShared(
        port: UInt16,
        _ receive: @escaping (DatagramEvent) -> Void
    ) throws(NetworkFailure) -> any DatagramPort

    /// Tells whenever addresses, links or routes of this machine may be others than before, as often as the system says
    /// so.
    /// - Returns: what is to be kept for as long as anybody wants to hear of it; nil where the system says nothing.
    func watchAddresses(_ changed: @escaping () -> Void) -> AnyObject?

    /// A UDP socket.
    /// - Parameters:
    ///   - address: of this machine, or the wildcard of a family (`IPAddress.anyIPv4`, `.anyIPv6`).
    ///   - port: 0 for one of the system's choice.
    func openDatagrams(
        at address: IPAddress,
        port: UInt16,
        _ receive: @escaping (DatagramEvent) -> Void
    ) throws(NetworkFailure) -> any DatagramPort

    /// A UDP socket for one destination alone. Where the system can, it says `.unreachable` when nothing listens there.
    func openDatagrams(
        to endpoint: Endpoint,
        _ receive: @escaping (DatagramEvent) -> Void
    ) throws(NetworkFailure) -> any DatagramPort

    /// A plain TCP connection, which begins here and says `.opened` or `.closed`.
    func connect(to endpoint: Endpoint, _ receive: @escaping (StreamEvent) -> Void) -> any StreamLink

    /// A port that takes TCP connections and opens them, all with one address and port of its own.
    /// - Parameters:
    ///   - address: of this machine; no wildcard.
    ///   - port: 0 for one of the system's choice.
    func openStreams(
        at address: IPAddress,
        port: UInt16,
        _ receive: @escaping (StreamPortEvent) -> Void
    ) throws(NetworkFailure) -> any StreamPort

    /// A WebSocket, with TLS below it where the request says so.
    func openWebSocket(
        _ request: WebSocketRequest,
        _ receive: @escaping (WebSocketEvent) -> Void
    ) -> any WebSocketLink

    /// The addresses of a host name, in the system's order, each once. An address in text is its own answer.
    func resolve(_ name: String, _ answer: @escaping (Result<[IPAddress], NetworkFailure>) -> Void)

    /// An alarm that is not set yet.
    func alarm(_ body: @escaping () -> Void) -> any Alarm
}

/// An address of this machine.
package struct LocalAddress: Hashable, Sendable {
    /// A link-local one carries its link's number.
    package var address: IPAddress
    /// Such as `eth0`.
    package var interface: String

    package init(address: IPAddress, interface: String) {
        self.address = address
        self.interface = interface
    }
}

/// A default route.
package struct Gateway: Hashable, Sendable {
    package var address: IPAddress
    /// By which it is reached, such as `eth0`.
    package var interface: String

    package init(address: IPAddress, interface: String) {
        self.address = address
        self.interface = interface
    }
}

/// A UDP socket.
package protocol DatagramPort: AnyObject {
    /// Where it is bound. For a wildcard this has the address that the system would send from, where it has one.
    var local: Endpoint { get }
    /// Why the system has said `.unreachable` last, where it gave another reason than that nothing listens there.
    var refusal: NetworkFailure? { get }
    /// What the system does not take is lost, as on the way.
    func send(_ bytes: UnsafeRawBufferPointer, to destination: Endpoint)
    /// The same for a datagram that passes so many routers and no more.
    func send(_ bytes: UnsafeRawBufferPointer, to destination: Endpoint, hopLimit: UInt8)
    func close()
}

package enum DatagramEvent {
    /// The bytes are there for the time of the call.
    case datagram(UnsafeRawBufferPointer, from: Endpoint)
    /// The system has said that nothing sent to that endpoint arrives (ICMP). It may be forged or pass.
    case unreachable(Endpoint)
    /// The socket is of no more use; nothing follows.
    case failed(NetworkFailure)
}

/// A connection that carries bytes in order.
package protocol StreamLink: AnyObject {
    /// What `send` took and the system has not. `.writable` comes when it has fallen to nothing.
    var queuedBytes: Int { get }
    /// Before `.opened` the bytes wait, after the end they go nowhere. Past `ClientLimits.streamQueueBytes` the link
    /// closes, so senders that can wait look at `queuedBytes`.
    func send(_ bytes: UnsafeRawBufferPointer)
    /// What was sent before still goes, for as long as the other side takes it.
    func close()
}

/// A TCP port.
package protocol StreamPort: AnyObject {
    var local: Endpoint { get }
    /// A connection from this port, which begins here and says `.opened` or `.closed`. It may as well be opened by the
    /// other end at the same time. `.closed` with `.addressUnavailable` where there is one with that end already.
    func connect(to endpoint: Endpoint, _ receive: @escaping (StreamEvent) -> Void) -> any StreamLink
    /// Takes no more connections. Those there are stay.
    func close()
}

package enum StreamPortEvent {
    /// A connection that is open. What it brings goes to the closure that `take` is given during the call; without
    /// that it is closed again.
    case accepted(any StreamLink, from: Endpoint, take: (@escaping (StreamEvent) -> Void) -> Void)
    /// No more connections come in.
    case failed(NetworkFailure)
}

package enum StreamEvent {
    case opened(local: Endpoint)
    /// The bytes are there for the time of the call.
    case bytes(UnsafeRawBufferPointer)
    case writable
    /// Nothing follows. Nil: the other side closed in good order.
    case closed(NetworkFailure?)
}

/// A connection that carries messages of text.
package protocol WebSocketLink: AnyObject {
    func send(_ text: String)
    /// This end's address, once the connection is there.
    var localAddress: IPAddress? { get }
    /// What the server's clock showed when it took the WebSocket, in seconds since 1970; nil where it did not say.
    var serverSeconds: Int64? { get }
    /// How it goes there; nil before the server's TCP has answered. It stays when the link has closed.
    var way: WebSocketWay? { get }
    /// The other side answers by itself, and the link closes with `.timedOut` when it does not in time.
    func ping()
    /// - Parameter code: of RFC 6455 section 7.4.
    func close(code: UInt16)
}

/// The way to a server, as far as it was gone.
package struct WebSocketWay: Equatable, Sendable {
    package var server: Endpoint
    /// From the question of its TCP to the answer.
    package var roundTripNanoseconds: UInt64
    /// Such as `TLSv1.3`; nil without TLS, and before its handshake is over.
    package var tls: String?

    package init(server: Endpoint, roundTripNanoseconds: UInt64, tls: String? = nil) {
        self.server = server
        self.roundTripNanoseconds = roundTripNanoseconds
        self.tls = tls
    }
}

package enum WebSocketEvent {
    case opened
    case text(String)
    /// Nothing follows.
    /// - Parameter code: what the other side said (RFC 6455 section 7.4); 1006 where it said nothing.
    case closed(code: UInt16, NetworkFailure?)
}

package struct WebSocketRequest: Sendable {
    package var host: String
    package var port: UInt16
    /// With the query, from the first slash on.
    package var path: String
    package var isSecure: Bool
    package var trust: ServerTrust
    /// Besides those of the handshake.
    package var headers: [(name: String, value: String)]
    package var subprotocol: String?

    package init(
        host: String,
        port: UInt16,
        path: String,
        isSecure: Bool,
        trust: ServerTrust = .system,
        headers: [(name: String, value: String)] = [],
        subprotocol: String? = nil
    ) {
        self.host = host
        self.port = port
        self.path = path
        self.isSecure = isSecure
        self.trust = trust
        self.headers = headers
        self.subprotocol = subprotocol
    }
}

/// Calls its body once for each time it was set for, unless it was set anew before.
package protocol Alarm: AnyObject {
    /// - Parameter timeNanoseconds: on the network's clock; one that has passed is due at once; nil for never.
    func set(at timeNanoseconds: UInt64?)
}

extension ClientNetwork {
    package func gateways() -> [Gateway] { [] }

    package func openShared(
        port: UInt16,
        _ receive: @escaping (DatagramEvent) -> Void
    ) throws(NetworkFailure) -> any DatagramPort {
        try openDatagrams(at: .anyIPv4, port: port, receive)
    }

    package func watchAddresses(_ changed: @escaping () -> Void) -> AnyObject? { nil }

    package var suspendedNanoseconds: UInt64 { 0 }

    package var punchGate: PunchGate { .shared }

    package func openDatagrams(
        to endpoint: Endpoint,
        _ receive: @escaping (DatagramEvent) -> Void
    ) throws(NetworkFailure) -> any DatagramPort {
        try openDatagrams(at: .any(endpoint.family), port: 0, receive)
    }
}

extension DatagramPort {
    package var refusal: NetworkFailure? { nil }
}

extension WebSocketLink {
    package var localAddress: IPAddress? { nil }

    package var serverSeconds: Int64? { nil }

    package var way: WebSocketWay? { nil }
}

extension IPAddress {
    package static let anyIPv4 = IPAddress(v4: 0)
    package static let anyIPv6 = IPAddress(high: 0, low: 0)

    package static func any(_ family: AddressFamily) -> IPAddress { family == .ipv4 ? .anyIPv4 : .anyIPv6 }

    package var isAny: Bool { isIPv4 ? v4 == 0 : high == 0 && low == 0 }
}
