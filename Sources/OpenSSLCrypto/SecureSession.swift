import COpenSSL

/// Where a TLS or DTLS session stands.
package enum TLSState: Sendable {
    case handshaking, established
    /// The peer said close_notify, or `shutdown` did here and the peer answered.
    case closed
    /// An alert, a broken record or a broken bound. What `takeOutput` still gives is the alert for the peer.
    case failed
}

/// What a TLS and a DTLS session have in common: OpenSSL's object, the pipe that it reads and writes, and where both
/// stand.
package class SecureSession {
    package fileprivate(set) final var state = TLSState.handshaking
    /// Why the session failed, for a log; nil while it did not.
    package private(set) final var failure: String?

    /// What is wrong with the other side's certificate; nil where nothing is, and before it came. A session with such a
    /// problem has failed, and never was established.
    package final var verificationFailure: CertificateProblem? { pipe.pointee.verification?.problem }

    /// Nil once the session goes on without OpenSSL's.
    private(set) final var ssl: OpaquePointer?
    final let pipe: UnsafeMutablePointer<SessionPipe>
    private let context: TLSContext

    /// Takes the object and the pipe over, and keeps the context as long as they live.
    init(_ context: TLSContext, ssl: OpaquePointer, pipe: UnsafeMutablePointer<SessionPipe>) {
        self.context = context
        self.ssl = ssl
        self.pipe = pipe
    }

    deinit {
        SSL_free(ssl)
        SessionPipe.destroy(pipe)
    }

    /// Goes on with the handshake as far as what was received allows.
    @discardableResult
    package final func advance() -> TLSState {
        guard state == .handshaking else { return state }
        ERR_clear_error()
        let result = SSL_do_handshake(ssl)
        if result == 1 {
            state = .established
            pipe.pointee.isEstablished = true
            handshakeEnded()
        } else {
            settle(result)
        }
        return state
    }

    /// Called once, behind OpenSSL's last call of the handshake.
    func handshakeEnded() {}

    /// Gives OpenSSL's object back, with what belongs to it.
    final func releaseHandshake() {
        SSL_free(ssl)
        ssl = nil
    }

    /// Says close_notify.
    package func shutdown() { end() }

    /// What ALPN settled on; nil where the client named nothing.
    package var applicationProtocol: String? {
        var name: UnsafePointer<UInt8>?
        var length: UInt32 = 0
        SSL_get0_alpn_selected(ssl, &name, &length)
        guard let name, length > 0 else { return nil }
        return String(decoding: UnsafeBufferPointer(start: name, count: Int(length)), as: UTF8.self)
    }

    /// Such as `TLSv1.3`.
    package var versionName: String { SSL_get_version(ssl).map { String(cString: $0) } ?? "" }

    /// Records what a call of OpenSSL that gave no success means.
    final func settle(_ result: Int32) {
        switch SSL_get_error(ssl, result) {
        case SSL_ERROR_WANT_READ, SSL_ERROR_WANT_WRITE:
            // The bound may break at the last record of what was fed.
            if pipe.pointee.brokenBound != nil { fail() }
        case SSL_ERROR_ZERO_RETURN:
            hearClose()
        default:
            fail()
        }
    }

    /// The peer said close_notify. TLS 1.2 wants the answer (RFC 5246 section 7.2.1), and later ones do not mind it.
    /// What waits goes ahead of it.
    func hearClose() {
        shutdown()
        end()
    }

    /// The session is over in good order.
    final func end() { state = .closed }

    /// - Parameter reason: nil for the one that OpenSSL has.
    final func fail(_ reason: String? = nil) {
        failure =
            pipe.pointee.brokenBound.map { "\($0)" } ?? verificationFailure?.description ?? reason
            ?? TLSError.takeReason()
        state = .failed
        pipe.pointee.input.free()
        ERR_clear_error()
    }
}
