/// Every number that bounds the client's protocol state, with its reason. Times are nanoseconds unless the name says
/// otherwise.
package enum Limits {
    static let millisecond: UInt64 = 1_000_000
    static let second: UInt64 = 1_000_000_000

    // MARK: Transactions (RFC 8489 section 6.2)

    /// Section 6.2.1: the first RTO, before anything is known of the way.
    package static let initialRetransmission = 500 * millisecond
    /// An estimate below this would make the server's own delay look like loss.
    package static let shortestRetransmission = 100 * millisecond
    /// A way that takes longer is broken, and its requests would outlive any patience.
    package static let longestRetransmission = 8 * second
    /// Rc: how often a request is sent in all.
    package static let transmissions = 7
    /// Rm: how many RTOs the last one is waited for.
    package static let lastWait: UInt64 = 16
    /// Ti, section 6.2.2: how long an answer by a connection may take.
    package static let streamWait = 39_500 * millisecond
    /// Section 6.2.1: an estimate that nobody used for so long is forgotten.
    static let estimateLifetime = 600 * second
    /// Servers whose round trip is remembered: more than anybody configures.
    static let estimates = 32
    /// Transactions under way in one machine. ICE's largest check list has a hundred pairs.
    package static let transactions = 256

    // MARK: What an answer may hold (RFC 8489 sections 14.8 to 14.10)

    static let realmBytes = 763
    static let nonceBytes = 763
    static let usernameBytes = 508
    /// Of a server's reason phrase this much is shown.
    static let reasonCharacters = 120

    /// PASSWORD-ALGORITHMS of a server that offers every algorithm there is, several times over.
    static let passwordAlgorithmsBytes = 64
    /// RFC 8016 leaves the ticket's length to the server; a request with a longer one would be cut into fragments.
    static let ticketBytes = 512

    // MARK: TURN (RFC 8656)

    /// Allocates in one attempt, whatever the server answers: a challenge, a fresh nonce, attributes left out, and as
    /// many again.
    static let allocateAttempts = 8
    /// RFC 8656 section 7.4: how many ports to try where the server thinks the 5-tuple is in use.
    static let freshPorts = 3
    /// RFC 8489 section 10 bounds redirection by time alone; nobody has so many servers in a row.
    static let redirects = 5
    /// RFC 8489 section 10: a server that was asked so recently is not asked again.
    static let redirectMemory = 300 * second
    /// What an allocation is refreshed before its end, so that all retransmissions of a Refresh fit in.
    static let refreshMargin = 60 * second
    /// A lifetime that a server grants and nobody can work with is taken for this.
    static let shortestLifetimeSeconds: UInt32 = 10
    /// A longer one is refreshed as if it were a day, which no clock arithmetic minds.
    static let longestLifetimeSeconds: UInt32 = 86_400
    /// RFC 8656 section 9: a permission's life, and when it is refreshed.
    static let permissionLifetime = 300 * second
    static let permissionRefresh = 240 * second
    /// Permissions that would be refreshed so soon after another go with it in one request.
    static let permissionBatching = 30 * second
    /// What servers grant to one allocation as a rule.
    package static let permissions = 128
    /// Addresses in one CreatePermission: with IPv6 and the longest usual credentials still one datagram of 1,200
    /// bytes.
    static let permissionsPerRequest = 32
    /// Datagrams that wait for one peer's permission: a check, its repetition, and a flight of a handshake.
    static let heldPerPeer = 4
    /// The same for all peers together, who are a check list's as a rule.
    static let heldDatagrams = 128
    static let heldBytes = 65_536
    /// What has waited for so long has been sent again by whoever waits for its answer.
    static let heldLifetime = 2 * second
    /// A peer that the server has refused is not asked for again before. Policies change by hand, and 508 passes in a
    /// minute (RFC 8656 section 7.4).
    static let refusalMemory = 60 * second
    /// RFC 8656 section 12: a channel's life, and when it is refreshed.
    static let channelLifetime = 600 * second
    static let channelRefresh = 540 * second
    /// RFC 8656 section 12: so long after its end neither the number nor the peer is bound otherwise.
    static let channelRest = 300 * second
    static let channelNumbers: ClosedRange<UInt16> = 0x4000...0x4FFF
    package static let channels = 128
    /// Datagrams to or from a peer after which the 36 bytes that a channel saves on each are worth the request.
    static let datagramsBeforeChannel = 8
    /// A request that failed while the allocation lives is made again after this.
    static let retryPause = 5 * second
    /// So often, where the server itself has refused it for a reason that may pass.
    static let retries = 3
    /// NATs forget a mapping after 30 seconds and more (RFC 4787 REQ-5 has two minutes, and few obey).
    package static let keepAlive = 20 * second
    /// Refresh with lifetime 0: sent so often, since nobody waits for it and the allocation ends by itself.
    static let farewellTransmissions = 3
    /// The longest data that goes in a Send indication by UDP, with the headers of IPv6.
    static let datagramBytes = 65_000

    // MARK: NAT discovery (RFC 5780)

    /// Servers asked at once: two addresses show a mapping, and more are only there for the day one is down.
    package static let discoveryServers = 4
    /// Between the copies of a Binding request: an answer is wanted in a second and a half, and 10 % loss must not
    /// matter.
    static let discoveryGaps: [UInt64] = [100, 200, 300, 400, 500, 500].map { $0 * millisecond }
    /// A server that has answered none of these copies for so long is silent.
    static let discoveryLastWait = 700 * millisecond
    /// The same for requests to a server's other addresses, which have to be over by the time the name is told.
    static let alternateGaps: [UInt64] = [100, 150, 200, 250, 300].map { $0 * millisecond }
    static let alternateLastWait = 400 * millisecond
    /// From the answer that shows a server's second address to the name; the rest of 1.5 s is the caller's.
    static let discoveryTime = 1_400 * millisecond
    /// Requests for an answer from elsewhere, each with a plain one beside it that shows whether the way lost it.
    static let filterRounds = 10
    /// Apart enough for a loss to hit one round alone, and close enough for who waits for the name.
    static let filterSpacing = 25 * millisecond
    /// So many plain ones must have come back before silence about the others counts as the NAT's.
    static let filterRoundsProved = 5
    /// After the last round, for what is still on its way: twice the round trip, or so long where that is short.
    static let filterGrace = 120 * millisecond
    static let hairpinCopies = 6
    static let hairpinSpacing = 25 * millisecond
    /// To the NAT and back, a carrier's included.
    static let hairpinGrace = 120 * millisecond
    /// Sockets whose ports show how a NAT gives them out, besides the first.
    static let allocationSamples = 4
    static let allocationTransmissions = 5
    /// Ports of sockets opened in order that lie this close were counted up, or down.
    static let sequentialDistance = 16
    /// The same where not one of them lies further, or on the other side.
    static let sequentialDistanceOfAll = 64
    /// Ports within so many belong to a block that a carrier gives each of its customers.
    static let chunkPorts = 4_096
    /// RFC 5780 section 4.6 searches; a socket for each of these is quicker. From 20 s on, what lies between two of
    /// them is within 10 % of their geometric mean, and the usual 30, 60, 120, 180 and 300 s are well between two.
    package static let lifetimesSeconds: [UInt64] = [
        10, 20, 24, 28, 33, 39, 47, 56, 66, 79, 94, 112, 134, 160, 190, 228, 272, 325,
    ]
    /// What keep-alives go by: four fifths of a lifetime, and every 25 s at the most, which is enough for all that
    /// lives longer than 31 s.
    package static let keepAliveLifetimesSeconds: [UInt64] = [8, 12, 17, 22, 27, 33]
    static let lifetimeCopies = 5
    static let lifetimeSpacing = 200 * millisecond
    static let lifetimeCopiesProved = 3
}
