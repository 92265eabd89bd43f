import Traversal

/// The bounds of connections, each with its reason. Times are nanoseconds.
extension ClientLimits {
    // MARK: Ways

    /// Relays are numbered from here on, sockets below.
    static let firstRelayBase: UInt32 = 1 << 20
    /// Sockets on addresses of this machine: with two candidates each and a few relays they fit ICE's 32.
    static let hostSockets = 8
    static let stunServers = 16
    static let addressesPerServer = 2
    /// Of one connection: ICE's 100 pairs, before and after a restart. The oldest give way.
    static let routesPerPeer = 256
    /// Two fragments of RFC 8839 section 5.4 and the colon.
    static let checkUsernameBytes = 513
    /// How long a connection waits for servers before it says that no more candidates follow.
    static let gatheringTime = 5 * second
    /// When requests to a STUN server are sent again: answers come within 100 ms as a rule, and a lost request is to
    /// cost little. The last one's wait is long.
    static let reflexiveWaits: [UInt64] = [100, 200, 400, 800, 1_600, 1_600].map { $0 * millisecond }
    /// After a round without an answer.
    static let reflexiveRetry = 30 * second
    /// Between two rounds that paths ask for which were lost.
    static let askAgainPause = 2 * second
    /// The most often that a mapping is refreshed, as a part of the usual time: every three seconds of 25.
    static let keepAliveDivisor: UInt64 = 8
    /// Where a network that lets out hardly anything lets out HTTPS (RFC 9110 section 4.2.2).
    static let httpsPort: UInt16 = 443
    /// Sentences on what does not work, each kind.
    static let problems = 16

    // MARK: Connections over TCP

    /// Ports on addresses of this machine, each with up to five candidates; with those of the sockets and a few relays
    /// they fit ICE's 32.
    static let streamPorts = 3
    /// Candidates for TCP are told as long as there are no more than this, which leaves relays their room.
    static let candidatesWithStreams = 26
    /// Connections of one port: to peers, and those that came in.
    static let streamsPerPort = 256
    /// Of those, the ones that have come in and shown no check yet. A check comes first, in a round trip or two.
    static let strangersPerPort = 32
    static let strangerTime = 5 * second
    /// When a connection is tried again from the first attempt on, as long as none is under way: NATs have been opened
    /// by then from the other side, or the clocks are as far apart.
    static let dialTimes: [UInt64] = [0, 100, 300, 700, 1_500, 3_000].map { $0 * millisecond }
    /// Up to so much later, drawn anew each time: two that keep missing each other do not do so for ever.
    static let dialJitter = 50 * millisecond
    /// An attempt that was refused is repeated at once. So many fill `dialTime` at the usual distance of two hosts, and
    /// bound what a close one that refuses is sent.
    static let dialAttempts = 120
    /// From the first attempt on; libraries that connect like this have found that what takes longer fails.
    static let dialTime = 10 * second
    /// What waits for a connection to be opened: the check, and once more.
    static let waitingChecks = 4
    /// Between two rounds of asking servers what they see of a port, which takes a connection each. After rounds
    /// without an answer it doubles.
    static let streamQueryPause = 5 * second
    static let streamQueryTime = 4 * second
    /// A description's way to the peer is taken to be half of what its answer took. Longer ones were held up somewhere.
    static let planLead = 250 * millisecond
    static let longestPlan = 3 * second
    /// Who is told of a moment gets it in time; who is not, because the peer is of another make or its signal was lost,
    /// begins by itself.
    static let planPatience = 2 * second

    /// How long before the moment, and after it, a server is asked what port comes next. The connections leave within a
    /// few milliseconds.
    static let aimMargin = 10 * millisecond
    /// Ports that a peer is told to try, each of which takes a connection.
    static let aimedPorts = 10

    // MARK: Guessing ports

    /// Before hundreds of packets leave, checks have a few round trips.
    static let searchPatience = 500 * millisecond
    /// Where ordinary checks should meet, and did not in this time, a NAT may have taken note of what came first.
    static let certainPatience = 1 * second
    /// After a search that found nothing: NATs are sometimes other than they were measured. Longer than
    /// `PunchLimits.searchRest`, which is the peer's as well.
    static let searchPauses = [25, 60].map { $0 * second }
    /// Of what the server remembers: so many connections more have found nothing by a search than something.
    static let hopelessScore = -5
    /// Of one connection, whoever begins them.
    static let searches = 32
    /// A report on a NAT that was not answered with the peer's is told again so often, at times that double.
    static let reminders = 4
    static let reminderPause = 1 * second

    // MARK: DTLS and SCTP

    /// The longest datagram that every path carries.
    static let datagramBytes = ICELimits.datagramBytes
    /// Records in pieces that wait for the others, of all connections. Those of one record are sent at once.
    static let partialRecords = 64
    /// A record of the widest path goes by the narrowest in two.
    static let piecesPerRecord = 4
    /// The longest record of a handshake: less the envelope, with user name fragments of usual length.
    static let handshakeBytes = 1_080
    /// Data that were sent since the peer was heard, for the next path: a window of SCTP's after some round trips.
    static let unansweredRecords = 64
    static let unansweredRecordBytes = ICELimits.longestDatagramBytes
    /// An alarm that is late by more was set before this machine slept, or its program was stopped.
    static let oversleep = second
    /// Longer than any answer that SCTP holds back, and shorter than it takes ICE to find a path dead.
    static let silence = 300 * millisecond
    /// Between the checks of a connection (RFC 8445 section 14.2): a peer that does not ask for less gets the usual 50.
    static let pacingMilliseconds: UInt32 = 20
    /// Before a flight is sent again. The path has just answered a check, so an answer takes little longer.
    static let handshakeTimeoutMicroseconds: UInt32 = 250_000
    /// A flight of the handshake, which may be ready a moment before the path.
    static let waitingRecords = 16
    /// Datagrams of a handshake in one message of signaling. A flight with a certificate of ours takes two.
    static let carriedRecords = 8
    static let carriedRecordBytes = handshakeBytes
    /// Messages with flights of one connection, those that are sent again included.
    static let carriedFlights = 8
    /// Datagrams to a relay that has let this side's relay in and has not answered a check yet: no more than come of
    /// the handshake and as data before the answer.
    static let datagramsAhead = 16
    /// The stream of a connection's own channel where both ends know it before the first packet.
    static let ownStream: UInt16 = 0
    /// A record of TLS's length, and what sealing adds.
    static let recordRoomBytes = 16_384 + 512
    static let tick = 10 * millisecond
    static let ticksPerMeasurement: UInt64 = 25
    static let ticksPerPathWatch: UInt64 = 10
    /// The label of the channel that a connection has by itself.
    static let ownChannelLabel = "turnpike"

    // MARK: Connections

    static let sessions = 256
    static let peersRemembered = 4_096
    /// A pair that has found no direct path by then is reported as one that finds none.
    static let directPatience = 20 * second
    /// `initialize` returns then, whatever is not known yet.
    static let startTime = 8 * second
    /// Before the second attempt; each further pause is twice as long.
    static let retryPause = 250 * millisecond
    /// Candidates that come before the description they belong to.
    static let earlyCandidates = 64
    /// The side with the higher id gives the other so long to restart ICE.
    static let restartCourtesy = 1 * second
    /// A side whose sockets or relays have changed is about to have others, and finds a path by those sooner than by a
    /// restart, which waits for signaling.
    static let moveCourtesy = 1_500 * millisecond
    /// Between offers of a restart, while no path works.
    static let restartPause = 5 * second
    /// A connection without a path ends then: a machine may be asleep for a while, or on its way from one network to
    /// another.
    static let pathlessTime = 600 * second
    /// A peer of another kind gives up sooner, as does SCTP.
    static let foreignPathlessTime = 60 * second
    /// SCTP's retransmissions in a row until it gives up: one in three seconds, for longer than `pathlessTime`.
    static let retransmissions: UInt16 = 240
    /// Messages to peers whose failure may still be told.
    static let pendingMessages = 1_024
    /// What a program has not read yet, of one channel, before the peer is held up.
    static let inboundBytes = 1_048_576
    /// Channels of the peer's that the program has not looked at.
    static let waitingChannels = 256
    /// Events that a slow reader has not seen; older ones are lost to it.
    static let waitingEvents = 1_024
}

extension Duration {
    /// 0 for a negative one.
    var clampedNanoseconds: UInt64 {
        let (seconds, attoseconds) = components
        guard seconds >= 0, attoseconds >= 0 else { return 0 }
        let (product, overflow) = UInt64(seconds).multipliedReportingOverflow(by: 1_000_000_000)
        return overflow ? .max : product.addingClamped(UInt64(attoseconds / 1_000_000_000))
    }
}

extension UInt64 {
    func addingClamped(_ other: UInt64) -> UInt64 {
        let (sum, overflow) = addingReportingOverflow(other)
        return overflow ? .max : sum
    }
}
