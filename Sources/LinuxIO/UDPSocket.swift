import CLinux

/// How a socket treats the path MTU (ip(7), IP_MTU_DISCOVER).
package enum PathMTUDiscovery: Int32, Sendable {
    /// Never sets the DF bit: what is too long is fragmented.
    case dont = 0
    /// Sets DF, and fragments what is longer than the path MTU known.
    case want = 1
    /// Sets DF always: what is longer than the path MTU known is refused with EMSGSIZE.
    case `do` = 2
    /// Sets DF and ignores the path MTU known.
    case probe = 3
    /// Never sets DF and ignores the path MTU known, but lets the error queue tell of datagrams that were too long;
    /// IPv4 alone.
    case omit = 5
}

/// Making and setting up UDP sockets. All functions take the raw number, so that any owner will do.
package enum UDPSocket {
    /// A non-blocking, close-on-exec socket. IPv6 sockets never take IPv4 traffic: each family has its own socket.
    package static func open(
        isIPv4: Bool,
        reuseAddress: Bool = false,
        reusePort: Bool = false
    ) throws(SystemCallError) -> FileDescriptor {
        FileDescriptor(owning: try checked(turnpike_udp_open(isIPv4, reuseAddress, reusePort), "socket"))
    }

    /// - Parameter address: Port 0 lets the kernel choose.
    /// - Returns: The address bound, with the port chosen.
    @discardableResult
    package static func bind(_ fd: Int32, to address: SocketAddressStorage) throws(SystemCallError) -> AddressParts {
        var bound = address
        try checked(turnpike_bind(fd, &bound), "bind")
        return bound.parts
    }

    /// Asks for room for `bytes` of datagrams not yet read, beyond net.core.rmem_max where the process may.
    ///
    /// - Returns: What the kernel accounts, twice what it granted (socket(7)).
    @discardableResult
    package static func setReceiveBuffer(_ fd: Int32, bytes: Int) throws(SystemCallError) -> Int {
        Int(try checked(turnpike_set_receive_buffer(fd, Int32(clamping: bytes)), "setsockopt(SO_RCVBUF)"))
    }

    /// Asks for room for `bytes` of datagrams not yet sent, beyond net.core.wmem_max where the process may.
    ///
    /// - Returns: What the kernel accounts, twice what it granted (socket(7)).
    @discardableResult
    package static func setSendBuffer(_ fd: Int32, bytes: Int) throws(SystemCallError) -> Int {
        Int(try checked(turnpike_set_send_buffer(fd, Int32(clamping: bytes)), "setsockopt(SO_SNDBUF)"))
    }

    /// Lets the kernel hand over several datagrams of one flow as one payload.
    ///
    /// - Returns: False where the kernel cannot.
    @discardableResult
    package static func setReceiveMerging(_ fd: Int32, _ isOn: Bool) -> Bool {
        turnpike_set_gro(fd, isOn) == 0
    }

    /// Lets every datagram received tell the local address it came to.
    package static func setPacketInfo(_ fd: Int32, isIPv4: Bool, _ isOn: Bool = true) throws(SystemCallError) {
        try checked(turnpike_set_packet_info(fd, isIPv4, isOn), "setsockopt(PKTINFO)")
    }

    package static func setPathMTUDiscovery(
        _ fd: Int32,
        isIPv4: Bool,
        _ mode: PathMTUDiscovery
    ) throws(SystemCallError) {
        try checked(turnpike_set_mtu_discovery(fd, isIPv4, mode.rawValue), "setsockopt(MTU_DISCOVER)")
    }

    /// Has the kernel keep ICMP errors for `SocketError.take`. An error that waits fails the next call on the socket,
    /// so sends are told of it too (`SendBatch.flush`).
    package static func setErrorQueue(_ fd: Int32, isIPv4: Bool, _ isOn: Bool = true) throws(SystemCallError) {
        try checked(turnpike_set_error_queue(fd, isIPv4, isOn), "setsockopt(RECVERR)")
    }

    /// Whether this kernel can cut one message into datagrams (UDP_SEGMENT), asked of a throw-away socket.
    package static func isSegmentationSupported() -> Bool {
        turnpike_segment_supported()
    }
}
