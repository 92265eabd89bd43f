import STUN

/// Nonces that the server can check without having stored them (RFC 8656 section 5, RFC 8489 section 9.2).
///
///     obMatJos2 AAAD ─ 24 characters of base64: 4 bytes of time, 14 of HMAC-SHA256
///     └ cookie ┘└ features
///
/// The MAC covers the cookie, the time and the client's address and port, so a nonce that was shown to someone else, or
/// whose feature bits were cleared, is no nonce of ours.
package struct NonceKeys: Sendable {
    /// Signs and verifies.
    package var current: [UInt8]
    /// Still verifies after a rotation, so that it causes no wave of 438.
    package var previous: [UInt8]?

    package init(current: [UInt8], previous: [UInt8]? = nil) {
        self.current = current
        self.previous = previous
    }
}

enum Nonce {
    static let length = 37

    enum Verdict {
        case fresh
        /// Ours, for this client, but too old.
        case stale
        /// Not made by us for this client.
        case foreign
    }

    /// Writes a nonce of `length` characters.
    static func issue(
        for client: Endpoint,
        wallSeconds: UInt64,
        keys: NonceKeys,
        with cryptography: any Cryptography,
        into output: UnsafeMutableRawBufferPointer
    ) {
        let time = UInt32(truncatingIfNeeded: wallSeconds)
        write(client, time, keys.current, cryptography, into: output)
    }

    static func check(
        _ nonce: UnsafeRawBufferPointer,
        from client: Endpoint,
        wallSeconds: UInt64,
        lifetimeSeconds: UInt64,
        keys: NonceKeys,
        with cryptography: any Cryptography
    ) -> Verdict {
        guard nonce.count == length, let time = decodeTime(nonce) else { return .foreign }
        let isOurs = [keys.current, keys.previous].contains { key in
            guard let key else { return false }
            return withUnsafeTemporaryAllocation(byteCount: length, alignment: 1) { expected in
                write(client, time, key, cryptography, into: expected)
                return cryptography.areEqual(UnsafeRawBufferPointer(expected), nonce)
            }
        }
        guard isOurs else { return .foreign }
        // 32 bits of seconds wrap in 2106; the signed difference does not mind.
        let age = Int64(Int32(bitPattern: UInt32(truncatingIfNeeded: wallSeconds) &- time))
        // The clock may have been set back a little since (case AU-07).
        guard age >= -5 else { return .stale }
        return age <= Int64(clamping: lifetimeSeconds) ? .fresh : .stale
    }

    /// The nonce cookie (RFC 8489 section 9.2) and the features: bit 0, password algorithms, and bit 1, username
    /// anonymity, counted from the least significant of 24 (RFC 8489 section 18.1 with its errata; the nonce of its
    /// appendix B.1, which announces username anonymity alone, has `AAAC`).
    static let cookie = Array("obMatJos2AAAD".utf8)

    private static let timeAndMACBytes = 18

    private static func write(
        _ client: Endpoint,
        _ time: UInt32,
        _ key: [UInt8],
        _ cryptography: any Cryptography,
        into output: UnsafeMutableRawBufferPointer
    ) {
        withUnsafeTemporaryAllocation(byteCount: 32 + cookie.count + 23, alignment: 8) { scratch in
            let mac = UnsafeMutableRawBufferPointer(rebasing: scratch[..<32])
            let covered = UnsafeMutableRawBufferPointer(rebasing: scratch[32...])
            covered.copyBytes(from: cookie)
            covered.store(time, at: cookie.count)
            covered.store(client.address.high, at: cookie.count + 4)
            covered.store(client.address.low, at: cookie.count + 12)
            covered.store(client.port, at: cookie.count + 20)
            covered[cookie.count + 22] = client.address.family.rawValue
            key.withUnsafeBytes { key in
                cryptography.authenticate(
                    .sha256,
                    key: key,
                    first: UnsafeRawBufferPointer(covered),
                    second: UnsafeRawBufferPointer(start: nil, count: 0),
                    mac: mac
                )
            }
            // The MAC moves back four bytes to make room for the time before it.
            for index in stride(from: timeAndMACBytes - 1, through: 4, by: -1) { mac[index] = mac[index - 4] }
            mac.store(time, at: 0)
            output.copyBytes(from: cookie)
            Base64.encode(
                UnsafeRawBufferPointer(mac).slice(0, timeAndMACBytes),
                into: UnsafeMutableRawBufferPointer(rebasing: output[cookie.count..<length])
            )
        }
    }

    private static func decodeTime(_ nonce: UnsafeRawBufferPointer) -> UInt32? {
        var bits: UInt64 = 0
        // Six characters hold 36 bits, of which the first 32 are the time.
        for index in 0..<6 {
            guard let value = Base64.value(of: nonce[cookie.count + index]) else { return nil }
            bits = bits << 6 | UInt64(value)
        }
        return UInt32(truncatingIfNeeded: bits >> 4)
    }
}

/// The alphabet of RFC 4648 section 4, for lengths that need no padding.
enum Base64 {
    static func encode(_ bytes: UnsafeRawBufferPointer, into output: UnsafeMutableRawBufferPointer) {
        var position = 0
        var index = 0
        while index + 3 <= bytes.count, position + 4 <= output.count {
            let group = UInt32(bytes[index]) << 16 | UInt32(bytes[index + 1]) << 8 | UInt32(bytes[index + 2])
            for shift in stride(from: UInt32(24), to: 0, by: -6) {
                output[position] = character(UInt8(truncatingIfNeeded: group >> (shift - 6)) & 0x3F)
                position += 1
            }
            index += 3
        }
    }

    /// Padded base64 of any length, as the password of a time-limited credential is written.
    static func encoded(_ bytes: UnsafeRawBufferPointer) -> [UInt8] {
        var output: [UInt8] = []
        output.reserveCapacity((bytes.count + 2) / 3 * 4)
        for start in stride(from: 0, to: bytes.count, by: 3) {
            let left = bytes.count - start
            let group =
                UInt32(bytes[start]) << 16 | (left > 1 ? UInt32(bytes[start + 1]) << 8 : 0)
                | (left > 2 ? UInt32(bytes[start + 2]) : 0)
            output.append(character(UInt8(truncatingIfNeeded: group >> 18) & 0x3F))
            output.append(character(UInt8(truncatingIfNeeded: group >> 12) & 0x3F))
            output.append(left > 1 ? character(UInt8(truncatingIfNeeded: group >> 6) & 0x3F) : UInt8(ascii: "="))
            output.append(left > 2 ? character(UInt8(truncatingIfNeeded: group) & 0x3F) : UInt8(ascii: "="))
        }
        return output
    }

    static func value(of character: UInt8) -> UInt8? {
        switch character {
        case UInt8(ascii: "A")...UInt8(ascii: "Z"): character - UInt8(ascii: "A")
        case UInt8(ascii: "a")...UInt8(ascii: "z"): character - UInt8(ascii: "a") + 26
        case UInt8(ascii: "0")...UInt8(ascii: "9"): character - UInt8(ascii: "0") + 52
        case UInt8(ascii: "+"): 62
        case UInt8(ascii: "/"): 63
        default: nil
        }
    }

    private static func character(_ value: UInt8) -> UInt8 {
        switch value {
        case 0..<26: UInt8(ascii: "A") + value
        case 26..<52: UInt8(ascii: "a") + value - 26
        case 52..<62: UInt8(ascii: "0") + value - 52
        case 62: UInt8(ascii: "+")
        default: UInt8(ascii: "/")
        }
    }
}
