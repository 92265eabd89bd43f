import COpenSSL

/// The suites of TLS 1.3 that OpenSSL settles on by itself (RFC 8446 section B.4).
enum RecordSuite: UInt16 {
    case aes128GCM = 0x1301
    case aes256GCM = 0x1302
    case chaCha20Poly1305 = 0x1303

    var digestName: String { self == .aes256GCM ? "SHA384" : "SHA256" }
    var secretBytes: Int { self == .aes256GCM ? 48 : 32 }
    var keyBytes: Int { self == .aes128GCM ? 16 : 32 }

    /// OpenSSL's own, which is never freed.
    var cipher: OpaquePointer? {
        switch self {
        case .aes128GCM: EVP_aes_128_gcm()
        case .aes256GCM: EVP_aes_256_gcm()
        case .chaCha20Poly1305: EVP_chacha20_poly1305()
        }
    }
}

/// What protects the records of one direction under TLS 1.3: the secret, what is derived from it, and the number of the
/// next record (RFC 8446 sections 5.2, 5.3 and 7.3).
final class TrafficKeys {
    static let tagBytes = 16
    static let nonceBytes = 12

    private let suite: RecordSuite
    private let context: OpaquePointer
    private var secret: [UInt8]
    private var vector: InlineArray<12, UInt8> = .init(repeating: 0)
    private(set) var sequence: UInt64

    /// - Parameters:
    ///   - secret: of `suite.secretBytes`.
    ///   - sequence: of the next record.
    /// - Returns: nil where OpenSSL has no memory, or has not the suite.
    init?(_ suite: RecordSuite, secret: [UInt8], sequence: UInt64) {
        guard secret.count == suite.secretBytes, let context = EVP_CIPHER_CTX_new() else { return nil }
        self.suite = suite
        self.context = context
        self.secret = secret
        self.sequence = sequence
        // The cipher once, its key now and at each update, a nonce for each record.
        guard EVP_CipherInit_ex(context, suite.cipher, nil, nil, nil, -1) == 1, takeKeys() else { return nil }
    }

    deinit {
        EVP_CIPHER_CTX_free(context)
        Self.erase(&secret)
    }

    /// Goes on to the next secret (RFC 8446 section 7.2).
    func update() -> Bool {
        guard let next = expand("traffic upd", suite.secretBytes) else { return false }
        Self.erase(&secret)
        secret = next
        // Until the new key is there, nothing is sealed: a number of the old one must not come twice.
        sequence = .max
        guard takeKeys() else { return false }
        sequence = 0
        return true
    }

    /// Seals the text and its content type.
    /// - Parameters:
    ///   - header: of the record, which is authenticated with it.
    ///   - target: for `plaintext.count + 1 + tagBytes`.
    func seal(
        _ plaintext: UnsafeRawBufferPointer,
        _ type: UInt8,
        header: UnsafeRawBufferPointer,
        into target: UnsafeMutableRawBufferPointer
    ) -> Bool {
        guard let count = Int32(exactly: plaintext.count), target.count == plaintext.count + 1 + Self.tagBytes,
            let output = target.baseAddress?.assumingMemoryBound(to: UInt8.self), begin(header, isSealing: 1)
        else { return false }
        var (type, moved): (UInt8, Int32) = (type, 0)
        let text = plaintext.baseAddress?.assumingMemoryBound(to: UInt8.self)
        if count > 0, EVP_CipherUpdate(context, output, &moved, text, count) != 1 { return false }
        let end = output + plaintext.count
        return EVP_CipherUpdate(context, end, &moved, &type, 1) == 1
            && EVP_CipherFinal_ex(context, end + 1, &moved) == 1
            && turnpike_aead_get_tag(context, end + 1, Int32(Self.tagBytes)) == 1
    }

    /// Opens what `seal` gives.
    /// - Parameter target: for `sealed.count - tagBytes`. It is empty of plaintext where the record is forged.
    /// - Returns: whether the peer sealed it.
    func open(
        _ sealed: UnsafeRawBufferPointer,
        header: UnsafeRawBufferPointer,
        into target: UnsafeMutableRawBufferPointer
    ) -> Bool {
        let count = sealed.count - Self.tagBytes
        guard count > 0, target.count >= count, let length = Int32(exactly: count),
            let input = sealed.baseAddress?.assumingMemoryBound(to: UInt8.self),
            let output = target.baseAddress?.assumingMemoryBound(to: UInt8.self), begin(header, isSealing: 0)
        else { return false }
        var moved: Int32 = 0
        if turnpike_aead_set_tag(context, input + count, Int32(Self.tagBytes)) == 1,
            EVP_CipherUpdate(context, output, &moved, input, length) == 1,
            EVP_CipherFinal_ex(context, output + count, &moved) == 1
        {
            return true
        }
        OPENSSL_cleanse(output, count)
        return false
    }

    /// Sets the nonce of the next record: its number, over the last bytes of the vector (section 5.3).
    private func begin(_ header: UnsafeRawBufferPointer, isSealing: Int32) -> Bool {
        // A number must not come twice. No connection lives so long.
        guard sequence < .max, let additional = header.baseAddress?.assumingMemoryBound(to: UInt8.self) else {
            return false
        }
        var nonce = vector
        for index in 0..<8 { nonce[11 &- index] ^= UInt8(truncatingIfNeeded: sequence >> (8 &* UInt64(index))) }
        sequence &+= 1
        var moved: Int32 = 0
        return withUnsafeBytes(of: &nonce) { nonce in
            EVP_CipherInit_ex(
                context,
                nil,
                nil,
                nil,
                nonce.baseAddress?.assumingMemoryBound(to: UInt8.self),
                isSealing
            ) == 1
        } && EVP_CipherUpdate(context, nil, &moved, additional, Int32(truncatingIfNeeded: header.count)) == 1
    }

    private func takeKeys() -> Bool {
        guard var key = expand("key", suite.keyBytes), let iv = expand("iv", Self.nonceBytes) else { return false }
        for index in 0..<Self.nonceBytes { vector[index] = iv[index] }
        let isTaken = EVP_CipherInit_ex(context, nil, nil, key, nil, -1) == 1
        Self.erase(&key)
        return isTaken
    }

    /// HKDF-Expand-Label with an empty context (section 7.1).
    private func expand(_ label: String, _ count: Int) -> [UInt8]? {
        let name = Array("tls13 ".utf8) + Array(label.utf8)
        let info = [UInt8(count >> 8), UInt8(count & 0xFF), UInt8(name.count)] + name + [0]
        var output = [UInt8](repeating: 0, count: count)
        let isMade = turnpike_hkdf_expand(suite.digestName, secret, secret.count, info, info.count, &output, count)
        return isMade == 1 ? output : nil
    }

    static func erase(_ bytes: inout [UInt8]) {
        bytes.withUnsafeMutableBytes { OPENSSL_cleanse($0.baseAddress, $0.count) }
    }
}
