import COpenSSL

/// What sessions are made from: a server's certificate and its key, or what a client trusts. And the rules that each of
/// them obeys: TLS 1.2 and 1.3, or DTLS 1.2, with forward secrecy and authenticated encryption only (Mozilla's
/// "intermediate", version 5.8).
///
/// A renewed certificate is a new context: sessions keep the one they were made from. The keys of session tickets
/// belong to the context, so a ticket of an older one costs a full handshake.
package final class TLSContext: @unchecked Sendable {  // OpenSSL locks an SSL_CTX itself.
    // @unchecked for `handle` alone: an SSL_CTX counts its references atomically and has locks for what sessions change
    // in it, and nothing else changes it after `init`. The ticket keys have a lock of their own.
    package enum Kind: Sendable { case tls, dtls }

    /// Which ends of a connection are made from a context.
    enum Role: Sendable {
        case server
        /// - Parameter pins: nil where authorities decide.
        case client(pins: [CertificateFingerprint]?)
        /// Both, with a certificate each.
        case peer
    }

    package let kind: Kind
    /// The end of the leaf certificate's life, in seconds since 1970; `Int64.max` for a client's context, which has
    /// none.
    package let notAfterSeconds: Int64
    /// SHA-256 over the leaf certificate's DER: 32 bytes; none for a client's context.
    package let fingerprint: [UInt8]

    let role: Role
    let handle: OpaquePointer
    private let protocols: ApplicationProtocols
    private let ticketKeys: TicketKeys?

    /// - Parameters:
    ///   - certificateChainPath: PEM, the leaf first and its issuers behind it.
    ///   - privateKeyPath: PEM, without a passphrase.
    ///   - nowSeconds: seconds since 1970, for what has expired or is not valid yet.
    ///   - applicationProtocols: what a client may name by ALPN, the preferred ones first; RFC 7443 unless told. A
    ///     client that names others only is refused, and one that names none is served (RFC 7301 section 3.2).
    /// - Throws: `TLSError` when a file cannot be read, is not PEM, has expired or is not valid yet, or they do not
    ///   match.
    package convenience init(
        kind: Kind,
        certificateChainPath: String,
        privateKeyPath: String,
        nowSeconds: Int64,
        applicationProtocols: [String] = TLSContext.turnProtocols
    ) throws(TLSError) {
        try self.init(
            kind: kind,
            certificateChainPath: certificateChainPath,
            privateKeyPath: privateKeyPath,
            nowSeconds: nowSeconds,
            applicationProtocols: applicationProtocols,
            ticketKeys: TicketKeys()
        )
    }

    /// As above, with keys for tickets whose clock is the caller's.
    convenience init(
        kind: Kind,
        certificateChainPath: String,
        privateKeyPath: String,
        nowSeconds: Int64,
        applicationProtocols: [String],
        ticketKeys: TicketKeys
    ) throws(TLSError) {
        try self.init(
            kind: kind,
            role: .server,
            applicationProtocols: applicationProtocols,
            ticketKeys: ticketKeys
        ) { (context) throws(TLSError) in
            try Self.load(certificate: certificateChainPath, key: privateKeyPath, into: context, at: nowSeconds)
        }
    }

    /// For clients of servers, by TLS 1.2 and later or DTLS 1.2. Making one reads the authorities, so one is to be kept
    /// for all connections.
    /// - Parameters:
    ///   - trust: what proves the server.
    ///   - applicationProtocols: what ALPN offers, the preferred first; nothing for an empty list.
    /// - Throws: `TLSError` where a file cannot be read or is not PEM, a fingerprint has not 32 bytes, or a name of a
    ///   protocol not 1 to 255.
    package convenience init(
        trusting trust: ServerTrust,
        applicationProtocols: [String] = [],
        isDatagram: Bool
    ) throws(TLSError) {
        try self.init(
            kind: isDatagram ? .dtls : .tls,
            role: .client(pins: try trust.pins()),
            applicationProtocols: applicationProtocols,
            ticketKeys: nil
        ) { (context) throws(TLSError) in
            try trust.install(in: context)
            return nil
        }
    }

    /// For both ends of associations between peers. Takes references of its own.
    convenience init(peersCertificate certificate: OpaquePointer, key: OpaquePointer) throws(TLSError) {
        try self.init(
            kind: .dtls,
            role: .peer,
            applicationProtocols: [],
            ticketKeys: nil
        ) { (context) throws(TLSError) in
            guard SSL_CTX_use_certificate(context, certificate) == 1, SSL_CTX_use_PrivateKey(context, key) == 1 else {
                throw TLSError("OpenSSL takes no certificate for peers: \(TLSError.takeReason())")
            }
            // Nothing is sent by SRTP, but aiortc ends every handshake that agrees on no profile for it. RFC 8827
            // section 6.5 makes this one everybody's.
            guard SSL_CTX_set_tlsext_use_srtp(context, "SRTP_AES128_CM_SHA1_80") == 0 else {
                throw TLSError("OpenSSL offers no SRTP profile to peers: \(TLSError.takeReason())")
            }
            return certificate
        }
    }

    /// RFC 7443 section 3.
    package static let turnProtocols = ["stun.turn", "stun.nat-discovery"]

    private init(
        kind: Kind,
        role: Role,
        applicationProtocols: [String],
        ticketKeys: TicketKeys?,
        load: (OpaquePointer) throws(TLSError) -> OpaquePointer?
    ) throws(TLSError) {
        ERR_clear_error()
        guard let context = SSL_CTX_new(Self.method(kind, role)) else {
            throw TLSError("OpenSSL makes no TLS context: \(TLSError.takeReason())")
        }
        let protocols = ApplicationProtocols(applicationProtocols)
        let leaf: OpaquePointer?
        do throws(TLSError) {
            try Self.applyPolicy(to: context, kind: kind, role: role)
            if let ticketKeys, !ticketKeys.install(in: context) {
                throw TLSError("OpenSSL takes no keys for session tickets: \(TLSError.takeReason())")
            }
            leaf = try load(context)
            try protocols.install(in: context, role: role)
        } catch {
            SSL_CTX_free(context)
            throw error
        }
        self.kind = kind
        self.role = role
        self.protocols = protocols
        self.ticketKeys = ticketKeys
        handle = context
        notAfterSeconds = leaf.map { turnpike_asn1_time_seconds(X509_get0_notAfter($0)) } ?? .max
        fingerprint = leaf.flatMap { CertificateFingerprint(of: $0, .sha256)?.bytes } ?? []
    }

    /// Makes new keys for tickets if it is time: those of a server without handshakes grow old as well.
    package func renewTicketKeys() { _ = ticketKeys?.current() }

    // Every session holds its context, so none outlives the protocols and keys that the callbacks point at.
    deinit { SSL_CTX_free(handle) }

    private static func method(_ kind: Kind, _ role: Role) -> OpaquePointer? {
        switch (kind, role) {
        case (.tls, .server): TLS_server_method()
        case (.tls, .client): TLS_client_method()
        case (.tls, .peer): TLS_method()
        case (.dtls, .server): DTLS_server_method()
        case (.dtls, .client): DTLS_client_method()
        case (.dtls, .peer): DTLS_method()
        }
    }

    private static func applyPolicy(to context: OpaquePointer, kind: Kind, role: Role) throws(TLSError) {
        let lowest = kind == .tls ? TLS1_2_VERSION : DTLS1_2_VERSION
        let highest = kind == .tls ? TLS1_3_VERSION : DTLS1_2_VERSION
        // X25519MLKEM768 exists from OpenSSL 3.5. The library that runs decides, not the headers of the build.
        let groups = (OpenSSL_version_num() >= 0x3050_0000 ? "X25519MLKEM768:" : "") + "X25519:P-256:P-384"
        guard turnpike_ctx_set_versions(context, lowest, highest) == 1,
            SSL_CTX_set_cipher_list(context, cipherList) == 1,
            turnpike_ctx_set_groups(context, groups) == 1
        else {
            throw TLSError(
                "OpenSSL refuses TLS 1.2 with ECDHE and AES-GCM or ChaCha20: \(TLSError.takeReason()); "
                    + "look for a policy in openssl.cnf that forbids them"
            )
        }
        _ = SSL_CTX_set_options(context, turnpike_op_no_compression | turnpike_op_no_renegotiation)
        turnpike_ctx_set_mode(
            context,
            Int(SSL_MODE_RELEASE_BUFFERS) | Int(SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER) | Int(SSL_MODE_AUTO_RETRY)
        )
        // Resumption by ticket only: a cache would keep a session for every client that ever came.
        turnpike_ctx_disable_session_cache(context)
        _ = SSL_CTX_set_num_tickets(context, 1)
        SSL_CTX_set_msg_callback(context, SessionWatch.message)
        if kind == .dtls { _ = SSL_CTX_set_options(context, turnpike_op_no_query_mtu) }
        // Room for handshake messages that come in pieces is given by the length they claim.
        switch (kind, role) {
        case (.tls, .server):
            HandshakeSecrets.install(in: context)
        case (.dtls, .server):
            // A client here sends no certificate, so none is long; OpenSSL brings this up to 17 KiB.
            turnpike_ctx_set_longest_message(context, 1_024)
            SSL_CTX_set_cookie_generate_cb(context, CookieCallbacks.generate)
            SSL_CTX_set_cookie_verify_cb(context, CookieCallbacks.verify)
        case (_, .client):
            // A chain of certificates, which OpenSSL would have up to 100 KiB.
            turnpike_ctx_set_longest_message(context, SessionPipe.certificateByteLimit / 2)
            CertificateVerification.install(in: context)
        case (_, .peer):
            turnpike_ctx_set_longest_message(context, SessionPipe.handshakeByteLimit)
            // A connection is made anew with its keys, so there is nothing to resume.
            _ = SSL_CTX_set_options(context, turnpike_op_no_ticket)
            CertificateVerification.install(in: context)
        }
    }

    /// TLS 1.2 only; TLS 1.3 has nothing weaker to leave out.
    private static let cipherList =
        "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:"
        + "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"

    /// - Returns: the leaf, which the context owns.
    private static func load(
        certificate: String,
        key: String,
        into context: OpaquePointer,
        at nowSeconds: Int64
    ) throws(TLSError) -> OpaquePointer {
        // Without this, a key behind a passphrase would stop the start with a question on the terminal.
        SSL_CTX_set_default_passwd_cb(context) { _, _, _, _ in -1 }
        guard SSL_CTX_use_certificate_chain_file(context, certificate) == 1,
            let leaf = SSL_CTX_get0_certificate(context)
        else {
            throw TLSError(
                "certificate \(certificate): \(TLSError.takeReason()); "
                    + "give a PEM file that this user can read, the server's own certificate first"
            )
        }
        // The key is read on its own first, so that a file which holds none is told from one which holds another's.
        guard let file = BIO_new_file(key, "r") else {
            throw TLSError("private key \(key): \(TLSError.takeReason()); give a PEM file that this user can read")
        }
        defer { BIO_free(file) }
        guard let pair = PEM_read_bio_PrivateKey(file, nil, { _, _, _, _ in -1 }, nil) else {
            throw TLSError(
                "private key \(key): \(TLSError.takeReason()); give a PEM private key without a passphrase"
            )
        }
        defer { EVP_PKEY_free(pair) }
        guard X509_check_private_key(leaf, pair) == 1 else {
            ERR_clear_error()
            throw TLSError("private key \(key) is not the key of certificate \(certificate); give the pair")
        }
        guard SSL_CTX_use_PrivateKey(context, pair) == 1 else {
            throw TLSError("private key \(key): \(TLSError.takeReason()); give an RSA key of 2048 bits or an ECDSA key")
        }
        let notBefore = turnpike_asn1_time_seconds(X509_get0_notBefore(leaf))
        let notAfter = turnpike_asn1_time_seconds(X509_get0_notAfter(leaf))
        guard nowSeconds <= notAfter else {
            throw TLSError(
                "certificate \(certificate) expired \((nowSeconds - notAfter) / 3_600) hours ago; renew it"
            )
        }
        guard nowSeconds >= notBefore else {
            throw TLSError(
                "certificate \(certificate) is not valid for another \((notBefore - nowSeconds) / 3_600 + 1) hours; "
                    + "check this machine's clock, or give one that is valid now"
            )
        }
        return leaf
    }
}

/// Counts what a peer may not flood a TLS session with once it is established.
enum SessionWatch {
    typealias Message =
        @convention(c) (
            Int32, Int32, Int32, UnsafeRawPointer?, Int, OpaquePointer?, UnsafeMutableRawPointer?
        ) -> Void

    /// OpenSSL calls this for every record header and inner content type.
    static let message: Message = { isWrite, _, contentType, bytes, count, _, argument in
        // DTLS sessions pass no argument: their headers are counted before they are authenticated, so a stranger who
        // forges the address could use the bound to end somebody's session.
        guard count > 0, let bytes, let argument else { return }
        guard contentType == SSL3_RT_HEADER || contentType == SSL3_RT_INNER_CONTENT_TYPE else { return }
        let pipe = argument.assumingMemoryBound(to: SessionPipe.self)
        guard isWrite == 0 else {
            if contentType == SSL3_RT_INNER_CONTENT_TYPE { pipe.pointee.secrets?.noteSealedRecord() }
            return
        }
        if !pipe.pointee.isEstablished, contentType == SSL3_RT_HEADER {
            pipe.pointee.handshakeRecords += 1
            if pipe.pointee.handshakeRecords > SessionPipe.handshakeRecordLimit {
                pipe.pointee.brokenBound = "the handshake came in too many records"
            }
        }
        guard pipe.pointee.isEstablished, bytes.load(as: UInt8.self) != UInt8(SSL3_RT_APPLICATION_DATA) else { return }
        pipe.pointee.noteControlRecord()
    }
}
