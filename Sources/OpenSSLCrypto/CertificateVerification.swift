import COpenSSL

/// Judges the certificate of one session's other side, in the place of OpenSSL's own judgement.
final class CertificateVerification {
    /// What a certificate has to be.
    enum Rule {
        /// Made out to the name that OpenSSL's parameters hold, by an authority of the context.
        case authorities
        /// A server's, one of these.
        case pins([CertificateFingerprint])
        /// A peer's, one of these. Its dates say nothing: it was made for this connection, and its fingerprint has just
        /// come by signaling, while peers' clocks may be wrong (RFC 8122 section 3.3). With none, nobody's is accepted.
        case peer([CertificateFingerprint])
    }

    private var rule: Rule
    private(set) var problem: CertificateProblem?

    init(_ rule: Rule) { self.rule = rule }

    /// Says whom a session is with that began before that was known. Whoever is known stays.
    func expect(_ fingerprints: [CertificateFingerprint]) {
        if case .peer(let known) = rule, known.isEmpty { rule = .peer(fingerprints) }
    }

    /// Has the sessions of a context judged here. Each needs a verification in its pipe, which its app data point at.
    static func install(in context: OpaquePointer) {
        SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nil)
        SSL_CTX_set_cert_verify_callback(
            context,
            { store, _ in
                guard let store,
                    let ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx()),
                    let pipe = turnpike_ssl_app_data(OpaquePointer(ssl)),
                    let verification = pipe.assumingMemoryBound(to: SessionPipe.self).pointee.verification
                else { return 0 }
                return verification.accepts(store) ? 1 : 0
            },
            nil
        )
    }

    /// Sets OpenSSL's error as well, which the alert to the other side follows.
    func accepts(_ store: OpaquePointer) -> Bool {
        problem = nil
        guard let certificate = X509_STORE_CTX_get0_cert(store) else { return false }
        switch rule {
        case .authorities: return acceptsChain(store, certificate)
        case .pins(let pins): problem = Self.problem(certificate, among: pins) ?? Self.expiry(of: certificate)
        case .peer(let fingerprints): problem = Self.problem(certificate, among: fingerprints)
        }
        switch problem {
        case nil: return true
        case .expired: X509_STORE_CTX_set_error(store, X509_V_ERR_CERT_HAS_EXPIRED)
        // The alert is bad_certificate (RFC 8122 section 6.2).
        default: X509_STORE_CTX_set_error(store, X509_V_ERR_CERT_REJECTED)
        }
        return false
    }

    private func acceptsChain(_ store: OpaquePointer, _ certificate: OpaquePointer) -> Bool {
        let isAccepted = X509_verify_cert(store) == 1
        let error = X509_STORE_CTX_get_error(store)
        ERR_clear_error()
        guard !isAccepted else { return true }
        switch error {
        case X509_V_ERR_CERT_HAS_EXPIRED: problem = .expired
        case X509_V_ERR_CERT_NOT_YET_VALID: problem = .notYetValid
        case X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH:
            problem = .wrongName(CertificateNames.all(of: certificate, limit: CertificateProblem.namesLimit))
        case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT, X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY,
            X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT, X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN,
            X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE, X509_V_ERR_CERT_UNTRUSTED:
            problem = .unknownAuthority
        default:
            problem = .unacceptable(
                X509_verify_cert_error_string(Int(error)).map { String(cString: $0) } ?? "error \(error)"
            )
        }
        return false
    }

    /// Where a side gave fingerprints of several hash functions, those of the strongest count alone: who can forge a
    /// weak one must not be let in beside it (RFC 8122 section 5.1).
    private static func problem(
        _ certificate: OpaquePointer,
        among expected: [CertificateFingerprint]
    ) -> CertificateProblem? {
        guard !expected.isEmpty else { return .unacceptable("nobody has said yet whose it has to be") }
        guard let strongest = expected.max(by: { $0.bytes.count < $1.bytes.count })?.hashFunction,
            let found = CertificateFingerprint(of: certificate, strongest),
            let shown = CertificateFingerprint(of: certificate, .sha256)
        else { return .unacceptable("its fingerprint cannot be computed") }
        guard expected.contains(found) else { return .unpinned(shown) }
        // As OpenSSL holds certificates of authorities to it: RSA of 2048 bits, ECDSA of 224.
        guard EVP_PKEY_get_security_bits(X509_get0_pubkey(certificate)) >= 112 else {
            return .unacceptable("its key is too weak")
        }
        return nil
    }

    private static func expiry(of certificate: OpaquePointer) -> CertificateProblem? {
        // -1 for a time that has passed; 0 where it cannot be read.
        X509_cmp_current_time(X509_get0_notAfter(certificate)) > 0 ? nil : .expired
    }
}
