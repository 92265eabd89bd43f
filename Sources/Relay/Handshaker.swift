import LinuxIO
import OpenSSLCrypto
import STUN
import TURN

/// Clients by TLS until their handshake is over, on a thread of their own: a handshake takes a third of a millisecond,
/// and packets must not wait for it (case RE-06). It takes connections in itself, so that a worker hears of none but
/// those that have made theirs, which the workers get in turn. Where HTTPS shares a port with TURN, it tells the two
/// apart: who comes for HTTP is told of by an event, and the rest is the workers'.
struct Handshaker: ~Copyable {
    private let listeners: OwnedList<StreamListener>
    private let workers: [Mailbox]
    private let mailbox: Mailbox
    private let tally: HandshakeTally
    private let onEvent: @Sendable (RelayEvent) -> Void
    private let epoll: Epoll
    private var streams: StreamTable
    private var certificates: (own: TLSContext?, shared: TLSContext?)
    private var reserve: ReserveDescriptor
    private let input: UnsafeMutableRawBufferPointer
    private let sealed = OutputSpace(byteCount: StreamLimits.sealedBytes)
    private var nowNanoseconds = MonotonicClock.nanoseconds()
    private var nextWorker = 0
    private var troublesTold: Set<String> = []
    private var isRunning = true

    /// - Parameters:
    ///   - certificates: For listeners that are TURN's alone, and for those that it shares with HTTPS.
    ///   - workers: Who gets the connections.
    ///   - mailbox: What it hears: `.renew`, `.renewShared` and `.stop`.
    init(
        listeners: consuming OwnedList<StreamListener>,
        certificates: (own: TLSContext?, shared: TLSContext?),
        connections: ConnectionBudget,
        workers: [Mailbox],
        mailbox: Mailbox,
        tally: HandshakeTally,
        onEvent: @escaping @Sendable (RelayEvent) -> Void
    ) throws(SystemCallError) {
        // All that can fail comes first: a half-made value could not be taken apart again.
        let epoll = try Epoll()
        let reserve = try ReserveDescriptor(limit: Host.raiseDescriptorLimit())
        try epoll.add(mailbox.descriptor, .readable, data: EventSource.mailbox.rawValue)
        for number in 0..<listeners.count {
            let descriptor = listeners.pointer(number).pointee.descriptor.raw
            try epoll.add(descriptor, .readable, data: EventSource.streamListener(UInt32(number)).rawValue)
        }
        self.listeners = listeners
        self.certificates = certificates
        self.workers = workers
        self.mailbox = mailbox
        self.tally = tally
        self.onEvent = onEvent
        self.epoll = epoll
        self.reserve = reserve
        let most = HandshakeLimits.connections * workers.count
        streams = StreamTable(connections, capacity: most, perSource: most / HandshakeLimits.sourceParts)
        input = .allocate(byteCount: HandshakeLimits.readBytes, alignment: 64)
    }

    deinit { input.deallocate() }

    /// Runs until `.stop` comes.
    mutating func run() {
        do throws(SystemCallError) {
            try NativeThread.yieldToOthers()
        } catch {
            tell("TLS handshakes cannot be made to yield to packets: \(error); allow sched_setattr")
        }
        let events = EventBuffer(capacity: HandshakeLimits.eventsPerTurn)
        var lastSecond = nowNanoseconds / 1_000_000_000
        while isRunning {
            let intoSecond = Int32(truncatingIfNeeded: MonotonicClock.nanoseconds() % 1_000_000_000 / 1_000_000)
            let count = epoll.wait(into: events, timeoutMilliseconds: 1_000 - intoSecond)
            nowNanoseconds = MonotonicClock.nanoseconds()
            var index = 0
            while index < count {
                let source = EventSource(rawValue: events[index].data)
                if source.isConnection {
                    goOn(source.number, events[index].events)
                } else if source.isStreamListener {
                    accept(Int(source.number))
                } else {
                    readMail()
                }
                index &+= 1
            }
            if nowNanoseconds / 1_000_000_000 != lastSecond {
                lastSecond = nowNanoseconds / 1_000_000_000
                closeOverdue()
                certificates.own?.renewTicketKeys()
                certificates.shared?.renewTicketKeys()
            }
            tally.underWay = streams.count
        }
        tally.underWay = 0
    }

    private mutating func readMail() {
        for command in mailbox.takeAll() {
            switch command {
            case .renew(let context): certificates.own = context
            case .renewShared(let context): certificates.shared = context
            case .stop: isRunning = false
            default: break
            }
        }
    }

    // MARK: Coming

    private mutating func accept(_ number: Int) {
        guard number < listeners.count else { return }
        let listener = listeners.pointer(number)
        var left = HandshakeLimits.acceptsPerTurn
        while left > 0 {
            left &-= 1
            var peer = AddressParts(high: 0, low: 0, isIPv4: true, port: 0)
            let accepted = TCPSocket.accept(listener.pointee.descriptor.raw, peer: &peer)
            if accepted < 0 {
                if Errno.isDescriptorShortage(0 &- accepted) { refuseForShortage(listener.pointee.descriptor.raw) }
                return
            }
            let descriptor = FileDescriptor(owning: accepted)
            let client = Endpoint(peer)
            tally.noteAccepted()
            if reserve.isLast(accepted) {
                tellShortage()
                TCPSocket.abort(descriptor)
                continue
            }
            guard streams.admits(client.address), PeerPolicy.acceptsClient(at: client.address),
                let tuple = listener.pointee.prepare(accepted, client: client),
                let certificate = listener.pointee.isShared ? certificates.shared : certificates.own,
                let session = try? TLSSession(certificate, space: sealed)
            else {
                tally.noteRefused()
                TCPSocket.abort(descriptor)
                continue
            }
            let isShared = listener.pointee.isShared
            begin(
                StreamConnection(descriptor, tuple, tls: session, isShared: isShared, nowNanoseconds: nowNanoseconds)
            )
        }
    }

    private mutating func begin(_ connection: consuming StreamConnection) {
        let descriptor = connection.descriptor.raw
        let number = streams.insert(connection)
        do throws(SystemCallError) {
            try epoll.add(descriptor, .readable, data: EventSource.connection(number).rawValue)
        } catch {
            tell("cannot watch connections: \(error); raise the limit on epoll watches")
            streams.remove(number)
        }
    }

    /// As the workers do (case RE-03).
    private mutating func refuseForShortage(_ listener: Int32) {
        tellShortage()
        _ = reserve.refuse(at: listener)
    }

    private mutating func tellShortage() {
        tally.noteRefused()
        tell("no descriptors are left: connections are refused; raise the limit on open files")
    }

    // MARK: Under way

    private mutating func goOn(_ number: UInt32, _ events: EpollEvents) {
        guard streams.isUsed(number), let session = streams[number].pointee.tls else { return }
        let stream = streams[number]
        let descriptor = stream.pointee.descriptor.raw
        if events.contains(.writable) {
            if case .failed = stream.pointee.output.flush(descriptor) { return streams.remove(number) }
        }
        if events.contains(.readable) || events.contains(.error) || events.contains(.hangUp) {
            let count = TCPSocket.receive(descriptor, into: input)
            guard count > 0 else {
                if count != Int(0 &- Errno.tryAgain) { streams.remove(number) }
                return
            }
            // What came behind the handshake is kept by the session, for the worker.
            session.receive(lending: UnsafeRawBufferPointer(rebasing: input[..<count])) { _ = $0.advance() }
        }
        let use = stream.pointee.isShared ? SharedPortUse(session) : .relay
        var acceptance = SendQueue.Acceptance.written
        session.takeOutput { bytes in
            acceptance = stream.pointee.output.send(bytes, on: descriptor)
            return bytes.count
        }
        switch acceptance {
        case .full, .failed: return streams.remove(number)
        case .written, .queued: break
        }
        switch session.state {
        case .handshaking: rewatch(number)
        case .established: settle(number, use)
        // Why has been said by an alert.
        case .closed, .failed: streams.remove(number)
        }
    }

    /// - Parameter isHeard: false for a client whose words are for somebody else, who reads them later.
    private func rewatch(_ number: UInt32, isHeard: Bool = true) {
        let stream = streams[number]
        var wanted: EpollEvents = isHeard ? .readable : []
        if !stream.pointee.output.isEmpty { wanted.insert(.writable) }
        guard wanted != stream.pointee.watched else { return }
        stream.pointee.watched = wanted
        // Fails for a lack of memory alone, and then the deadline closes the connection.
        try? epoll.modify(stream.pointee.descriptor.raw, wanted, data: EventSource.connection(number).rawValue)
    }

    /// Gives a connection whose handshake is over to whom it is for, as soon as that is known.
    private mutating func settle(_ number: UInt32, _ use: SharedPortUse) {
        switch use {
        case .relay: handOver(number)
        // What the kernel has not taken of the handshake goes first: nobody there would send it.
        case .web where streams[number].pointee.output.isEmpty: handOut(number)
        case .web: rewatch(number, isHeard: false)
        case .unknown: rewatch(number)
        case .neither: streams.remove(number)
        }
    }

    /// Tells of a connection that is for HTTP.
    private mutating func handOut(_ number: UInt32) {
        try? epoll.remove(streams[number].pointee.descriptor.raw)
        let connection = streams.take(number)
        guard let session = connection.tls else { return }
        onEvent(.web(WebConnection(connection.descriptor, session)))
    }

    /// Gives a connection to the worker whose turn it is.
    private mutating func handOver(_ number: UInt32) {
        // What it sealed into must not be shared by two threads.
        streams[number].pointee.tls?.use(nil)
        try? epoll.remove(streams[number].pointee.descriptor.raw)
        let connection = streams.take(number)
        // The worker takes this back, so that those on their way are counted.
        streams.budget.add(1)
        workers[nextWorker].post(Handover(connection, nil))
        nextWorker = (nextWorker + 1) % workers.count
    }

    private mutating func closeOverdue() {
        var number: UInt32 = 0
        while number < streams.everUsed {
            if streams.isUsed(number), nowNanoseconds >= streams[number].pointee.deadlineNanoseconds {
                streams.remove(number)
            }
            number &+= 1
        }
    }

    /// Tells of a trouble, once.
    private mutating func tell(_ trouble: String) {
        if troublesTold.insert(trouble).inserted { onEvent(.trouble(trouble)) }
    }
}

/// Bounds of TLS handshakes, with their reasons.
enum HandshakeLimits {
    /// Under way, for each worker: those who only begin them must not use up the connections (RE-07).
    static let connections = 1_024
    /// One source, an IPv4 address or an IPv6 /64, may have half of those: many users behind one carrier NAT, and not
    /// all there is.
    static let sourceParts = 2
    /// Taken from one listener before others have their turn. Fewer than handshakes that go on in a turn: where there
    /// are more clients than can be served, they wait in the kernel and not here.
    static let acceptsPerTurn = 4
    /// What one turn of the loop goes on with. It ends between two turns, a few milliseconds of work apart.
    static let eventsPerTurn = 16
    /// Of one connection at once: more than the flight of a client, and not much of what comes behind it.
    static let readBytes = 16_384
}
