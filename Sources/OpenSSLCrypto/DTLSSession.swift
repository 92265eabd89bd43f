import COpenSSL

/// One DTLS association without a socket: datagrams in and out, each kept apart. For one thread at a time.
///
/// After every call, send what `hasOutput` announces.
package final class DTLSSession {
    package private(set) var state = TLSState.handshaking
    /// Why the session failed, for a log; nil while it did not.
    package private(set) var failure: String?

    private let context: TLSContext
    private let ssl: OpaquePointer
    private let pipe: UnsafeMutablePointer<SessionPipe>
    /// Whether OpenSSL has its buffers. Only `releaseBuffers` takes them.
    private var hasBuffers = true

    /// Takes over an object that a `DTLSGate` listened with.
    init(_ context: TLSContext, ssl: OpaquePointer, pipe: UnsafeMutablePointer<SessionPipe>) {
        self.context = context
        self.ssl = ssl
        self.pipe = pipe
    }

    deinit {
        SSL_free(ssl)
        SessionPipe.destroy(pipe)
    }

    /// Takes one datagram from the peer and goes on with the handshake. Call `read` until it gives 0 before the next.
    ///
    /// - Returns: where the session stands. Datagrams that are replayed, forged or broken change nothing.
    @discardableResult
    package func receive(_ datagram: UnsafeRawBufferPointer) -> TLSState {
        guard state == .handshaking || state == .established else { return state }
        // OpenSSL takes every datagram whole as long as the caller reads to the end. Where it did not, more would pile up.
        guard pipe.pointee.input.count + datagram.count <= Self.inputLimitBytes else { return state }
        pipe.pointee.input.appendDatagram(datagram)
        return advance()
    }

    /// Lends one datagram from the peer for the time of `body`, which calls `advance` and `read` until that gives nothing
    /// more. Saves the copy of `receive`; what `body` leaves is dropped.
    package func receive<Result>(lending datagram: UnsafeRawBufferPointer, _ body: (DTLSSession) -> Result) -> Result {
        pipe.pointee.lent = datagram
        defer { pipe.pointee.lent = UnsafeRawBufferPointer(start: nil, count: 0) }
        return body(self)
    }

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

    /// The plaintext of one record.
    /// - Parameter target: as long as the longest datagram received; of a longer record, the rest comes with the next call.
    /// - Returns: bytes written to `target`; 0 when none wait or the handshake is not over; -1 when the session ended.
    package func read(into target: UnsafeMutableRawBufferPointer) -> Int {
        if state == .handshaking { advance() }
        guard state == .established else { return state == .handshaking ? 0 : -1 }
        guard let base = target.baseAddress, target.count > 0, holdBuffers() else { return 0 }
        ERR_clear_error()
        var count = 0
        let result = SSL_read_ex(ssl, base, target.count, &count)
        guard result == 1 else {
            settle(result)
            releaseBuffers()
            return state == .established ? 0 : -1
        }
        return count
    }

    /// Seals plaintext as one record in one datagram.
    /// - Returns: whether it was taken: not before the handshake is over, after the session ended, when longer than 16384
    ///   bytes, or while `outputLimitBytes` wait.
    package func write(_ plaintext: UnsafeRawBufferPointer) -> Bool {
        guard state == .established, plaintext.count <= Self.recordLimitBytes,
            pipe.pointee.output.count <= Self.outputLimitBytes
        else { return false }
        guard let base = plaintext.baseAddress, plaintext.count > 0 else { return true }
        guard holdBuffers() else { return false }
        ERR_clear_error()
        var written = 0
        let result = SSL_write_ex(ssl, base, plaintext.count, &written)
        guard result == 1 else {
            settle(result)
            return false
        }
        releaseBuffers()
        return true
    }

    package static let outputLimitBytes = 262_144
    private static let inputLimitBytes = 65_536
    private static let recordLimitBytes = 16_384

    /// Whether a datagram waits to be sent.
    package var hasOutput: Bool { pipe.pointee.output.count > 0 }

    /// Moves the next datagram to send into `target`.
    /// - Returns: its length, 0 when none waits. One that does not fit the target is lost, as on a path too narrow for it.
    package func takeOutput(into target: UnsafeMutableRawBufferPointer) -> Int {
        while let datagram = pipe.pointee.output.firstDatagram {
            let length = datagram.count
            let fits = length <= target.count
            if fits { target.copyMemory(from: datagram) }
            pipe.pointee.output.removeFirstDatagram()
            if fits { return length }
        }
        return 0
    }

    /// Until `handleTimeout` has to be called, because a flight of the handshake may be lost; nil while none is in the air.
    package var nextTimeoutNanoseconds: Int64? {
        guard state == .handshaking else { return nil }
        let microseconds = turnpike_dtls_timeout_microseconds(ssl)
        return microseconds < 0 ? nil : Int64(microseconds) * 1_000
    }

    /// Sends the flight again if its time has come, and gives up after the twelfth.
    @discardableResult
    package func handleTimeout() -> TLSState {
        guard state == .handshaking else { return state }
        ERR_clear_error()
        if turnpike_dtls_handle_timeout(ssl) < 0 { fail() }
        return state
    }

    /// Says close_notify, in a datagram of its own.
    package func shutdown() {
        guard state == .established, holdBuffers() else { return }
        ERR_clear_error()
        _ = SSL_shutdown(ssl)
        ERR_clear_error()
        // No answer can be relied on where datagrams get lost, so the session ends here.
        state = .closed
    }

    /// What ALPN settled on; nil where the client named nothing.
    package var applicationProtocol: String? { SessionFacts.applicationProtocol(ssl) }

    /// OpenSSL keeps two buffers of 17 KiB for each DTLS session whatever its mode says, so an idle one gives them back here.
    private func releaseBuffers() {
        // It keeps them, and says so by 0, while a record lies in them.
        if state == .established, SSL_free_buffers(ssl) == 1 { hasBuffers = false }
    }

    /// To be called before anything that could write: this version of OpenSSL does not look whether the buffer is there.
    private func holdBuffers() -> Bool {
        if !hasBuffers { hasBuffers = SSL_alloc_buffers(ssl) == 1 }
        return hasBuffers
    }

    private func settle(_ result: Int32) {
        switch SSL_get_error(ssl, result) {
        case SSL_ERROR_WANT_READ, SSL_ERROR_WANT_WRITE: break
        case SSL_ERROR_ZERO_RETURN: shutdown()
        default: fail()
        }
    }

    private func fail() {
        failure = TLSError.takeReason()
        state = .failed
        pipe.pointee.input.free()
    }
}
