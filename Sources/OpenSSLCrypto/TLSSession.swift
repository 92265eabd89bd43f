import COpenSSL

/// Where a TLS or DTLS session stands.
package enum TLSState: Sendable {
    case handshaking, established
    /// The peer said close_notify, or `shutdown` did here and the peer answered.
    case closed
    /// An alert, a broken record or a broken bound. What `takeOutput` still gives is the alert for the peer.
    case failed
}

/// One TLS connection without a socket: ciphertext in and out, plaintext out and in. For one thread at a time.
///
/// After every call, send what `pendingOutput` announces. Feed no more than was read from the socket at once: what OpenSSL
/// has not taken yet waits here.
package final class TLSSession {
    package private(set) var state = TLSState.handshaking
    /// Why the session failed, for a log; nil while it did not.
    package private(set) var failure: String?

    private let context: TLSContext
    private let ssl: OpaquePointer
    private let pipe: UnsafeMutablePointer<SessionPipe>
    private var hasSaidClose = false
    private let space: OutputSpace?

    /// The server's side of a connection.
    /// - Parameter space: shared with the other sessions of the thread.
    /// - Throws: `TLSError` where OpenSSL has no memory, or the context is for DTLS.
    package init(_ context: TLSContext, space: OutputSpace? = nil) throws(TLSError) {
        guard context.kind == .tls else { throw TLSError("a TLS session needs a TLS context; this one is for DTLS") }
        let pipe = SessionPipe.make()
        guard let (ssl, bio) = PipeBIO.makeSession(context.handle, over: pipe, datagrams: false) else {
            SessionPipe.destroy(pipe)
            throw TLSError("OpenSSL makes no session: \(TLSError.takeReason())")
        }
        SSL_set_bio(ssl, bio, bio)
        SSL_set_accept_state(ssl)
        turnpike_ssl_set_message_argument(ssl, pipe)
        pipe.pointee.space = space?.storage
        self.space = space
        self.context = context
        self.ssl = ssl
        self.pipe = pipe
    }

    deinit {
        SSL_free(ssl)
        SessionPipe.destroy(pipe)
    }

    /// Takes a copy of ciphertext from the peer. `advance` and `read` use it.
    package func receive(_ ciphertext: UnsafeRawBufferPointer) {
        guard state == .handshaking || state == .established else { return }
        pipe.pointee.input.append(ciphertext)
    }

    /// Lends ciphertext from the peer for the time of `body`, which calls `advance` and `read` until that gives nothing more.
    /// Saves the copy of `receive`; what `body` leaves is kept as `receive` would.
    package func receive<Result>(lending ciphertext: UnsafeRawBufferPointer, _ body: (TLSSession) -> Result) -> Result {
        pipe.pointee.lent = ciphertext
        defer {
            let left = pipe.pointee.lent
            pipe.pointee.lent = UnsafeRawBufferPointer(start: nil, count: 0)
            if state == .handshaking || state == .established { pipe.pointee.input.append(left) }
        }
        return body(self)
    }

    /// Whether ciphertext waits that OpenSSL has not taken.
    package var hasInput: Bool { pipe.pointee.input.count > 0 || pipe.pointee.lent.count > 0 }

    /// Goes on with the handshake as far as what was received allows.
    @discardableResult
    package func advance() -> TLSState {
        guard state == .handshaking else { return state }
        ERR_clear_error()
        let result = SSL_do_handshake(ssl)
        if result == 1 {
            state = .established
            pipe.pointee.isEstablished = true
        } else {
            settle(result)
        }
        return state
    }

    /// Plaintext from the peer, in order.
    /// - Returns: bytes written to `target`; 0 when none wait or the handshake is not over; -1 when the session ended.
    package func read(into target: UnsafeMutableRawBufferPointer) -> Int {
        if state == .handshaking { advance() }
        guard state == .established else { return state == .handshaking ? 0 : -1 }
        guard let base = target.baseAddress, target.count > 0 else { return 0 }
        ERR_clear_error()
        var count = 0
        let result = SSL_read_ex(ssl, base, target.count, &count)
        guard result == 1 else {
            settle(result)
            return state == .established ? 0 : -1
        }
        pipe.pointee.applicationBytes &+= count
        return count
    }

    /// Seals plaintext for the peer.
    /// - Returns: whether it was taken, whole: not before the handshake is over, after the session ended, or while
    ///   `pendingOutput` is past `outputLimitBytes`.
    package func write(_ plaintext: UnsafeRawBufferPointer) -> Bool {
        guard state == .established, !hasSaidClose, pendingOutput <= Self.outputLimitBytes else { return false }
        guard let base = plaintext.baseAddress, plaintext.count > 0 else { return true }
        ERR_clear_error()
        var written = 0
        // The pipe takes everything, so this never wants to be called again.
        let result = SSL_write_ex(ssl, base, plaintext.count, &written)
        guard result == 1 else {
            settle(result)
            return false
        }
        pipe.pointee.applicationBytes &+= written
        return true
    }

    /// Past this, a peer that does not read costs no more memory.
    package static let outputLimitBytes = 262_144

    /// Bytes of ciphertext that wait to be sent.
    package var pendingOutput: Int { SessionPipe.pendingCount(pipe) }

    /// Moves ciphertext to send into `target`.
    /// - Returns: bytes written to `target`.
    package func takeOutput(into target: UnsafeMutableRawBufferPointer) -> Int {
        takeOutput { pending in
            let count = min(pending.count, target.count)
            target.copyMemory(from: UnsafeRawBufferPointer(rebasing: pending[..<count]))
            return count
        }
    }

    /// Shows the ciphertext to send, which `body` hands to a socket as it lies.
    /// - Parameter body: returns how many bytes it took; the others stay.
    /// - Returns: what `body` returned.
    @discardableResult
    package func takeOutput(_ body: (UnsafeRawBufferPointer) -> Int) -> Int {
        let pending = SessionPipe.pending(pipe)
        guard pending.count > 0 else { return 0 }
        let taken = body(pending)
        SessionPipe.remove(taken, from: pipe)
        return taken
    }

    /// Says close_notify. What was written before goes ahead of it, and what the peer still sends can be read.
    package func shutdown() {
        guard state == .established, !hasSaidClose else { return }
        hasSaidClose = true
        ERR_clear_error()
        if SSL_shutdown(ssl) == 1 { state = .closed }
        ERR_clear_error()
    }

    /// Such as `TLSv1.3`.
    package var versionName: String { SSL_get_version(ssl).map { String(cString: $0) } ?? "" }

    /// What ALPN settled on; nil where the client named nothing.
    package var applicationProtocol: String? { SessionFacts.applicationProtocol(ssl) }

    /// Records what a call of OpenSSL that gave no success means.
    private func settle(_ result: Int32) {
        switch SSL_get_error(ssl, result) {
        case SSL_ERROR_WANT_READ, SSL_ERROR_WANT_WRITE:
            // The bound may break at the last record of what was fed.
            if pipe.pointee.brokenBound != nil { fail() }
        case SSL_ERROR_ZERO_RETURN:
            // TLS 1.2 wants the answer (RFC 5246 section 7.2.1), and TLS 1.3 does not mind it. What waits goes ahead of it.
            shutdown()
            state = .closed
        default:
            fail()
        }
    }

    private func fail() {
        failure = pipe.pointee.brokenBound.map { "\($0)" } ?? TLSError.takeReason()
        state = .failed
        pipe.pointee.input.free()
        ERR_clear_error()
    }
}

/// Questions about a session that TLS and DTLS ask alike.
enum SessionFacts {
    static func applicationProtocol(_ ssl: OpaquePointer) -> String? {
        var name: UnsafePointer<UInt8>?
        var length: UInt32 = 0
        SSL_get0_alpn_selected(ssl, &name, &length)
        guard let name, length > 0 else { return nil }
        return String(decoding: UnsafeBufferPointer(start: name, count: Int(length)), as: UTF8.self)
    }
}
