import LinuxIO
import OpenSSLCrypto
import STUN
import TURN

/// To clients by DTLS.
extension Worker {
    // MARK: Data of peers

    /// Seals what a relay socket gave, one datagram or several merged, each as one record in a datagram of its own.
    mutating func relayToSession(
        _ verdict: Engine.PeerVerdict,
        _ payload: UnsafeMutableRawPointer,
        _ length: Int,
        _ segment: Int,
        _ packets: Int,
        _ number: UInt32
    ) {
        if case .drop(let reason) = verdict {
            engine.counters.drop(reason, UInt64(truncatingIfNeeded: packets))
            return
        }
        guard dtls.table.isUsed(number), dtls.table[number].pointee.isEstablished else {
            engine.counters.drop(.clientGone, UInt64(truncatingIfNeeded: packets))
            return
        }
        let session = dtls.table[number].pointee.session
        keepWarm(number, session)
        var offset = 0
        repeat {
            let bytes = min(segment, length &- offset)
            seal(verdict, payload + offset, bytes, by: session, number)
            offset &+= max(segment, 1)
        } while offset < length
    }

    /// The header is written in front of the payload: what lies there is headroom, or segments that have been sealed.
    private mutating func seal(
        _ verdict: Engine.PeerVerdict,
        _ payload: UnsafeMutableRawPointer,
        _ length: Int,
        by session: DTLSSession,
        _ number: UInt32
    ) {
        let message: UnsafeRawBufferPointer
        // Behind the payload lies the next segment, which padding covers for the time of sealing, or room for it.
        let behind = (payload + length).loadUnaligned(as: UInt32.self)
        switch verdict {
        case .channel(let channel):
            let start = payload - ChannelData.headerLength
            ChannelData.writeHeader(channel: channel, length: UInt16(truncatingIfNeeded: length), at: start)
            message = UnsafeRawBufferPointer(start: start, count: length &+ ChannelData.headerLength)
        case .indication(let peer):
            let headerLength = Engine.indicationHeaderLength(peer.family)
            let start = payload - headerLength
            engine.writeIndicationHeader(peer: peer, length: length, at: start)
            // RFC 8489 section 14: padded to four bytes with zeros.
            (payload + length).storeBytes(of: 0, as: UInt32.self)
            message = UnsafeRawBufferPointer(start: start, count: headerLength &+ (length &+ 3) & ~3)
        case .drop:
            return
        }
        defer { (payload + length).storeBytes(of: behind, as: UInt32.self) }
        guard message.count <= DTLSSession.recordLimitBytes else {
            engine.counters.drop(.tooLarge)
            return
        }
        let sealed = seal(message, by: session)
        guard sealed > 0 else {
            engine.counters.drop(.sendFailed)
            return
        }
        sendRun(sealed, payloadBytes: length, number)
    }

    /// Seals a message to where the next of them goes.
    /// - Returns: the length; 0 when the session takes none.
    private mutating func seal(_ message: UnsafeRawBufferPointer, by session: DTLSSession) -> Int {
        if dtls.sealedUsed &+ message.count &+ DTLSSession.sealedBytes > dtls.sealed.count { flushSealed() }
        return session.seal(message, into: UnsafeMutableRawBufferPointer(rebasing: dtls.sealed[dtls.sealedUsed...]))
    }

    private mutating func sendRun(_ length: Int, payloadBytes: Int, _ number: UInt32) {
        guard let base = dtls.sealed.baseAddress else { return }
        let start = UnsafeRawPointer(base + dtls.sealedUsed)
        dtls.sealedUsed &+= length
        let listener = dtls.table[number].pointee.listener
        let tuple = dtls.table[number].pointee.tuple
        address.pointee = tuple.client.storage
        for _ in 0..<2 {
            if listeners[listener].outgoing.addRun(
                to: address,
                source: localAddress(tuple, listener),
                header: nil,
                headerLength: 0,
                payload: start,
                length: length,
                // Apart from those of allocations, which are below.
                flowKey: 1 << 40 | UInt64(number),
                allowSegments: listeners[listener].allowsSegments
            ) {
                listeners[listener].bytesWaiting &+= payloadBytes
                return
            }
            flushListener(listener)
        }
        engine.counters.drop(.sendQueueFull)
    }

    // MARK: The server's own

    /// Sends an answer.
    mutating func sendReply(_ bytes: UnsafeRawBufferPointer, session number: UInt32) {
        guard dtls.table.isUsed(number) else { return }
        let length = seal(bytes, by: dtls.table[number].pointee.session)
        guard length > 0 else { return }
        sendSealed(length, dtls.table[number].pointee.tuple, dtls.table[number].pointee.listener)
    }

    /// Sends what OpenSSL has to say of its own: flights of the handshake and alerts.
    mutating func sendOutput(_ session: DTLSSession, _ number: UInt32) {
        while session.hasOutput {
            if dtls.sealedUsed &+ DTLSSession.recordLimitBytes > dtls.sealed.count { flushSealed() }
            let length = session.takeOutput(
                into: UnsafeMutableRawBufferPointer(rebasing: dtls.sealed[dtls.sealedUsed...])
            )
            guard length > 0 else { return }
            sendSealed(length, dtls.table[number].pointee.tuple, dtls.table[number].pointee.listener)
        }
    }

    /// Has a datagram leave that was written to where the next of them goes.
    mutating func sendSealed(_ length: Int, _ tuple: FiveTuple, _ listener: Int) {
        guard let base = dtls.sealed.baseAddress else { return }
        let start = UnsafeRawPointer(base + dtls.sealedUsed)
        dtls.sealedUsed &+= length
        sendWhole(start, length, tuple, listener)
    }

    /// Makes room in what is sealed, by sending all that waits.
    mutating func flushSealed() {
        var index = 0
        while index < listenerCount {
            flushListener(index)
            index &+= 1
        }
        dtls.sealedUsed = 0
    }
}
