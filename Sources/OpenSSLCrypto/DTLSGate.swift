import COpenSSL
import STUN

/// What `DTLSGate` makes of a datagram from an address that has no session.
package enum DTLSGateVerdict {
    /// So many bytes of the reply buffer go back to the address: a HelloVerifyRequest.
    case reply(Int)
    /// The address is the client's own. The session holds the ClientHello: call `advance` and send what it gives.
    case verified(DTLSSession)
    case drop
}

/// The door to DTLS: asks every address to prove itself by a cookie (RFC 6347 section 4.2.1), and keeps nothing about
/// it until it did. One object answers all, for one thread.
package struct DTLSGate: ~Copyable {
    private var context: TLSContext
    private let firstTimeoutMicroseconds: UInt32
    private let cryptography: OpenSSLCryptography
    private let key: [UInt8]
    private let cookies: UnsafeMutablePointer<CookiePair>
    /// `DTLSv1_listen` clears the address it is given, and crashes where it is given none.
    private let peer: OpaquePointer
    /// OpenSSL's object and pipe that listen; they become the session's own once an address is verified.
    private var listening: (ssl: OpaquePointer, pipe: UnsafeMutablePointer<SessionPipe>)?

    /// - Parameter firstTimeoutMicroseconds: before a flight is sent again; it doubles each time. RFC 6347 section
    ///   4.2.4.1 recommends one second.
    /// - Throws: `TLSError` for a context that is not for servers by DTLS; `CryptographyError` where OpenSSL lacks
    ///   HMAC.
    package init(_ context: TLSContext, firstTimeoutMicroseconds: UInt32 = 1_000_000) throws {
        guard context.kind == .dtls else { throw TLSError("a DTLS gate needs a DTLS context; this one is for TLS") }
        guard case .server = context.role else { throw TLSError("a DTLS gate needs a server's context") }
        let cryptography = try OpenSSLCryptography()
        guard let peer = BIO_ADDR_new() else { throw TLSError("OpenSSL has no memory for an address") }
        self.peer = peer
        self.context = context
        self.firstTimeoutMicroseconds = firstTimeoutMicroseconds
        self.cryptography = cryptography
        key = SecureRandom.bytes(32)
        cookies = .allocate(capacity: 1)
        cookies.initialize(to: ((0, 0, 0, 0), (0, 0, 0, 0)))
    }

    deinit {
        if let listening { Self.discard(listening) }
        BIO_ADDR_free(peer)
        cookies.deallocate()
    }

    /// Has sessions from now on made from that context, which must be for DTLS. Cookies given out stay good.
    package mutating func renew(_ context: TLSContext) {
        guard context.kind == .dtls, case .server = context.role else { return }
        if let listening { Self.discard(listening) }
        listening = nil
        self.context = context
    }

    /// Whether a datagram could open a session: one handshake record of the first epoch that starts with a ClientHello.
    /// Such a datagram on the address of an established session may be the client starting again (RFC 6347 section
    /// 4.2.8): pass it here, and replace the session only with one that becomes established.
    package static func mayOpenSession(_ datagram: UnsafeRawBufferPointer) -> Bool {
        // type 22, version 0xFEFF or 0xFEFD, epoch 0; behind the header of 13 bytes, message type 1
        datagram.count > 25 && datagram[0] == 22 && datagram[1] == 0xFE && datagram[3] == 0 && datagram[4] == 0
            && datagram[13] == 1
    }

    /// The first bytes of the random number in a ClientHello, which tell one that comes again from another; nil where
    /// `mayOpenSession` is false or there are not so many.
    package static func helloMark(_ datagram: UnsafeRawBufferPointer) -> UInt64? {
        // Headers of 25 bytes, the version, and the time of four bytes that older clients begin the random number with.
        guard mayOpenSession(datagram), datagram.count >= 39 else { return nil }
        return datagram.loadUnaligned(fromByteOffset: 31, as: UInt64.self)
    }

    /// - Parameters:
    ///   - address: the bytes of the client's address and port, in any form that differs for each.
    ///   - nowSeconds: of any steady clock; a cookie is good for 30 to 60 seconds.
    ///   - reply: at least 64 bytes, for a HelloVerifyRequest.
    package mutating func receive(
        _ datagram: UnsafeRawBufferPointer,
        from address: UnsafeRawBufferPointer,
        nowSeconds: Int64,
        reply: UnsafeMutableRawBufferPointer
    ) -> DTLSGateVerdict {
        guard Self.mayOpenSession(datagram), let (ssl, pipe) = listen() else { return .drop }
        let window = nowSeconds / Self.windowSeconds
        cookies.pointee = (cookie(for: address, window: window), cookie(for: address, window: window &- 1))
        pipe.pointee.lent = datagram
        ERR_clear_error()
        let result = DTLSv1_listen(ssl, peer)
        ERR_clear_error()
        pipe.pointee.lent = UnsafeRawBufferPointer(start: nil, count: 0)
        if result == 1 {
            listening = nil
            pipe.pointee.cookies = nil
            return .verified(DTLSSession(context, ssl: ssl, pipe: pipe))
        }
        guard let answer = pipe.pointee.output.firstDatagram else {
            // Not a hello that OpenSSL could read. It says that the object is not to be used again after an error.
            if result < 0 {
                Self.discard((ssl, pipe))
                listening = nil
            }
            return .drop
        }
        let length = answer.count
        let fits = length <= reply.count
        if fits { reply.copyMemory(from: answer) }
        while pipe.pointee.output.count > 0 { pipe.pointee.output.removeFirstDatagram() }
        return fits ? .reply(length) : .drop
    }

    /// What waits in the pipe that listens: nothing between two calls.
    var listeningBytes: Int { (listening?.pipe.pointee.input.count ?? 0) + (listening?.pipe.pointee.output.count ?? 0) }

    private static let windowSeconds: Int64 = 30

    /// The object that listens, made where the last one became a session.
    private mutating func listen() -> (OpaquePointer, UnsafeMutablePointer<SessionPipe>)? {
        if let listening { return listening }
        let pipe = SessionPipe.make()
        pipe.pointee.cookies = UnsafePointer(cookies)
        pipe.pointee.firstTimeoutMicroseconds = firstTimeoutMicroseconds
        guard let (ssl, bio) = PipeBIO.makeSession(context.handle, over: pipe, datagrams: true) else {
            ERR_clear_error()
            SessionPipe.destroy(pipe)
            return nil
        }
        SSL_set_bio(ssl, bio, bio)
        SSL_set_accept_state(ssl)
        turnpike_ssl_set_app_data(ssl, pipe)
        _ = turnpike_ssl_set_mtu(ssl, PipeBIO.handshakeMTU)
        DTLS_set_timer_cb(ssl, CookieCallbacks.timer)
        listening = (ssl, pipe)
        return (ssl, pipe)
    }

    private static func discard(_ listening: (ssl: OpaquePointer, pipe: UnsafeMutablePointer<SessionPipe>)) {
        SSL_free(listening.ssl)
        SessionPipe.destroy(listening.pipe)
    }

    /// HMAC-SHA256 over the address and the time window. The window has a fixed length, so no two inputs run together.
    private func cookie(for address: UnsafeRawBufferPointer, window: Int64) -> Cookie {
        var cookie: Cookie = (0, 0, 0, 0)
        withUnsafeMutableBytes(of: &cookie) { mac in
            withUnsafeBytes(of: window) { window in
                key.withUnsafeBytes {
                    cryptography.authenticate(.sha256, key: $0, first: address, second: window, mac: mac)
                }
            }
        }
        return cookie
    }
}

/// What OpenSSL asks of a DTLS session: cookies, and how long to wait.
enum CookieCallbacks {
    static let generate:
        @convention(c) (OpaquePointer?, UnsafeMutablePointer<UInt8>?, UnsafeMutablePointer<UInt32>?) -> Int32 = {
            ssl,
            target,
            length in
            guard let target, let length, let cookies = pipe(of: ssl)?.pointee.cookies else { return 0 }
            withUnsafeBytes(of: cookies.pointee.current) {
                UnsafeMutableRawPointer(target).copyMemory(
                    from: $0.baseAddress ?? UnsafeRawPointer(target),
                    byteCount: $0.count
                )
                length.pointee = UInt32($0.count)
            }
            return 1
        }

    static let verify: @convention(c) (OpaquePointer?, UnsafePointer<UInt8>?, UInt32) -> Int32 = { ssl, bytes, length in
        guard let pipe = pipe(of: ssl), let bytes else { return 0 }
        // A session asks once more when it reads the hello that the gate has verified.
        guard let cookies = pipe.pointee.cookies else { return 1 }
        let given = UnsafeRawBufferPointer(start: bytes, count: Int(length))
        let isCurrent = withUnsafeBytes(of: cookies.pointee.current) { ConstantTime.areEqual($0, given) }
        let isPrevious = withUnsafeBytes(of: cookies.pointee.previous) { ConstantTime.areEqual($0, given) }
        return isCurrent || isPrevious ? 1 : 0
    }

    /// Doubles from the first value to a minute (RFC 6347 section 4.2.4.1).
    static let timer: @convention(c) (OpaquePointer?, UInt32) -> UInt32 = { ssl, microseconds in
        if microseconds == 0 { return pipe(of: ssl)?.pointee.firstTimeoutMicroseconds ?? 1_000_000 }
        return min(microseconds &* 2, 60_000_000)
    }

    private static func pipe(of ssl: OpaquePointer?) -> UnsafeMutablePointer<SessionPipe>? {
        guard let ssl else { return nil }
        return turnpike_ssl_app_data(ssl)?.assumingMemoryBound(to: SessionPipe.self)
    }
}
