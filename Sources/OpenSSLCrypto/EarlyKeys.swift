import COpenSSL

/// Seals the first data of a DTLS 1.2 client behind its own Finished, a round trip before the server's comes (RFC 7918,
/// False Start), which OpenSSL does not do by itself.
///
/// At that moment the client has judged the server's certificate, and the signature over the key exchange has shown
/// that its holder is there. What is not known yet is whether somebody has made the hellos name a weaker suite than
/// both have; there is none, since every suite of ours has forward secrecy and authenticated encryption (RFC 7918
/// section 4). A server to which something else was shown than the client saw refuses the client's Finished, and opens
/// none of these records. What the server sends is read behind its Finished alone.
///
///     type 23 │ version │ epoch 1 │ number 6 │ length 2 │ explicit nonce 8 │ sealed text │ tag 16
///
/// The numbers have to be none that OpenSSL uses: it sends Finished with the first ones, again after each loss, and is
/// led behind these when the handshake is over. They lie within the 64 of the server's window against replays, so that
/// a Finished sent again is still let in (RFC 6347 section 4.1.2.6). OpenSSL counts its explicit nonces from a random
/// number on; these begin half of all numbers away from that.
final class EarlyKeys {
    /// OpenSSL gives a flight up after the twelfth time. As many as a server of ours keeps before it has the keys.
    static let numbers: Range<UInt64> = 16..<24

    private let context: OpaquePointer
    private let salt: (UInt8, UInt8, UInt8, UInt8)
    private let firstNonce: UInt64
    private var next = EarlyKeys.numbers.lowerBound

    /// - Parameter flight: a datagram of the client's last flight.
    /// - Returns: nil unless the client's Finished is in it, and the suite is one with AES-GCM.
    init?(_ ssl: OpaquePointer?, behind flight: UnsafeRawBufferPointer) {
        guard let ssl, SSL_get_state(ssl) == TLS_ST_CW_FINISHED, let nonce = Self.nonceOfFinished(flight),
            let cipher = SSL_get_current_cipher(ssl)
        else { return nil }
        let suite: OpaquePointer?
        let keyBytes: Int
        switch SSL_CIPHER_get_cipher_nid(cipher) {
        case NID_aes_128_gcm: (suite, keyBytes) = (EVP_aes_128_gcm(), 16)
        case NID_aes_256_gcm: (suite, keyBytes) = (EVP_aes_256_gcm(), 32)
        default: return nil
        }
        // RFC 5246 section 6.3, without keys for a MAC: both keys, and behind them four bytes for each side's nonces.
        var block = [UInt8](repeating: 0, count: 2 * keyBytes + 8)
        defer { TrafficKeys.erase(&block) }
        guard turnpike_ssl_key_block(ssl, &block, block.count) == 1, let context = EVP_CIPHER_CTX_new() else {
            ERR_clear_error()
            return nil
        }
        guard EVP_EncryptInit_ex(context, suite, nil, block, nil) == 1 else {
            EVP_CIPHER_CTX_free(context)
            return nil
        }
        self.context = context
        salt = (block[2 * keyBytes], block[2 * keyBytes + 1], block[2 * keyBytes + 2], block[2 * keyBytes + 3])
        firstNonce = nonce &+ 1 << 63
    }

    deinit { EVP_CIPHER_CTX_free(context) }

    /// No number is left: the rest has to wait for the end of the handshake.
    var areUsedUp: Bool { next >= Self.numbers.upperBound }

    /// - Returns: the datagram's length; 0 where no number is left, the text is too long or the target too short.
    func seal(_ plaintext: UnsafeRawBufferPointer, into target: UnsafeMutableRawBufferPointer) -> Int {
        let count = DTLSRecordHeader.length + Self.nonceBytes + plaintext.count + TrafficKeys.tagBytes
        guard next < Self.numbers.upperBound, plaintext.count > 0, plaintext.count <= DTLSSession.recordLimitBytes,
            target.count >= count, let start = target.baseAddress?.assumingMemoryBound(to: UInt8.self),
            let text = plaintext.baseAddress?.assumingMemoryBound(to: UInt8.self)
        else { return 0 }
        let number = next
        next += 1
        let nonce = firstNonce &+ number
        // RFC 5246 section 6.2.3.3: the number, and the header with the length of the text.
        var additional = InlineArray<13, UInt8>(repeating: 0)
        Self.write(1 << 48 | number, at: 0, of: &additional)
        (additional[8], additional[9], additional[10]) = (23, 0xFE, 0xFD)
        (additional[11], additional[12]) = (
            UInt8(truncatingIfNeeded: plaintext.count >> 8), UInt8(truncatingIfNeeded: plaintext.count)
        )
        let length = count - DTLSRecordHeader.length
        (start[0], start[1], start[2]) = (23, 0xFE, 0xFD)
        for index in 0..<8 {
            start[3 + index] = additional[index]
            start[13 + index] = UInt8(truncatingIfNeeded: nonce >> (56 &- 8 &* UInt64(index)))
        }
        (start[11], start[12]) = (UInt8(truncatingIfNeeded: length >> 8), UInt8(truncatingIfNeeded: length))
        var vector = InlineArray<12, UInt8>(repeating: 0)
        (vector[0], vector[1], vector[2], vector[3]) = salt
        Self.write(nonce, at: 4, of: &vector)
        let sealed = start + DTLSRecordHeader.length + Self.nonceBytes
        var moved: Int32 = 0
        let isSealed =
            withUnsafeBytes(of: &vector) {
                EVP_EncryptInit_ex(context, nil, nil, nil, $0.baseAddress?.assumingMemoryBound(to: UInt8.self)) == 1
            }
            && withUnsafeBytes(of: &additional) {
                EVP_EncryptUpdate(
                    context,
                    nil,
                    &moved,
                    $0.baseAddress?.assumingMemoryBound(to: UInt8.self),
                    Int32(truncatingIfNeeded: $0.count)
                ) == 1
            }
            && EVP_EncryptUpdate(context, sealed, &moved, text, Int32(truncatingIfNeeded: plaintext.count)) == 1
            && EVP_EncryptFinal_ex(context, sealed + plaintext.count, &moved) == 1
            && turnpike_aead_get_tag(context, sealed + plaintext.count, Int32(TrafficKeys.tagBytes)) == 1
        return isSealed ? count : 0
    }

    private static let nonceBytes = 8

    private static func write<let count: Int>(
        _ number: UInt64,
        at place: Int,
        of bytes: inout InlineArray<count, UInt8>
    ) {
        for index in 0..<8 { bytes[place + index] = UInt8(truncatingIfNeeded: number >> (56 &- 8 &* UInt64(index))) }
    }

    /// Of the records in a datagram, the handshake's in epoch 1 is Finished; its nonce begins it, in clear.
    private static func nonceOfFinished(_ datagram: UnsafeRawBufferPointer) -> UInt64? {
        var rest = datagram
        while rest.count >= DTLSRecordHeader.length {
            let length = Int(rest[11]) << 8 | Int(rest[12])
            guard length <= rest.count - DTLSRecordHeader.length else { return nil }
            if rest[0] == 22, DTLSRecordHeader.epoch(of: rest) == 1, length >= nonceBytes {
                return rest[13..<21].reduce(0) { $0 << 8 | UInt64($1) }
            }
            rest = UnsafeRawBufferPointer(rebasing: rest[(DTLSRecordHeader.length + length)...])
        }
        return nil
    }
}
