import COpenSSL

/// One TLS connection without a socket: ciphertext in and out, plaintext out and in. For one thread at a time.
///
/// After every call, send what `pendingOutput` announces. Feed no more than was read from the socket at once: what
/// OpenSSL has not taken yet waits here.
package final class TLSSession: SecureSession {
    private var hasSaidClose = false
    /// Ciphertext that `takeOutput` has given since the session began.
    package private(set) var takenBytes: UInt64 = 0
    /// The peer said close_notify: nothing more will come.
    package private(set) var hasHeardClose = false
    /// Keeps the session established when the peer says close_notify, so that what is still on its way to it can go
    /// (RFC 8446 section 6.1). Else close_notify is answered at once, as RFC 5246 section 7.2.1 had it.
    package var staysOpenToWrite = false
    private var space: OutputSpace?
    /// In the place of OpenSSL's session, for a compact one that is established.
    private(set) var records: RecordLayer?
    /// Plaintext of a record for which the caller had no room.
    private var opened = ByteQueue()
    /// Within `receive(lending:)`. It must not change threads then: what is left of the ciphertext is still to be kept.
    package private(set) var isLent = false

    /// The server's side of a connection.
    /// - Parameters:
    ///   - space: shared with the other sessions of the thread.
    ///   - isCompact: gives OpenSSL's session back after a handshake of TLS 1.3, and goes on with the traffic keys
    ///     alone: a third of the memory, for connections that are many and idle. See `RecordLayer`.
    /// - Throws: `TLSError` where OpenSSL has no memory, or the context is for DTLS.
    package convenience init(
        _ context: TLSContext,
        space: OutputSpace? = nil,
        isCompact: Bool = false
    ) throws(TLSError) {
        guard context.kind == .tls else { throw TLSError("a TLS session needs a TLS context; this one is for DTLS") }
        guard case .server = context.role else {
            throw TLSError("a server's session needs a context with a certificate; this one is for clients")
        }
        let pipe = SessionPipe.make()
        guard let (ssl, bio) = PipeBIO.makeSession(context.handle, over: pipe, datagrams: false) else {
            SessionPipe.destroy(pipe)
            throw TLSError("OpenSSL makes no session: \(TLSError.takeReason())")
        }
        SSL_set_bio(ssl, bio, bio)
        SSL_set_accept_state(ssl)
        turnpike_ssl_set_message_argument(ssl, pipe)
        if isCompact {
            pipe.pointee.secrets = HandshakeSecrets()
            turnpike_ssl_set_app_data(ssl, pipe)
        }
        self.init(context, ssl: ssl, pipe: pipe)
        use(space)
    }

    deinit {
        // The space may go before the pipe does.
        SessionPipe.leaveSpace(pipe)
        opened.free()
    }

    /// Has the session use the memory of the thread that it is on.
    /// - Parameter space: nil for memory of its own, as on the way from one thread to another.
    package func use(_ space: OutputSpace?) {
        SessionPipe.leaveSpace(pipe)
        pipe.pointee.space = space?.storage
        self.space = space
    }

    /// Takes a copy of ciphertext from the peer. `advance` and `read` use it.
    package func receive(_ ciphertext: UnsafeRawBufferPointer) {
        guard state == .handshaking || state == .established else { return }
        pipe.pointee.input.append(ciphertext)
    }

    /// Lends ciphertext from the peer for the time of `body`, which calls `advance` and `read` until that gives nothing
    /// more. Saves the copy of `receive`; what `body` leaves is kept as `receive` would.
    package func receive<Result>(lending ciphertext: UnsafeRawBufferPointer, _ body: (TLSSession) -> Result) -> Result {
        pipe.pointee.lent = ciphertext
        isLent = true
        defer {
            isLent = false
            let left = pipe.pointee.lent
            pipe.pointee.lent = UnsafeRawBufferPointer(start: nil, count: 0)
            if state == .handshaking || state == .established { pipe.pointee.input.append(left) }
            if records != nil, pipe.pointee.input.count == 0 { pipe.pointee.input.free() }
        }
        return body(self)
    }

    /// Whether ciphertext waits that OpenSSL has not taken.
    package var hasInput: Bool { pipe.pointee.input.count > 0 || pipe.pointee.lent.count > 0 }

    /// Whether another `read` may give something without more ciphertext.
    package var mayHaveMore: Bool { hasInput || opened.count > 0 || (records == nil && SSL_has_pending(ssl) == 1) }

    /// Plaintext from the peer, in order.
    /// - Returns: bytes written to `target`; 0 when none wait or the handshake is not over; -1 when the session ended.
    package func read(into target: UnsafeMutableRawBufferPointer) -> Int {
        if state == .handshaking { advance() }
        guard state == .established, !hasHeardClose else { return state == .handshaking ? 0 : -1 }
        guard let base = target.baseAddress, target.count > 0 else { return 0 }
        if let records { return read(records, into: target) }
        ERR_clear_error()
        var count = 0
        let result = SSL_read_ex(ssl, base, target.count, &count)
        guard result == 1 else {
            settle(result)
            return state == .established && !hasHeardClose ? 0 : -1
        }
        pipe.pointee.applicationBytes &+= count
        return count
    }

    /// The first byte of the plaintext that waits to be read, which stays there; nil where there is none, and for a
    /// compact session.
    package func peek() -> UInt8? {
        guard state == .established, !hasHeardClose, records == nil else { return nil }
        ERR_clear_error()
        var byte: UInt8 = 0
        var count = 0
        let result = SSL_peek_ex(ssl, &byte, 1, &count)
        guard result == 1, count == 1 else {
            settle(result)
            return nil
        }
        return byte
    }

    /// Seals plaintext for the peer.
    /// - Returns: whether it was taken, whole: not before the handshake is over, after the session ended, or while
    ///   `pendingOutput` is past `outputLimitBytes`.
    package func write(_ plaintext: UnsafeRawBufferPointer) -> Bool {
        guard state == .established, !hasSaidClose, pendingOutput <= Self.outputLimitBytes else { return false }
        guard let base = plaintext.baseAddress, plaintext.count > 0 else { return true }
        if let records {
            guard records.seal(plaintext, send: send) else {
                fail("\(RecordLayer.Violation.internalError.reason)")
                return false
            }
            pipe.pointee.applicationBytes &+= plaintext.count
            return true
        }
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
        takenBytes &+= UInt64(max(taken, 0))
        return taken
    }

    /// Says close_notify. What was written before goes ahead of it, and what the peer still sends can be read.
    package override func shutdown() {
        guard state == .established, !hasSaidClose else { return }
        if let records {
            _ = records.sealAlert(AlertCode.closeNotify, send: send)
            hasSaidClose = true
            if hasHeardClose { end() }
            return
        }
        hasSaidClose = true
        ERR_clear_error()
        if SSL_shutdown(ssl) == 1 { end() }
        ERR_clear_error()
    }

    override func hearClose() {
        hasHeardClose = true
        if !staysOpenToWrite { super.hearClose() }
    }

    // MARK: Without OpenSSL's session

    package override var applicationProtocol: String? {
        if let records { return records.applicationProtocol }
        return super.applicationProtocol
    }

    package override var versionName: String { records == nil ? super.versionName : "TLSv1.3" }

    override func handshakeEnded() {
        guard let secrets = pipe.pointee.secrets else { return }
        pipe.pointee.secrets = nil
        turnpike_ssl_set_app_data(ssl, nil)
        records = makeRecords(secrets)
        if records != nil { releaseHandshake() }
    }

    /// - Returns: nil where OpenSSL's session has to stay: under TLS 1.2, with shorter records settled on (RFC 6066
    ///   section 4), or with a part of a record in it.
    private func makeRecords(_ secrets: HandshakeSecrets) -> RecordLayer? {
        guard SSL_version(ssl) == TLS1_3_VERSION, SSL_has_pending(ssl) == 0,
            SSL_SESSION_get_max_fragment_length(SSL_get_session(ssl)) == 0,
            let suite = RecordSuite(rawValue: SSL_CIPHER_get_protocol_id(SSL_get_current_cipher(ssl))),
            let inbound = TrafficKeys(suite, secret: secrets.client, sequence: 0),
            let outbound = TrafficKeys(suite, secret: secrets.server, sequence: secrets.recordsSealed)
        else { return nil }
        return RecordLayer(inbound: inbound, outbound: outbound, applicationProtocol: super.applicationProtocol)
    }

    private func send(_ record: UnsafeRawBufferPointer) {
        // Nothing follows a close_notify, no answer to a KeyUpdate and no alert (RFC 8446 section 6.1).
        if !hasSaidClose { SessionPipe.append(record, to: pipe) }
    }

    private func read(_ records: RecordLayer, into target: UnsafeMutableRawBufferPointer) -> Int {
        do throws(RecordLayer.Violation) {
            while state == .established, !hasHeardClose {
                if opened.count > 0 {
                    let count = min(opened.count, target.count)
                    target.copyMemory(from: UnsafeRawBufferPointer(rebasing: opened.bytes[..<count]))
                    opened.remove(count)
                    if opened.count == 0 { opened.free() }
                    return count
                }
                guard let record = try pipe.pointee.nextRecord() else { return 0 }
                let event =
                    target.count >= record.count
                    ? try records.open(record, into: target, send: send) : try openAside(records, record)
                pipe.pointee.removeRecord(record.count)
                let count = settle(event)
                if count > 0, target.count >= record.count { return count }
            }
        } catch {
            _ = records.sealAlert(error.alert, send: send)
            fail("\(error.reason)")
        }
        return -1
    }

    /// Opens a record that is longer than the caller's room.
    private func openAside(
        _ records: RecordLayer,
        _ record: UnsafeRawBufferPointer
    ) throws(RecordLayer.Violation) -> RecordLayer.Event {
        let room = UnsafeMutableRawBufferPointer.allocate(byteCount: record.count, alignment: 8)
        defer { room.deallocate() }
        let event = try records.open(record, into: room, send: send)
        if case .data(let count) = event { opened.append(UnsafeRawBufferPointer(rebasing: room[..<count])) }
        return event
    }

    /// - Returns: bytes of application data.
    private func settle(_ event: RecordLayer.Event) -> Int {
        switch event {
        case .data(let count):
            pipe.pointee.applicationBytes &+= count
            return count
        case .control:
            pipe.pointee.noteControlRecord()
            if pipe.pointee.brokenBound != nil { fail() }
        case .closeNotify:
            hearClose()
        case .alert(let code):
            let name = SSL_alert_desc_string_long(Int32(code)).map { String(cString: $0) }
            fail("the peer says: \(name ?? "alert \(code)")")
        }
        return 0
    }
}
