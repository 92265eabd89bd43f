import STUN

/// What a client shows to go on with its allocation from another address (RFC 8016 section 3.3).
///
/// Inside stand two random numbers: the allocation's name, which it keeps for life, and a serial number, of which one
/// is good at a time. So a ticket tells nothing of addresses or workers, cannot be guessed, and cannot be used twice.
///
///     tag 16 bytes │ name and serial 16 bytes, enciphered
///
/// The tag is a MAC of the plain text, and the key stream is made from the tag: one key pair serves for any number of
/// tickets, and the same ticket always has the same bytes, which answers a retransmission.
struct MobilityTicket {
    static let length = 32
    private static let half = 16

    let allocation: UInt64
    let serial: UInt64

    init(allocation: UInt64, serial: UInt64) {
        self.allocation = allocation
        self.serial = serial
    }

    /// - Returns: nil unless the bytes are a ticket sealed with these keys. Looks at their length before anything else.
    init?(_ bytes: UnsafeRawBufferPointer, _ keys: TicketKeys, with cryptography: any Cryptography) {
        guard bytes.count == Self.length else { return nil }
        let tag = bytes.slice(0, Self.half)
        let stream = Self.mac(tag, keys.cipher, cryptography)
        let first = bytes.uint64(at: Self.half) ^ stream.high
        let second = bytes.uint64(at: Self.half + 8) ^ stream.low
        let isOurs = Self.withPlainText(first, second) { plain in
            let expected = Self.mac(plain, keys.authentication, cryptography)
            return Self.withPlainText(expected.high, expected.low) { cryptography.areEqual($0, tag) }
        }
        guard isOurs else { return nil }
        self.init(allocation: first, serial: second)
    }

    /// The attribute's value.
    func sealed(_ keys: TicketKeys, with cryptography: any Cryptography) -> [UInt8] {
        [UInt8](unsafeUninitializedCapacity: Self.length) { bytes, count in
            let output = UnsafeMutableRawBufferPointer(bytes)
            let tag = Self.withPlainText(allocation, serial) { Self.mac($0, keys.authentication, cryptography) }
            let stream = Self.withPlainText(tag.high, tag.low) { Self.mac($0, keys.cipher, cryptography) }
            output.store(tag.high, at: 0)
            output.store(tag.low, at: 8)
            output.store(allocation ^ stream.high, at: Self.half)
            output.store(serial ^ stream.low, at: Self.half + 8)
            count = Self.length
        }
    }

    private static func withPlainText<Result>(
        _ first: UInt64,
        _ second: UInt64,
        _ body: (UnsafeRawBufferPointer) -> Result
    ) -> Result {
        withUnsafeBytes(of: (first.bigEndian, second.bigEndian)) { body($0) }
    }

    /// The first half of HMAC-SHA256.
    private static func mac(
        _ message: UnsafeRawBufferPointer,
        _ key: [UInt8],
        _ cryptography: any Cryptography
    ) -> (high: UInt64, low: UInt64) {
        var mac = InlineArray<32, UInt8>(repeating: 0)
        return withUnsafeMutableBytes(of: &mac) { mac in
            key.withUnsafeBytes {
                cryptography.authenticate(
                    .sha256,
                    key: $0,
                    first: message,
                    second: UnsafeRawBufferPointer(start: nil, count: 0),
                    mac: mac
                )
            }
            let bytes = UnsafeRawBufferPointer(mac)
            return (bytes.uint64(at: 0), bytes.uint64(at: 8))
        }
    }
}

/// Seals tickets. Made anew at each start and kept in memory alone, since no allocation outlives the process.
struct TicketKeys: Sendable {
    let authentication: [UInt8]
    let cipher: [UInt8]

    init() {
        // The generator is the kernel's.
        var generator = SystemRandomNumberGenerator()
        authentication = (0..<32).map { _ in UInt8.random(in: .min ... .max, using: &generator) }
        cipher = (0..<32).map { _ in UInt8.random(in: .min ... .max, using: &generator) }
    }
}
