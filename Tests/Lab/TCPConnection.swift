import STUN

/// One end of a TCP connection, as far as RFC 9293 goes for a lab: the handshake with simultaneous open, resets, data
/// in order with retransmission, and an end in each direction. There is no congestion control but a fixed window.
package final class TCPConnection {
    package enum State: Equatable {
        case synSent, synReceived, established, closed
    }

    package enum Failure: Equatable {
        /// A reset answered the first segment.
        case refused
        case reset
        /// Nothing came back, however often it was sent.
        case timedOut
    }

    package let local: Endpoint
    package let remote: Endpoint
    package private(set) var state = State.synSent
    /// Of one that this host has opened; whoever accepts one is handed it open.
    package var onOpen: (() -> Void)?
    /// Bytes in order. Without it, they are put into `inbox`.
    package var onReceive: (([UInt8]) -> Void)?
    /// The other side sends no more.
    package var onEnd: (() -> Void)?
    /// The connection is gone: nil where both sides have ended it, or this one aborted it.
    package var onClose: ((Failure?) -> Void)?
    package var inbox: [UInt8] = []
    package private(set) var failure: Failure?
    package private(set) var hasEnded = false
    /// How often the first segment was sent before the connection opened.
    package private(set) var attempts = 0

    private unowned let host: Host
    private var accept: ((TCPConnection) -> Void)?
    private var sender: StreamSender
    private var receiver = StreamReceiver()
    private lazy var alarm = Alarm(host.internet.scheduler) { [weak self] in self?.timeOut() }
    private var retries = 0

    init(_ host: Host, _ local: Endpoint, _ remote: Endpoint) {
        self.host = host
        self.local = local
        self.remote = remote
        sender = StreamSender(first: host.dice.below(1 << 32), isIPv4: local.address.isIPv4)
    }

    // MARK: What the owner does

    /// Sends bytes, as soon as it can.
    package func send(_ bytes: [UInt8]) {
        guard state != .closed, !sender.isFinished else { return }
        sender.buffer += bytes
        if state == .established { transmit() }
    }

    package func send(_ text: String) { send(Array(text.utf8)) }

    /// Bytes that the other side has not acknowledged.
    package var unacknowledgedBytes: Int { sender.buffer.count }

    /// Ends this direction behind what was sent.
    package func finish() {
        guard state != .closed, !sender.isFinished else { return }
        sender.isFinished = true
        if state == .established { transmit() }
    }

    /// Ends it at once with a reset.
    package func abort() {
        guard state != .closed else { return }
        if state != .synSent { emit(Segment(flags: .rst, sequence: sender.next)) }
        close(nil)
    }

    func connect() { sendOpening() }

    func accept(_ segment: Segment, then accept: @escaping (TCPConnection) -> Void) {
        self.accept = accept
        receiver.next = segment.sequence + 1
        state = .synReceived
        sendOpening()
    }

    // MARK: Opening

    private func sendOpening() {
        attempts += 1
        sender.next = sender.first + 1
        let flags: Segment.Flags = state == .synSent ? .syn : [.syn, .ack]
        emit(Segment(flags: flags, sequence: sender.first, acknowledgement: receiver.next))
        // 1, 2, 4, … s as RFC 6298 has it.
        alarm.set(host.now + 1_000_000_000 << UInt64(retries))
    }

    private func takeOpening(_ segment: Segment) {
        let isAcknowledged = segment.flags.contains(.ack) && segment.acknowledgement == sender.first + 1
        // RFC 9293 section 3.10.7.3: what acknowledges something else belongs to an older connection.
        if segment.flags.contains(.ack), !isAcknowledged {
            if let reset = segment.reset { emit(reset) }
            return
        }
        if segment.flags.contains(.rst) {
            if isAcknowledged { close(.refused) }
            return
        }
        guard segment.flags.contains(.syn) else { return }
        receiver.next = segment.sequence + 1
        if isAcknowledged {
            open()
            acknowledge()
        } else {
            // The other side has opened at the same time.
            state = .synReceived
            sendOpening()
        }
    }

    private func open() {
        state = .established
        sender.unacknowledged = sender.first + 1
        retries = 0
        alarm.set(nil)
        if let accept {
            self.accept = nil
            accept(self)
        } else {
            onOpen?()
        }
        if state == .established { transmit() }
    }

    // MARK: Segments

    func take(_ segment: Segment) {
        switch state {
        case .closed: return
        case .synSent: return takeOpening(segment)
        case .synReceived:
            if segment.flags.contains(.rst) { return close(accept == nil ? .refused : .reset) }
            if segment.flags == .syn { return sendOpening() }
            guard segment.flags.contains(.ack), segment.acknowledgement > sender.first else { return }
            open()
            if segment.flags.contains(.syn) { return acknowledge() }
        case .established: break
        }
        if segment.flags.contains(.rst) {
            if segment.sequence >= receiver.next { close(.reset) }
            return
        }
        if segment.flags.contains(.syn) { return acknowledge() }
        if segment.flags.contains(.ack) {
            if sender.take(acknowledgement: segment.acknowledgement, hasData: segment.length > 0, now: host.now) {
                retries = 0
                alarm.set(nil)
            }
            for segment in sender.takeRetransmissions() { emit(segment, acknowledging: true) }
        }
        if segment.length > 0 { takeData(segment) }
        transmit()
        closeWhenDone()
    }

    private func takeData(_ segment: Segment) {
        let bytes = receiver.take(segment)
        if !bytes.isEmpty {
            if let onReceive { onReceive(bytes) } else { inbox += bytes }
        }
        guard state == .established else { return }
        acknowledge()
        if receiver.isEnded, !hasEnded {
            hasEnded = true
            onEnd?()
        }
    }

    private func closeWhenDone() {
        if state == .established, hasEnded, sender.isDone { close(nil) }
    }

    /// Sends what the window has room for.
    private func transmit() {
        guard state == .established else { return }
        for segment in sender.takeSegments(now: host.now) { emit(segment, acknowledging: true) }
        if !sender.isWaiting {
            alarm.set(nil)
        } else if alarm.time == nil {
            alarm.set(host.now + sender.timeout << UInt64(min(retries, 6)))
        }
    }

    private func timeOut() {
        retries += 1
        if state == .established {
            // About a minute and a half of silence.
            guard retries <= 10 else { return close(.timedOut) }
            if let segment = sender.firstUnacknowledged(isBlackHole: retries >= 3) {
                emit(segment, acknowledging: true)
            }
            alarm.set(host.now + sender.timeout << UInt64(min(retries, 6)))
        } else {
            guard retries <= 6 else { return close(.timedOut) }
            sendOpening()
        }
    }

    func take(_ problem: Problem) {
        if case .tooBig(let mtu) = problem.kind, state == .established {
            sender.shrink(toMTU: mtu, isIPv4: local.address.isIPv4)
            if let segment = sender.firstUnacknowledged(isBlackHole: false) { emit(segment, acknowledging: true) }
        }
    }

    private func acknowledge() {
        emit(Segment(flags: .ack, sequence: sender.next, acknowledgement: receiver.next))
    }

    private func emit(_ segment: Segment, acknowledging: Bool) {
        var segment = segment
        segment.flags.insert(.ack)
        segment.acknowledgement = receiver.next
        emit(segment)
    }

    private func emit(_ segment: Segment) {
        host.send(Packet(source: local, destination: remote, body: .segment(segment)))
    }

    private func close(_ failure: Failure?) {
        guard state != .closed else { return }
        state = .closed
        self.failure = failure
        alarm.set(nil)
        host.streams.remove(self)
        onClose?(failure)
        // Callbacks hold what holds them.
        (onOpen, onReceive, onEnd, onClose, accept) = (nil, nil, nil, nil, nil)
    }
}
