import LinuxIO
import OpenSSLCrypto
import STUN
import TURN

/// What comes from clients by DTLS (RFC 7350).
extension Worker {
    /// Takes a datagram that is no ChannelData in the clear. The caller has counted it.
    mutating func receiveOther(_ datagram: UnsafeRawBufferPointer, _ tuple: FiveTuple, listener: Int) {
        if let first = datagram.first, dtls.isServed, DTLSRecordHeader.isRecord(firstByte: first) {
            receiveRecords(datagram, tuple, listener: listener)
            return
        }
        // A client that came by DTLS is not heard in the clear, or whoever can forge its address could speak for it
        // (case DT-08).
        if listeners[listener].isDTLSOnly || hasSession(tuple) {
            engine.counters.drop(.unprotected)
            return
        }
        receiveMessage(datagram, tuple, ClientRoute(listener: listener))
    }

    private func hasSession(_ tuple: FiveTuple) -> Bool {
        var secured = tuple
        secured.transport = .dtls
        return dtls.table.find(secured) != noIndex
    }

    private mutating func receiveRecords(_ datagram: UnsafeRawBufferPointer, _ tuple: FiveTuple, listener: Int) {
        var tuple = tuple
        tuple.transport = .dtls
        let number = dtls.table.find(tuple)
        guard number != noIndex else {
            knock(datagram, tuple, listener, known: nil)
            return
        }
        let record = dtls.table[number]
        if let mark = DTLSGate.helloMark(datagram) {
            if record.pointee.successor != nil ? mark == record.pointee.successorMark : mark == record.pointee.mark {
                // The hello of the handshake under way has come again, or that of the session there is.
                keep(datagram, number)
            } else if mark == record.pointee.mark {
                engine.counters.drop(.badRecord)
            } else {
                knock(datagram, tuple, listener, known: number)
            }
        } else if !record.pointee.isEstablished
            || record.pointee.successor != nil && DTLSRecordHeader.epoch(of: datagram) == 0
        {
            keep(datagram, number)
        } else {
            open(datagram, number)
        }
    }

    /// Keeps what came for a handshake under way until its turn. A turn goes on with few of them: each may cost a
    /// signature, and packets wait meanwhile (case RE-06).
    private mutating func keep(_ datagram: UnsafeRawBufferPointer, _ number: UInt32) {
        guard dtls.table[number].pointee.candidate.keep(datagram) else {
            engine.counters.drop(.badRecord)
            return
        }
        engine.counters.stunHandled &+= 1
        dtls.table.notePending(number)
    }

    /// Hands a datagram from an address without a session, or from one that begins anew, to the gate.
    private mutating func knock(
        _ datagram: UnsafeRawBufferPointer,
        _ tuple: FiveTuple,
        _ listener: Int,
        known number: UInt32?
    ) {
        if dtls.sealedUsed &+ DTLSSession.recordLimitBytes > dtls.sealed.count { flushSealed() }
        switch dtls.ask(datagram, tuple, nowNanoseconds: now.monotonicNanoseconds) {
        case .drop:
            engine.counters.drop(.badRecord)
        case .reply(let length):
            if let reason = engine.refusalToAnswer(tuple, at: now) {
                engine.counters.drop(reason)
                return
            }
            sendSealed(length, tuple, listener)
            engine.counters.stunHandled &+= 1
            engine.counters.repliesSent &+= 1
        case .verified(let session):
            admit(session, datagram, tuple, listener, known: number)
        }
    }

    /// Begins a handshake with a client whose address has proved itself.
    private mutating func admit(
        _ session: DTLSSession,
        _ hello: UnsafeRawBufferPointer,
        _ tuple: FiveTuple,
        _ listener: Int,
        known: UInt32?
    ) {
        var unprotected = tuple
        unprotected.transport = .udp
        // Who holds an allocation in the clear, or has moved there with one, keeps to that (case DT-08).
        guard !hasAllocation(unprotected) else {
            engine.counters.drop(.badRecord)
            return
        }
        let source = tuple.client.address
        guard PeerPolicy.acceptsClient(at: source), known != nil || dtls.table.admits(source) else {
            engine.counters.connectionsRefused &+= 1
            engine.counters.drop(.tooManySessions)
            return
        }
        if let oldest = dtls.table.handshakeInTheWay(of: source), oldest != known {
            engine.counters.connectionsRefused &+= 1
            giveUpHandshake(oldest)
        }
        let mark = DTLSGate.helloMark(hello) ?? 0
        let deadline = now.monotonicNanoseconds &+ DTLSLimits.patienceNanoseconds
        let number: UInt32
        if let known {
            number = known
            let record = dtls.table[number]
            if record.pointee.isEstablished {
                record.pointee.successor = session
                record.pointee.successorMark = mark
            } else {
                record.pointee.session = session
                record.pointee.mark = mark
            }
            record.pointee.handshakeDeadlineNanoseconds = deadline
            dtls.table.beginHandshake(number)
        } else {
            number = dtls.table.insert(
                SessionRecord(
                    tuple: tuple,
                    listener: listener,
                    session: session,
                    mark: mark,
                    handshakeDeadlineNanoseconds: deadline
                )
            )
        }
        engine.counters.connectionsAccepted &+= 1
        engine.counters.stunHandled &+= 1
        dtls.table.notePending(number)
    }

    /// Opens the records of a datagram that came for an established session.
    private mutating func open(_ datagram: UnsafeRawBufferPointer, _ number: UInt32) {
        let session = dtls.table[number].pointee.session
        let opened = read(session, number, datagram)
        let answered = session.hasOutput
        if answered { sendOutput(session, number) }
        let isOver = session.state != .established
        if opened == 0 {
            if answered || isOver {
                // A flight of the handshake that came again, or close_notify.
                engine.counters.stunHandled &+= 1
            } else if dtls.table[number].pointee.successor != nil {
                keep(datagram, number)
            } else {
                engine.counters.drop(.badRecord)
            }
        }
        if isOver { endSession(number) }
    }

    /// Handles the plaintext of all records there are.
    ///
    /// - Parameter datagram: what came, already counted as one packet; nil for what waits since the handshake.
    /// - Returns: how many records were opened.
    mutating func read(_ session: DTLSSession, _ number: UInt32, _ datagram: UnsafeRawBufferPointer?) -> Int {
        let route = ClientRoute(session: number)
        let tuple = dtls.table[number].pointee.tuple
        let wide = engine.configuration.acceptsWideChannels
        var records = 0
        while true {
            // Data on its way to peers lies where it was opened.
            if dtls.openedUsed &+ DTLSSession.recordLimitBytes > dtls.opened.count {
                flushPeers()
                dtls.openedUsed = 0
            }
            let target = UnsafeMutableRawBufferPointer(rebasing: dtls.opened[dtls.openedUsed...])
            let count =
                if records == 0, let datagram { session.open(datagram, into: target) } else {
                    session.read(into: target)
                }
            guard count > 0 else { return records }
            // A datagram of several records is as many packets.
            if records > 0 || datagram == nil { engine.counters.packetsIn &+= 1 }
            records &+= 1
            dtls.openedUsed &+= count
            noteTraffic(number, session)
            let bytes = UnsafeRawBufferPointer(rebasing: target[..<count])
            if ChannelData.isChannel(firstByte: bytes[0], wide: wide) {
                let allocation = engine.allocation(of: tuple)
                settle(
                    engine.channelData(bytes, allocation: allocation, now: now.monotonicNanoseconds),
                    bytes,
                    tuple,
                    route
                )
            } else {
                receiveMessage(bytes, tuple, route)
            }
        }
    }

    private mutating func noteTraffic(_ number: UInt32, _ session: DTLSSession) {
        dtls.table[number].pointee.idleDeadlineNanoseconds = now.monotonicNanoseconds &+ DTLSLimits.patienceNanoseconds
        keepWarm(number, session)
    }

    /// Has a session with traffic keep its buffers, and the one that had traffic longest ago give its own back.
    @inline(__always)
    mutating func keepWarm(_ number: UInt32, _ session: DTLSSession) {
        if let cooled = dtls.table.noteTraffic(number) { dtls.table[cooled].pointee.session.keepsBuffers = false }
        if !session.keepsBuffers { session.keepsBuffers = true }
    }

    /// Goes on with a request that waited for the account store.
    mutating func resumeSession(_ request: ParkedRequest) {
        let number = request.route.session
        guard dtls.table.isUsed(number), dtls.table[number].pointee.tuple == request.tuple,
            dtls.table[number].pointee.isEstablished
        else {
            engine.counters.drop(.clientGone)
            return
        }
        request.bytes.withUnsafeBytes { give($0, request.tuple, request.route) }
    }
}
