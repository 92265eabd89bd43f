import COpenSSL
import Synchronization

/// The keys of session tickets (RFC 5077 section 4): new ones every twelve hours, and those before them for as long
/// again, so that a ticket can be used for all its life of two hours. After a day at most, what a key sealed cannot be
/// opened any more, not by us and not by one who steals our memory.
final class TicketKeys: Sendable {
    /// RFC 5077's recommended form: a name to find it by, a key to encrypt and one to authenticate.
    struct Key {
        fileprivate(set) var bytes: [UInt8]
        let madeAtSeconds: Int64

        static let nameBytes = 16
        fileprivate static let cipherBytes = 32
        fileprivate static let macBytes = 32

        init(at seconds: Int64) {
            bytes = SecureRandom.bytes(Self.nameBytes + Self.cipherBytes + Self.macBytes)
            madeAtSeconds = seconds
        }

        var name: ArraySlice<UInt8> { bytes.prefix(Self.nameBytes) }

        /// Nothing of it stays in memory.
        fileprivate mutating func erase() {
            bytes.withUnsafeMutableBytes { OPENSSL_cleanse($0.baseAddress, $0.count) }
        }
    }

    private struct Pair {
        var current: Key
        var previous: Key?
    }

    static let periodSeconds: Int64 = 43_200

    private let pair: Mutex<Pair>
    private let clock: @Sendable () -> Int64

    /// - Parameter clock: seconds that only go forward.
    init(clock: @escaping @Sendable () -> Int64 = { turnpike_monotonic_seconds() }) {
        self.clock = clock
        pair = Mutex(Pair(current: Key(at: clock())))
    }

    /// The key that seals, made anew when it is time.
    func current() -> Key {
        pair.withLock { pair in
            rotate(&pair)
            return pair.current
        }
    }

    /// The key of that name, as long as it is accepted.
    func key(named name: UnsafeBufferPointer<UInt8>) -> (key: Key, isCurrent: Bool)? {
        pair.withLock { pair in
            rotate(&pair)
            if pair.current.name.elementsEqual(name) { return (pair.current, true) }
            if let previous = pair.previous, previous.name.elementsEqual(name) { return (previous, false) }
            return nil
        }
    }

    private func rotate(_ pair: inout Pair) {
        let now = clock()
        guard now - pair.current.madeAtSeconds >= Self.periodSeconds else { return }
        pair.previous?.erase()
        if now - pair.current.madeAtSeconds < 2 * Self.periodSeconds {
            pair.previous = pair.current
        } else {
            // Nobody has looked for so long that it, too, is past its time.
            pair.current.erase()
            pair.previous = nil
        }
        pair.current = Key(at: now)
    }

    // MARK: As OpenSSL asks for them

    /// Has tickets of this context sealed with these keys, which have to outlive it.
    func install(in context: OpaquePointer) -> Bool {
        SSL_CTX_set_ex_data(context, Self.slot, Unmanaged.passUnretained(self).toOpaque()) == 1
            && SSL_CTX_set_tlsext_ticket_key_evp_cb(context, Self.callback) == 1
    }

    /// What SSL_CTX_set_app_data uses, which nothing else here does.
    private static let slot: Int32 = 0

    private typealias Callback =
        @convention(c) (
            OpaquePointer?, UnsafeMutablePointer<UInt8>?, UnsafeMutablePointer<UInt8>?, OpaquePointer?, OpaquePointer?,
            Int32
        ) -> Int32

    /// SSL_CTX_set_tlsext_ticket_key_evp_cb(3): -1 is an error, 0 a full handshake, 1 the ticket, 2 the ticket and a
    /// new one.
    private static let callback: Callback = { ssl, name, vector, cipher, mac, isSealing in
        guard let ssl, let name, let vector, let cipher, let mac,
            let slot = SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), TicketKeys.slot)
        else { return -1 }
        let keys = Unmanaged<TicketKeys>.fromOpaque(slot).takeUnretainedValue()
        if isSealing == 1 {
            let key = keys.current()
            for (index, byte) in key.name.enumerated() { name[index] = byte }
            SecureRandom.fill(UnsafeMutableRawBufferPointer(start: vector, count: TicketKeys.vectorBytes))
            return TicketKeys.prepare(cipher, mac, key, vector, isSealing: true) ? 1 : -1
        }
        let wanted = UnsafeBufferPointer(start: name, count: Key.nameBytes)
        guard let found = keys.key(named: wanted) else { return 0 }
        guard TicketKeys.prepare(cipher, mac, found.key, vector, isSealing: false) else { return -1 }
        return found.isCurrent ? 1 : 2
    }

    private static let vectorBytes = 16

    private static func prepare(
        _ cipher: OpaquePointer,
        _ mac: OpaquePointer,
        _ key: Key,
        _ vector: UnsafePointer<UInt8>,
        isSealing: Bool
    ) -> Bool {
        let cipherStart = Key.nameBytes
        let macStart = cipherStart + Key.cipherBytes
        return key.bytes.withUnsafeBufferPointer { bytes in
            guard let base = bytes.baseAddress, bytes.count == macStart + Key.macBytes else { return false }
            return EVP_CipherInit_ex(cipher, EVP_aes_256_cbc(), nil, base + cipherStart, vector, isSealing ? 1 : 0) == 1
                && turnpike_mac_set_key_and_digest(mac, base + macStart, Key.macBytes, "SHA256") == 1
        }
    }
}
