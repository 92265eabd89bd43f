import COpenSSL

/// One DTLS association without a socket: datagrams in and out, each kept apart. For one thread at a time.
///
/// After every call, send what `hasOutput` announces.
package final class DTLSSession: SecureSession {
    /// Whether OpenSSL keeps its two buffers of 17 KiB between calls, for a session with traffic. It has them in every
    /// DTLS session whatever its mode says, so one that is idle is to give them back by setting this to false.
    package var keepsBuffers = false {
        didSet { if !keepsBuffers { releaseBuffers() } }
    }
    /// Whether OpenSSL has its buffers. Only `releaseBuffers` takes them.
    private var hasBuffers = true
    private var handshakeDatagramsAhead: UInt8 = 0
    private var dataDatagramsAhead: UInt8 = 0
    private var handshakeBytes = 0
    /// For a peer that is a client: data may leave behind its Finished (RFC 7918), before the server's has come.
    package var startsEarly = false
    private var earlyKeys: EarlyKeys?

    /// Keeps a copy of one datagram from the peer for the next `advance`.
    ///
    /// - Returns: false where it was dropped: the handshake is over, or has had more than one takes.
    package func keep(_ datagram: UnsafeRawBufferPointer) -> Bool {
        guard state == .handshaking, handshakeBytes &+ datagram.count <= pipe.pointee.handshakeByteLimit else {
            return false
        }
        if pipe.pointee.verification != nil, DTLSRecordHeader.isData(datagram) {
            guard dataDatagramsAhead < Self.datagramsAheadLimit else { return false }
            dataDatagramsAhead &+= 1
        } else if DTLSRecordHeader.reachesPastEpochZero(datagram) {
            let limit = pipe.pointee.verification == nil ? Self.datagramsAheadLimit : Self.peerDatagramsAheadLimit
            guard handshakeDatagramsAhead < limit else { return false }
            handshakeDatagramsAhead &+= 1
        }
        handshakeBytes &+= datagram.count
        pipe.pointee.input.appendDatagram(datagram)
        return true
    }

    /// Takes one datagram from the peer and goes on with the handshake. Call `read` until it gives 0 before the next.
    ///
    /// - Returns: where the session stands. Datagrams that are replayed, forged or broken change nothing.
    @discardableResult
    package func receive(_ datagram: UnsafeRawBufferPointer) -> TLSState {
        if state == .handshaking {
            if keep(datagram) { advance() }
            return state
        }
        guard state == .established else { return state }
        // OpenSSL takes every datagram whole as long as the caller reads to the end. Where it did not, more would pile
        // up.
        guard pipe.pointee.input.count + datagram.count <= Self.inputLimitBytes else { return state }
        pipe.pointee.input.appendDatagram(datagram)
        return state
    }

    /// Opens the first record of a datagram, where it lies. `read` has the others, until it gives 0.
    ///
    /// - Returns: as `read`.
    package func open(_ datagram: UnsafeRawBufferPointer, into target: UnsafeMutableRawBufferPointer) -> Int {
        pipe.pointee.lent = datagram
        defer { pipe.pointee.lent = UnsafeRawBufferPointer(start: nil, count: 0) }
        return read(into: target)
    }

    /// The plaintext of one record.
    /// - Parameter target: as long as the longest datagram received; of a longer record, the rest comes with the next
    ///   call.
    /// - Returns: bytes written to `target`; 0 when none wait or the handshake is not over; -1 when the session ended.
    package func read(into target: UnsafeMutableRawBufferPointer) -> Int {
        if state == .handshaking { advance() }
        guard state == .established else { return state == .handshaking ? 0 : -1 }
        guard let base = target.baseAddress, target.count > 0, holdBuffers() else { return 0 }
        ERR_clear_error()
        var count = 0
        let result = SSL_read_ex(ssl, base, target.count, &count)
        guard result == 1 else {
            settle(result)
            if !keepsBuffers { releaseBuffers() }
            return state == .established ? 0 : -1
        }
        return count
    }

    /// Seals plaintext as one record in one datagram.
    /// - Returns: whether it was taken: not before the handshake is over, after the session ended, when longer than
    ///   `recordLimitBytes`, or while `outputLimitBytes` wait.
    package func write(_ plaintext: UnsafeRawBufferPointer) -> Bool {
        guard state == .established, plaintext.count <= Self.recordLimitBytes,
            pipe.pointee.output.count <= Self.outputLimitBytes
        else { return false }
        guard let base = plaintext.baseAddress, plaintext.count > 0 else { return true }
        guard holdBuffers() else { return false }
        ERR_clear_error()
        var written = 0
        let result = SSL_write_ex(ssl, base, plaintext.count, &written)
        guard result == 1 else {
            settle(result)
            return false
        }
        if !keepsBuffers { releaseBuffers() }
        return true
    }

    /// Whether `seal` takes data: from the end of the handshake on, and with `startsEarly` a few records before.
    package var maySeal: Bool { state == .established || state == .handshaking && earlyKeys?.areUsedUp == false }

    /// Seals plaintext as one record, and puts the datagram into `target` instead of where `takeOutput` finds it.
    /// - Parameter target: `sealedBytes` more than the plaintext hold it.
    /// - Returns: the datagram's length; 0 where `write` would say false.
    package func seal(_ plaintext: UnsafeRawBufferPointer, into target: UnsafeMutableRawBufferPointer) -> Int {
        if state == .handshaking { return earlyKeys?.seal(plaintext, into: target) ?? 0 }
        pipe.pointee.borrowed = target
        pipe.pointee.borrowedUsed = 0
        defer { pipe.pointee.borrowed = UnsafeMutableRawBufferPointer(start: nil, count: 0) }
        return write(plaintext) ? pipe.pointee.borrowedUsed : 0
    }

    /// What a record is longer than its plaintext: a header of 13 bytes, a nonce of 8 and a tag of 16 (RFC 5288),
    /// rounded up.
    package static let sealedBytes = 64
    package static let recordLimitBytes = 16_384
    package static let outputLimitBytes = 262_144
    private static let inputLimitBytes = 65_536
    /// OpenSSL keeps each datagram that came before the keys to open it, in a buffer of 17 KiB. A client has one, its
    /// Finished, and sends it again three times within ten seconds at most.
    private static let datagramsAheadLimit: UInt8 = 8
    /// A client waits for its server's Finished, again after each loss. A peer may send data behind it, which must not
    /// take its place: such data are counted on their own, and sent again by SCTP where they are too many.
    private static let peerDatagramsAheadLimit: UInt8 = 32

    /// Whether a datagram waits to be sent.
    package var hasOutput: Bool { pipe.pointee.output.count > 0 }

    /// Moves the next datagram to send into `target`.
    /// - Returns: its length, 0 when none waits. One that does not fit the target is lost, as on a path too narrow for
    ///   it.
    package func takeOutput(into target: UnsafeMutableRawBufferPointer) -> Int {
        while let datagram = pipe.pointee.output.firstDatagram {
            let length = datagram.count
            let fits = length <= target.count
            if fits { target.copyMemory(from: datagram) }
            if startsEarly, state == .handshaking, earlyKeys == nil { earlyKeys = EarlyKeys(ssl, behind: datagram) }
            pipe.pointee.output.removeFirstDatagram()
            if fits { return length }
        }
        return 0
    }

    /// OpenSSL goes on with the numbers behind those of the early records: neither the peer nor a cipher may see one
    /// twice. It is brought there by records that go nowhere.
    override func handshakeEnded() {
        guard earlyKeys != nil else { return }
        earlyKeys = nil
        let isPast = withUnsafeTemporaryAllocation(byteCount: Self.sealedBytes + 1, alignment: 8) { target in
            var zero: UInt8 = 0
            return withUnsafeBytes(of: &zero) { plaintext in
                for _ in 0..<EarlyKeys.numbers.upperBound {
                    guard seal(plaintext, into: target) > 0 else { return false }
                    let number = DTLSRecordHeader.number(of: UnsafeRawBufferPointer(target)) ?? 0
                    if number >= EarlyKeys.numbers.upperBound - 1 { return true }
                }
                return false
            }
        }
        if !isPast { fail("OpenSSL does not go on behind the early records") }
    }

    /// Until `handleTimeout` has to be called, because a flight of the handshake may be lost; nil while none is in the
    /// air.
    package var nextTimeoutNanoseconds: Int64? {
        guard state == .handshaking else { return nil }
        let microseconds = turnpike_dtls_timeout_microseconds(ssl)
        return microseconds < 0 ? nil : Int64(microseconds) * 1_000
    }

    /// Sends the flight again if its time has come, and gives up after the twelfth.
    @discardableResult
    package func handleTimeout() -> TLSState {
        guard state == .handshaking else { return state }
        ERR_clear_error()
        if turnpike_dtls_handle_timeout(ssl) < 0 { fail() }
        return state
    }

    /// Says close_notify, in a datagram of its own.
    package override func shutdown() {
        guard state == .established, holdBuffers() else { return }
        ERR_clear_error()
        _ = SSL_shutdown(ssl)
        ERR_clear_error()
        // No answer can be relied on where datagrams get lost, so the session ends here.
        end()
    }

    /// Gives back the memory that only the handshake needed.
    package func rest() {
        if pipe.pointee.input.count == 0 { pipe.pointee.input.free() }
        if pipe.pointee.output.count == 0 { pipe.pointee.output.free() }
        if !keepsBuffers { releaseBuffers() }
    }

    private func releaseBuffers() {
        // OpenSSL keeps them, and says so by 0, while a record lies in them.
        if hasBuffers, state == .established, SSL_free_buffers(ssl) == 1 { hasBuffers = false }
    }

    /// To be called before anything that could write: this version of OpenSSL does not look whether the buffer is
    /// there.
    private func holdBuffers() -> Bool {
        if !hasBuffers { hasBuffers = SSL_alloc_buffers(ssl) == 1 }
        return hasBuffers
    }
}

/// What stands before each record of DTLS (RFC 6347 section 4.1):
///
///     type 1 │ version 2 │ epoch 2 │ sequence number 6 │ length 2
package enum DTLSRecordHeader {
    package static let length = 13

    /// Whether the first byte is a record's and nothing else's (RFC 7983 section 7).
    @inline(__always)
    package static func isRecord(firstByte: UInt8) -> Bool { 20...63 ~= firstByte }

    /// The epoch of the first record: 0 before there are keys.
    package static func epoch(of datagram: UnsafeRawBufferPointer) -> UInt16? {
        datagram.count >= length ? UInt16(datagram[3]) << 8 | UInt16(datagram[4]) : nil
    }

    /// The number of the first record in its epoch.
    static func number(of datagram: UnsafeRawBufferPointer) -> UInt64? {
        guard datagram.count >= length else { return nil }
        return datagram[5..<11].reduce(0) { $0 << 8 | UInt64($1) }
    }

    /// Whether the first record holds data of the application.
    static func isData(_ datagram: UnsafeRawBufferPointer) -> Bool { datagram.first == 23 }

    /// Whether any of a datagram's records is of a later epoch than the first.
    static func reachesPastEpochZero(_ datagram: UnsafeRawBufferPointer) -> Bool {
        var offset = 0
        while offset + length <= datagram.count {
            if datagram[offset + 3] != 0 || datagram[offset + 4] != 0 { return true }
            offset += length + Int(datagram[offset + 11]) << 8 + Int(datagram[offset + 12])
        }
        return false
    }
}
