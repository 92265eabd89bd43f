import CLinux

/// Making, setting up and using TCP sockets. Those that run for every packet return a count or a negative errno.
package enum TCPSocket {
    /// The most parts that one `send(_:parts:)` takes.
    package static let partsMax = 64

    /// A non-blocking, close-on-exec socket that listens. IPv6 ones never take IPv4 traffic: each family has its own.
    ///
    /// - Parameters:
    ///   - address: Port 0 lets the kernel choose.
    ///   - backlog: Connections that wait to be accepted; the kernel cuts it to net.core.somaxconn.
    ///   - reusePort: Lets other sockets of this user listen on or connect from the same port.
    package static func listen(
        on address: SocketAddressStorage,
        backlog: Int,
        reusePort: Bool = false
    ) throws(SystemCallError) -> FileDescriptor {
        var bound = address
        return FileDescriptor(
            owning: try checked(turnpike_tcp_listen(&bound, Int32(clamping: backlog), reusePort), "listen")
        )
    }

    /// Lets sockets of this user connect from a port that this one was bound to alone. Binding had to be refused while
    /// another program has the port, which `reusePort` from the start would not do.
    package static func sharePort(_ fd: Int32) throws(SystemCallError) {
        try checked(turnpike_tcp_share_port(fd), "setsockopt(SO_REUSEPORT)")
    }

    /// Takes a connection that waits, non-blocking and close-on-exec.
    ///
    /// - Parameter peer: Set to the address of the other end.
    /// - Returns: A descriptor that the caller owns, or a negative errno: `Errno.tryAgain` when none waits, one of
    ///   `Errno.isDescriptorShortage` when there is no number for it, else the fate of that one connection.
    package static func accept(_ listener: Int32, peer: inout AddressParts) -> Int32 {
        var address = SocketAddressStorage()
        let accepted = turnpike_tcp_accept(listener, &address)
        if accepted >= 0 { peer = address.parts }
        return accepted
    }

    /// Begins to connect. The socket becomes writable when that has succeeded or failed: `pendingError` tells.
    ///
    /// - Parameter source: The address and port to connect from. Sockets that connect from one port, and the one that
    ///   listens on it with `reusePort`, get on with one another as long as their peers differ.
    package static func connect(
        to peer: SocketAddressStorage,
        from source: SocketAddressStorage? = nil
    ) throws(SystemCallError) -> FileDescriptor {
        var peer = peer
        guard var source else {
            return FileDescriptor(owning: try checked(turnpike_tcp_connect(&peer, nil), "connect"))
        }
        return FileDescriptor(owning: try checked(turnpike_tcp_connect(&peer, &source), "connect"))
    }

    /// The errno, positive, of what failed on this socket since the last call; 0 when nothing did.
    package static func pendingError(_ fd: Int32) -> Int32 { 0 &- turnpike_pending_error(fd) }

    /// The address that this socket is bound to.
    package static func localAddress(_ fd: Int32) throws(SystemCallError) -> AddressParts {
        var address = SocketAddressStorage()
        try checked(turnpike_local_address(fd, &address), "getsockname")
        return address.parts
    }

    /// Sends what there is at once, instead of waiting for more to fill a segment.
    package static func setNoDelay(_ fd: Int32, _ isOn: Bool = true) throws(SystemCallError) {
        try checked(turnpike_tcp_set_no_delay(fd, isOn), "setsockopt(TCP_NODELAY)")
    }

    /// Lets the kernel find peers that are gone: asked after `idleSeconds` of silence, every `intervalSeconds`, given
    /// up after `probes` questions without an answer.
    package static func setKeepalive(
        _ fd: Int32,
        idleSeconds: Int,
        intervalSeconds: Int,
        probes: Int
    ) throws(SystemCallError) {
        let idle = Int32(clamping: idleSeconds)
        let interval = Int32(clamping: intervalSeconds)
        try checked(turnpike_tcp_set_keepalive(fd, idle, interval, Int32(clamping: probes)), "setsockopt(SO_KEEPALIVE)")
    }

    /// Tells the peer that nothing more will come, after what was sent before. Reading goes on.
    package static func shutdownWriting(_ fd: Int32) throws(SystemCallError) {
        try checked(turnpike_shutdown_write(fd), "shutdown")
    }

    /// Closes without a farewell: what waits to be sent is lost and the peer sees a reset.
    package static func abort(_ descriptor: consuming FileDescriptor) {
        // The number is free in either case, as with every close.
        _ = turnpike_tcp_abort(descriptor.release())
    }

    /// - Returns: Bytes received, 0 at the end of the stream, or a negative errno; also 0 when `buffer` has no room.
    package static func receive(_ fd: Int32, into buffer: UnsafeMutableRawBufferPointer) -> Int {
        guard let base = buffer.baseAddress, !buffer.isEmpty else { return 0 }
        return turnpike_stream_receive(fd, base, buffer.count)
    }

    /// - Returns: Bytes that the kernel took, maybe fewer than there are, or a negative errno.
    package static func send(_ fd: Int32, _ bytes: UnsafeRawBufferPointer) -> Int {
        guard let base = bytes.baseAddress, !bytes.isEmpty else { return 0 }
        return turnpike_stream_send(fd, base, bytes.count)
    }

    /// Sends the parts as if they lay one behind the other; those beyond `partsMax` are left for another call.
    ///
    /// - Returns: Bytes that the kernel took, maybe fewer than there are, or a negative errno.
    package static func send(_ fd: Int32, parts: UnsafeBufferPointer<UnsafeRawBufferPointer>) -> Int {
        if parts.count == 1 { return send(fd, parts[0]) }
        let count = min(parts.count, partsMax)
        guard count > 0 else { return 0 }
        return withUnsafeTemporaryAllocation(of: iovec.self, capacity: count) { vectors in
            guard let base = vectors.baseAddress else { return 0 }
            for index in 0..<count {
                let part = parts[index]
                let start = UnsafeMutableRawPointer(mutating: part.baseAddress)
                (base + index).initialize(to: iovec(iov_base: start, iov_len: part.count))
            }
            return turnpike_stream_send_parts(fd, base, Int32(truncatingIfNeeded: count))
        }
    }
}
