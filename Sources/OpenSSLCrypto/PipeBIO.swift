import COpenSSL

/// The BIO methods over `SessionPipe`: one for streams and one for datagrams.
enum PipeBIO {
    // Unsafe only in name: Swift makes each once, before any use, and OpenSSL only reads a method that is made.
    private nonisolated(unsafe) static let stream = makeMethod(  // Only read after it is made.
        "turnpike stream",
        read: readStream,
        write: writeStream
    )
    private nonisolated(unsafe) static let datagram = makeMethod(  // Only read after it is made.
        "turnpike datagram",
        read: readDatagram,
        write: writeDatagram
    )

    /// A BIO that borrows the pipe: the pipe must outlive it.
    static func make(over pipe: UnsafeMutablePointer<SessionPipe>, datagrams: Bool) -> OpaquePointer? {
        guard let method = datagrams ? datagram : stream, let bio = BIO_new(method) else { return nil }
        BIO_set_data(bio, pipe)
        BIO_set_init(bio, 1)
        return bio
    }

    /// A session of OpenSSL's and its BIO; nil where there is no memory for both.
    static func makeSession(
        _ context: OpaquePointer,
        over pipe: UnsafeMutablePointer<SessionPipe>,
        datagrams: Bool
    ) -> (ssl: OpaquePointer, bio: OpaquePointer)? {
        guard let ssl = SSL_new(context) else { return nil }
        guard let bio = make(over: pipe, datagrams: datagrams) else {
            SSL_free(ssl)
            return nil
        }
        return (ssl, bio)
    }

    private typealias Read = @convention(c) (OpaquePointer?, UnsafeMutablePointer<CChar>?, Int32) -> Int32
    private typealias Write = @convention(c) (OpaquePointer?, UnsafePointer<CChar>?, Int32) -> Int32

    private static func makeMethod(_ name: String, read: Read, write: Write) -> OpaquePointer? {
        guard let method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, name) else { return nil }
        BIO_meth_set_read(method, read)
        BIO_meth_set_write(method, write)
        BIO_meth_set_ctrl(method, control)
        return method
    }

    private static func pipe(of bio: OpaquePointer?) -> UnsafeMutablePointer<SessionPipe>? {
        BIO_get_data(bio)?.assumingMemoryBound(to: SessionPipe.self)
    }

    private static let readStream: Read = { bio, target, capacity in
        guard let pipe = pipe(of: bio), let target, capacity > 0 else { return -1 }
        BIO_clear_flags(bio, BIO_FLAGS_READ | BIO_FLAGS_SHOULD_RETRY)
        // An error that may not be retried ends the session within OpenSSL's own loop over records.
        guard pipe.pointee.brokenBound == nil else { return -1 }
        let count = pipe.pointee.readStream(UnsafeMutableRawBufferPointer(start: target, count: Int(capacity)))
        guard count > 0 else {
            BIO_set_flags(bio, BIO_FLAGS_READ | BIO_FLAGS_SHOULD_RETRY)
            return -1
        }
        if !pipe.pointee.isEstablished {
            // OpenSSL reads record by record, so this counts no application data sent along with the last flight.
            pipe.pointee.handshakeBytes += count
            if pipe.pointee.handshakeBytes > pipe.pointee.handshakeByteLimit {
                pipe.pointee.brokenBound =
                    pipe.pointee.verification == nil
                    ? "the handshake took more than 16384 bytes" : "the handshake took more than 65536 bytes"
                return -1
            }
        }
        return Int32(count)
    }

    private static let readDatagram: Read = { bio, target, capacity in
        guard let pipe = pipe(of: bio), let target, capacity > 0 else { return -1 }
        BIO_clear_flags(bio, BIO_FLAGS_READ | BIO_FLAGS_SHOULD_RETRY)
        let count = pipe.pointee.readDatagram(UnsafeMutableRawBufferPointer(start: target, count: Int(capacity)))
        guard count > 0 else {
            BIO_set_flags(bio, BIO_FLAGS_READ | BIO_FLAGS_SHOULD_RETRY)
            return -1
        }
        return Int32(count)
    }

    private static let writeStream: Write = { bio, source, count in
        guard let pipe = pipe(of: bio), let source, count > 0 else { return -1 }
        BIO_clear_flags(bio, BIO_FLAGS_READ | BIO_FLAGS_SHOULD_RETRY)
        SessionPipe.append(UnsafeRawBufferPointer(start: source, count: Int(count)), to: pipe)
        return count
    }

    private static let writeDatagram: Write = { bio, source, count in
        guard let pipe = pipe(of: bio), let source, count > 0 else { return -1 }
        BIO_clear_flags(bio, BIO_FLAGS_READ | BIO_FLAGS_SHOULD_RETRY)
        pipe.pointee.writeDatagram(UnsafeRawBufferPointer(start: source, count: Int(count)))
        return count
    }

    private static let control: @convention(c) (OpaquePointer?, Int32, Int, UnsafeMutableRawPointer?) -> Int = {
        _,
        command,
        _,
        _ in
        switch command {
        case BIO_CTRL_FLUSH, BIO_CTRL_DGRAM_SET_NEXT_TIMEOUT: 1
        case BIO_CTRL_DGRAM_QUERY_MTU, BIO_CTRL_DGRAM_GET_MTU, BIO_CTRL_DGRAM_GET_FALLBACK_MTU: handshakeMTU
        case BIO_CTRL_DGRAM_SET_MTU: handshakeMTU
        // We name the payload of a datagram as the MTU, so that nothing is to be taken off for headers below it.
        case BIO_CTRL_DGRAM_GET_MTU_OVERHEAD, BIO_CTRL_DGRAM_MTU_EXCEEDED: 0
        default: 0
        }
    }

    /// The largest datagram of a handshake, in bytes of UDP payload: it passes any path that carries IPv6.
    static let handshakeMTU = 1_200
}
