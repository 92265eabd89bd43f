import LinuxIO
import OpenSSLCrypto
import STUN
import TURN

/// One thread's share of the relay: its listeners, its engine, its allocations. It shares nothing that a packet touches
/// with another worker; the kernel keeps a client on one of them.
///
/// A turn of the loop takes what is ready, collects what has to go out, and sends it in as few calls as there are
/// sockets. Data lies where it was received until then, so the slots of a turn are not used again before
/// `flushClients`.
struct Worker: ~Copyable {
    var engine: Engine
    let host: WorkerHost
    let mailbox: Mailbox
    /// The mailboxes of all workers, by their numbers.
    let colleagues: [Mailbox]
    let published: SnapshotBox
    let number: Int

    let listeners: UnsafeMutablePointer<Listener>
    let listenerCount: Int
    var fromClients: ReceiveBatch
    var fromPeers: ReceiveBatch
    var toPeers: PeerOutbox
    /// Where answers lie until they are sent.
    let replies: UnsafeMutableRawBufferPointer
    var repliesUsed = 0
    /// Slots of `fromPeers` whose datagrams are on their way out.
    var slotsHeld = 0
    /// Scratch for addresses on their way to the kernel.
    let address: UnsafeMutablePointer<SocketAddressStorage>
    var parked = ParkedRequests()
    var moves = MovingClients()

    let streamListeners: UnsafeMutablePointer<StreamListener>
    let streamListenerCount: Int
    var streams: StreamTable
    var tunnels: TunnelTable
    /// Streams that a limit of bandwidth holds back, and when they are looked at again.
    var throttled: [PeerConnectionKey] = []
    var throttledUntilNanoseconds: UInt64 = 0
    var throttleTurn = 0
    var reserve: ReserveDescriptor
    /// What is read from a connection, until its frames are handled.
    let streamInput: UnsafeMutableRawBufferPointer
    /// What a TLS session opened, or is to seal: a datagram of the greatest length with its header fits.
    let streamPlain: UnsafeMutableRawBufferPointer
    /// Where TLS sessions put what they seal, until it is sent.
    let sealed: OutputSpace
    var dtls: DTLSClients
    /// Frames for one connection: they leave by one call.
    let streamParts: UnsafeMutablePointer<UnsafeRawBufferPointer>
    var streamPartCount = 0
    /// For each of these frames, the number of the part behind its last.
    let streamFrameEnds: UnsafeMutablePointer<UInt8>
    var streamPacketCount = 0
    var streamByteCount = 0
    /// Headers of frames that have none of their own room, one for each part.
    let streamHeaders: UnsafeMutableRawPointer

    var now: Moment
    var isRunning = true
    /// Whether some that have expired wait for the next turn.
    private var hasExpired = false
    private var publications: UInt64 = 0
    private var busyNanoseconds: UInt64 = 0
    private var lastTickSecond: UInt64
    /// The last tick, and what was busy then.
    private var lastTick: (nanoseconds: UInt64, busyNanoseconds: UInt64) = (0, 0)
    private var busyShare = 0.0
    private var fullestPermissionsAtTick = 0

    static let replyBytes = 1_536
    static let replySlots = 64
    static let clientSlots = 64
    static let peerSlots = 128
    /// Datagrams taken from one relay socket before the others have their turn.
    static let peerBatch = 16
    static let expiriesPerTurn = 256
    /// ICMP errors taken from one relay socket before the others have their turn.
    static let errorsPerTurn = 16

    init(
        number: Int,
        listeners: consuming OwnedList<Listener>,
        streamListeners: consuming OwnedList<StreamListener>,
        connections: ConnectionBudget,
        dtls: consuming DTLSClients,
        engine: consuming Engine,
        host: WorkerHost,
        mailboxes: [Mailbox],
        published: SnapshotBox
    ) throws(SystemCallError) {
        // All that can fail comes first: a half-made worker could not be taken apart again.
        let fromClients = try ReceiveBatch(capacity: Self.clientSlots, slotBytes: ReceiveBatch.mergedSlotBytes)
        let fromPeers = try ReceiveBatch(capacity: Self.peerSlots, slotBytes: ReceiveBatch.mergedSlotBytes)
        let toPeers = try PeerOutbox()
        let reserve = try ReserveDescriptor(limit: Host.raiseDescriptorLimit())
        self.reserve = reserve
        self.fromClients = fromClients
        self.fromPeers = fromPeers
        self.toPeers = toPeers
        self.number = number
        self.engine = engine
        self.host = host
        mailbox = mailboxes[number]
        colleagues = mailboxes
        self.published = published
        listenerCount = listeners.count
        self.listeners = listeners.release()
        streamListenerCount = streamListeners.count
        self.streamListeners = streamListeners.release()
        streamInput = .allocate(byteCount: StreamLimits.readBytes, alignment: 64)
        streamPlain = .allocate(byteCount: StreamLimits.readBytes + 4_096, alignment: 64)
        self.dtls = dtls
        sealed = OutputSpace(byteCount: StreamLimits.sealedBytes)
        streams = StreamTable(connections)
        tunnels = TunnelTable(connections)
        streamParts = .allocate(capacity: TCPSocket.partsMax)
        streamFrameEnds = .allocate(capacity: TCPSocket.partsMax)
        streamHeaders = .allocate(byteCount: TCPSocket.partsMax * 64, alignment: 64)
        replies = .allocate(byteCount: Self.replyBytes * Self.replySlots, alignment: 64)
        address = .allocate(capacity: 1)
        address.initialize(to: SocketAddressStorage(high: 0, low: 0, isIPv4: true, port: 0))
        now = Moment(monotonicNanoseconds: MonotonicClock.nanoseconds(), wallSeconds: WallClock.seconds())
        lastTickSecond = now.monotonicNanoseconds / 1_000_000_000
    }

    deinit {
        listeners.deinitialize(count: listenerCount)
        listeners.deallocate()
        replies.deallocate()
        address.deallocate()
        streamListeners.deinitialize(count: streamListenerCount)
        streamListeners.deallocate()
        streamInput.deallocate()
        streamPlain.deallocate()
        streamParts.deallocate()
        streamFrameEnds.deallocate()
        streamHeaders.deallocate()
    }

    /// Runs until `.stop` comes.
    mutating func run() {
        let events = EventBuffer(capacity: 256)
        while isRunning {
            let isWaiting = !hasExpired && !dtls.table.hasPending
            let count = host.wait(into: events, timeoutMilliseconds: isWaiting ? millisecondsToNextWork() : 0)
            let began = MonotonicClock.nanoseconds()
            now.monotonicNanoseconds = began
            var hasMail = false
            var index = 0
            while index < count {
                let source = EventSource(rawValue: events[index].data)
                if source.isRelay {
                    if events[index].events.contains(.error) {
                        receivePeerErrors(source.number, isSecondary: source.isSecondary)
                    }
                    receiveFromPeers(source.number, isSecondary: source.isSecondary)
                } else if source.isListener {
                    receiveFromClients(Int(source.number))
                } else if source.isConnection {
                    connectionEvent(source.number, events[index].events)
                } else if source.isStreamListener {
                    accept(Int(source.number))
                } else if source.isTunnel {
                    tunnelEvent(source, events[index].events)
                } else if source.isStreamRelay {
                    acceptPeers(source.number)
                } else {
                    hasMail = true
                }
                index &+= 1
            }
            if dtls.table.hasPending { advanceHandshakes() }
            if !dtls.table.handshakes.isEmpty { tendHandshakes() }
            flushClients()
            if began / 1_000_000_000 != lastTickSecond { tick() }
            if hasExpired { expireSome() }
            if hasMail { readMail() }
            resumeThrottled()
            settleEffects()
            busyNanoseconds &+= MonotonicClock.nanoseconds() &- began
        }
        engine.closeAll(.drained, at: now)
        settleEffects()
        endAllSessions()
        engine.reportUsage()
        parked.dropAll(into: &engine.counters)
        moves.dropAll(into: &engine.counters)
        publish()
    }

    /// To the next tick, or to when the flights of handshakes or the throttled streams are looked at.
    private func millisecondsToNextWork() -> Int32 {
        if !throttled.isEmpty { return Int32(TunnelLimits.throttleNanoseconds / 1_000_000) }
        let into = (now.monotonicNanoseconds % 1_000_000_000) / 1_000_000
        let tick = Int32(truncatingIfNeeded: 1_000 - into)
        return dtls.table.handshakes.isEmpty ? tick : min(tick, DTLSLimits.timerMilliseconds)
    }

    /// Once a second: what has expired ends, and the counters are shown.
    private mutating func tick() {
        lastTickSecond = now.monotonicNanoseconds / 1_000_000_000
        now.wallSeconds = WallClock.seconds()
        host.nowNanoseconds = now.monotonicNanoseconds
        hasExpired = true
        closeOverdueStreams()
        closeIdleSessions()
        engine.reportUsage()
        if number == 0 { host.closeExpiredReservations() }
        let passed = now.monotonicNanoseconds &- lastTick.nanoseconds
        if lastTick.nanoseconds > 0, passed > 0 {
            busyShare = min(Double(busyNanoseconds &- lastTick.busyNanoseconds) / Double(passed), 1)
        }
        lastTick = (now.monotonicNanoseconds, busyNanoseconds)
        // Counted anew once a second, however often somebody wants to see it.
        fullestPermissionsAtTick = engine.takeLoad().fullestPermissions
        publish()
    }

    /// Ends what has expired, a bounded number in one turn: a crowd that expires in one second must not hold up packets
    /// (case AL-18). Closing a socket takes a few microseconds.
    private mutating func expireSome() {
        var left = Self.expiriesPerTurn
        while left > 0, let allocation = host.nextExpired() {
            engine.expire(allocation: allocation, at: now)
            left -= 1
        }
        hasExpired = left == 0
    }

    private mutating func readMail() {
        now.wallSeconds = WallClock.seconds()
        host.nowNanoseconds = now.monotonicNanoseconds
        for command in mailbox.takeAll() {
            switch command {
            case .learned(let query, let record):
                engine.learn(query, record)
                for request in parked.take(query) { replay(request) }
            case .failed(let query):
                engine.counters.drop(.parkingFull, UInt64(parked.take(query).count))
            case .revoke(let name): engine.revoke(user: name, at: now)
            case .overQuota(let name): engine.revoke(user: name, .quota, at: now)
            case .changed(let terms): engine.change(terms, at: now)
            case .forgetAllUsers:
                engine.forgetAllUsers()
                host.tell(activeUsers: engine.activeUsers())
            case .reconfigure(let configuration): engine.reconfigure(configuration, at: now)
            case .move(let message): take(message)
            case .publish:
                publications &+= 1
                // What is on its way out has been counted in, and not yet as relayed.
                flushPeers()
                flushClients()
                publish()
            case .renew(let context): if context.kind == .dtls { dtls.gate?.renew(context) }
            // The handshaker's.
            case .renewShared: break
            case .list(let first, let answer): answer(engine.allocations(from: first, at: now))
            case .end(let allocation, let generation, let answer):
                answer(engine.end(allocation: allocation, generation: generation, at: now))
            case .stop: isRunning = false
            }
        }
        for handover in mailbox.takeHandovers() { adopt(handover) }
        flushClients()
    }

    private mutating func publish() {
        var snapshot = RelaySnapshot()
        snapshot.counters = engine.counters
        snapshot.allocations = engine.allocationCount
        snapshot.connections = streams.count
        snapshot.load = engine.load
        snapshot.load.fullestPermissions = max(snapshot.load.fullestPermissions, fullestPermissionsAtTick)
        snapshot.parked = parked.count
        snapshot.packetsHeld = parked.count + moves.count
        snapshot.busyShare = busyShare
        snapshot.busyNanoseconds = busyNanoseconds
        snapshot.publications = publications
        published.put(snapshot)
    }
}
