/// Every number that bounds signaling and that no configuration key sets, with its reason. What an operator sets is in
/// `HubConfiguration`.
package enum SignalingLimits {
    // JSON texts.

    /// Nesting that a message may have. Session descriptions and candidates need four levels; the scanner recurses, so
    /// this also bounds its stack (case SG-08).
    package static let jsonDepthMax = 32
    /// Members of all objects of one message. Keys are compared with those before them in the same object, so this
    /// bounds that work to half a million comparisons of eight bytes.
    package static let jsonMembersMax = 1_024
    /// Values of one message. An application may send a small binary as an array of numbers.
    package static let jsonValuesMax = 16_384

    // Names and fields.

    /// The longest account name (255 bytes), a slash, and 128 bytes of the user's own.
    package static let peerIDBytesMax = 384
    package static let roomIDBytesMax = 128
    /// What a client puts into `id` is kept while its request waits, and echoed.
    package static let requestIDBytesMax = 128
    /// Kept for as long as a peer is registered, and sent to everyone who joins one of its rooms.
    package static let metadataBytesMax = 4_096
    /// RFC 8489 section 14.3 has usernames of fewer than 509 bytes; a time-limited one is no longer.
    package static let usernameBytesMax = 508
    package static let passwordBytesMax = 1_024
    package static let tokenBytesMax = 4_096
    /// A session id, a point and a secret; everything else is refused unread.
    package static let resumeTokenBytesMax = 128
    /// How much of a message type that the server does not know is sent back.
    package static let echoedTypeBytesMax = 64

    // Time.

    /// Case DEF-17: a connection that has not said who it is by then is closed.
    package static let helloSeconds: UInt64 = 5
    /// How long the account store may take for one answer, once a client has said who it is.
    package static let checkSeconds: UInt64 = 10
    /// A revocation outlives every check of credentials that began before it.
    package static let revocationSeconds: UInt64 = 60
    /// Credentials are sent anew this long before they end, or at half their life where that is later.
    package static let refreshMarginSeconds: UInt64 = 60
    /// The store did not answer; the refresh is tried again after this.
    package static let refreshRetrySeconds: UInt64 = 10
    /// Shorter credentials could end before the allocation that they are for is made.
    package static let credentialSecondsMin: UInt64 = 60

    // State.

    /// Attempts to authenticate on one connection.
    package static let helloAttempts = 3
    /// What a client sends behind its `hello`, before the answer is there. No message before the `welcome` is longer.
    package static let heldMessagesMax = 8
    package static let heldBytesMax = 16_384
    /// Connections that have not authenticated. A thousand clients that come back after a restart fit four times
    /// (case SG-16).
    package static let unauthenticatedConnectionsMax = 4_096
    package static let peersPerSession = 32
    package static let roomsPerPeer = 32
    /// Memberships of all peers of a user.
    package static let roomsPerUser = 512
    package static let membersPerRoom = 1_000
    /// What a `room-joined` may hold. It has to leave room in the 256 KiB that wait for one connection (case DEF-19).
    package static let rosterBytesPerRoom = 131_072
    /// Case RE-17. A room costs about a kilobyte with its member.
    package static let roomsMax = 131_072
    /// Requests for credentials that one session has open.
    package static let credentialRequestsPerSession = 4
    /// Addresses and users without a connection that are remembered until their budgets are whole again.
    package static let recordsRemembered = 65_536
    package static let revocationsRemembered = 4_096

    // What worked between two networks.

    /// A record takes about 300 bytes, so all of them 20 MB.
    package static let networkPairsRemembered = 65_536
    /// Networks change hands and routers; a week is longer than the pause between two calls of people who meet.
    package static let pathMemorySeconds: UInt64 = 7 * 86_400
    /// A method that has worked may fail twice before it counts for less than one that was not tried.
    package static let pathScoreGain = 2
    package static let pathScoreLoss = -1
    /// What was is forgotten after so many attempts that went otherwise.
    package static let pathScoreRange = -10...10
    /// Nobody waits longer for a path.
    package static let pathMillisecondsMax: UInt64 = 60_000
    package static let pathMethodBytesMax = 32
    /// Reports of one user: one for each connection, and a connection every two seconds is more than people make.
    package static let pathReports = Rate(perMinute: 30, burst: 30)

    // Replay. A session keeps what it sent until it knows that it arrived.

    package static let replayMessagesPerSession = 1_024
    package static let replayBytesPerSession = 262_144
    package static let replayBytesTotal = 67_108_864
    /// A probe goes out when so much is unacknowledged, so that queues stay far below their limits.
    package static let probeMessages: UInt64 = 64
    package static let probeBytes = 65_536

    // Budgets that follow from `messages_per_second`.

    /// A user, or an address, may use a quarter of what all its connections together could.
    package static let sharedBudgetDivisor: UInt64 = 4
    /// Copies of broadcasts and of presence that a user's messages may cause, as a multiple of the messages
    /// (case SG-10).
    package static let fanOutPerMessage: UInt64 = 50
    /// The same for all members of a room together.
    package static let roomFanOutPerMessage: UInt64 = 200
    /// Refusals cost a reply each. A connection may have as many at once as its burst of messages, and a fifth of its
    /// rate for long; past that it is closed.
    package static let refusalRateDivisor: UInt64 = 5
    /// Failures to authenticate from one address: ten at once, ten a minute (cases SG-12, SG-20).
    package static let failures = Rate(perMinute: 10, burst: 10)
    /// Connections that the server opens for a user, to the user's own address: a client needs one when it starts and
    /// when its network changes. What the answers tell about a port, the same user could find out from outside with a
    /// tool made for it, a thousand times faster.
    package static let userProbes = Rate(perMinute: 6, burst: 6)
    /// For all users of an address, so that a crowd behind a carrier's NAT is not a means of searching its ports.
    package static let addressProbes = Rate(perMinute: 30, burst: 30)
    /// Of all users at one time: each is a descriptor.
    package static let probesMax = 64
    /// Two transmissions of a SYN, a second apart, and the way there and back.
    package static let probeSeconds: UInt64 = 2
    /// Below, services of the machine listen, and no NAT gives such a port to a client.
    package static let probePortMin: UInt16 = 1_024
    /// Requests for credentials by one user (cases DEF-9, SG-15).
    package static let credentialRequests = Rate(perMinute: 30, burst: 20)
}
