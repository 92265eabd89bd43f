import LinuxIO
import OpenSSLCrypto
import STUN
import TURN

/// What clients by TCP are sent.
extension Worker {
    /// Sends an answer. A client that leaves no room for one does not read, and is closed.
    mutating func sendReply(_ bytes: UnsafeRawBufferPointer, connection number: UInt32) {
        guard streams.isUsed(number) else { return }
        let stream = streams[number]
        if let session = stream.pointee.tls {
            if session.write(bytes) { _ = seal(session, number) } else { close(number) }
            return
        }
        settle(stream.pointee.output.send(bytes, on: stream.pointee.descriptor.raw), number)
    }

    /// Sends frames that lie in `streamParts`, all or none, and empties it.
    mutating func flushStreamParts(_ number: UInt32) {
        guard streamPartCount > 0 else { return }
        let packets = UInt64(truncatingIfNeeded: streamPacketCount)
        let bytes = UInt64(truncatingIfNeeded: streamByteCount)
        let parts = UnsafeBufferPointer(start: streamParts, count: streamPartCount)
        let ends = UnsafeBufferPointer(start: streamFrameEnds, count: streamPacketCount)
        streamPartCount = 0
        streamPacketCount = 0
        streamByteCount = 0
        guard streams.isUsed(number), !streams[number].pointee.isFinishing else {
            engine.counters.drop(.clientGone, packets)
            return
        }
        let stream = streams[number]
        // Data leaves room for answers: on a slow line it fills the queue, and a Refresh must get through all the same.
        guard
            stream.pointee.output.count <= SendQueue.limitBytes - StreamLimits.replyReserveBytes
                - StreamLimits.bytesPerSend,
            stream.pointee.output.isEmpty || streams.budget.hasQueueRoom
        else {
            engine.counters.drop(.sendQueueFull, packets)
            return
        }
        let acceptance =
            if let session = stream.pointee.tls {
                send(parts, frameEnds: ends, by: session, number)
            } else {
                stream.pointee.output.send(parts, on: stream.pointee.descriptor.raw)
            }
        switch acceptance {
        case .written:
            engine.counters.packetsToClients &+= packets
            engine.counters.bytesToClients &+= bytes
        case .queued:
            engine.counters.packetsToClients &+= packets
            engine.counters.bytesToClients &+= bytes
            noteBlocked(number)
        case .full:
            engine.counters.drop(.sendQueueFull, packets)
        case .failed:
            engine.counters.drop(.sendFailed, packets)
            close(number)
        }
    }

    /// Seals frames, each into a record of its own: there are clients, coturn's among them, that take what one read
    /// gives for one message. Nothing is sealed that the queue has no room for, since a record cannot be left out.
    ///
    /// - Parameter frameEnds: for each frame, the number of the part behind its last.
    private mutating func send(
        _ parts: UnsafeBufferPointer<UnsafeRawBufferPointer>,
        frameEnds: UnsafeBufferPointer<UInt8>,
        by session: TLSSession,
        _ number: UInt32
    ) -> SendQueue.Acceptance {
        let stream = streams[number]
        guard stream.pointee.output.count &+ 2 &* StreamLimits.bytesPerSend < SendQueue.limitBytes else { return .full }
        var part = 0
        for end in frameEnds {
            let frame = part &+ 1 == Int(end) ? parts[part] : gathered(parts, part, Int(end))
            guard session.write(frame) else { return .failed(0) }
            part = Int(end)
        }
        var acceptance = SendQueue.Acceptance.written
        session.takeOutput { bytes in
            acceptance = stream.pointee.output.send(bytes, on: stream.pointee.descriptor.raw)
            return bytes.count
        }
        // Sealed and not sent: the records that follow could not be opened.
        return acceptance == .full ? .failed(0) : acceptance
    }

    /// The parts of a frame, one behind the other in `streamPlain`, which has room for the longest.
    private func gathered(
        _ parts: UnsafeBufferPointer<UnsafeRawBufferPointer>,
        _ first: Int,
        _ end: Int
    ) -> UnsafeRawBufferPointer {
        var used = 0
        for index in first..<end {
            let part = parts[index]
            UnsafeMutableRawBufferPointer(rebasing: streamPlain[used..<(used &+ part.count)]).copyMemory(from: part)
            used &+= part.count
        }
        return UnsafeRawBufferPointer(rebasing: streamPlain[..<used])
    }

    mutating func settle(_ acceptance: SendQueue.Acceptance, _ number: UInt32) {
        switch acceptance {
        case .written: break
        case .queued: noteBlocked(number)
        case .full, .failed: close(number)
        }
    }

    mutating func noteBlocked(_ number: UInt32) {
        let stream = streams[number]
        if stream.pointee.blockedSinceNanoseconds == .max {
            stream.pointee.blockedSinceNanoseconds = now.monotonicNanoseconds
        }
        streams.noteQueue(number)
        rewatch(number)
    }

    mutating func drain(_ number: UInt32) {
        let stream = streams[number]
        let before = stream.pointee.output.count
        switch stream.pointee.output.flush(stream.pointee.descriptor.raw) {
        case .drained:
            streams.noteQueue(number)
            stream.pointee.blockedSinceNanoseconds = .max
            if stream.pointee.isFinishing { close(number) } else { rewatch(number) }
        case .blocked:
            if stream.pointee.output.count < before {
                stream.pointee.blockedSinceNanoseconds = now.monotonicNanoseconds
            }
        case .failed:
            close(number)
        }
    }

    /// Has epoll watch for what the connection waits for.
    mutating func rewatch(_ number: UInt32) {
        let stream = streams[number]
        var wanted: EpollEvents = []
        if !stream.pointee.isParked, !stream.pointee.isFinishing { wanted.insert(.readable) }
        if !stream.pointee.output.isEmpty { wanted.insert(.writable) }
        guard wanted != stream.pointee.watched else { return }
        stream.pointee.watched = wanted
        host.rewatch(stream.pointee.descriptor.raw, wanted, .connection(number))
    }

    /// Hands ciphertext to the connection.
    /// - Returns: false when that has closed it.
    mutating func seal(_ session: TLSSession, _ number: UInt32) -> Bool {
        let stream = streams[number]
        var acceptance = SendQueue.Acceptance.written
        session.takeOutput { bytes in
            acceptance = stream.pointee.output.send(bytes, on: stream.pointee.descriptor.raw)
            return bytes.count
        }
        settle(acceptance, number)
        return streams.isUsed(number)
    }
}
