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
    package let configuration: ICEConfiguration
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
    var foundations: [FoundationKey] = []
    var remotes: [ICECandidate] = []
    /// Candidates whose names wait for the caller.
    var named: [ICECandidate] = []
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

    var selected: ICEPair?
    /// The pair this side, controlling, has nominated last.
    var nominated: ICEPair?
    var nominationCount: UInt32 = 0
    var nominationOrder: UInt64 = 0
    /// The session before a restart: its pair carries data until the new session has one.
    var previous: PreviousSession?

    var checkingSince: UInt64?
    var firstValid: UInt64?
    var wasConnected = false
    /// Since when data goes out on the path with nothing coming in.
    var silentSince: UInt64?
    var roleChanges = 0

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

    /// - Returns: the candidate as the peer is told of it, or nil when it is there already or one too many.
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

    // MARK: The peer

    /// - Throws: `ICEError.restartNeeded` when the peer had other credentials before.
    package func setRemote(
        _ parameters: ICERemoteParameters,
        now: UInt64,
        into output: inout [ICEAction]
    ) throws(ICEError) {
        if let remote, remote.credentials != parameters.credentials { throw .restartNeeded }
        turn(now, &output) { meet(parameters) }
    }

    /// A candidate may come before the peer's credentials; it waits for them.
    package func addRemoteCandidate(_ candidate: ICECandidate, now: UInt64, into output: inout [ICEAction]) {
        turn(now, &output) { hear(of: candidate) }
    }

    /// The answer to a `resolve` action. With nil the name stays in the report as one that nobody could resolve.
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
    /// come early; the report names it.
    package func noteUnreachable(_ peer: Endpoint, from base: ICEBase) {
        pair(base, peer)?.isUnreachable = true
    }

    /// Data was sent on the path. If none comes back, the path is asked whether it lives.
    package func noteSent(now: UInt64) {
        self.now = max(self.now, now)
        if silentSince == nil { silentSince = self.now }
    }

    /// Data came in that the caller has authenticated.
    package func noteReceived(on base: ICEBase, from source: Endpoint, now: UInt64) {
        self.now = max(self.now, now)
        let plain = Endpoint(address: source.address.withoutLink, port: source.port)
        guard let selected, selected.local.base == base, selected.remoteEndpoint == plain else { return }
        silentSince = nil
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
        (pairs, triggered, early, previous, selected) = ([], [], [], nil, nil)
        checks = [:]
        state = .closed
        output.append(.state(.closed))
    }

    /// Where data goes; nil while it can go nowhere.
    package var path: ICEPath? {
        selected.map { pair in
            ICEPath(
                base: pair.local.base,
                remote: pair.remoteEndpoint,
                localType: pair.mappedType,
                remoteType: pair.remote.type,
                transport: pair.local.transport,
                isNominated: pair.isNominated
            )
        }
    }

    /// Of the path, smoothed; nil while none was measured.
    package var roundTripNanoseconds: UInt64? {
        selected.flatMap { $0.liveness.roundTrip > 0 ? $0.liveness.roundTrip : nil }
    }

    /// One call: the event, then all that is due.
    func turn(_ now: UInt64, _ output: inout [ICEAction], _ event: () -> Void) {
        guard state != .closed else { return }
        self.now = max(self.now, now)
        event()
        retransmit()
        watch()
        choose()
        nominate()
        pace()
        updateState()
        output += actions
        actions.removeAll(keepingCapacity: true)
    }

    /// A time from now; saturating, so no clock can wrap into the past.
    func after(_ nanoseconds: UInt64) -> UInt64 {
        let (sum, overflow) = now.addingReportingOverflow(nanoseconds)
        return overflow ? .max : sum
    }

    /// `nanoseconds` times 0.8 to 1.2 (RFC 7675 section 5.1).
    func jittered(_ nanoseconds: UInt64) -> UInt64 {
        let thousandths = 800 + cryptography.randomNumber() % 401
        return nanoseconds / 1_000 &* thousandths
    }
}

/// A check that may still be answered.
struct ICECheck {
    let pair: ICEPair
    let sent: UInt64
    let priority: UInt32
    let role: ICERole
    let usesCandidate: Bool
    /// The sample of the round trip is void then: nobody knows which one was answered.
    var isRetransmitted = false
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
}

/// Candidates that are alike get one foundation (RFC 8445 section 5.1.1.3).
struct FoundationKey: Hashable {
    let type: ICECandidateType
    let base: IPAddress
    let server: IPAddress?
    let isTCP: Bool
}

extension Cryptography {
    func randomNumber() -> UInt64 {
        var value: UInt64 = 0
        withUnsafeMutableBytes(of: &value) { random($0) }
        return value
    }

    func randomTransaction() -> TransactionID {
        let high = randomNumber()
        return TransactionID(high: high, low: UInt32(truncatingIfNeeded: randomNumber()))
    }
}
