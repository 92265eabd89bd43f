import COpenSSL

/// One-shot digests for the control plane.
package enum Digest {
    package static func md5(_ message: [UInt8]) -> [UInt8] { compute("MD5", message) }
    package static func sha1(_ message: [UInt8]) -> [UInt8] { compute("SHA1", message) }
    package static func sha256(_ message: [UInt8]) -> [UInt8] { compute("SHA256", message) }

    /// - Returns: an empty array where OpenSSL lacks the algorithm; callers compare lengths before they store a key.
    private static func compute(_ name: String, _ message: [UInt8]) -> [UInt8] {
        var output = [UInt8](repeating: 0, count: Int(EVP_MAX_MD_SIZE))
        var length = 0
        guard EVP_Q_digest(nil, name, nil, message, message.count, &output, &length) == 1 else { return [] }
        return Array(output.prefix(length))
    }
}

/// One-shot HMACs for the control plane.
package enum HMAC {
    package static func sha1(key: [UInt8], message: [UInt8]) -> [UInt8] { compute("SHA1", key, message) }
    package static func sha256(key: [UInt8], message: [UInt8]) -> [UInt8] { compute("SHA256", key, message) }

    private static func compute(_ digest: String, _ key: [UInt8], _ message: [UInt8]) -> [UInt8] {
        var output = [UInt8](repeating: 0, count: Int(EVP_MAX_MD_SIZE))
        let capacity = output.count
        var length = 0
        guard
            EVP_Q_mac(
                nil,
                "HMAC",
                nil,
                digest,
                nil,
                key,
                key.count,
                message,
                message.count,
                &output,
                capacity,
                &length
            )
                != nil
        else { return [] }
        return Array(output.prefix(length))
    }
}

package enum SecureRandom {
    package static func bytes(_ count: Int) -> [UInt8] {
        var output = [UInt8](repeating: 0, count: count)
        output.withUnsafeMutableBytes { fill($0) }
        return output
    }

    package static func fill(_ output: UnsafeMutableRawBufferPointer) {
        guard let base = output.baseAddress, output.count > 0, output.count <= Int(Int32.max) else { return }
        if RAND_bytes(base.assumingMemoryBound(to: UInt8.self), Int32(output.count)) == 1 { return }
        // OpenSSL's generator failed to seed itself. The standard library's reads the kernel's and traps rather than
        // give predictable bytes, which is right: no input leads here.
        var generator = SystemRandomNumberGenerator()
        for index in output.indices { output[index] = UInt8.random(in: .min ... .max, using: &generator) }
    }
}

package enum ConstantTime {
    /// Whether both hold the same bytes, in a time that depends on the lengths alone.
    package static func areEqual(_ first: UnsafeRawBufferPointer, _ second: UnsafeRawBufferPointer) -> Bool {
        guard first.count == second.count else { return false }
        guard first.count > 0 else { return true }
        return CRYPTO_memcmp(first.baseAddress, second.baseAddress, first.count) == 0
    }
}

package enum OpenSSLVersion {
    /// As OpenSSL prints it, for the log at start.
    package static var text: String { turnpike_openssl_version().map { String(cString: $0) } ?? "unknown" }
}
