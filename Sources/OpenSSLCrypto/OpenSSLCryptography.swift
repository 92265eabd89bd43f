import COpenSSL
import STUN

/// `STUN.Cryptography` by OpenSSL, for one thread. Contexts are fetched once and used again, since looking an algorithm
/// up by name costs OpenSSL 3 more than the hash of a STUN message does.
///
/// Its owner is one worker: it must not be used from two threads at once.
package final class OpenSSLCryptography: Cryptography, @unchecked Sendable {  // One thread's at a time.
    // @unchecked: the contexts below are mutable C objects; each worker makes its own instance and keeps it.
    private let macSHA1: OpaquePointer
    private let macSHA256: OpaquePointer
    private let digestContext: OpaquePointer
    private let md5: OpaquePointer
    private let sha1: OpaquePointer
    private let sha256: OpaquePointer
    private let randomPool: UnsafeMutableRawBufferPointer
    private var randomUsed: Int

    /// - Throws: `CryptographyError` when the installed OpenSSL lacks an algorithm, as one in FIPS mode lacks MD5.
    package init() throws(CryptographyError) {
        md5 = try Self.fetchDigest("MD5")
        sha1 = try Self.fetchDigest("SHA1")
        sha256 = try Self.fetchDigest("SHA256")
        macSHA1 = try Self.makeMAC("SHA1")
        macSHA256 = try Self.makeMAC("SHA256")
        guard let context = EVP_MD_CTX_new() else { throw CryptographyError("cannot make a digest context") }
        digestContext = context
        randomPool = .allocate(byteCount: Self.randomPoolBytes, alignment: 8)
        randomUsed = Self.randomPoolBytes
    }

    deinit {
        EVP_MD_CTX_free(digestContext)
        EVP_MAC_CTX_free(macSHA1)
        EVP_MAC_CTX_free(macSHA256)
        EVP_MD_free(md5)
        EVP_MD_free(sha1)
        EVP_MD_free(sha256)
        OPENSSL_cleanse(randomPool.baseAddress, randomPool.count)
        randomPool.deallocate()
    }

    package func authenticate(
        _ hash: HashAlgorithm,
        key: UnsafeRawBufferPointer,
        first: UnsafeRawBufferPointer,
        second: UnsafeRawBufferPointer,
        mac: UnsafeMutableRawBufferPointer
    ) {
        // STUN has no HMAC-MD5. Random bytes match nothing.
        guard hash != .md5 else { return random(mac) }
        let context = hash == .sha256 ? macSHA256 : macSHA1
        var written = 0
        // A zero-length key would mean "keep the last one" to OpenSSL, so it is passed as one zero byte: HMAC pads keys
        // with zeros, and both give the same MAC.
        let zero: [UInt8] = [0]
        let initialised =
            key.count > 0
            ? turnpike_mac_init(context, key.baseAddress?.assumingMemoryBound(to: UInt8.self), key.count)
            : turnpike_mac_init(context, zero, 1)
        let ok =
            initialised == 1
            && EVP_MAC_update(context, first.baseAddress?.assumingMemoryBound(to: UInt8.self), first.count) == 1
            && EVP_MAC_update(context, second.baseAddress?.assumingMemoryBound(to: UInt8.self), second.count) == 1
            && EVP_MAC_final(
                context,
                mac.baseAddress?.assumingMemoryBound(to: UInt8.self),
                &written,
                mac.count
            ) == 1
        // HMAC over memory fails only for lack of memory. Random bytes match nothing, so the failure refuses.
        if !ok { random(mac) }
    }

    package func digest(
        _ hash: HashAlgorithm,
        message: UnsafeRawBufferPointer,
        output: UnsafeMutableRawBufferPointer
    ) {
        let algorithm =
            switch hash {
            case .md5: md5
            case .sha1: sha1
            case .sha256: sha256
            }
        let ok =
            EVP_DigestInit_ex2(digestContext, algorithm, nil) == 1
            && EVP_DigestUpdate(digestContext, message.baseAddress, message.count) == 1
            && EVP_DigestFinal_ex(digestContext, output.baseAddress?.assumingMemoryBound(to: UInt8.self), nil) == 1
        if !ok { random(output) }
    }

    package func random(_ output: UnsafeMutableRawBufferPointer) {
        guard output.count <= Self.randomPoolBytes else {
            SecureRandom.fill(output)
            return
        }
        // Small draws, such as a transaction id for each Data indication, come from a pool that is filled in one call.
        if randomUsed + output.count > Self.randomPoolBytes {
            SecureRandom.fill(randomPool)
            randomUsed = 0
        }
        let drawn = UnsafeMutableRawBufferPointer(rebasing: randomPool[randomUsed..<(randomUsed + output.count)])
        output.copyMemory(from: UnsafeRawBufferPointer(drawn))
        drawn.initializeMemory(as: UInt8.self, repeating: 0)
        randomUsed += output.count
    }

    package func areEqual(_ first: UnsafeRawBufferPointer, _ second: UnsafeRawBufferPointer) -> Bool {
        ConstantTime.areEqual(first, second)
    }

    private static let randomPoolBytes = 4_096

    private static func fetchDigest(_ name: String) throws(CryptographyError) -> OpaquePointer {
        guard let digest = EVP_MD_fetch(nil, name, nil) else {
            throw CryptographyError("OpenSSL offers no \(name); TURN's long-term credentials need it")
        }
        return digest
    }

    private static func makeMAC(_ digest: String) throws(CryptographyError) -> OpaquePointer {
        guard let mac = EVP_MAC_fetch(nil, "HMAC", nil) else { throw CryptographyError("OpenSSL offers no HMAC") }
        defer { EVP_MAC_free(mac) }
        guard let context = EVP_MAC_CTX_new(mac), turnpike_mac_set_digest(context, digest) == 1 else {
            throw CryptographyError("OpenSSL offers no HMAC with \(digest)")
        }
        return context
    }
}

/// The installed OpenSSL cannot do what TURN needs.
package struct CryptographyError: Error, CustomStringConvertible {
    package let description: String

    init(_ description: String) { self.description = description }
}
