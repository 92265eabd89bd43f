import COpenSSL

extension TLSSession {
    /// The client's side of a connection. Call `advance` first: it gives the ClientHello.
    /// - Parameters:
    ///   - context: made with `trusting`.
    ///   - serverName: the name or address that the server's certificate has to be made out to. A name is also told to
    ///     the server (SNI); an address is not (RFC 6066 section 3). Nil only where certificates are pinned.
    ///   - space: shared with the other sessions of the thread.
    /// - Throws: `TLSError` for what is neither name nor address, a context that is for DTLS or for servers, or where
    ///   OpenSSL has no memory.
    package convenience init(
        _ context: TLSContext,
        connectingTo serverName: String?,
        space: OutputSpace? = nil
    ) throws(TLSError) {
        guard context.kind == .tls else { throw TLSError("a TLS session needs a TLS context; this one is for DTLS") }
        let (ssl, pipe) = try context.makeClient(of: serverName)
        turnpike_ssl_set_message_argument(ssl, pipe)
        self.init(context, ssl: ssl, pipe: pipe)
        use(space)
    }
}

extension DTLSSession {
    /// The client's side of an association with a server. Call `advance` first: it gives the ClientHello.
    /// - Parameters:
    ///   - context: made with `trusting`.
    ///   - serverName: as for TLS.
    ///   - packetLimitBytes: the longest datagram of the handshake, without headers of UDP and IP: 256 to 4096.
    ///     Records of data are as long as the caller makes them; see `plaintextLimitBytes`.
    ///   - firstTimeoutMicroseconds: before a flight is sent again; it doubles each time. RFC 6347 section 4.2.4.1
    ///     recommends one second where the round trip is not known.
    /// - Throws: as for TLS, and for another limit.
    package convenience init(
        _ context: TLSContext,
        connectingTo serverName: String?,
        packetLimitBytes: Int,
        firstTimeoutMicroseconds: UInt32 = 1_000_000
    ) throws(TLSError) {
        guard context.kind == .dtls else { throw TLSError("a DTLS session needs a DTLS context; this one is for TLS") }
        try Self.check(packetLimitBytes)
        let (ssl, pipe) = try context.makeClient(of: serverName)
        self.init(context, ssl: ssl, pipe: pipe)
        prepare(packetLimitBytes, firstTimeoutMicroseconds)
    }

    /// One end of an association between peers (RFC 8827 section 6.5). Both ends show their certificates, and it is
    /// established only where each is the one expected. There is no cookie, since ICE has proved the address. The
    /// client's `advance` gives the ClientHello; the server waits for it.
    ///
    /// The last flight is the server's: while its client may have lost it, what comes has to go through `receive` and
    /// `read` also after the server is established, which sends the flight again by itself.
    /// - Parameters:
    ///   - expecting: from the peer's offer or answer, one at least. Of several, those of the strongest hash function
    ///     count (RFC 8122 section 5.1).
    ///   - packetLimitBytes, firstTimeoutMicroseconds: as for a server's client.
    /// - Throws: `TLSError` for no fingerprint or another limit, or where OpenSSL has no memory.
    package convenience init(
        peer role: DTLSRole,
        identity: PeerIdentity,
        expecting: [CertificateFingerprint],
        packetLimitBytes: Int,
        firstTimeoutMicroseconds: UInt32 = 1_000_000
    ) throws(TLSError) {
        guard !expecting.isEmpty else {
            throw TLSError("a peer is known by its certificate; give the fingerprint from its offer or answer")
        }
        try Self.check(packetLimitBytes)
        let (ssl, pipe) = try identity.context.makeSession(CertificateVerification(.peer(expecting)))
        if role == .client { SSL_set_connect_state(ssl) } else { SSL_set_accept_state(ssl) }
        self.init(identity.context, ssl: ssl, pipe: pipe)
        prepare(packetLimitBytes, firstTimeoutMicroseconds)
    }

    /// The client's end of an association with a peer whose fingerprint is not known yet: its ClientHello may go out
    /// with the offer. Until `expect` has told the fingerprint, no certificate is accepted.
    /// - Throws: as for a peer that is known.
    package convenience init(
        offering identity: PeerIdentity,
        packetLimitBytes: Int,
        firstTimeoutMicroseconds: UInt32 = 1_000_000
    ) throws(TLSError) {
        try Self.check(packetLimitBytes)
        let (ssl, pipe) = try identity.context.makeSession(CertificateVerification(.peer([])))
        SSL_set_connect_state(ssl)
        self.init(identity.context, ssl: ssl, pipe: pipe)
        prepare(packetLimitBytes, firstTimeoutMicroseconds)
    }

    /// Whom a session made by `init(offering:)` is with; once, and before anything of the peer's is given to it.
    /// - Parameter fingerprints: from the peer's answer, one at least.
    package func expect(_ fingerprints: [CertificateFingerprint]) { pipe.pointee.verification?.expect(fingerprints) }

    /// What goes into one record whose datagram has that length: less a header of 13 bytes, a nonce of 8 and a tag of
    /// 16 (RFC 5288), the most that a suite of ours adds.
    package static func plaintextLimitBytes(packetLimitBytes: Int) -> Int { max(0, packetLimitBytes - 37) }

    /// OpenSSL's least, and the buffer in which it gathers the records of a flight.
    private static let packetLimits = 256...4_096

    private static func check(_ packetLimitBytes: Int) throws(TLSError) {
        guard packetLimits.contains(packetLimitBytes) else {
            throw TLSError("DTLS cannot be held to datagrams of \(packetLimitBytes) bytes; give 256 to 4096")
        }
    }

    private func prepare(_ packetLimitBytes: Int, _ firstTimeoutMicroseconds: UInt32) {
        pipe.pointee.firstTimeoutMicroseconds = firstTimeoutMicroseconds
        _ = turnpike_ssl_set_mtu(ssl, packetLimitBytes)
        DTLS_set_timer_cb(ssl, CookieCallbacks.timer)
        // A peer has few sessions, and all of them with traffic.
        keepsBuffers = true
    }
}

extension TLSContext {
    /// OpenSSL's object for a session whose other side is judged, and its pipe. The caller owns both.
    fileprivate func makeSession(
        _ verification: CertificateVerification
    ) throws(TLSError) -> (ssl: OpaquePointer, pipe: UnsafeMutablePointer<SessionPipe>) {
        ERR_clear_error()
        let pipe = SessionPipe.make()
        guard let (ssl, bio) = PipeBIO.makeSession(handle, over: pipe, datagrams: kind == .dtls) else {
            SessionPipe.destroy(pipe)
            throw TLSError("OpenSSL makes no session: \(TLSError.takeReason())")
        }
        SSL_set_bio(ssl, bio, bio)
        turnpike_ssl_set_app_data(ssl, pipe)
        pipe.pointee.verification = verification
        return (ssl, pipe)
    }

    fileprivate func makeClient(
        of serverName: String?
    ) throws(TLSError) -> (ssl: OpaquePointer, pipe: UnsafeMutablePointer<SessionPipe>) {
        guard case .client(let pins) = role else {
            throw TLSError("a client's session needs a context that says what to trust; this one is a server's")
        }
        let rule: CertificateVerification.Rule = pins.map { .pins($0) } ?? .authorities
        guard pins != nil || serverName != nil else {
            throw TLSError("a server is known by its name; give the one that its certificate is made out to")
        }
        let (ssl, pipe) = try makeSession(CertificateVerification(rule))
        SSL_set_connect_state(ssl)
        do throws(TLSError) {
            if let serverName { try Self.name(serverName, for: ssl) }
        } catch {
            SSL_free(ssl)
            SessionPipe.destroy(pipe)
            throw error
        }
        return (ssl, pipe)
    }

    private static func name(_ serverName: String, for ssl: OpaquePointer) throws(TLSError) {
        defer { ERR_clear_error() }
        let parameters = SSL_get0_param(ssl)
        // An address may stand in brackets, as in a URL, and one of a link may name it.
        var address = Substring(serverName)
        if address.hasPrefix("["), address.hasSuffix("]") { address = address.dropFirst().dropLast() }
        if address.contains(":") { address = address.prefix { $0 != "%" } }
        if X509_VERIFY_PARAM_set1_ip_asc(parameters, String(address)) == 1 { return }
        // A name may end in the root's dot, which neither certificates nor SNI have (RFC 6066 section 3).
        let name = serverName.hasSuffix(".") ? String(serverName.dropLast()) : serverName
        guard (1...253).contains(name.utf8.count), name.utf8.allSatisfy(SelfSignedCertificate.isHostCharacter),
            !name.utf8.contains(UInt8(ascii: "*"))
        else {
            throw TLSError("\"\(serverName)\" is neither a host name nor an address; give the server's")
        }
        // Names are the subjectAltName's alone, and a wildcard is a whole label (RFC 9525 section 6).
        X509_VERIFY_PARAM_set_hostflags(
            parameters,
            UInt32(X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS) | UInt32(X509_CHECK_FLAG_NEVER_CHECK_SUBJECT)
        )
        guard X509_VERIFY_PARAM_set1_host(parameters, name, name.utf8.count) == 1,
            turnpike_ssl_set_host_name(ssl, name) == 1
        else { throw TLSError("OpenSSL does not take the name \(name): \(TLSError.takeReason())") }
    }
}
