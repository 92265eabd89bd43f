import OpenSSLCrypto
import STUN
import TURN

/// The life of DTLS sessions.
extension Worker {
    // MARK: Handshakes

    /// Goes on with some of the handshakes that something has come for.
    mutating func advanceHandshakes() {
        var left = DTLSLimits.handshakesPerTurn
        while left > 0, let number = dtls.table.takePending() {
            left &-= 1
            let session = dtls.table[number].pointee.candidate
            session.advance()
            settleHandshake(session, number)
        }
        // What came behind the handshake may have been for peers.
        flushPeers()
    }

    private mutating func settleHandshake(_ session: DTLSSession, _ number: UInt32) {
        sendOutput(session, number)
        switch session.state {
        case .handshaking: break
        case .established: establish(session, number)
        case .closed, .failed: giveUpHandshake(number)
        }
    }

    private mutating func establish(_ session: DTLSSession, _ number: UInt32) {
        let record = dtls.table[number]
        if record.pointee.successor != nil {
            // The client that held the old session is no more, nor is what it held.
            disconnect(record.pointee.tuple)
            record.pointee.session = session
            record.pointee.mark = record.pointee.successorMark
            record.pointee.successor = nil
        }
        record.pointee.isEstablished = true
        record.pointee.idleDeadlineNanoseconds = now.monotonicNanoseconds &+ DTLSLimits.patienceNanoseconds
        dtls.table.endHandshake(number)
        _ = read(session, number, nil)
        if session.hasOutput { sendOutput(session, number) }
        session.rest()
        if session.state != .established { endSession(number) }
    }

    /// Ends a handshake under way. An established session that it was to replace goes on.
    mutating func giveUpHandshake(_ number: UInt32) {
        if dtls.table[number].pointee.isEstablished {
            dtls.table[number].pointee.successor = nil
            dtls.table.endHandshake(number)
        } else {
            dtls.table.remove(number)
        }
    }

    // MARK: Time

    /// A few times a second while there are handshakes: flights that may be lost are sent again, and those who have had
    /// their time are given up.
    mutating func tendHandshakes() {
        let interval = UInt64(DTLSLimits.timerMilliseconds) &* 1_000_000
        guard now.monotonicNanoseconds &- dtls.tendedNanoseconds >= interval else { return }
        dtls.tendedNanoseconds = now.monotonicNanoseconds
        for number in dtls.table.handshakes {
            let session = dtls.table[number].pointee.candidate
            if now.monotonicNanoseconds >= dtls.table[number].pointee.handshakeDeadlineNanoseconds {
                giveUpHandshake(number)
            } else {
                session.handleTimeout()
                settleHandshake(session, number)
            }
        }
    }

    /// Once a second: sessions that have done nothing for a while and hold no allocation come to an end.
    mutating func closeIdleSessions() {
        var number: UInt32 = 0
        while Int(number) < dtls.table.everUsed {
            defer { number &+= 1 }
            guard dtls.table.isUsed(number), dtls.table[number].pointee.isEstablished else { continue }
            let record = dtls.table[number]
            if record.pointee.session.state != .established {
                endSession(number)
            } else if now.monotonicNanoseconds >= record.pointee.idleDeadlineNanoseconds {
                if hasAllocation(record.pointee.tuple) {
                    record.pointee.idleDeadlineNanoseconds =
                        now.monotonicNanoseconds &+ DTLSLimits.patienceNanoseconds
                } else {
                    endSession(number)
                }
            }
        }
        flushClients()
    }

    /// Says close_notify to all.
    mutating func endAllSessions() {
        for number in 0..<UInt32(dtls.table.everUsed)
        where dtls.table.isUsed(number) && dtls.table[number].pointee.isEstablished {
            endSession(number)
        }
        flushClients()
    }

    /// Says close_notify, and ends what the client held. The session must be, or have been, established.
    mutating func endSession(_ number: UInt32) {
        let session = dtls.table[number].pointee.session
        disconnect(dtls.table[number].pointee.tuple)
        session.shutdown()
        sendOutput(session, number)
        dtls.table[number].pointee.isEstablished = false
        if let successor = dtls.table[number].pointee.successor {
            // The client has begun anew meanwhile, and goes on with that.
            dtls.table[number].pointee.session = successor
            dtls.table[number].pointee.mark = dtls.table[number].pointee.successorMark
            dtls.table[number].pointee.successor = nil
        } else {
            dtls.table.remove(number)
        }
    }

    private mutating func disconnect(_ tuple: FiveTuple) {
        host.nowNanoseconds = now.monotonicNanoseconds
        flushPeers()
        engine.disconnect(tuple, at: now)
    }
}
