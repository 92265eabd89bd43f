/// A WebSocket that the hub knows. It is forgotten when the hub closes it or hears that it ended.
final class Connection: Alarmed {
    enum State {
        /// It has to say who it is.
        case silent
        /// The account store is looking.
        case checking
        case open(Session)
    }

    let id: ConnectionID
    let address: AddressRecord
    var state = State.silent
    var messages = TokenBucket()
    var refusals = TokenBucket()
    var lastHeardAt: UInt64
    /// When it is closed unless it has authenticated.
    var deadline: UInt64?
    /// When it is closed because the server goes.
    var drainsAt: UInt64?
    var attemptsLeft = SignalingLimits.helloAttempts
    /// The `id` of the `hello` that is being checked, as JSON.
    var helloID: [UInt8] = []
    /// The resume token of that `hello`, and what the client counted.
    var resume: (token: String, received: UInt64?)?
    /// Whether that token is all the client showed.
    var showedOnlyToken = false
    /// The connection whose place it takes, once the gateway was asked how far that has come.
    var measured: ConnectionID?
    /// What came behind that `hello`.
    var held: [[UInt8]] = []
    /// A connection that authenticated at its upgrade may still resume, as long as it has done nothing else. Likewise
    /// while the gateway is asked about the connection before it.
    var unusedGrant: Grant?

    init(_ id: ConnectionID, _ address: AddressRecord, now: UInt64) {
        self.id = id
        self.address = address
        lastHeardAt = now
    }

    var session: Session? {
        if case .open(let session) = state { return session }
        return nil
    }
}

/// What outlasts a connection: peer ids, rooms, and what was sent and may not have arrived.
final class Session: Alarmed {
    let id: String
    let user: UserRecord
    /// The half of the resume token that is not the session's id.
    var resumeSecret: [UInt8]
    /// What the last resumption used up, until the client shows that it has the new token.
    var replaced: (secret: [UInt8], received: UInt64, missed: UInt64)?
    /// Messages of the client since its last `welcome`, whatever became of them.
    var received: UInt64 = 0
    /// `nil` while the client is away.
    var connection: Connection?
    var peers: [Peer] = []
    var replay = ReplayQueue()
    let openedAtWallMilliseconds: Int64
    /// Monotonic: the end of the credentials that it was opened with, of its TURN credentials' first part, and of the
    /// client's absence.
    var expiresAt: UInt64?
    var refreshAt: UInt64?
    var resumeEndsAt: UInt64?
    var openCredentialRequests = 0
    var isEnded = false
    /// The last fan-out that reached it, so that each reaches it once however many of its peers are in the room.
    var fanOut: UInt64 = 0

    init(id: String, user: UserRecord, resumeSecret: [UInt8], now: HubTime) {
        self.id = id
        self.user = user
        self.resumeSecret = resumeSecret
        openedAtWallMilliseconds = now.wallMilliseconds
    }

    func peer(_ id: String) -> Peer? { peers.first { $0.id == id } }
}

/// A registered peer id.
final class Peer {
    let id: String
    /// The id as a JSON string.
    let encodedID: [UInt8]
    /// A JSON object.
    var metadata: [UInt8]
    unowned let session: Session
    let registeredAtWallMilliseconds: Int64
    var rooms: [Room] = []
    /// Its client knows what to do with what worked before between two networks.
    var wantsMemory = false

    init(_ id: String, metadata: [UInt8], session: Session, now: HubTime) {
        self.id = id
        encodedID = FrameWriter.encoded(id)
        self.metadata = metadata
        self.session = session
        registeredAtWallMilliseconds = now.wallMilliseconds
    }

    func isIn(_ room: Room) -> Bool { rooms.contains { $0 === room } }

    /// Bytes in a `room-joined`: the two members' names and what stands between them come on top.
    var rosterBytes: Int { encodedID.count + metadata.count + 32 }
}

/// A room exists as long as it has members.
final class Room {
    let id: String
    let encodedID: [UInt8]
    /// In the order in which they came.
    var members: [Peer] = []
    var rosterBytes = 0
    var fanOut = TokenBucket()

    init(_ id: String) {
        self.id = id
        encodedID = FrameWriter.encoded(id)
    }
}

/// What all sessions of a user share. It stays until its budgets are whole again, so that coming back does not renew
/// them.
final class UserRecord: Alarmed {
    let name: String
    /// In the order in which they came.
    var sessions: [Session] = []
    var messages = TokenBucket()
    var fanOut = TokenBucket()
    var credentialRequests = TokenBucket()
    var reports = TokenBucket()
    var probes = TokenBucket()
    var memberships = 0

    init(_ name: String) { self.name = name }

    var wholeAt: UInt64 {
        max(messages.fullAt, fanOut.fullAt, credentialRequests.fullAt, reports.fullAt, probes.fullAt)
    }
}

/// The same for an address.
final class AddressRecord: Alarmed {
    let key: AddressKey
    var connections = 0
    var messages = TokenBucket()
    var failures = TokenBucket()
    var probes = TokenBucket()

    init(_ key: AddressKey) { self.key = key }

    var wholeAt: UInt64 { max(messages.fullAt, failures.fullAt, probes.fullAt) }
}
