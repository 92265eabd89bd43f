import DataChannels
import Signaling
import Traversal

/// A connection to one peer, from the first offer on, over as many attempts as it takes.
///
/// Whose offer counts when both sides make one at a time is decided by their ids: the lower one's. The other side takes
/// its own back and answers.
final class PeerSession {
    struct Waiter {
        let number: UInt64
        let require: ConnectOptions.Requirement
        let deadline: UInt64
        let done: (Result<PeerSession, ConnectionFailure>) -> Void
    }

    enum Phase {
        case connecting, open, ended
    }

    let number: UInt64
    let local: PeerID
    let remote: PeerID
    unowned let host: any SessionHost
    var phase = Phase.connecting
    var link: PeerLink?
    var waiters: [Waiter] = []
    private var linkNumber = 0
    /// Whether relays alone may be used, because whoever began it wants to keep its addresses.
    var isRelayOnly = false

    // What the descriptions say of each other.
    var descriptionID: UInt64 = 0
    var version: UInt64 = 0
    /// An offer of ours waits for its answer.
    var hasOffered = false
    var offeredAt: UInt64 = 0
    var hasDescribed = false
    var remoteDescriptionID: UInt64?
    var remoteFingerprints: [DataChannels.CertificateFingerprint] = []
    /// Its offer has what ours have beside the SDP.
    var isTurnpikePeer = false
    var section = CandidateSection()
    /// Candidates that came before the description they belong to.
    var earlyCandidates: [JSONValue] = []
    /// Who takes `signal` messages of the link there is, by their kind.
    var signalUsers: [String: SignalUser] = [:]
    /// Of the link there is; nil where relays alone may be used.
    var punch: PunchDriver?
    /// Of the link there is; nil where no ports are measured.
    var streamAim: StreamAim?

    var attempts = 0
    var retryAt: UInt64?
    /// Until when a peer's offer has to have led somewhere.
    var deadline: UInt64?
    /// Since when nothing gets through, and when ICE is to be restarted next.
    var pathLostAt: UInt64?
    var restartAt: UInt64?
    var lastReport: ICEReport?
    /// When the newest attempt began, and whether the server was told what became of it.
    var beganAt: UInt64 = 0
    var hasReported = false
    /// What the peer was told of this side's network last.
    var toldNetwork: JSONValue?

    /// Channels by number; the first is the connection's own.
    var channels = SessionChannels()
    /// The program's end; there from the opening on.
    var connection: Connection?
    /// The program knows of it: a call was answered, or `connected` told.
    private(set) var isAnnounced = false
    var hasBeenDirect = false
    /// What arrives on the connection's own channel.
    private(set) lazy var ownQueue = makeQueue()
    private var closing: [() -> Void] = []
    private lazy var alarm = host.context.network.alarm { [weak self] in self?.advance() }

    init(_ number: UInt64, local: PeerID, remote: PeerID, host: any SessionHost) {
        (self.number, self.local, self.remote, self.host) = (number, local, remote, host)
    }

    var now: UInt64 { host.context.network.nowNanoseconds }

    var isDirect: Bool { link?.agent.path.map { !$0.isRelayed } ?? false }

    // MARK: Calls

    /// Whether this session can give what the call wants: a connection that may use any path does not keep addresses.
    func accepts(_ waiter: Waiter) -> Bool { phase != .ended && (waiter.require != .relay || isRelayOnly) }

    func wait(_ waiter: Waiter) {
        waiters.append(waiter)
        satisfy()
        setAlarm()
    }

    func stopWaiting(_ number: UInt64) {
        guard let index = waiters.firstIndex(where: { $0.number == number }) else { return }
        let waiter = waiters.remove(at: index)
        waiter.done(.failure(failure(.cancelled, "the call was cancelled")))
        endIfUnwanted()
    }

    /// Makes an offer.
    func begin() {
        attempts += 1
        retryAt = nil
        replaceLink(isOfferer: true)
        offer()
        setAlarm()
    }

    /// - Parameter done: called when the goodbye is over.
    func close(_ done: @escaping () -> Void = {}) {
        guard phase != .ended else { return done() }
        closing.append(done)
        guard let link, phase == .open else { return end(.closed) }
        link.close()
    }

    // MARK: The link

    func replaceLink(isOfferer: Bool) {
        dropLink()
        descriptionID = host.context.network.cryptography.randomWord() >> 1
        (version, hasOffered, hasDescribed) = (0, false, false)
        (remoteDescriptionID, remoteFingerprints) = (nil, [])
        signalUsers = [:]
        (beganAt, hasReported) = (now, false)
        linkNumber += 1
        let number = linkNumber
        let link = PeerLink(host.context, isOfferer: isOfferer, isRelayOnly: isRelayOnly) { [weak self] output in
            // One that was dropped may have something to say still.
            if let self, linkNumber == number { take(output) }
        }
        self.link = link
        startPunching(link)
        signalUsers[HandshakeFlight.signalKind] = { [weak link] payload in link?.receive(HandshakeFlight(payload)) }
        for candidate in host.gatherer.candidates { link.add(candidate) }
        if host.gatherer.isComplete { link.endCandidates() }
    }

    private func dropLink() {
        guard let old = link else { return }
        lastReport = old.agent.report
        let punch = punch
        (link, self.punch) = (nil, nil)
        linkNumber += 1
        old.finish(.closed)
        // Its goodbye went by the sockets that are closed here.
        punch?.close()
        streamAim?.close()
    }

    private func take(_ output: PeerLink.Output) {
        guard phase != .ended, let link else { return }
        switch output {
        case .candidate(let candidate): tell(candidate)
        case .candidatesEnded: tellEnd()
        case .path(let path): take(path)
        case .state(let state): if state == .failed, phase == .connecting { failAttempt(.noPath, nil) }
        case .datagramBytes(let bytes): connection?.note(datagramBytes: bytes)
        case .restartWanted: if phase == .open, !hasOffered { restart() }
        case .flight(let flight): tell(signal: HandshakeFlight.signalKind, flight.members)
        case .secured: break
        case .channels(let event): take(event)
        case .ended(let end):
            lastReport = link.agent.report
            if phase == .connecting, case .failed(let reason, let text) = end { return failAttempt(reason, text) }
            if phase == .connecting { return failAttempt(.closedByPeer, "the peer ended the connection") }
            self.end(end)
        }
    }

    private func take(_ path: ICEPath?) {
        if path == nil {
            if pathLostAt == nil, phase == .open { losePath() }
        } else {
            (pathLostAt, restartAt) = (nil, nil)
        }
        if phase == .open { host.pathChanged(self, to: path) }
        punch?.update()
        satisfy()
        setAlarm()
    }

    private var pathlessTime: UInt64 {
        link?.isTurnpikePeer == true ? ClientLimits.pathlessTime : ClientLimits.foreignPathlessTime
    }

    private func losePath() {
        pathLostAt = now
        // Both sides notice at about the same time; one is enough to begin.
        restartAt = now &+ (local < remote ? 0 : ClientLimits.restartCourtesy)
        if link?.agent.hasLostBase == true { restartAt = now &+ ClientLimits.moveCourtesy }
    }

    /// The association stands, and this side may send.
    func becomeOpen() {
        guard phase == .connecting else { return }
        phase = .open
        (retryAt, deadline) = (nil, nil)
        host.opening(self)
        if let link { connection?.note(datagramBytes: link.agent.datagramBytes) }
        if waiters.isEmpty { announce() }
        satisfy()
        setAlarm()
    }

    private func announce() {
        guard !isAnnounced, phase == .open else { return }
        isAnnounced = true
        host.opened(self)
    }

    private func satisfy() {
        guard phase == .open, let path = link?.path else { return }
        let satisfied = waiters.filter { $0.require != .direct || !path.isRelayed }
        guard !satisfied.isEmpty else { return }
        waiters.removeAll { waiter in satisfied.contains { $0.number == waiter.number } }
        announce()
        for waiter in satisfied { waiter.done(.success(self)) }
    }

    // MARK: Failure

    func failure(_ reason: ConnectionFailure.Reason, _ text: String) -> ConnectionFailure {
        // Before the peer has said anything an attempt tries nothing, and that is what the text is about.
        let tried = remoteDescriptionID == nil ? lastReport : link?.agent.report ?? lastReport
        var report = tried.map { ConnectionReport($0) } ?? ConnectionReport()
        report.notes += host.problems + [punch?.summary].compactMap(\.self)
        if remoteDescriptionID != nil { report.explanation = explanation }
        return ConnectionFailure(peerId: remote, reason: reason, error: text, report: report)
    }

    /// An attempt has led nowhere: another one, or the end.
    func failAttempt(_ reason: ConnectionFailure.Reason, _ text: String?) {
        guard phase == .connecting else { return }
        let words = text ?? (link?.agent.report.failure ?? lastReport?.failure)?.explanation ?? "no path was found"
        let isWorthIt = reason == .noPath || reason == .closedByPeer || reason == .signaling
        guard isWorthIt, !waiters.isEmpty, attempts <= host.maxRetries else {
            return give(up: failure(reason, words))
        }
        dropLink()
        retryAt = now &+ ClientLimits.retryPause << UInt64(min(attempts, 5))
        setAlarm()
    }

    /// The server has forgotten what it had taken and not passed on, an offer or its answer.
    func noteSignalingBeganAnew() {
        if hasOffered { failAttempt(.signaling, "the signaling server began anew, and lost the offer or its answer") }
    }

    func give(up failure: ConnectionFailure) {
        guard phase == .connecting else { return }
        let failed = waiters
        waiters = []
        phase = .ended
        alarm.set(at: nil)
        dropLink()
        host.failed(self, failure)
        for waiter in failed { waiter.done(.failure(failure)) }
    }

    func end(_ end: PeerLink.End) {
        guard phase != .ended else { return }
        let failed = waiters.map { ($0, failure(.closedByPeer, end.words)) }
        waiters = []
        phase = .ended
        alarm.set(at: nil)
        dropLink()
        channels.endAll()
        connection?.end()
        host.ended(self, end)
        for (waiter, failure) in failed { waiter.done(.failure(failure)) }
        let waiting = closing
        closing = []
        for done in waiting { done() }
    }

    private func endIfUnwanted() {
        guard waiters.isEmpty, !isAnnounced, phase != .ended, deadline == nil else { return }
        if phase == .connecting { give(up: failure(.cancelled, "nobody waits for it any more")) } else { close() }
    }

    // MARK: Time

    private func advance() {
        let now = now
        let late = waiters.filter { now >= $0.deadline }
        waiters.removeAll { now >= $0.deadline }
        for waiter in late { waiter.done(.failure(timeout(waiter))) }
        if let deadline, now >= deadline, phase == .connecting {
            return give(up: failure(.noPath, "the peer's offer led to no path in time"))
        }
        if !late.isEmpty { expire(late) }
        guard phase != .ended else { return }
        if let retryAt, now >= retryAt { begin() }
        if let pathLostAt, now &- pathLostAt >= pathlessTime {
            link?.finish(.failed(.noPath, "no path worked for \(pathlessTime / ClientLimits.minute) min"))
            return
        }
        if let restartAt, now >= restartAt { restart() }
        setAlarm()
    }

    private func expire(_ late: [Waiter]) {
        guard waiters.isEmpty, !isAnnounced, deadline == nil else { return }
        if phase == .connecting { give(up: timeout(late[0])) } else { close() }
    }

    private func timeout(_ waiter: Waiter) -> ConnectionFailure {
        if phase == .open {
            return failure(.noRequiredPath, "there is a path over a relay, and none without it was found in time")
        }
        if hasOffered || link == nil {
            return failure(
                .noAnswer,
                "Connection timeout: the peer did not answer in time; check that it runs and accepts connections"
            )
        }
        return failure(.noPath, "Connection timeout: nothing that was tried reached the peer in time")
    }

    private func restart() {
        restartAt = now &+ ClientLimits.restartPause
        guard phase == .open, let link, link.phase == .open else { return }
        link.restart()
        offer()
    }

    func setAlarm() {
        guard phase != .ended else { return }
        var next = min(retryAt ?? .max, restartAt ?? .max)
        if phase == .connecting { next = min(next, deadline ?? .max) }
        for waiter in waiters { next = min(next, waiter.deadline) }
        if let pathLostAt { next = min(next, pathLostAt &+ pathlessTime) }
        alarm.set(at: next == .max ? nil : next)
    }
}

extension ConnectionReport {
    init(_ report: ICEReport) {
        pairs = report.pairs.map { pair in
            Pair(
                local: AddressText.text(pair.local),
                localType: Path.End(pair.localType),
                remote: AddressText.text(pair.remote),
                remoteType: Path.End(pair.remoteType),
                isTCP: pair.transport.isTCP,
                outcome: pair.explanation,
                works: pair.state == .succeeded && pair.isAlive,
                checksSent: Int(clamping: pair.checksSent),
                answersReceived: Int(clamping: pair.answersReceived),
                requestsReceived: Int(clamping: pair.requestsReceived),
                roundTripMilliseconds: pair.roundTripNanoseconds > 0
                    ? Double(pair.roundTripNanoseconds) / 1_000_000 : nil
            )
        }
        notes = report.unresolvedNames.map { "\($0): a name of the peer's that could not be resolved" }
        if let failure = report.failure { notes.append(failure.explanation) }
    }
}

extension Cryptography {
    func randomWord() -> UInt64 {
        var word: UInt64 = 0
        withUnsafeMutableBytes(of: &word) { random($0) }
        return word
    }
}
