import STUN

/// A full ICE agent for one data stream of one component (RFC 8445), with trickle (RFC 8838), consent (RFC 7675) and
/// restarts. It owns no clock, socket or relay: every call takes the monotonic time in nanoseconds and appends what the
/// caller has to do, in order. After each call `nextDeadline` says when `advance` is due.
///
/// Data may use `path` from the first `path` action on, nominated or not (RFC 8445 section 12.1). Better pairs go on
/// being checked and take over; when the path dies, the best other pair that answers takes its place.
///
/// Not for two threads at once.
package final class ICEAgent {
    package private(set) var configuration: ICEConfiguration
    package internal(set) var role: ICERole
    package internal(set) var state = ICEState.new
    /// What this side's description says; new after `restart`.
    package internal(set) var localCredentials: ICECredentials
    package internal(set) var counters = ICECounters()

    let cryptography: any Cryptography
    var localKey: [UInt8]
    /// RFC 8445 section 5.2; another after a lost role conflict.
    var tieBreaker: UInt64
    var now: UInt64 = 0
    var actions: [ICEAction] = []

    var remote: ICERemoteParameters?
    var locals: [ICELocalCandidate] = []
    var foundations: [FoundationKey: Int] = [:]
    var foundationCount = 0
    var remotes: [ICECandidate] = []
    /// When each of their addresses was told, or shown by a check.
    var toldAt: [Endpoint: UInt64] = [:]
    /// Candidates whose names wait for the caller.
    var named: [ICECandidate] = []
    /// Those of the names that may yet be resolved.
    var lookups: [NameLookup] = []
    var localsEnded = false
    var remotesEnded = false
    /// Peer-reflexive candidates of the peer get foundations of their own (RFC 8445 section 7.3.1.3).
    var learnedCount: UInt64 = 0

    /// The checklist, by falling priority.
    var pairs: [ICEPair] = []
    /// RFC 8445 section 6.1.4.1: first in, first out, but nominations go before all.
    var triggered: [ICEPair] = []
    var checks: [TransactionID: ICECheck] = [:]
    var early: [EarlyCheck] = []
    var nextPace: UInt64 = 0
    /// When a failed pair is asked again; nil while none has to be.
    var nextTrial: UInt64?

    var selected: ICEPair?
    /// The path as the caller was told of it last, and how long its datagrams may be.
    var announced: ICEPath?
    var announcedBytes = ICELimits.datagramBytes
    /// In the order in which they were asked for.
    var permits: [Permit] = []
    var refusals: [Refusal] = []
    /// The pair this side, controlling, has nominated last.
    var nominated: ICEPair?
    var nominationCount: UInt32 = 0
    var nominationOrder: UInt64 = 0
    /// The session before a restart: its pair carries data until the new session has one.
    var previous: PreviousSession?

    /// When checks over TCP may begin; nil until the peer's credentials are known.
    var streamsAt: UInt64?
    var haveStreamsBegun = false

    var checkingSince: UInt64?
    var firstValid: UInt64?
    var wasConnected = false
    /// There was a path, in this session or one before.
    var hasStood = false
    /// One of those paths led by no relay.
    var hasBeenDirect = false
    /// When the last path of this session went with its socket or relay; nil while there is one, or it went otherwise.
    var lostBaseAt: UInt64?
    /// Since when data goes out on the path with nothing coming in.
    var silentSince: UInt64?
    /// The path that has died last, and since when pairs that were heard are known to have outlived it.
    var fallen: ICEPair?
    var fellAt: UInt64 = 0
    /// Another pair, by which the peer's data has come since then.
    var elsewhere: ICEPair?
    var roleChanges = 0
    /// The path died under a peer that only a restart moves; and the session that such a restart has begun.
    var hasFallenBack = false
    var hurries = false

    package init(role: ICERole, configuration: ICEConfiguration = ICEConfiguration(), cryptography: any Cryptography) {
        self.configuration = configuration
        self.role = role
        self.cryptography = cryptography
        localCredentials = ICECredentials(random: cryptography)
        localKey = Array(localCredentials.password.utf8)
        tieBreaker = cryptography.randomNumber()
    }

    // MARK: Time

    /// When `advance` is due; nil while only an event can change anything.
    package var nextDeadline: UInt64? { state == .closed ? nil : earliestDeadline() }

    package func advance(now: UInt64, into output: inout [ICEAction]) { turn(now, &output) {} }

    // MARK: Candidates of this side

    /// A base sends from one address: the relayed addresses of one allocation, one of each family, are two bases.
    /// - Returns: the candidate as the peer is told of it, or nil when it is there already or one too many, or of
    ///   another address than its base.
    @discardableResult
    package func addLocalCandidate(
        _ candidate: ICELocalCandidate,
        now: UInt64,
        into output: inout [ICEAction]
    ) -> ICECandidate? {
        var signaled: ICECandidate?
        turn(now, &output) { signaled = insert(candidate) }
        return signaled
    }

    /// No further candidates of this side are under way.
    package func endLocalCandidates(now: UInt64, into output: inout [ICEAction]) {
        turn(now, &output) { localsEnded = true }
    }

    /// The socket or relay is gone, with all pairs on it. Its number is not used again.
    package func remove(_ base: ICEBase, now: UInt64, into output: inout [ICEAction]) {
        turn(now, &output) { discard(base) }
    }

    /// Valid pairs are checked so often at least, with the variation that checks have: a NAT on the way forgets sooner
    /// than usual.
    package func keepWarm(_ nanoseconds: UInt64) {
        let usual = ICEConfiguration()
        configuration.warmInterval = min(usual.warmInterval, nanoseconds / 6 &* 5)
        configuration.consentInterval = min(usual.consentInterval, nanoseconds / 6 &* 5)
    }

    /// The relay `base` does not relay to this peer: its pairs fail as `forbidden`, and no permission for it is asked
    /// for during the next minute.
    package func refuse(_ peer: IPAddress, on base: ICEBase, now: UInt64, into output: inout [ICEAction]) {
        turn(now, &output) { refused(peer.withoutLink, on: base) }
    }

    // MARK: The peer

    /// - Parameter candidates: those that came with the credentials. Which check is the first is decided with all of
    ///   them in view.
    /// - Throws: `ICEError.restartNeeded` when the peer had other credentials before.
    package func setRemote(
        _ parameters: ICERemoteParameters,
        candidates: [ICECandidate] = [],
        now: UInt64,
        into output: inout [ICEAction]
    ) throws(ICEError) {
        if let remote, remote.credentials != parameters.credentials { throw .restartNeeded }
        turn(now, &output) {
            meet(parameters)
            for candidate in candidates { hear(of: candidate) }
        }
    }

    /// A candidate may come before the peer's credentials; it waits for them.
    package func addRemoteCandidate(_ candidate: ICECandidate, now: UInt64, into output: inout [ICEAction]) {
        turn(now, &output) { hear(of: candidate) }
    }

    /// The answer to a `resolve` action. With nil the name is asked for again a little later, and then stays in the
    /// report as one that nobody could resolve.
    package func resolve(name: String, to address: IPAddress?, now: UInt64, into output: inout [ICEAction]) {
        turn(now, &output) { resolved(name, address) }
    }

    package func endRemoteCandidates(now: UInt64, into output: inout [ICEAction]) {
        turn(now, &output) { remotesEnded = true }
    }

    // MARK: Packets

    /// A datagram, or frame, that the `Demultiplexer` took for STUN.
    /// - Parameter source: without the number of a link; the base says which link it is.
    /// - Returns: whether it was authentic and of use.
    @discardableResult
    package func receive(
        _ bytes: UnsafeRawBufferPointer,
        on base: ICEBase,
        from source: Endpoint,
        now: UInt64,
        into output: inout [ICEAction]
    ) -> Bool {
        var isAuthentic = false
        turn(now, &output) {
            let plain = Endpoint(address: source.address.withoutLink, port: source.port)
            isAuthentic = take(bytes, on: base, from: plain)
        }
        return isAuthentic
    }

    /// The network says that `peer` cannot be reached from `base`. Checks go on, since routers say so of packets that
    /// come early, and anybody can; the report names it. The path is asked at once whether it lives.
    /// - Returns: whether `nextDeadline` may have come nearer.
    @discardableResult
    package func noteUnreachable(_ peer: Endpoint, from base: ICEBase) -> Bool {
        guard let pair = pair(base, peer) else { return false }
        pair.isUnreachable = true
        return doubt(pair)
    }

    /// Data was sent on the path. If none comes back, the path is asked whether it lives.
    /// - Parameter bytes: the datagram's length.
    /// - Returns: whether `nextDeadline` may have come nearer, so that an alarm has to be set anew.
    @discardableResult
    package func noteSent(_ bytes: Int = 0, now: UInt64) -> Bool {
        self.now = max(self.now, now)
        guard let selected else { return false }
        let isNearer = selected.pathMTU?.noteSent(bytes, now: self.now) ?? false
        guard silentSince == nil else { return isNearer }
        silentSince = self.now
        return true
    }

    /// Data came in that the caller has authenticated.
    /// - Returns: whether `nextDeadline` may have come nearer.
    @discardableResult
    package func noteReceived(on base: ICEBase, from source: Endpoint, now: UInt64) -> Bool {
        self.now = max(self.now, now)
        let plain = Endpoint(address: source.address.withoutLink, port: source.port)
        guard let selected else { return false }
        if selected.local.base == base, selected.remoteEndpoint == plain {
            selected.pathMTU?.noteHeard(now: self.now)
            (silentSince, elsewhere) = (nil, nil)
            return false
        }
        guard silentSince != nil, elsewhere?.isAlive != true else { return false }
        elsewhere = pair(base, plain)
        return elsewhere != nil
    }

    // MARK: The session

    /// New credentials, which the peer has to be told (RFC 8445 section 9). The old path stays in use until the new
    /// session has one. Local candidates stay; the peer's are forgotten.
    package func restart(role: ICERole? = nil, now: UInt64, into output: inout [ICEAction]) {
        turn(now, &output) { beginAnew(role: role) }
    }

    /// Nothing is sent or heard any more.
    package func close(into output: inout [ICEAction]) {
        guard state != .closed else { return }
        (pairs, triggered, early, previous, selected, announced) = ([], [], [], nil, nil, nil)
        (checks, lookups, refusals) = ([:], [], [])
        releaseAll()
        output += actions
        actions = []
        state = .closed
        output.append(.state(.closed))
    }

    /// One call: the event, then all that is due.
    func turn(_ now: UInt64, _ output: inout [ICEAction], _ event: () -> Void) {
        guard state != .closed else { return }
        self.now = max(self.now, now)
        event()
        lookAgain()
        retransmit()
        watch()
        choose()
        probePathMTU()
        announceDatagramBytes()
        announcePath()
        nominate()
        openStreams()
        pace()
        updateState()
        settlePermits()
        output += actions
        actions.removeAll(keepingCapacity: true)
    }

    /// A time from now.
    func after(_ nanoseconds: UInt64) -> UInt64 { now.addingSaturated(nanoseconds) }

    /// `nanoseconds` times 0.8 to 1.2 (RFC 7675 section 5.1).
    func jittered(_ nanoseconds: UInt64) -> UInt64 {
        let thousandths = 800 + cryptography.randomNumber() % 401
        return nanoseconds / 1_000 &* thousandths
    }
}

/// A check that may still be answered.
struct ICECheck {
    let pair: ICEPair
    var sent: UInt64
    let priority: UInt32
    let role: ICERole
    let usesCandidate: Bool
    /// The sample of the round trip is void then: nobody knows which one was answered.
    var isRetransmitted = false
    /// How long it is, where it asks whether the path carries as much.
    var probeBytes: Int?
}

/// A check that came before the peer's credentials.
struct EarlyCheck {
    let request: ICERequest
    let base: ICEBase
    let source: Endpoint
    let fragment: [UInt8]
}

struct PreviousSession {
    let fragment: [UInt8]
    let remoteFragment: [UInt8]
    let key: [UInt8]
    var pair: ICEPair?
    /// Until then checks with its credentials are answered; nil as long as its path is in use.
    var expiresAt: UInt64?
}

/// A name that the caller was asked to resolve.
struct NameLookup {
    let name: String
    var count = 1
    /// When it is asked for again; nil while the caller is at it.
    var nextAt: UInt64?
}

/// Candidates that are alike get one foundation (RFC 8445 section 5.1.1.3).
struct FoundationKey: Hashable {
    let type: ICECandidateType
    let base: IPAddress
    let server: IPAddress?
    let isTCP: Bool
}
