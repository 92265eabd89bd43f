import STUN

package enum ICEPairState: Hashable, Sendable {
    case frozen, waiting, inProgress, succeeded, failed
}

/// Why a pair is of no use.
package enum ICEPairFailure: Hashable, Sendable {
    /// Every transmission of its check went unanswered.
    case noAnswer
    /// As `noAnswer`, and the network said that the address cannot be reached.
    case unreachable
    /// The answer came from elsewhere, or to elsewhere (RFC 8445 section 7.2.5.2.1).
    case asymmetric
    /// The peer answered with this STUN error.
    case refused(UInt16)
    /// It worked, and then gave no answer for the lifetime of consent (RFC 7675 section 5.1).
    case consentExpired
    /// The peer has answered with 403 what it had answered well before (RFC 7675 section 5.2).
    case consentRevoked
    /// The relay does not relay to this address.
    case forbidden
    /// The caller took its socket or relay away.
    case baseRemoved
}

/// A candidate pair of the checklist, and what is known of it. The agent owns it and alone changes it.
final class ICEPair {
    /// One check under way, with its retransmissions (RFC 8489 section 6.2.1).
    struct Transmission {
        let transaction: TransactionID
        let bytes: [UInt8]
        let nominates: Bool
        var count: Int
        var next: UInt64
        /// The first wait, of which the last is a multiple, and the one that doubles.
        let initial: UInt64
        var wait: UInt64
    }

    let local: ICELocalCandidate
    /// Changes when a peer-reflexive candidate turns out to be a signaled one.
    var remote: ICECandidate
    let remoteEndpoint: Endpoint
    let username: [UInt8]
    let key: [UInt8]
    let foundation: String

    var priority: UInt64 = 0
    var state = ICEPairState.frozen
    var failure: ICEPairFailure?
    var transmission: Transmission?
    /// Those that may still be answered, the newest last.
    var transactions: [TransactionID] = []
    var isQueued = false
    /// The next check of the controlling agent nominates.
    var nominatesNext = false
    /// The peer nominated it before it was valid (RFC 8445 section 7.3.1.5).
    var nominatesOnSuccess = false
    var isNominated = false
    /// The order of nominations: the peer's number if it counts, and ours.
    var nominationNumber: UInt32 = 0
    var nominationOrder: UInt64 = 0
    /// What the other side sees, once a check was answered (RFC 8445 section 7.2.5.3.1).
    var mapped: Endpoint?
    var mappedType: ICECandidateType
    var liveness = ICELiveness()
    /// How long datagrams may be; nil where the peer does not take probes.
    var pathMTU: PathMTUSearch?
    var isUnreachable = false
    /// Answers with 487.
    var refusals = 0
    /// When it was asked last though it had failed.
    var triedAgainAt: UInt64 = 0
    /// When it was made, or the peer was heard by it last.
    var heardAt: UInt64 = 0

    var checksSent: UInt64 = 0
    var answers: UInt64 = 0
    var requests: UInt64 = 0

    init(
        _ local: ICELocalCandidate,
        foundation: String,
        remote: ICECandidate,
        at endpoint: Endpoint,
        _ session: Session
    ) {
        self.local = local
        self.remote = remote
        self.foundation = foundation + ":" + remote.foundation
        remoteEndpoint = endpoint
        username = session.username
        key = session.key
        mappedType = local.type
    }

    /// What checks are made with: the peer's fragment before ours, and the peer's password (RFC 8445 section 7.2.2).
    struct Session {
        let username: [UInt8]
        let key: [UInt8]
    }

    var relays: Int { (local.type == .relayed ? 1 : 0) + (remote.type == .relayed ? 1 : 0) }

    /// Whether it leads from one relay of a server to another.
    var isWithinServer: Bool { relays == 2 && local.endpoint.address == remoteEndpoint.address }

    /// Whether nothing can bring it back in this session (RFC 7675 section 5.1).
    var isOver: Bool { failure == .consentExpired || failure == .consentRevoked || failure == .baseRemoved }

    var isAlive: Bool { state == .succeeded && liveness.isAlive }

    /// A check is under way or will be.
    var isPending: Bool { state == .frozen || state == .waiting || state == .inProgress }

    /// Its check has failed, which another one may not.
    var isUnanswered: Bool { state == .failed && (failure == .noAnswer || failure == .unreachable) }

    /// Whether this one is the better path: without relays before all others, then by priority.
    func outranks(_ other: ICEPair) -> Bool {
        relays == other.relays ? priority > other.priority : relays < other.relays
    }
}

/// Whether a valid pair still works: consent (RFC 7675), probes when it falls silent, revival.
struct ICELiveness {
    var isAlive = true
    /// When consent ends; renewed by answers alone.
    var consentEnd: UInt64 = 0
    var nextCheck: UInt64 = 0
    var lastAnswer: UInt64 = 0
    /// Since when a check is unanswered, and when the next probe is due.
    var probing: (since: UInt64, next: UInt64)?
    /// Answers since its death.
    var revivals = 0
    /// RFC 6298 smoothing; 0 until there is a sample.
    var roundTrip: UInt64 = 0
}
