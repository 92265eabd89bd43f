import OpenSSLCrypto

/// Contexts for TLS and DTLS as a client. Making one reads the authorities of the system, which takes tens of
/// milliseconds, so each is made once.
package final class SecureContexts {
    private var made: [(trust: ServerTrust, protocols: [String], isDatagram: Bool, context: TLSContext)] = []

    package init() {}

    /// - Parameter protocols: to be named by ALPN.
    func context(
        _ trust: ServerTrust,
        protocols: [String],
        isDatagram: Bool
    ) throws(TLSError) -> TLSContext {
        let known = made.first { $0.isDatagram == isDatagram && $0.protocols == protocols && $0.trust == trust }
        if let known { return known.context }
        let context = try TLSContext(trusting: trust, applicationProtocols: protocols, isDatagram: isDatagram)
        if made.count >= ClientLimits.secureContexts { made.removeFirst() }
        made.append((trust, protocols, isDatagram, context))
        return context
    }
}

extension NetworkFailure {
    /// Why a session did not come up, or ended.
    init(_ session: SecureSession, _ subject: String) {
        if let problem = session.verificationFailure {
            self.init(.certificate, subject, detail: "\(problem)")
        } else {
            self.init(.tls, subject, detail: session.failure ?? "the other side ended the handshake")
        }
    }
}
