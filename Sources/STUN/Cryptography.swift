/// The cryptography a STUN agent needs, passed in so that the protocol itself depends on no library.
package protocol Cryptography: Sendable {
    /// The HMAC of `first` followed by `second`, written to `mac`, which has room for `hash.length` bytes.
    func authenticate(
        _ hash: HashAlgorithm,
        key: UnsafeRawBufferPointer,
        first: UnsafeRawBufferPointer,
        second: UnsafeRawBufferPointer,
        mac: UnsafeMutableRawBufferPointer
    )

    /// The digest of `message`, written to `output`, which has room for `hash.length` bytes.
    func digest(_ hash: HashAlgorithm, message: UnsafeRawBufferPointer, output: UnsafeMutableRawBufferPointer)

    /// Fills `output` from a cryptographic generator.
    func random(_ output: UnsafeMutableRawBufferPointer)

    /// Compares in a time that depends on the lengths alone.
    func areEqual(_ first: UnsafeRawBufferPointer, _ second: UnsafeRawBufferPointer) -> Bool
}

package enum HashAlgorithm: Sendable {
    case md5, sha1, sha256

    package var length: Int {
        switch self {
        case .md5: 16
        case .sha1: 20
        case .sha256: 32
        }
    }
}
