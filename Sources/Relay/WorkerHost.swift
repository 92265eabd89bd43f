import LinuxIO
import STUN
import TURN

/// A worker's answers to its engine: real sockets, a real timer.
final class WorkerHost: RelayHost {
    private let pool: PortPool
    private let epoll: Epoll
    private var timers: TimerWheel
    private let onEvent: @Sendable (RelayEvent) -> Void
    /// Of all workers, by their numbers.
    private let mailboxes: [Mailbox]
    private var troublesTold: Set<String> = []
    /// The time of the loop's present turn.
    var nowNanoseconds: UInt64

    init(
        pool: PortPool,
        mailboxes: [Mailbox],
        nowNanoseconds: UInt64,
        onEvent: @escaping @Sendable (RelayEvent) -> Void
    ) throws(SystemCallError) {
        self.pool = pool
        self.mailboxes = mailboxes
        self.onEvent = onEvent
        self.nowNanoseconds = nowNanoseconds
        epoll = try Epoll()
        timers = TimerWheel(nowSecond: nowNanoseconds / 1_000_000_000)
    }

    // MARK: RelayHost

    func openRelay(_ request: RelayRequest) -> RelayOpening {
        if case .reserved(let token) = request.parity {
            guard let leg = pool.claim(token, at: nowNanoseconds) else { return .exhausted }
            guard watch(leg, request) else {
                closeRelay(leg)
                return .exhausted
            }
            return .opened(leg, token: 0)
        }
        var refused: Set<UInt16> = []
        while true {
            let taken = pool.take(
                request.family,
                near: request.clientSide,
                parity: request.parity,
                isStream: request.isStream,
                refused: refused
            )
            switch taken {
            case .familyUnavailable:
                return .familyUnavailable
            case .exhausted:
                return .exhausted
            case .port(let port, let address, let index):
                switch request.isStream ? listen(port, address) : open(port, address) {
                case .inUse:
                    // Another program holds it: the next one is tried, and 508 is said only when all fail.
                    refused.insert(port)
                    pool.release(Endpoint(address: address.local, port: port))
                case .failed(let error):
                    pool.release(Endpoint(address: address.local, port: port))
                    tell("cannot open relay sockets: \(error); raise the limit on open files or on memory")
                    return .exhausted
                case .opened(let leg):
                    var token: UInt64 = 0
                    if request.parity == .evenReservingNext {
                        guard let held = reserve(port + 1, address, index) else {
                            refused.insert(port)
                            closeRelay(leg)
                            continue
                        }
                        token = held
                    }
                    guard watch(leg, request) else {
                        closeRelay(leg)
                        return .exhausted
                    }
                    return .opened(leg, token: token)
                }
            }
        }
    }

    func closeRelay(_ leg: RelayLeg) {
        // Closing takes it out of epoll too, since nothing else holds the socket.
        _ = FileDescriptor(owning: leg.descriptor)
        pool.release(leg.local, at: nowNanoseconds)
    }

    func disownRelay(_ leg: RelayLeg) {
        // Fails only for a socket that is not watched, and then there is nothing to do.
        try? epoll.remove(leg.descriptor)
    }

    func adoptRelay(_ leg: RelayLeg, allocation: UInt32, isSecondary: Bool) -> Bool {
        watch(leg, allocation: allocation, isSecondary: isSecondary)
    }

    func send(_ message: MoveMessage, to worker: Int) {
        guard mailboxes.indices.contains(worker) else { return }
        mailboxes[worker].post(.move(message))
    }

    func isLiveRelay(_ endpoint: Endpoint) -> Bool { pool.isLive(endpoint) }

    func hasJustClosed(_ endpoint: Endpoint, at nanoseconds: UInt64) -> Bool {
        pool.hasJustClosed(endpoint, at: nanoseconds)
    }

    func isLiveStreamRelay(_ endpoint: Endpoint) -> Bool { pool.isLiveStream(endpoint) }

    func scheduleExpiry(allocation: UInt32, atSecond second: UInt64) {
        if second == .max { timers.cancel(allocation) } else { timers.schedule(allocation, atSecond: second) }
    }

    func report(_ event: AllocationEvent) { onEvent(.allocation(event)) }

    // MARK: For the loop

    func ask(_ query: CredentialQuery, worker: Int) { onEvent(.query(query, worker: worker)) }

    func tell(activeUsers names: Set<String>) { onEvent(.activeUsers(names)) }

    /// Tells of a trouble, once.
    func tell(_ trouble: String) {
        if troublesTold.insert(trouble).inserted { onEvent(.trouble(trouble)) }
    }

    func watch(
        _ descriptor: Int32,
        _ source: EventSource,
        _ events: EpollEvents = .readable
    ) throws(SystemCallError) {
        try epoll.add(descriptor, events, data: source.rawValue)
    }

    /// Changes what is watched for. That it was watched before is known, so a failure has no cause but a lack of
    /// memory, and the tick closes the connection then.
    func rewatch(_ descriptor: Int32, _ events: EpollEvents, _ source: EventSource) {
        try? epoll.modify(descriptor, events, data: source.rawValue)
    }

    /// Ends the watching of a descriptor that lives on.
    func unwatch(_ descriptor: Int32) { try? epoll.remove(descriptor) }

    func wait(into buffer: borrowing EventBuffer, timeoutMilliseconds: Int32) -> Int {
        epoll.wait(into: buffer, timeoutMilliseconds: timeoutMilliseconds)
    }

    func nextExpired() -> UInt32? { timers.popExpired(nowSecond: nowNanoseconds / 1_000_000_000) }

    /// Closes the relays that were held for someone who did not come.
    func closeExpiredReservations() {
        for leg in pool.expired(at: nowNanoseconds) { closeRelay(leg) }
    }

    // MARK: Sockets

    private enum Opening {
        case opened(RelayLeg)
        case inUse
        case failed(SystemCallError)
    }

    private func open(_ port: UInt16, _ address: RelayAddress) -> Opening {
        do throws(SystemCallError) {
            let isIPv4 = address.local.isIPv4
            let socket = try UDPSocket.open(isIPv4: isIPv4)
            try UDPSocket.setReceiveBuffer(socket.raw, bytes: SocketBuffers.relayBytes)
            try UDPSocket.setSendBuffer(socket.raw, bytes: SocketBuffers.relayBytes)
            UDPSocket.setReceiveMerging(socket.raw, true)
            try UDPSocket.setPathMTUDiscovery(socket.raw, isIPv4: isIPv4, .ofRelay(isIPv4: isIPv4))
            try UDPSocket.setErrorQueue(socket.raw, isIPv4: isIPv4)
            do throws(SystemCallError) {
                try UDPSocket.bind(
                    socket.raw,
                    to: SocketAddressStorage(
                        high: address.local.high,
                        low: address.local.low,
                        isIPv4: isIPv4,
                        port: port
                    )
                )
            } catch {
                return error.number == Errno.addressInUse ? .inUse : .failed(error)
            }
            return .opened(
                RelayLeg(
                    descriptor: socket.release(),
                    local: Endpoint(address: address.local, port: port),
                    advertised: Endpoint(address: address.advertised, port: port)
                )
            )
        } catch {
            return .failed(error)
        }
    }

    /// Opens a relay by TCP. Nobody else may have the port; afterwards connections to peers leave from it too
    /// (RFC 6062 section 5.2).
    private func listen(_ port: UInt16, _ address: RelayAddress) -> Opening {
        let local = Endpoint(address: address.local, port: port)
        do throws(SystemCallError) {
            let socket = try TCPSocket.listen(on: local.storage, backlog: TunnelLimits.backlog)
            try TCPSocket.sharePort(socket.raw)
            return .opened(
                RelayLeg(
                    descriptor: socket.release(),
                    local: local,
                    advertised: Endpoint(address: address.advertised, port: port)
                )
            )
        } catch {
            return error.number == Errno.addressInUse ? .inUse : .failed(error)
        }
    }

    private func reserve(_ port: UInt16, _ address: RelayAddress, _ index: Int) -> UInt64? {
        guard pool.take(exactly: port, on: index) else { return nil }
        guard case .opened(let leg) = open(port, address) else {
            pool.release(Endpoint(address: address.local, port: port))
            return nil
        }
        let until = nowNanoseconds &+ Limits.reservationLifetimeSeconds &* 1_000_000_000
        return pool.reserve(leg, untilNanoseconds: until)
    }

    private func watch(_ leg: RelayLeg, _ request: RelayRequest) -> Bool {
        watch(
            leg,
            allocation: request.allocation,
            isSecondary: request.isSecondary,
            isStream: request.isStream
        )
    }

    private func watch(_ leg: RelayLeg, allocation: UInt32, isSecondary: Bool, isStream: Bool = false) -> Bool {
        do throws(SystemCallError) {
            try watch(
                leg.descriptor,
                isStream ? .streamRelay(allocation) : .relay(allocation, isSecondary: isSecondary)
            )
            return true
        } catch {
            tell("cannot watch relay sockets: \(error); raise the limit on epoll watches (fs.epoll.max_user_watches)")
            return false
        }
    }
}

/// Kernel buffers. They hold what arrives while a worker is busy; the kernel takes memory for them only as they fill.
enum SocketBuffers {
    /// A quarter of a second of 4 MB/s, which is more than one call sends.
    static let relayBytes = 1 << 20
    /// All clients of a worker share a listener.
    static let listenerBytes = 8 << 20
}

/// What an epoll event is about, in its 64 bits: two for the kind, one for the leg, and a number.
struct EventSource: RawRepresentable, Equatable {
    let rawValue: UInt64

    @inline(__always)
    init(rawValue: UInt64) { self.rawValue = rawValue }

    static let mailbox = EventSource(rawValue: 1 << 62)

    static func listener(_ number: UInt32) -> EventSource { EventSource(rawValue: 2 << 62 | UInt64(number)) }

    static func relay(_ allocation: UInt32, isSecondary: Bool) -> EventSource {
        EventSource(rawValue: (isSecondary ? 1 << 61 : 0) | UInt64(allocation))
    }

    @inline(__always)
    var isRelay: Bool { rawValue >> 62 == 0 }
    @inline(__always)
    var isListener: Bool { rawValue >> 62 == 2 }
    static func connection(_ number: UInt32) -> EventSource { EventSource(rawValue: 3 << 62 | UInt64(number)) }

    static func streamListener(_ number: UInt32) -> EventSource {
        EventSource(rawValue: 3 << 62 | 1 << 61 | UInt64(number))
    }

    @inline(__always)
    var isConnection: Bool { rawValue >> 61 == 0b110 }
    @inline(__always)
    var isStreamListener: Bool { rawValue >> 61 == 0b111 }
    @inline(__always)
    var isSecondary: Bool { rawValue & (1 << 61) != 0 }
    @inline(__always)
    var number: UInt32 { UInt32(truncatingIfNeeded: rawValue) }
}
