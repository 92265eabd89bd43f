import STUN

/// One side of the search for a way between two NATs, by a plan. It owns no socket or clock: each call takes the
/// monotonic time in nanoseconds and appends what is to be done; after each, `nextDeadline` says when `advance` is due.
///
/// It finds sockets and endpoints that reach each other, and is no judge of paths: the caller makes them candidates of
/// ICE, whose checks decide.
package final class Puncher {
    package struct Session {
        package var own: ICECredentials
        package var peer: ICECredentials
        /// A STUN server, by IPv4.
        package var server: Endpoint
        /// This side's, as servers see it.
        package var ownAddress: IPAddress
        /// From here to the peer and back, by the way of signaling or the relay; 0 where it is not known.
        package var roundTrip: UInt64
        /// Attempts are numbered over all searches of a connection.
        package var firstAttempt: UInt32

        package init(
            own: ICECredentials,
            peer: ICECredentials,
            server: Endpoint,
            ownAddress: IPAddress,
            roundTrip: UInt64 = 0,
            firstAttempt: UInt32 = 1
        ) {
            (self.own, self.peer, self.server) = (own, peer, server)
            (self.ownAddress, self.roundTrip, self.firstAttempt) = (ownAddress, roundTrip, firstAttempt)
        }
    }

    struct Socket {
        var local: Endpoint?
        /// What its packets open a NAT for; nil for those that only ask the server.
        var target: Endpoint?
        var sent = 0
        var next: UInt64 = .max
        var hasHit = false
    }

    /// A question to the STUN server, from one socket.
    struct Sample {
        let socket: Int
        let transaction: TransactionID
        let request: [UInt8]
        var sent = 0
        var next: UInt64
        var mapped: Endpoint?
    }

    package let plan: PunchPlan
    package let session: Session
    package private(set) var counters = PunchCounters()
    package internal(set) var outcome: PunchOutcome?
    package internal(set) var attempt: UInt32
    let begins: Bool
    let gate: PunchGate
    let cryptography: any Cryptography
    let probe: PunchProbe

    var now: UInt64 = 0
    var actions: [PunchAction] = []
    var sockets: [Int: Socket] = [:]
    private var nextSocket = 0
    var samples: [Sample] = []
    /// When the attempt, or the wait for the peer, is over.
    var endsAt: UInt64 = .max
    /// When the gate lets the next packet through.
    var gateAt: UInt64 = 0
    /// The address that a search of this side has reserved.
    var searched: IPAddress?
    private var lingersUntil: UInt64?
    /// What was told last and is not answered yet, and when it is told again.
    private var unanswered: (message: PunchMessage, next: UInt64)?

    // The asking side.
    var guesses: PortGuesses?
    var target: IPAddress?
    var passAt: UInt64 = 0
    var ownEndpoint: Endpoint?
    // The opening side.
    var asker: Endpoint?
    /// Sockets still to be opened, and those of this attempt that wait for all to be there.
    var toOpen = 0
    var row: [Int] = []
    var measuredAt: UInt64 = .max
    /// What the peer's question of this attempt was answered with.
    var answer: PunchMessage?
    // Both.
    var peerBase: Endpoint?
    var ownBase: Endpoint?
    /// The peer has asked for this attempt.
    var isMeasuring = false
    var startsAt: UInt64 = .max

    package init(
        _ plan: PunchPlan,
        _ session: Session,
        begins: Bool,
        gate: PunchGate,
        cryptography: any Cryptography
    ) {
        (self.plan, self.session, self.begins, self.gate) = (plan, session, begins, gate)
        self.cryptography = cryptography
        attempt = session.firstAttempt
        probe = PunchProbe(own: session.own, peer: session.peer, cryptography)
    }

    package func start(now: UInt64, into output: inout [PunchAction]) {
        turn(now, &output) {
            endsAt = after(PunchLimits.silence)
            guard begins else { return }
            switch plan {
            case .ask: startAsking()
            case .meet: propose()
            case .fixed: beginFixed()
            case .open: break
            }
        }
    }

    /// - Parameter local: nil where no socket could be had.
    package func opened(_ socket: Int, at local: Endpoint?, now: UInt64, into output: inout [PunchAction]) {
        turn(now, &output) {
            guard sockets[socket] != nil else { return }
            guard let local else {
                sockets[socket] = nil
                return failedToOpen(socket)
            }
            sockets[socket]?.local = local
            if outcome == nil { prepared(socket) }
        }
    }

    package func take(_ message: PunchMessage, now: UInt64, into output: inout [PunchAction]) {
        turn(now, &output) {
            guard outcome == nil, lingersUntil == nil else { return }
            switch (message, plan) {
            case (.ready(let number, let endpoint), .open): open(number, toward: endpoint)
            case (.opened(let number, let address, let ports), .ask): search(number, at: address, ports)
            case (.measure(let number), .meet) where !begins: measure(number)
            case (.ready(let number, let endpoint), .fixed): openFixed(number, toward: endpoint)
            case (.opened(let number, let address, let ports), .fixed): approachFixed(number, at: address, ports)
            case (.measure(let number), .fixed) where !begins: measureFixed(number)
            case (.base(let number, let endpoint), .meet): approach(number, endpoint)
            case (.cancel, _): end(.cancelled)
            default: refuse()
            }
        }
    }

    /// A datagram on one of the sockets.
    /// - Returns: whether it was the peer's or the server's.
    @discardableResult
    package func receive(
        _ bytes: UnsafeRawBufferPointer,
        on socket: Int,
        from source: Endpoint,
        now: UInt64,
        into output: inout [PunchAction]
    ) -> Bool {
        var isTaken = false
        turn(now, &output) { isTaken = take(bytes, on: socket, from: source) }
        return isTaken
    }

    package func advance(now: UInt64, into output: inout [PunchAction]) { turn(now, &output) {} }

    /// Ends at once; the peer is told.
    package func cancel(now: UInt64, into output: inout [PunchAction]) {
        turn(now, &output) {
            guard outcome == nil else { return }
            if lingersUntil == nil { actions.append(.tell(.cancel)) }
            end(lingersUntil == nil ? .cancelled : .hit)
        }
    }

    package var nextDeadline: UInt64? {
        guard outcome == nil else { return nil }
        if let lingersUntil { return min(lingersUntil, sockets.values.map(\.next).min() ?? .max) }
        var next = min(endsAt, startsAt, measuredAt, unanswered?.next ?? .max)
        for sample in samples where sample.mapped == nil { next = min(next, sample.next) }
        var sending: UInt64 = toOpen > 0 ? 0 : .max
        for socket in sockets.values { sending = min(sending, socket.next) }
        if guesses != nil { sending = min(sending, passAt) }
        if sending < .max { next = min(next, max(sending, gateAt)) }
        return next
    }

    // MARK: Turns

    private func turn(_ now: UInt64, _ output: inout [PunchAction], _ event: () -> Void) {
        self.now = max(self.now, now)
        event()
        if outcome == nil { work() }
        output += actions
        actions.removeAll(keepingCapacity: true)
    }

    private func work() {
        if let lingersUntil {
            if now >= lingersUntil { end(.hit) } else { repeatHits() }
            return
        }
        if let unanswered, now >= unanswered.next { ask(unanswered.message) }
        for index in samples.indices where samples[index].mapped == nil && now >= samples[index].next { ask(index) }
        switch plan {
        case .ask: continueAsking()
        case .open: continueOpening()
        case .meet: continueMeeting()
        case .fixed: continueFixed()
        }
    }

    // MARK: Messages

    /// Tells the peer what it has to answer, and again until it does: messages are lost where signaling breaks.
    func ask(_ message: PunchMessage) {
        actions.append(.tell(message))
        unanswered = (message, after(session.roundTrip &+ PunchLimits.messagePatience))
    }

    func noteAnswer() { unanswered = nil }

    // MARK: Time and ends

    func after(_ nanoseconds: UInt64) -> UInt64 { now.addingSaturated(nanoseconds) }

    func end(_ outcome: PunchOutcome) {
        guard self.outcome == nil else { return }
        self.outcome = outcome
        if let searched { gate.endSearch(searched, now: now) }
        for number in sockets.keys.sorted() where sockets[number]?.hasHit != true { close(number) }
        (samples, guesses, toOpen, unanswered) = ([], nil, 0, nil)
        actions.append(.ended(outcome))
    }

    func refuse() { counters.refused &+= 1 }

    func noteAttempt() { counters.attempts &+= 1 }

    // MARK: Sockets

    @discardableResult
    func openSocket(toward target: Endpoint? = nil) -> Int {
        let number = nextSocket
        nextSocket += 1
        sockets[number] = Socket(target: target)
        actions.append(.open(socket: number))
        return number
    }

    func close(_ number: Int) {
        sockets[number] = nil
        samples.removeAll { $0.socket == number }
        actions.append(.close(socket: number))
    }

    /// The oldest make room for those of another attempt.
    func makeRoom(for count: Int) {
        for number in sockets.keys.sorted() where sockets.count + count > PunchLimits.sockets {
            if sockets[number]?.hasHit != true { close(number) }
        }
    }

    /// - Returns: whether the gate lets a packet out now; otherwise the next turn is when it does.
    func isAdmitted(_ address: IPAddress) -> Bool {
        guard now >= gateAt else { return false }
        guard let next = gate.admit(address, now: now) else { return true }
        gateAt = next
        return false
    }

    func sendProbe(_ number: Int, to endpoint: Endpoint, hopLimit: UInt8? = nil) {
        counters.probesSent &+= 1
        actions.append(.send(socket: number, to: endpoint, bytes: probe.request, hopLimit: hopLimit))
    }

    // MARK: The server

    func sample(_ number: Int) {
        let transaction = cryptography.randomTransaction()
        let request = withUnsafeTemporaryAllocation(byteCount: 32, alignment: 8) { space in
            var builder = MessageBuilder(MessageType(.binding, .request), transaction, into: space)
            builder.appendFingerprint()
            return builder.finish().map { Array(UnsafeRawBufferPointer(space)[..<$0]) } ?? []
        }
        samples.append(Sample(socket: number, transaction: transaction, request: request, next: now))
        ask(samples.count - 1)
    }

    private func ask(_ index: Int) {
        let sample = samples[index]
        samples[index].sent += 1
        guard let wait = PunchLimits.sampleWaits.dropFirst(sample.sent).first else {
            samples[index].next = .max
            return
        }
        samples[index].next = after(wait)
        actions.append(.send(socket: sample.socket, to: session.server, bytes: sample.request, hopLimit: nil))
    }

    // MARK: What comes

    private func take(_ bytes: UnsafeRawBufferPointer, on socket: Int, from source: Endpoint) -> Bool {
        guard sockets[socket] != nil, let message = try? MessageView(bytes) else { return false }
        if message.type == MessageType(.binding, .successResponse), source == session.server,
            let index = samples.firstIndex(where: { $0.transaction == message.transactionID && $0.socket == socket })
        {
            guard samples[index].mapped == nil,
                let mapped = message.first(.xorMappedAddress).flatMap({
                    AddressAttribute.decodeXOR($0, message.transactionID)
                })
            else { return true }
            samples[index].mapped = mapped
            if outcome == nil, lingersUntil == nil { measured(samples[index]) }
            return true
        }
        switch probe.kind(message, from: source) {
        case .request(let answer):
            actions.append(.send(socket: socket, to: source, bytes: answer, hopLimit: nil))
            hit(socket, source, nil)
        case .check: hit(socket, source, nil)
        case .answer(let mapped): hit(socket, source, mapped)
        case nil: return false
        }
        return true
    }

    private func hit(_ number: Int, _ peer: Endpoint, _ mapped: Endpoint?) {
        guard outcome == nil, sockets[number]?.hasHit == false,
            sockets.values.count(where: \.hasHit) < PunchLimits.hits
        else { return }
        counters.hits &+= 1
        for number in sockets.keys { sockets[number]?.next = .max }
        sockets[number]?.hasHit = true
        sockets[number]?.target = peer
        sockets[number]?.sent = 0
        sockets[number]?.next = after(PunchLimits.openerPause)
        (toOpen, guesses, unanswered) = (0, nil, nil)
        if lingersUntil == nil { lingersUntil = after(PunchLimits.lingerTime) }
        let known = mapped ?? samples.first { $0.socket == number }?.mapped
        actions.append(.hit(PunchHit(socket: number, peer: peer, mapped: known)))
    }

    /// The answer to the peer's probe may have been lost, and the peer not know of the way.
    private func repeatHits() {
        for (number, socket) in sockets where socket.hasHit && now >= socket.next {
            guard let target = socket.target, socket.sent < PunchLimits.hitCopies else {
                sockets[number]?.next = .max
                continue
            }
            sendProbe(number, to: target)
            sockets[number]?.sent += 1
            sockets[number]?.next = after(PunchLimits.openerPause)
        }
    }

    // MARK: By plan

    /// The socket is there.
    private func prepared(_ number: Int) {
        guard lingersUntil == nil else { return }
        switch plan {
        case .ask, .fixed: sample(number)
        case .open: preparedToOpen(number)
        case .meet: preparedToMeet(number)
        }
    }

    private func failedToOpen(_ number: Int) {
        // A system without another socket to give gives none to the others either.
        toOpen = 0
        row.removeAll { $0 == number }
        if sockets.isEmpty, outcome == nil { end(.missed) }
    }

    private func measured(_ sample: Sample) {
        switch plan {
        case .ask: tellReady(sample)
        case .open: tellPortsIfMeasured()
        case .meet: tellBase(sample)
        case .fixed: measuredFixed(sample)
        }
    }
}
