import COpenSSL

/// Whom a client believes that it speaks to the server it means.
package enum ServerTrust: Sendable, Equatable {
    /// The authorities of this machine, and the server's name.
    case system
    /// Those in a PEM file, and the server's name. The server's own certificate may be one of them.
    case authorities(file: String)
    /// A server with one of these certificates, given by SHA-256: 32 bytes each. It needs neither a name nor an
    /// authority, and may be ahead of this machine's clock, which may be the one that is wrong. One that is past its
    /// time is refused all the same: who made it has said that it is not to be used any more.
    case fingerprints([[UInt8]])

    /// The pins; nil where authorities decide.
    func pins() throws(TLSError) -> [CertificateFingerprint]? {
        guard case .fingerprints(let digests) = self else { return nil }
        let pins = digests.compactMap { CertificateFingerprint(.sha256, bytes: $0) }
        guard !pins.isEmpty, pins.count == digests.count else {
            throw TLSError("a certificate is pinned by its SHA-256; give one of 32 bytes, or several")
        }
        return pins
    }

    /// Has a context for clients know the authorities.
    func install(in context: OpaquePointer) throws(TLSError) {
        switch self {
        case .system:
            guard SSL_CTX_set_default_verify_paths(context) == 1 else {
                throw TLSError("OpenSSL does not find this machine's authorities: \(TLSError.takeReason())")
            }
        case .authorities(let file):
            guard SSL_CTX_load_verify_file(context, file) == 1 else {
                throw TLSError(
                    "authorities \(file): \(TLSError.takeReason()); "
                        + "give a PEM file of certificates that this user can read"
                )
            }
            // What the file holds is trusted itself, whoever has signed it.
            X509_STORE_set_flags(SSL_CTX_get_cert_store(context), UInt(X509_V_FLAG_PARTIAL_CHAIN))
        case .fingerprints: break
        }
    }
}
