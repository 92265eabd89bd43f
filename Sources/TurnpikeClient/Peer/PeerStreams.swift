import Traversal

/// One TCP port with its connections: those it has opened, and those that came in. All have its address and port, so a
/// NAT gives them one outside address, and a peer that connects at the same time meets them half-way. Datagrams go
/// over each behind their lengths (RFC 4571, as RFC 6544 section 3 has it).
final class PeerStreams: StreamWay {
    private final class Stream {
        var link: any StreamLink
        var framing = StreamFraming(limitBytes: ClientLimits.datagramRoomBytes)
        var isOpen = false
        /// It came in, and what came by it was not authentic yet.
        var strangerUntil: UInt64?

        init(_ link: any StreamLink) { self.link = link }
    }

    /// Attempts to have a connection with one peer.
    private struct Dial {
        let beganAt: UInt64
        var attempts = 0
        /// Of `ClientLimits.dialTimes`.
        var nextTime = 0
        /// The next attempt; nil while one is under way.
        var nextAt: UInt64?
        var waiting: [[UInt8]] = []
    }

    let port: any StreamPort
    private let base: ICEBase
    private let network: any ClientNetwork
    private unowned let router: PathRouter
    private var streams: [Endpoint: Stream] = [:]
    private var dials: [Endpoint: Dial] = [:]
    private lazy var alarm = network.alarm { [weak self] in self?.advance() }

    init(_ port: any StreamPort, as base: ICEBase, _ network: any ClientNetwork, router: PathRouter) {
        (self.port, self.base, self.network, self.router) = (port, base, network, router)
    }

    private var now: UInt64 { network.nowNanoseconds }

    // MARK: What is wanted

    func connect(to peer: Endpoint) {
        // One under way is a connection without being open.
        guard streams[peer]?.isOpen != true, dials[peer] == nil,
            streams.count + dials.count < ClientLimits.streamsPerPort
        else { return }
        dials[peer] = Dial(beganAt: now, nextAt: now)
        dial(peer)
        setAlarm()
    }

    func send(_ bytes: UnsafeRawBufferPointer, to peer: Endpoint) {
        guard let stream = streams[peer], stream.isOpen else {
            dials[peer]?.waiting.append(Array(bytes))
            if dials[peer]?.waiting.count ?? 0 > ClientLimits.waitingChecks { dials[peer]?.waiting.removeFirst() }
            return
        }
        // More would only be late; what is inside sends it again.
        guard stream.link.queuedBytes < ClientLimits.relayQueueBytes, let frame = StreamFraming.frame(bytes) else {
            return
        }
        frame.withUnsafeBytes { stream.link.send($0) }
    }

    func release(_ peer: Endpoint) {
        dials[peer] = nil
        streams.removeValue(forKey: peer)?.link.close()
        setAlarm()
    }

    func close() {
        alarm.set(at: nil)
        for stream in streams.values { stream.link.close() }
        (streams, dials) = ([:], [:])
        port.close()
    }

    // MARK: What comes in

    /// - Parameter take: gets the closure that hears of the connection; without one it is not taken.
    func accept(_ link: any StreamLink, from source: Endpoint, take: (@escaping (StreamEvent) -> Void) -> Void) {
        let peer = Endpoint(address: source.address.withoutLink, port: source.port)
        let strangers = streams.values.count { $0.strangerUntil != nil }
        guard streams[peer]?.isOpen != true, strangers < ClientLimits.strangersPerPort,
            streams.count < ClientLimits.streamsPerPort
        else { return }
        // An attempt of ours that is under way has not the same ends, or the system would have made it one with this.
        streams.removeValue(forKey: peer)?.link.close()
        let stream = Stream(link)
        stream.strangerUntil = dials[peer] == nil ? now &+ ClientLimits.strangerTime : nil
        streams[peer] = stream
        take { [weak self, weak stream] event in
            guard let self, let stream else { return }
            self.take(event, stream, peer)
        }
        opened(stream, peer)
    }

    private func opened(_ stream: Stream, _ peer: Endpoint) {
        stream.isOpen = true
        let waiting = dials.removeValue(forKey: peer)?.waiting ?? []
        router.noteStream(isOpen: true, with: peer, on: base)
        for datagram in waiting { datagram.withUnsafeBytes { send($0, to: peer) } }
        setAlarm()
    }

    private func take(_ event: StreamEvent, _ stream: Stream, _ peer: Endpoint) {
        guard streams[peer] === stream else { return }
        switch event {
        case .opened: opened(stream, peer)
        case .bytes(let bytes):
            var isAuthentic = false
            let isGood = stream.framing.append(bytes) { datagram in
                if router.receive(datagram, on: base, from: peer) { isAuthentic = true }
            }
            if isAuthentic { stream.strangerUntil = nil }
            if !isGood {
                stream.link.close()
                lost(stream, peer, nil)
            }
        case .writable: break
        case .closed(let failure): lost(stream, peer, failure)
        }
    }

    private func lost(_ stream: Stream, _ peer: Endpoint, _ failure: NetworkFailure?) {
        guard streams[peer] === stream else { return }
        streams[peer] = nil
        if stream.isOpen { return router.noteStream(isOpen: false, with: peer, on: base) }
        guard let dial = dials[peer] else { return }
        let isOver = now &- dial.beganAt >= ClientLimits.dialTime || dial.attempts >= ClientLimits.dialAttempts
        guard !isOver else {
            dials[peer] = nil
            if failure?.reason == .refused || failure?.reason == .unreachable {
                router.noteUnreachable(peer, from: base)
            }
            return
        }
        dials[peer]?.nextAt = nextAttempt(dial, failure)
        setAlarm()
    }

    /// A NAT that answers with a reset, or by ICMP, lets the next attempt in if the other side has opened it by then,
    /// so there is no wait but for chance. Whatever else failed has its times.
    private func nextAttempt(_ dial: Dial, _ failure: NetworkFailure?) -> UInt64 {
        let jitter = network.cryptography.randomWord() % ClientLimits.dialJitter
        switch failure?.reason {
        case .refused, .reset, .unreachable: return now &+ jitter &+ ClientLimits.millisecond
        default:
            let next = ClientLimits.dialTimes.first { dial.beganAt &+ $0 > now }
            return (next.map { dial.beganAt &+ $0 } ?? now &+ ClientLimits.second) &+ jitter
        }
    }

    // MARK: Time

    private func dial(_ peer: Endpoint) {
        guard var dial = dials[peer] else { return }
        dial.attempts += 1
        dial.nextAt = nil
        dials[peer] = dial
        var heard: ((StreamEvent) -> Void)?
        let stream = Stream(port.connect(to: peer) { heard?($0) })
        streams[peer] = stream
        heard = { [weak self, weak stream] event in
            guard let self, let stream else { return }
            self.take(event, stream, peer)
        }
    }

    private func advance() {
        for (peer, dial) in dials {
            if now &- dial.beganAt >= ClientLimits.dialTime {
                // The last attempt has had its time too.
                dials[peer] = nil
                if streams[peer]?.isOpen == false { streams.removeValue(forKey: peer)?.link.close() }
            } else if let next = dial.nextAt, now >= next {
                self.dial(peer)
            }
        }
        for (peer, stream) in streams where stream.strangerUntil.map({ now >= $0 }) ?? false {
            streams[peer] = nil
            stream.link.close()
        }
        setAlarm()
    }

    private func setAlarm() {
        var next = UInt64.max
        for dial in dials.values { next = min(next, dial.nextAt ?? .max, dial.beganAt &+ ClientLimits.dialTime) }
        for stream in streams.values { next = min(next, stream.strangerUntil ?? .max) }
        alarm.set(at: next == .max ? nil : next)
    }
}
