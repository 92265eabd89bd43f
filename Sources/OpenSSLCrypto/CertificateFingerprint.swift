import COpenSSL

/// A certificate's digest, as SDP writes it in `a=fingerprint` (RFC 8122 section 5).
package struct CertificateFingerprint: Sendable, Hashable, CustomStringConvertible {
    /// The hash functions that can be relied on. MD5 and SHA-1 are none: two certificates with one digest can be made.
    package enum HashFunction: String, Sendable, CaseIterable {
        case sha256 = "sha-256"
        case sha384 = "sha-384"
        case sha512 = "sha-512"

        package var byteCount: Int {
            switch self {
            case .sha256: 32
            case .sha384: 48
            case .sha512: 64
            }
        }
    }

    package let hashFunction: HashFunction
    /// As many as the hash function gives.
    package let bytes: [UInt8]

    /// Nil where the hash function gives another number of bytes.
    package init?(_ hashFunction: HashFunction, bytes: [UInt8]) {
        guard bytes.count == hashFunction.byteCount else { return nil }
        self.hashFunction = hashFunction
        self.bytes = bytes
    }

    /// - Parameters:
    ///   - algorithm: such as `sha-256`, in any case (RFC 8122 section 5).
    ///   - text: such as `AB:CD:…`. RFC 8122 wants upper case; both are read.
    /// - Returns: nil where the text is none of that hash function, or it is not one of ours.
    package init?(algorithm: String, text: String) {
        guard let function = HashFunction(rawValue: algorithm.lowercased()) else { return nil }
        let digits = Array(text.utf8)
        guard digits.count == function.byteCount * 3 - 1 else { return nil }
        var bytes: [UInt8] = []
        bytes.reserveCapacity(function.byteCount)
        for start in stride(from: 0, to: digits.count, by: 3) {
            guard start == 0 || digits[start - 1] == UInt8(ascii: ":"), let high = Self.value(digits[start]),
                let low = Self.value(digits[start + 1])
            else { return nil }
            bytes.append(high << 4 | low)
        }
        self.init(function, bytes: bytes)
    }

    /// - Parameter attribute: the value of `a=fingerprint`, such as `sha-256 AB:CD:…`.
    /// - Returns: as above.
    package init?(attribute: String) {
        let words = attribute.split(separator: " ")
        guard words.count == 2 else { return nil }
        self.init(algorithm: String(words[0]), text: String(words[1]))
    }

    /// Such as `sha-256`.
    package var algorithm: String { hashFunction.rawValue }
    /// Such as `AB:CD:…`.
    package var text: String {
        let digits = Array("0123456789ABCDEF".utf8)
        var text: [UInt8] = []
        text.reserveCapacity(bytes.count * 3)
        for byte in bytes {
            if !text.isEmpty { text.append(UInt8(ascii: ":")) }
            text.append(digits[Int(byte >> 4)])
            text.append(digits[Int(byte & 15)])
        }
        return String(decoding: text, as: UTF8.self)
    }
    /// The value of `a=fingerprint`.
    package var description: String { "\(algorithm) \(text)" }

    /// - Returns: nil where OpenSSL lacks the hash function.
    init?(of certificate: OpaquePointer, _ hashFunction: HashFunction) {
        let digest =
            switch hashFunction {
            case .sha256: EVP_sha256()
            case .sha384: EVP_sha384()
            case .sha512: EVP_sha512()
            }
        var bytes = [UInt8](repeating: 0, count: Int(EVP_MAX_MD_SIZE))
        var length: UInt32 = 0
        guard X509_digest(certificate, digest, &bytes, &length) == 1 else { return nil }
        self.init(hashFunction, bytes: Array(bytes.prefix(Int(length))))
    }

    private static func value(_ digit: UInt8) -> UInt8? {
        switch digit {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): digit &- UInt8(ascii: "0")
        case UInt8(ascii: "A")...UInt8(ascii: "F"): digit &- UInt8(ascii: "A") &+ 10
        case UInt8(ascii: "a")...UInt8(ascii: "f"): digit &- UInt8(ascii: "a") &+ 10
        default: nil
        }
    }
}
