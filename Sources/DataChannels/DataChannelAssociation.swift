import CUsrSCTP

/// One peer connection's SCTP association with its data channels (RFC 8831, RFC 8832), without a socket: what DTLS
/// opens goes in, what DTLS is to seal comes out. For one thread at a time.
///
/// Before the calls of a turn `SCTPStack.advance` has to be told the time; after them, and whenever `wake` was called,
/// `drain` is to be called. (Who wants single steps calls `update`, and then `nextEvent` and `nextPacket` until both
/// are nil: an event that is taken may lead to packets, and a packet to events.) An association that is released says
/// nothing to the peer: whoever wants it to know calls `shutdown` or `abort` before, and drains.
package final class DataChannelAssociation {
    package enum Role: Sendable {
        /// In the DTLS handshake. It decides on the parity of the channels' ids (RFC 8832 section 6).
        case client, server
    }

    enum Phase {
        case idle, connecting, open, shuttingDown, closed
    }

    package let role: Role
    package let options: DataChannelOptions
    /// As the peer's SDP has it. A message is as long as both this and `sendBufferBytes` allow.
    package var remoteMaxMessageBytes: Int

    /// The longest packet handed out.
    package private(set) var packetLimitBytes: Int
    /// The longest packet that data are cut for; nil for `packetLimitBytes`.
    package private(set) var segmentLimitBytes: Int?
    /// Packets of the peer's that were dropped since usrsctp would have stayed with them for ever.
    package private(set) var malformedPackets: UInt64 = 0

    /// While it is set, events wait, and beyond `receiveBufferBytes` of them the peer is held up, on all channels at
    /// once: SCTP has one window for an association. `writable` and `bufferedAmountLow` alone are handed over, since a
    /// program that sends back what it reads could not go on otherwise.
    package var isPaused = false

    let stack = SCTPStack.shared
    let number: Int
    /// Nil once the association is over.
    var socket: SCTPSocket?
    var phase = Phase.idle
    var channels: [UInt16: ChannelState] = [:]
    /// Ids below it have a stream in both directions.
    var streamLimit: UInt16
    /// Messages of the establishment protocol that found no room in the send buffer.
    var waitingControl: [(stream: UInt16, message: EstablishmentMessage)] = []
    /// Streams without a channel that were reset here, so that the peer's reset in return is not answered again.
    var answeredResets: Set<UInt16> = []
    /// Those whose streams are being reset.
    var closing: Set<UInt16> = []
    var partialMessages = PartialMessages()
    var unsent = UnsentBytes()
    /// Something was sent that the peer has not acknowledged, as far as is known.
    var isOutstanding = false
    /// A channel's message was refused since `writable` was last announced.
    var hasRefused = false
    /// The first that was told so the last time.
    var lastWritable: UInt16 = 0
    /// As the stack counts it.
    private var isUnsettled = false
    private var isDraining = false
    private var packets = PacketBatch()
    private var events: [DataChannelEvent] = []
    /// Channels that have room again, each once. They overtake the others.
    private var roomEvents: [DataChannelEvent] = []
    private var takenEvents = 0
    /// What the waiting events hold.
    private var eventBytes = 0
    private(set) var isReadingHeldUp = false

    /// - Parameter wake: called, on any thread, when timers have given the association something to do. It must only
    ///   see to it that the association's own thread drains it soon. It is kept until the association is released, so
    ///   it holds whoever owns the association weakly.
    package init(
        _ role: Role,
        options: DataChannelOptions = DataChannelOptions(),
        wake: @escaping @Sendable () -> Void
    ) throws(DataChannelError) {
        guard Self.isPossible(options.packetLimitBytes) else {
            throw .packetLimit(bytes: options.packetLimitBytes)
        }
        self.role = role
        self.options = options
        remoteMaxMessageBytes = options.remoteMaxMessageBytes
        packetLimitBytes = options.packetLimitBytes
        streamLimit = options.streams
        (number, socket) = try Self.open(options, wake)
    }

    deinit {
        stack.run { state in
            socket?.close(&state)
            if isUnsettled { state.unsettled -= 1 }
        }
        stack.packets.release(number, isReusable: true)
    }

    private static func open(
        _ options: DataChannelOptions,
        _ wake: @escaping @Sendable () -> Void
    ) throws(DataChannelError) -> (Int, SCTPSocket) {
        let stack = SCTPStack.shared
        while true {
            guard let number = stack.packets.reserve(wake: wake) else { throw .tooManyAssociations }
            let opened = stack.run { state -> Result<SCTPSocket, SCTPSocket.Failure> in
                do throws(SCTPSocket.Failure) {
                    return .success(try SCTPSocket(number: number, options: options, state: &state))
                } catch {
                    return .failure(error)
                }
            }
            switch opened {
            case .success(let socket): return (number, socket)
            case .failure(let failure):
                // A number whose last association usrsctp has not let go of is out of use from here on.
                stack.packets.release(number, isReusable: failure.code != EADDRINUSE)
                if failure.code != EADDRINUSE { throw .stack(errno: failure.code) }
            }
        }
    }

    /// Sends INIT. Both ends do so as soon as DTLS stands (RFC 8831 section 6.2 leaves either or both to).
    package func connect() throws(DataChannelError) {
        guard phase == .idle else { return }
        guard let socket else { throw .closed }
        let failure = stack.run { state -> SCTPSocket.Failure? in
            let failure = Self.failure { () throws(SCTPSocket.Failure) in try socket.connect() }
            if failure == nil { phase = .connecting }
            noteActivity(&state)
            return failure
        }
        if let failure { throw .stack(errno: failure.code) }
    }

    /// Takes one packet that DTLS opened. Before `connect` it is dropped; the peer sends its INIT again.
    package func receive(_ packet: UnsafeRawBufferPointer) {
        guard packet.count <= DataChannelLimits.packetBytes, packet.count >= Self.headerBytes, phase != .idle else {
            return
        }
        guard InitiationCheck.passes(packet) else {
            malformedPackets &+= 1
            return
        }
        stack.run { state in
            guard let socket else { return }
            socket.input(packet)
            settle(&state)
            noteActivity(&state)
        }
    }

    /// Sends what was given so far, and then ends the association in good order (RFC 9260 section 9.2).
    package func shutdown() {
        guard phase == .open else {
            if phase != .shuttingDown { abort() }
            return
        }
        phase = .shuttingDown
        stack.run { state in
            guard let socket else { return }
            let failure = Self.failure { () throws(SCTPSocket.Failure) in try socket.shutdown() }
            if failure != nil { end(.aborted, &state) }
            settle(&state)
            noteActivity(&state)
        }
    }

    /// Ends the association at once, by ABORT.
    package func abort() { stack.run { state in end(.aborted, &state) } }

    /// Does what became possible because of timers, and hands over all that waits, until neither event nor packet is
    /// left. Both closures may call the association; what comes of it is handed over as well. Within a call of `drain`
    /// another does nothing.
    ///
    /// - Parameters:
    ///   - send: gets a packet for the peer, to be sealed by DTLS as one record. The bytes are its only for the call.
    ///   - handle: gets an event. Messages and packets go on while it returns; what is slow belongs elsewhere.
    package func drain(
        sending send: (UnsafeRawBufferPointer) -> Void,
        handling handle: (DataChannelEvent) -> Void
    ) {
        guard !isDraining else { return }
        isDraining = true
        defer { isDraining = false }
        update()
        repeat {
            // First the events: what they cause leaves with the same packets.
            while let event = nextEvent() { handle(event) }
            while takePacket(send) != nil {}
            // A packet that left may have been what a channel waited for.
        } while !roomEvents.isEmpty || (!isPaused && takenEvents < events.count)
    }

    /// Does what became possible because of timers.
    package func update() { stack.run { state in settle(&state) } }

    /// The next packet for the peer; nil when none waits, or `drain` is at it.
    package func nextPacket() -> [UInt8]? { isDraining ? nil : takePacket { [UInt8]($0) } }

    private func takePacket<Result>(_ body: (UnsafeRawBufferPointer) -> Result) -> Result? {
        // Moved out, so that the body may call back.
        var batch = PacketBatch()
        swap(&batch, &packets)
        defer { swap(&batch, &packets) }
        if batch.count == 0 {
            batch.removeAll()
            batch = stack.packets.exchange(batch, of: number)
        }
        guard let range = batch.takeNext() else { return nil }
        return batch.withPacket(range) { packet in
            unsent.observe(packet)
            for id in unsent.takeFallen() { emit(.bufferedAmountLow(channel: id)) }
            return body(packet)
        }
    }

    package func nextEvent() -> DataChannelEvent? {
        if !roomEvents.isEmpty { return roomEvents.removeFirst() }
        guard !isPaused, takenEvents < events.count else { return nil }
        let event = events[takenEvents]
        takenEvents += 1
        eventBytes -= event.bytes
        if takenEvents == events.count || takenEvents > Self.takenEventsLimit {
            events.removeFirst(takenEvents)
            takenEvents = 0
        }
        // The reader caught up, so usrsctp may say to the peer that there is room.
        if isReadingHeldUp, eventBytes <= options.receiveBufferBytes / 2 {
            isReadingHeldUp = false
            update()
        }
        return event
    }

    /// Changes the longest packet from the next one on, where the path turns out to be wider or narrower. At any time:
    /// before the association stands, it begins with the new limit.
    package func setPacketLimit(_ bytes: Int) throws(DataChannelError) {
        guard Self.isPossible(bytes) else { throw .packetLimit(bytes: bytes) }
        guard let socket else { throw .closed }
        let isBegun = phase != .idle
        let failure = stack.run { _ in
            Self.failure { () throws(SCTPSocket.Failure) in try socket.setPacketLimit(bytes, isConnected: isBegun) }
        }
        if let failure { throw .stack(errno: failure.code) }
        packetLimitBytes = bytes
    }

    /// Changes the packets that data are cut for, from what is sent next on. It may rise and fall, as
    /// `packetLimitBytes` cannot: usrsctp never again cuts data for longer packets than the shortest limit that it had.
    /// Packets of several chunks are as long as `packetLimitBytes` still, and so are those that are sent again and were
    /// longer.
    package func setSegmentLimit(_ bytes: Int) throws(DataChannelError) {
        guard Self.isPossible(bytes) else { throw .packetLimit(bytes: bytes) }
        guard let socket else { throw .closed }
        let failure = stack.run { _ in
            Self.failure { () throws(SCTPSocket.Failure) in try socket.setSegmentLimit(bytes) }
        }
        if let failure { throw .stack(errno: failure.code) }
        segmentLimitBytes = bytes
    }

    /// What usrsctp says of the path; nil once the association is over.
    package var statistics: AssociationStatistics? {
        guard let socket else { return nil }
        return stack.run { _ in socket.status.map(AssociationStatistics.init) }
    }

    /// A timer may have been started, or have become needless. To be called in `SCTPStack.run`.
    func noteActivity(_ state: inout SCTPStack.State) {
        state.lastActivity = state.now
        countUnsettled(&state)
    }

    func countUnsettled(_ state: inout SCTPStack.State) {
        let isWaiting = phase == .connecting || phase == .shuttingDown || isOutstanding
        let isUnsettled = socket != nil && (isWaiting || !closing.isEmpty || !answeredResets.isEmpty)
        if isUnsettled != self.isUnsettled { state.unsettled += isUnsettled ? 1 : -1 }
        self.isUnsettled = isUnsettled
    }

    func emit(_ event: DataChannelEvent) {
        switch event {
        case .writable, .bufferedAmountLow:
            if !roomEvents.contains(event) { roomEvents.append(event) }
        default:
            events.append(event)
            eventBytes += event.bytes
        }
    }

    /// Whether the reader is too far behind to read more.
    func holdUpReading() -> Bool {
        isReadingHeldUp = eventBytes > options.receiveBufferBytes
        return isReadingHeldUp
    }

    /// The association is over. To be called in `SCTPStack.run`.
    func end(_ reason: AssociationCloseReason, _ state: inout SCTPStack.State) {
        guard phase != .closed else { return }
        phase = .closed
        socket?.close(&state)
        socket = nil
        channels.removeAll()
        closing.removeAll()
        noteActivity(&state)
        waitingControl.removeAll()
        partialMessages.removeAll()
        unsent.removeAll()
        roomEvents.removeAll()
        emit(.closed(reason))
    }

    static func failure(_ body: () throws(SCTPSocket.Failure) -> Void) -> SCTPSocket.Failure? {
        do throws(SCTPSocket.Failure) {
            try body()
            return nil
        } catch {
            return error
        }
    }

    private static func isPossible(_ packetBytes: Int) -> Bool {
        DataChannelLimits.leastPacketBytes...DataChannelLimits.packetBytes ~= packetBytes
    }

    private static let headerBytes = 12
    private static let takenEventsLimit = 256
}

extension DataChannelEvent {
    /// What it takes while it waits.
    fileprivate var bytes: Int {
        if case .message(_, let bytes, _) = self { return bytes.count + DataChannelLimits.eventBytes }
        return DataChannelLimits.eventBytes
    }
}
