/// Why the other side's certificate is not accepted.
package enum CertificateProblem: Error, Sendable, Hashable, CustomStringConvertible {
    case expired
    case notYetValid
    /// The names that it is made out to, at most `namesLimit`.
    case wrongName([String])
    case unknownAuthority
    /// It is not the one expected, but the one with this fingerprint (SHA-256).
    case unpinned(CertificateFingerprint)
    /// What else OpenSSL has against it, in its words, such as a key that is too weak.
    case unacceptable(String)

    /// What is wrong, and the mend: one line.
    package var description: String {
        switch self {
        case .expired:
            "the certificate of the other side has expired; renew it there, or set this machine's clock"
        case .notYetValid:
            "the certificate of the other side is not valid yet; set this machine's clock, or the other side's"
        case .wrongName(let names) where names.isEmpty:
            "the certificate of the other side is made out to no name; give it one with the name that is connected to"
        case .wrongName(let names):
            "the certificate of the other side is made out to \(names.joined(separator: ", ")) and not to the name "
                + "that is connected to; connect to the one it has, or give it one with that name"
        case .unknownAuthority:
            "the certificate of the other side is signed by nobody that is trusted here; "
                + "name its authority's file in TURNPIKE_CA_FILE, or pin it by TURNPIKE_CERT_FINGERPRINT"
        case .unpinned(let found):
            "the certificate of the other side is not the one expected, but \(found); if it was renewed, "
                + "take its fingerprint anew from where the expected one came from, else somebody stands in between"
        case .unacceptable(let reason):
            "the certificate of the other side cannot be relied on: \(reason); give it another"
        }
    }

    /// A sentence holds no more.
    static let namesLimit = 8
}
