import LinuxIO
import STUN
import TURN

/// A UDP socket that clients send to, one for each worker and address.
struct Listener: ~Copyable {
    let descriptor: FileDescriptor
    /// Where it is bound, with the port the kernel chose.
    let endpoint: Endpoint
    /// Bound to the wildcard address: every datagram tells which address it came to, and answers leave from there.
    let isWildcard: Bool
    /// Takes nothing in the clear.
    let isDTLSOnly: Bool
    /// What goes to clients in this turn of the loop.
    var outgoing: SendBatch
    /// Answers among it, which are counted where they are made.
    var repliesWaiting = 0
    /// Bytes of data among it.
    var bytesWaiting = 0
    /// Cleared when the device turns out not to cut segments.
    var allowsSegments: Bool

    /// - Parameter key: the setting it comes from.
    /// - Throws: `RelayError`, saying what to mend.
    init(
        _ wanted: Endpoint,
        key: String,
        isDTLSOnly: Bool = false,
        allowsSegments: Bool
    ) throws(RelayError) {
        self.isDTLSOnly = isDTLSOnly
        let isIPv4 = wanted.address.isIPv4
        isWildcard = wanted.isWildcard
        do throws(SystemCallError) {
            let socket = try UDPSocket.open(isIPv4: isIPv4, reusePort: true)
            try UDPSocket.setReceiveBuffer(socket.raw, bytes: SocketBuffers.listenerBytes)
            try UDPSocket.setSendBuffer(socket.raw, bytes: SocketBuffers.listenerBytes)
            UDPSocket.setReceiveMerging(socket.raw, true)
            try UDPSocket.setPathMTUDiscovery(socket.raw, isIPv4: isIPv4, .dont)
            if isWildcard { try UDPSocket.setPacketInfo(socket.raw, isIPv4: isIPv4) }
            let bound = try UDPSocket.bind(socket.raw, to: wanted.storage)
            descriptor = socket
            endpoint = Endpoint(bound)
        } catch {
            throw RelayError(Self.explain(error, key: key), listener: wanted)
        }
        self.allowsSegments = allowsSegments
        outgoing = SendBatch(messageCapacity: 256, vectorCapacity: 8_192)
    }

    /// Fails when another process listens there. The listeners proper share their port among the workers
    /// (SO_REUSEPORT), so a second server would not fail but take half of the clients.
    static func ensureFree(_ wanted: Endpoint, key: String) throws(RelayError) {
        do throws(SystemCallError) {
            let socket = try UDPSocket.open(isIPv4: wanted.address.isIPv4)
            try UDPSocket.bind(socket.raw, to: wanted.storage)
        } catch {
            throw RelayError(explain(error, key: key), listener: wanted)
        }
    }

    static func explain(_ error: SystemCallError, key: String) -> String {
        switch error.number {
        case Errno.addressInUse:
            "another program listens there; stop it, or choose another port in \(key)"
        case Errno.accessDenied, Errno.notPermitted:
            "not permitted; ports below 1024 need root or CAP_NET_BIND_SERVICE"
        case Errno.addressNotAvailable:
            "this machine has no such address; name one that it has, or 0.0.0.0 or [::], in \(key)"
        case Errno.familyNotSupported:
            "this machine has no IPv6; leave the address out of \(key)"
        default:
            "\(error)"
        }
    }
}

extension Endpoint {
    @inline(__always)
    init(_ parts: AddressParts) {
        self.init(
            address: IPAddress(high: parts.high, low: parts.low, isIPv4: parts.isIPv4),
            port: parts.port
        )
    }

    @inline(__always)
    var storage: SocketAddressStorage {
        SocketAddressStorage(high: address.high, low: address.low, isIPv4: address.isIPv4, port: port)
    }
}
