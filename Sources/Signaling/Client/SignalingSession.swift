/// A client's signaling (docs/signaling.md): what is said to the server, and what comes from it, over one connection
/// after the other.
///
/// A pure machine: calls and the time go in, and `SignalingAction`s come out. It reads no clock and no socket. Times
/// are monotonic nanoseconds. The caller opens a WebSocket for each `.connect`, tells what becomes of it under its
/// number, and calls `advance` when `nextDeadline` has come.
///
/// What it does by itself: it comes back after every cut, with pauses; resumes its session, so that no message is lost
/// or doubled in either direction; and where that session is gone, opens a new one, registers its peer ids and enters
/// their rooms again. It stops only when the server refuses its credentials, until there are others.
package struct SignalingSession {
    package static let subprotocol = "turnpike.v1"

    package enum State: Sendable, Hashable {
        /// `start` has not been called.
        case idle
        case connecting
        case open
        /// The next attempt waits for its time.
        case waiting
        /// The server refuses the credentials. `setCredentials` goes on.
        case refused(SignalingError)
        case closed
    }

    enum Phase {
        case idle
        /// The WebSocket is being opened.
        case connecting
        /// It is open, and the `welcome` is not here.
        case greeting
        case open
        case waiting
        case refused(SignalingError)
        case closed
    }

    package let configuration: SignalingConfiguration
    package internal(set) var counters = SignalingSessionCounters()
    /// The last `welcome`; its TURN credentials are those that came last. nil before the first.
    package internal(set) var welcome: SignalingWelcome?
    /// The server's clock, once it is known.
    package internal(set) var clock = ServerClock()

    /// Draws 64 bits, for pauses that differ from client to client. Tests give a seeded one.
    let random: () -> UInt64
    var credentials: SignalingCredentials
    var phase = Phase.idle
    /// When the phase is over, if nothing happens.
    var phaseEndsAt = UInt64.max
    /// The newest WebSocket's number.
    var socket: UInt64 = 0
    var attempts: UInt64 = 0
    var openedAt: UInt64 = 0
    /// The server has said when it wants to see the client again.
    var comeBackAt: UInt64 = 0
    /// What the server said last that was no answer to a request: the reason of the close that follows.
    var lastFailure: SignalingError?
    var resume: Resume?
    /// The `id` of the `hello` that is not answered.
    var helloID: UInt64?
    /// A `welcome` that came at the upgrade, while the session before is asked for.
    var spareWelcome: (welcome: ServerMessage, resumeToken: String, received: UInt64)?

    // This connection.
    var received: UInt64 = 0
    var heardAt: UInt64 = 0
    var sentAt: UInt64 = 0
    var malformed: UInt64 = 0
    var ping: Ping?
    var pace = Pace()
    /// From when on the next message may go, as of the last attempt to send.
    var paceReadyAt: UInt64 = 0

    var lastID: UInt64 = 0
    var outbox = Outbox()
    var registrations: [Registration] = []

    var credentialNoticeAt = UInt64.max
    var refreshICEAt = UInt64.max
    var sampleClockAt = UInt64.max

    /// What brings a session back.
    struct Resume {
        var token: String
        var user: String
        /// Messages since its `welcome`, as of the cut.
        var received: UInt64
    }

    /// A question whether the server is there and how far it has come.
    struct Ping {
        var id: UInt64
        /// Answered, all up to this number of ours have arrived.
        var sequence: UInt64
        var sentAt: UInt64
    }

    package init(_ configuration: SignalingConfiguration, random: @escaping () -> UInt64) {
        self.configuration = configuration
        credentials = configuration.credentials
        self.random = random
    }

    package var state: State {
        switch phase {
        case .idle: .idle
        case .connecting, .greeting: .connecting
        case .open: .open
        case .waiting: .waiting
        case .refused(let error): .refused(error)
        case .closed: .closed
        }
    }

    /// The peer ids that are to be registered, whether or not they are at the moment.
    package var wantedPeerIDs: [String] { registrations.map(\.peerID) }

    /// Messages that wait for a connection, or for their turn.
    package var waitingMessages: Int { outbox.waiting.count }

    /// Makes the first attempt to connect. Requests may have been made before.
    package mutating func start(now: UInt64, into actions: inout [SignalingAction]) {
        guard case .idle = phase else { return }
        connect(now, &actions)
    }

    /// Goes on with other credentials. A connection that is open is opened anew, and nothing is lost if the user is the
    /// same; one that the server has refused is tried again.
    package mutating func setCredentials(
        _ credentials: SignalingCredentials,
        now: UInt64,
        into actions: inout [SignalingAction]
    ) {
        guard credentials != self.credentials else { return }
        self.credentials = credentials
        credentialNoticeAt = .max
        if let user = credentials.user, let resume, user != resume.user { self.resume = nil }
        switch phase {
        case .idle, .closed: return
        case .open, .connecting, .greeting, .waiting, .refused: connectAnew(now, &actions)
        }
    }

    /// The way to the server is another one, as when this machine's addresses have changed: what there is of a
    /// connection is given up, and another begins at once. Nothing is lost.
    package mutating func reconnect(now: UInt64, into actions: inout [SignalingAction]) {
        switch phase {
        case .idle, .refused, .closed: return
        case .open, .connecting, .greeting, .waiting: connectAnew(now, &actions)
        }
    }

    private mutating func connectAnew(_ now: UInt64, _ actions: inout [SignalingAction]) {
        switch phase {
        case .open, .connecting, .greeting:
            leave(now)
            // Not 1000, which would end the session.
            actions.append(.close(code: 1001))
        case .idle, .waiting, .refused, .closed: break
        }
        attempts = 0
        guard comeBackAt <= now else { return wait(until: comeBackAt) }
        connect(now, &actions)
    }

    /// Says goodbye: what waits is sent if there is a connection, the session ends, and requests fail.
    package mutating func close(now: UInt64, into actions: inout [SignalingAction]) {
        if case .closed = phase { return }
        if case .open = phase { flush(now, &actions, isLast: true) }
        switch phase {
        case .connecting, .greeting, .open: actions.append(.close(code: 1000))
        default: break
        }
        phase = .closed
        phaseEndsAt = .max
        resume = nil
        registrations = []
        fail(outbox.takeAll(), .closed, &actions)
        actions.append(.deliver(.closed))
    }

    // MARK: The WebSocket

    /// The WebSocket is open.
    /// - Parameter serverSeconds: since 1970, by the server's clock, as the upgrade's answer tells it; nil where it
    ///   does not.
    package mutating func opened(
        socket: UInt64,
        serverSeconds: Int64? = nil,
        now: UInt64,
        into actions: inout [SignalingAction]
    ) {
        guard socket == self.socket, case .connecting = phase else { return }
        if let serverSeconds { clock.noteUpgrade(serverSeconds: serverSeconds, now: now) }
        phase = .greeting
        phaseEndsAt = later(now, seconds: SignalingClientLimits.greetingSeconds)
        heardAt = now
        if configuration.credentialPlace == .hello { sendHello(now, &actions) }
    }

    /// A text message came.
    package mutating func received(
        _ text: String,
        socket: UInt64,
        now: UInt64,
        into actions: inout [SignalingAction]
    ) {
        guard socket == self.socket else { return }
        heardAt = max(heardAt, now)
        switch phase {
        case .greeting: greeted(ServerMessage(Array(text.utf8)), now, &actions)
        case .open: take(ServerMessage(Array(text.utf8)), now, &actions)
        default: return
        }
        flush(now, &actions)
    }

    /// Something came that is no message: a ping, or a pong.
    package mutating func heard(socket: UInt64, now: UInt64) {
        if socket == self.socket { heardAt = max(heardAt, now) }
    }

    /// The WebSocket is gone, or never opened.
    /// - Parameters:
    ///   - code: of the server's close frame; nil where there was none.
    ///   - problem: what went wrong instead, as a sentence without its full stop; nil where nothing is known.
    package mutating func closed(
        socket: UInt64,
        code: UInt16?,
        problem: SignalingError? = nil,
        now: UInt64,
        into actions: inout [SignalingAction]
    ) {
        guard socket == self.socket else { return }
        switch phase {
        case .connecting, .greeting, .open: lost(code, problem, now, &actions)
        default: return
        }
    }

    /// The upgrade was answered with an HTTP status that is not 101.
    package mutating func rejected(
        socket: UInt64,
        status: Int,
        retryAfterSeconds: UInt64?,
        now: UInt64,
        into actions: inout [SignalingAction]
    ) {
        guard socket == self.socket, case .connecting = phase else { return }
        if configuration.credentialPlace == .upgrade, status == 401 || status == 403 {
            return refuse(status == 401 ? wrongOrExpired(now) : .revoked, now, &actions)
        }
        let pause = min(retryAfterSeconds ?? 0, SignalingClientLimits.pauseMillisecondsMax / 1_000) &* 1_000
        let error = SignalingError(
            .rejected(status: status),
            "The server answered the WebSocket's upgrade with HTTP status \(status)",
            mend: Self.mend(ofStatus: status),
            retryAfterMilliseconds: retryAfterSeconds == nil ? nil : pause
        )
        disconnect(error, pauseMilliseconds: pause, now, &actions)
    }

    /// The server's own credentials come after the upgrade, so these are about what stands before it.
    private static func mend(ofStatus status: Int) -> String {
        switch status {
        case 200..<300: "a web server answers there, and no signaling server; check the address, the port and the path"
        case 300..<400: "redirections are not followed; write the address that it leads to"
        case 401: "a proxy before the server wants credentials of its own; have it pass the signaling path on"
        case 403, 407: "a proxy or firewall before the server does not let this through; have it pass the path on"
        case 404, 410: "check the path of the signaling server's address"
        case 426: "what answers there takes no WebSocket of this version; have the proxy pass upgrades on"
        case 429: "there were too many attempts; wait"
        case 502, 503, 504: "a proxy stands there and the server behind it does not answer; check that it runs"
        default: "check the address and what stands before it"
        }
    }

    /// What is new is told by actions. Does nothing when it is called too early.
    package mutating func advance(now: UInt64, into actions: inout [SignalingAction]) {
        expireRequests(now, &actions)
        if credentialNoticeAt <= now {
            credentialNoticeAt = .max
            actions.append(.deliver(.credentialsEnding(afterMilliseconds: credentialsLeftMilliseconds(now))))
        }
        switch phase {
        case .idle, .refused, .closed: return
        case .waiting: if phaseEndsAt <= now { connect(now, &actions) }
        case .connecting, .greeting:
            guard phaseEndsAt <= now else { return }
            actions.append(.close(code: 1001))
            lost(nil, .timedOut("The attempt to connect"), now, &actions)
        case .open:
            guard keepAlive(now, &actions) else { return }
            keepUp(now)
            flush(now, &actions)
        }
    }

    /// When `advance` has something to do; nil where nothing waits.
    package var nextDeadline: UInt64? {
        if case .closed = phase { return nil }
        var next = min(phaseEndsAt, credentialNoticeAt, outbox.nextExpiry)
        if case .open = phase { next = min(next, openDeadline) }
        return next == .max ? nil : next
    }
}
