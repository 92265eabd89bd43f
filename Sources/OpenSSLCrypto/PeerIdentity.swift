import COpenSSL

/// Which end of a DTLS association: SDP's `a=setup:active` is the client (RFC 8842 section 5).
package enum DTLSRole: Sendable {
    case client, server
}

/// What a peer shows to other peers: a key and a certificate that live in memory alone. Who holds it is known by its
/// fingerprint, which travels in the offer or answer.
package struct PeerIdentity: Sendable {
    /// SHA-256.
    package let fingerprint: CertificateFingerprint
    /// For sessions with peers, in both roles.
    let context: TLSContext

    /// A fresh ECDSA P-256 key and a self-signed certificate of thirty days. Its name is random: it says nothing about
    /// its holder, and two connections of one cannot be told to be his by it.
    /// - Throws: `TLSError` where OpenSSL has no P-256.
    package init() throws(TLSError) {
        let made = try SelfSignedCertificate.makePeers(days: 30)
        defer {
            X509_free(made.certificate)
            EVP_PKEY_free(made.key)
        }
        guard let fingerprint = CertificateFingerprint(of: made.certificate, .sha256) else {
            throw TLSError("OpenSSL computes no fingerprint: \(TLSError.takeReason())")
        }
        self.fingerprint = fingerprint
        context = try TLSContext(peersCertificate: made.certificate, key: made.key)
    }
}
