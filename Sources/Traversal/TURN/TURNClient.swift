import STUN

/// A client of one TURN server (RFC 8656): bytes, wishes and the time go in, `TURNAction`s come out. It owns no socket
/// and reads no clock.
///
/// The caller opens a socket or connection to `server`, calls `start`, hands in what comes by it, and calls `advance`
/// when `nextDeadline` has come. After `.ended` the client does nothing more.
package struct TURNClient {
    enum Phase {
        case idle
        case allocating
        case live
        case closing
        case ended
    }

    /// A request under way and what it was for.
    struct Pending {
        var kind: Kind
        /// It had the credential in it.
        var isSigned: Bool
        /// With the credential that is to replace the present one.
        var isRenewal: Bool
        var hasFreshNonce = false
    }

    enum Kind {
        case allocate
        case refresh(lifetimeSeconds: UInt32?)
        case move
        case permissions([IPAddress])
        case channel(UInt16, Endpoint)
        case keepAlive
    }

    package let configuration: TURNConfiguration
    /// Where the client is at home, after redirections.
    package internal(set) var server: Endpoint
    package internal(set) var allocation: TURNAllocation?
    /// Answers and data that were no answer to anything, or not from anybody permitted.
    package internal(set) var ignored: UInt64 = 0

    let cryptography: any Cryptography
    var phase = Phase.idle
    var session: LongTermSession
    /// A session with the credential that a Refresh is trying.
    var renewal: LongTermSession?
    var transactions = TransactionTable<Pending>()
    var frames = FrameBuffer()

    // What the next Allocate leaves out, and how much patience is left for it.
    var attempts = 0
    var freshPorts = 0
    var redirects = 0
    var visited: [Endpoint: UInt64] = [:]
    var leavesOut: Set<AttributeType> = []
    var asksForIPv6Alone = false

    var expiresAt = UInt64.max
    var refreshAt = UInt64.max
    var ticket: [UInt8] = []
    /// A Refresh with the ticket is under way, and until it is answered the server knows no allocation by this way.
    var isMoving = false
    var lastSentAt: UInt64 = 0
    /// Until the way to the server is used when nothing else goes by it, in nanoseconds.
    package var keepAliveNanoseconds = Limits.keepAlive
    /// This client as the server saw it last.
    var mapped: Endpoint?
    var permissions: [IPAddress: Permission] = [:]
    var channels: [Endpoint: Channel] = [:]
    var channelPeers: [UInt16: Endpoint] = [:]
    var nextChannel = Limits.channelNumbers.lowerBound
    var datagrams: [Endpoint: Int] = [:]
    var held = HeldDatagrams()
    var refusals: [IPAddress: Refusal] = [:]
    /// Why the last Refresh came to nothing; nil once one has succeeded.
    var refreshFailure: TURNFailure?

    package init(_ configuration: TURNConfiguration, with cryptography: any Cryptography) {
        self.configuration = configuration
        self.cryptography = cryptography
        server = configuration.server
        session = LongTermSession(configuration.credential)
    }

    package var isLive: Bool { phase == .live }

    package var hasEnded: Bool { phase == .ended }

    /// The socket or connection to `server` is there: allocates.
    package mutating func start(now: UInt64, into actions: inout [TURNAction]) {
        guard phase == .idle else { return }
        guard (1...Limits.usernameBytes).contains(session.credential.username.utf8.count) else {
            return end(failure(.longCredential, .allocate), into: &actions)
        }
        phase = .allocating
        visited[server] = now
        request(.allocate, now: now, into: &actions)
    }

    /// One datagram, or any piece of the stream.
    /// - Parameter source: where a datagram came from, for a socket that others use as well; nil for a connected one.
    package mutating func receive(
        _ bytes: UnsafeRawBufferPointer,
        from source: Endpoint? = nil,
        now: UInt64,
        into actions: inout [TURNAction]
    ) {
        guard phase != .ended, phase != .idle, source == nil || source == server else {
            ignored &+= 1
            return
        }
        guard configuration.transport.isStream else { return take(bytes, now: now, into: &actions) }
        var frames = FrameBuffer()
        swap(&frames, &self.frames)
        let isGood = frames.append(bytes, hasChannels: phase != .allocating) { frame in
            // An earlier frame may have ended this connection.
            if phase != .ended, phase != .idle { take(frame, now: now, into: &actions) }
        }
        guard phase != .ended, phase != .idle else { return }
        swap(&frames, &self.frames)
        if !isGood { end(failure(.desynchronised, .connection), into: &actions) }
    }

    /// Does what is due.
    package mutating func advance(now: UInt64, into actions: inout [TURNAction]) {
        guard phase != .ended else { return }
        for event in transactions.advance(now: now) where phase != .ended {
            switch event {
            case .transmit(_, _, let bytes): emit(bytes, now: now, into: &actions)
            case .failed(let pending, let why): fail(pending, why, now: now, into: &actions)
            }
        }
        guard phase == .live else { return }
        // What is put off while the allocation moves is done as soon as it has.
        if isMoving { return advanceMove(now: now, into: &actions) }
        if now >= expiresAt { return end(expiryFailure, into: &actions) }
        if now >= refreshAt {
            refreshAt = .max
            request(.refresh(lifetimeSeconds: configuration.lifetimeSeconds), now: now, into: &actions)
        }
        advancePermissions(now: now, into: &actions)
        advanceChannels(now: now, into: &actions)
        if phase == .live, now >= keepAliveAt { keepAlive(now: now, into: &actions) }
    }

    /// When `advance` wants to be called; nil while nothing is awaited.
    package var nextDeadline: UInt64? {
        guard phase != .ended else { return nil }
        var earliest = transactions.nextDeadline ?? .max
        if phase == .live, isMoving {
            earliest = min(earliest, expiresAt)
        } else if phase == .live {
            earliest = min(earliest, expiresAt, refreshAt, keepAliveAt, permissionDeadline, channelDeadline)
        }
        return earliest == .max ? nil : earliest
    }

    /// The socket or connection is gone. An ICMP "port unreachable" from the server's address is no reason to call
    /// this: it may be forged.
    package mutating func connectionLost(into actions: inout [TURNAction]) {
        guard phase != .ended else { return }
        end(phase == .closing ? nil : failure(.connectionLost, .connection), into: &actions)
    }

    /// Another credential, as when a time-limited one is about to expire: it is tried with a Refresh, and serves from
    /// then on if the server takes it.
    package mutating func renew(
        _ credential: TURNCredential,
        now: UInt64,
        into actions: inout [TURNAction]
    ) {
        guard (1...Limits.usernameBytes).contains(credential.username.utf8.count) else {
            actions.append(.renewalRefused(failure(.longCredential, .refresh)))
            return
        }
        let fresh = session.with(credential, cryptography)
        guard phase == .live else {
            if phase == .idle || phase == .allocating { session = fresh }
            return
        }
        renewal = fresh
        _ = transactions.abandon { $1.isRenewal }
        request(
            .refresh(lifetimeSeconds: configuration.lifetimeSeconds),
            isRenewal: true,
            now: now,
            into: &actions
        )
    }

    /// Asks the server whether the allocation is there, as when data by it has no effect.
    package mutating func check(now: UInt64, into actions: inout [TURNAction]) {
        // One that is under way is as good.
        guard phase == .live, !isMoving, refreshAt != .max else { return }
        refreshAt = .max
        request(.refresh(lifetimeSeconds: configuration.lifetimeSeconds), now: now, into: &actions)
    }

    /// Sends what is not answered yet once more, out of its time. What goes by a stream is there already.
    package mutating func repeatRequests(now: UInt64, into actions: inout [TURNAction]) {
        guard phase == .allocating || phase == .live, !configuration.transport.isStream else { return }
        for bytes in transactions.repeatAll(now: now) { emit(bytes, now: now, into: &actions) }
    }

    /// The client's address has changed, and the caller has a socket or connection from the new one: moves the
    /// allocation there (RFC 8016).
    /// - Parameter server: another address of the server, as of the other family, that the new one leads to; nil where
    ///   it is the same.
    /// - Returns: false when the server gave no ticket; a new client is needed then.
    package mutating func moved(to server: Endpoint? = nil, now: UInt64, into actions: inout [TURNAction]) -> Bool {
        guard phase == .live, !ticket.isEmpty else { return false }
        if let server { self.server = server }
        frames.reset()
        for pending in transactions.abandon() { putBack(pending, now: now) }
        isMoving = true
        request(.move, now: now, into: &actions)
        return true
    }

    /// Gives the allocation back. `.ended(nil)` follows, when the server has answered or does not.
    package mutating func close(now: UInt64, into actions: inout [TURNAction]) {
        guard phase != .ended, phase != .closing else { return }
        _ = transactions.abandon()
        // An Allocate under way may have been granted, if it was signed; before, there is nothing to give back.
        guard phase == .live || phase == .allocating, session.key != nil else { return end(nil, into: &actions) }
        phase = .closing
        request(.refresh(lifetimeSeconds: 0), now: now, into: &actions)
    }

    private mutating func advanceMove(now: UInt64, into actions: inout [TURNAction]) {
        if now >= expiresAt { end(expiryFailure, into: &actions) }
    }

    mutating func end(_ failure: TURNFailure?, into actions: inout [TURNAction]) {
        guard phase != .ended else { return }
        phase = .ended
        _ = transactions.abandon()
        allocation = nil
        permissions = [:]
        channels = [:]
        channelPeers = [:]
        datagrams = [:]
        held = HeldDatagrams()
        refusals = [:]
        frames.reset()
        actions.append(.ended(failure))
    }

    /// What kept the allocation from being refreshed says more than that it has expired.
    private var expiryFailure: TURNFailure { refreshFailure ?? failure(.allocationExpired, .refresh) }

    func failure(
        _ reason: TURNFailure.Reason,
        _ operation: TURNFailure.Operation,
        code: UInt16? = nil,
        phrase: String = ""
    ) -> TURNFailure {
        TURNFailure(
            reason: reason,
            operation: operation,
            code: code,
            phrase: phrase,
            server: server,
            transport: configuration.transport
        )
    }

    // MARK: The way's own life

    private var keepAliveAt: UInt64 { lastSentAt.addingSaturated(keepAliveNanoseconds) }

    /// Keeps the NATs between open. On a stream it is a Binding indication, which nobody answers (RFC 8489 section 11).
    /// A datagram may be lost, and with it the mapping; so it is a Binding request, which is sent again until it is
    /// answered (RFC 8656 section 7), and the answer tells of a NAT that has forgotten the mapping all the same.
    private mutating func keepAlive(now: UInt64, into actions: inout [TURNAction]) {
        guard configuration.transport.isStream else { return request(.keepAlive, now: now, into: &actions) }
        let bytes = build(MessageType(.binding, .indication), cryptography.randomTransaction()) { _ in }
        emit(bytes, now: now, into: &actions)
    }

    mutating func emit(_ bytes: [UInt8], now: UInt64, into actions: inout [TURNAction]) {
        lastSentAt = now
        actions.append(.send(bytes))
    }
}
