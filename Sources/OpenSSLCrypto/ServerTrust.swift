/// What makes a client believe that a server is the one it means.
package enum ServerTrust: Sendable, Equatable {
    /// The authorities that the system knows.
    case system
    /// The authorities in a file of PEM certificates, and no others.
    case authorities(file: String)
    /// SHA-256 over the certificate's DER, 32 bytes each. A pinned certificate needs no name and no chain.
    case fingerprints([[UInt8]])
}
