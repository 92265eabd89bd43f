/// What lies between OpenSSL and the caller: ciphertext on its way in and out, and the bounds of one session. OpenSSL
/// holds it through a BIO of our own, since its memory BIOs neither keep datagrams apart nor give memory back.
struct SessionPipe {
    var input = ByteQueue()
    var output = ByteQueue()
    /// Ciphertext that the caller lends for one call. It comes behind `input`, and is read without a copy of ours.
    var lent = UnsafeRawBufferPointer(start: nil, count: 0)

    /// Room that the caller lends for one call: the next datagram out goes there, and not behind `output`.
    var borrowed = UnsafeMutableRawBufferPointer(start: nil, count: 0)
    var borrowedUsed = 0
    /// Where `output` goes as long as it fits; nil for a session with memory of its own only.
    var space: UnsafeMutablePointer<OutputSpace.Storage>?

    var isEstablished = false
    /// The retransmission timer's first value (RFC 6347 section 4.2.4.1).
    var firstTimeoutMicroseconds: UInt32 = 1_000_000
    /// Why the session was ended by us, where it broke a bound.
    var brokenBound: StaticString?
    /// Ciphertext that OpenSSL took before the handshake was over.
    var handshakeBytes = 0
    /// Records of the peer's before the handshake was over.
    var handshakeRecords = 0
    /// Records that carried no application data after the handshake.
    var controlRecords = 0
    /// Plaintext moved either way.
    var applicationBytes = 0

    /// What the handshake ends with, for a session that wants it.
    var secrets: HandshakeSecrets?

    /// How the other side's certificate is judged; nil for a server, which asks for none.
    var verification: CertificateVerification?
    /// The cookies of this and the last time window while a `DTLSGate` listens; nil once the address was verified.
    var cookies: UnsafePointer<CookiePair>?

    static func make() -> UnsafeMutablePointer<SessionPipe> {
        let pipe = UnsafeMutablePointer<SessionPipe>.allocate(capacity: 1)
        pipe.initialize(to: SessionPipe())
        return pipe
    }

    static func destroy(_ pipe: UnsafeMutablePointer<SessionPipe>) {
        pipe.pointee.input.free()
        pipe.pointee.output.free()
        pipe.deinitialize(count: 1)
        pipe.deallocate()
    }

    /// A client's hello with a post-quantum share and a ticket takes 2 to 3 KiB; it sends no certificate.
    static let handshakeByteLimit = 16_384
    /// Where the other side sends certificates. A long chain takes 10 KiB, and over DTLS its flight may come a few
    /// times.
    static let certificateByteLimit = 65_536

    /// What this session's handshake may take.
    var handshakeByteLimit: Int { verification == nil ? Self.handshakeByteLimit : Self.certificateByteLimit }
    /// A client needs five or six. One that cuts its hello has reasons, as some have to get past a filter, but not one
    /// for a record around every byte (case RE-08).
    static let handshakeRecordLimit = 64
    /// KeyUpdate, alerts and refused renegotiations that are forgiven at once, and then one for each MiB of data: a
    /// peer needs one for each 2^24 records, and a flood of them costs us key schedules (CVE-2023-44487 is the
    /// pattern).
    static let controlRecordAllowance = 32

    /// - Returns: bytes copied, 0 when none wait.
    mutating func readStream(_ target: UnsafeMutableRawBufferPointer) -> Int {
        guard let base = target.baseAddress else { return 0 }
        var taken = 0
        let queued = input.bytes
        if let source = queued.baseAddress {
            taken = min(queued.count, target.count)
            base.copyMemory(from: source, byteCount: taken)
            input.remove(taken)
        }
        if taken < target.count, let source = lent.baseAddress {
            let count = min(lent.count, target.count - taken)
            (base + taken).copyMemory(from: source, byteCount: count)
            lent = UnsafeRawBufferPointer(rebasing: lent[count...])
            taken += count
        }
        return taken
    }

    mutating func writeDatagram(_ datagram: UnsafeRawBufferPointer) {
        guard borrowedUsed == 0, borrowed.count >= datagram.count else {
            output.appendDatagram(datagram)
            return
        }
        borrowed.copyMemory(from: datagram)
        borrowedUsed = datagram.count
    }

    /// One datagram, cut to the target as a socket would.
    mutating func readDatagram(_ target: UnsafeMutableRawBufferPointer) -> Int {
        guard let base = target.baseAddress else { return 0 }
        if let first = input.firstDatagram, let source = first.baseAddress {
            let count = min(first.count, target.count)
            base.copyMemory(from: source, byteCount: count)
            input.removeFirstDatagram()
            return count
        }
        guard let source = lent.baseAddress, lent.count > 0 else { return 0 }
        let count = min(lent.count, target.count)
        base.copyMemory(from: source, byteCount: count)
        lent = UnsafeRawBufferPointer(start: nil, count: 0)
        return count
    }
}

typealias CookiePair = (current: Cookie, previous: Cookie)
/// HMAC-SHA256 in four words, so that it lies in memory without an array.
typealias Cookie = (UInt64, UInt64, UInt64, UInt64)

/// Records of a session that opens them without OpenSSL.
extension SessionPipe {
    /// The oldest record, with its header, once it is whole; nil until then. `removeRecord` takes it away.
    mutating func nextRecord() throws(RecordLayer.Violation) -> UnsafeRawBufferPointer? {
        // What began in another loan has to lie in one piece with its end.
        if input.count > 0 { completeInput(RecordLayer.headerBytes) }
        guard let count = try RecordLayer.length(of: input.count > 0 ? input.bytes : lent) else { return nil }
        if input.count > 0 { completeInput(count) }
        let bytes = input.count > 0 ? input.bytes : lent
        return bytes.count >= count ? UnsafeRawBufferPointer(rebasing: bytes[..<count]) : nil
    }

    mutating func removeRecord(_ count: Int) {
        if input.count > 0 { input.remove(count) } else { lent = UnsafeRawBufferPointer(rebasing: lent[count...]) }
    }

    private mutating func completeInput(_ count: Int) {
        let more = min(count - input.count, lent.count)
        guard more > 0 else { return }
        input.append(UnsafeRawBufferPointer(rebasing: lent[..<more]))
        lent = UnsafeRawBufferPointer(rebasing: lent[more...])
    }

    /// Counts a record without application data, of a session that is established.
    mutating func noteControlRecord() {
        controlRecords += 1
        if controlRecords > Self.controlRecordAllowance + applicationBytes >> 20 {
            brokenBound = "a flood of records without data"
        }
    }
}
