import Signaling
import Traversal

/// What is known of the way out when ports are to be guessed.
struct PunchFacts {
    var report: PunchReport
    /// A STUN server that has answered, by IPv4.
    var server: Endpoint
    /// Sockets are opened there.
    var address: IPAddress
}

/// Finds a way between the NATs of a connection that is relayed though ordinary checks had their time: it agrees with
/// the peer's on a plan, runs the search, and gives ICE the sockets that the peer was heard on.
final class PunchDriver {
    /// The `kind` of its messages.
    static let kind = "punch"

    /// Sockets of all searches, of which each counts from 0.
    private struct Number: Hashable {
        let search: Int
        let socket: Int
    }

    private struct Held {
        let port: any DatagramPort
        /// Since the peer was heard on it.
        var base: ICEBase?
    }

    private let context: PeerContext
    private unowned let link: PeerLink
    private let facts: () -> PunchFacts?
    private let memory: () -> PathMemory?
    private let tell: ([String: JSONValue]) -> Void
    private var told: PunchReport?
    private var reminder = PunchReminder()
    private var peerReport: PunchReport?
    private var puncher: Puncher?
    private var held: [Number: Held] = [:]
    private var searches = 0
    /// Of the newest search.
    private var newestPlan: PunchPlan?
    /// Since there was a direct path, a NAT changed, or the beginning; the next search is not before that time.
    private var misses = 0
    private var restsUntil: UInt64 = 0
    private var nextAttempt: UInt32 = 1
    private var nextSearch: UInt64?
    private var hasBeenDirect = false
    private var isClosed = false
    private var waiting: [PunchAction] = []
    private var isPerforming = false
    private lazy var alarm = context.network.alarm { [weak self] in self?.wake() }

    /// - Parameters:
    ///   - facts: nil while they are not known, or where nobody wants ports to be guessed.
    ///   - memory: what the server remembers of the two networks; nil where that is nothing.
    ///   - tell: sends the members to the peer.
    init(
        _ link: PeerLink,
        facts: @escaping () -> PunchFacts?,
        memory: @escaping () -> PathMemory? = { nil },
        tell: @escaping ([String: JSONValue]) -> Void
    ) {
        (self.link, self.facts, self.memory, self.tell) = (link, facts, memory, tell)
        context = link.context
    }

    /// For a report on the connection; nil where nothing was tried.
    var summary: String? {
        guard let puncher, let outcome = puncher.outcome else { return nil }
        let counters = puncher.counters
        let what = newestPlan?.isCertain == true ? "fresh sockets were tried" : "the NATs' ports were guessed"
        return "\(what) (\(searches) searches, the last with \(counters.probesSent) packets): "
            + (outcome == .hit ? "a way was found" : "no way was found")
    }

    /// What the newest search was; nil before the first.
    var method: PathMethod? {
        newestPlan.map { $0.isCertain ? .udpHolePunch : $0.isSearch ? .birthday : .portPrediction }
    }

    /// Whether that socket is one on which a search has heard the peer.
    func hasFound(_ base: ICEBase) -> Bool { held.values.contains { $0.base == base } }

    // MARK: What changes

    /// The path, or what is known of the NAT, is another.
    func update() {
        guard !isClosed else { return }
        if isDirect {
            (hasBeenDirect, nextSearch) = (true, nil)
            startOver()
            // The way was found, here or by ordinary checks.
            if isSearching { run { $0.cancel(now: $1, into: &$2) } }
            return setAlarm()
        }
        // What it found out about its NAT is the peer's to know before it is needed.
        guard link.remoteData != nil, let facts = facts() else { return }
        tellReport(facts.report)
        plan(facts)
    }

    func take(_ payload: JSONValue) {
        guard !isClosed, let word = payload["step"]?.string else { return }
        if word == PunchWire.report {
            guard let report = PunchWire.report(payload) else { return }
            if report != peerReport { startOver() }
            peerReport = report
            reminder.end()
            // The peer has not had what it was told here.
            if let told, payload[PunchWire.again]?.bool == true { tell(PunchWire.members(told)) }
            return update()
        }
        guard let message = PunchWire.message(payload) else { return }
        if !isSearching { accept(message) }
        run { $0.take(message, now: $1, into: &$2) }
    }

    func close() {
        guard !isClosed else { return }
        isClosed = true
        alarm.set(at: nil)
        for entry in held.values {
            if let base = entry.base { context.router.remove(base) }
            entry.port.close()
        }
        (held, puncher) = ([:], nil)
    }

    // MARK: Searches

    private var isRelayed: Bool { link.agent.path?.isRelayed ?? false }

    private var isDirect: Bool { link.agent.path.map { !$0.isRelayed } ?? false }

    /// A handful of packets leave as candidates are gathered, hundreds only while data goes over a relay.
    private func isDue(_ plan: PunchPlan) -> Bool { plan.isSearch || plan.isCertain ? isRelayed : !isDirect }

    private func tellReport(_ report: PunchReport) {
        guard told != report else { return }
        told = report
        startOver()
        tell(PunchWire.members(report))
        if peerReport == nil { reminder.begin(link.now) }
        setAlarm()
    }

    private func startOver() { (misses, restsUntil) = (0, 0) }

    /// Decides when to search, where this side begins.
    private func plan(_ facts: PunchFacts) {
        guard let plan = plan(facts.report), plan.begins(isOfferer: link.isOfferer), isDue(plan), !isSearching,
            nextSearch == nil, misses <= missesMax(plan)
        else { return }
        nextSearch = max(link.now &+ patience(plan), restsUntil)
        setAlarm()
    }

    /// Before the long search ordinary checks have their time; what was found and lost may come back by itself.
    private func patience(_ plan: PunchPlan) -> UInt64 {
        if plan.isCertain { return ClientLimits.certainPatience }
        let isKnownToHelp = plan.isSearch && memory()?.bestDirect?.method == .birthday
        return hasBeenDirect || plan == .ask(.any) && !isKnownToHelp ? ClientLimits.searchPatience : 0
    }

    /// Between networks where searches have led nowhere time and again, one is enough to see whether that still holds.
    private func missesMax(_ plan: PunchPlan) -> Int {
        let isHopeless = plan.isSearch && memory()?.score(of: .birthday) ?? 0 <= ClientLimits.hopelessScore
        return isHopeless ? 0 : ClientLimits.searchPauses.count
    }

    private var isSearching: Bool { puncher.map { $0.outcome == nil } ?? false }

    private func plan(_ own: PunchReport) -> PunchPlan? { peerReport.flatMap { PunchPlan.make(own: own, peer: $0) } }

    private func wake() {
        if let told, !isDirect, reminder.isDue(link.now) {
            tell(PunchWire.members(told).merging([PunchWire.again: .bool(true)]) { $1 })
        }
        if let nextSearch, link.now >= nextSearch {
            self.nextSearch = nil
            if let facts = facts(), let plan = plan(facts.report), plan.begins(isOfferer: link.isOfferer), isDue(plan) {
                begin(plan, facts)
            }
        }
        run { $0.advance(now: $1, into: &$2) }
    }

    /// The peer begins.
    private func accept(_ message: PunchMessage) {
        guard !isDirect, let facts = facts(), let plan = plan(facts.report),
            !plan.begins(isOfferer: link.isOfferer)
        else { return }
        switch message {
        case .ready(let number, _), .measure(let number):
            nextAttempt = number
            begin(plan, facts)
        case .opened, .base, .cancel: break
        }
    }

    private func begin(_ plan: PunchPlan, _ facts: PunchFacts) {
        guard searches < ClientLimits.searches, let transport = link.remoteData?.transport,
            let peer = try? ICECredentials(usernameFragment: transport.iceUfrag, password: transport.icePassword)
        else { return }
        searches += 1
        newestPlan = plan
        let session = Puncher.Session(
            own: link.agent.localCredentials,
            peer: peer,
            server: facts.server,
            ownAddress: facts.report.address,
            roundTrip: link.agent.roundTripNanoseconds ?? 0,
            firstAttempt: nextAttempt
        )
        puncher = Puncher(
            plan,
            session,
            begins: plan.begins(isOfferer: link.isOfferer),
            gate: context.network.punchGate,
            cryptography: context.network.cryptography
        )
        run { $0.start(now: $1, into: &$2) }
    }

    private func ended() {
        nextAttempt = (puncher?.attempt ?? nextAttempt) &+ 1
        guard !isDirect else { return }
        // Also where something was found, and ICE could not use it.
        if misses < ClientLimits.searchPauses.count { restsUntil = link.now &+ ClientLimits.searchPauses[misses] }
        misses += 1
        if let facts = facts() { plan(facts) }
    }

    // MARK: Turns

    private func run(_ body: (Puncher, UInt64, inout [PunchAction]) -> Void) {
        guard let puncher, !isClosed else { return setAlarm() }
        body(puncher, link.now, &waiting)
        guard !isPerforming else { return }
        isPerforming = true
        var next = 0
        while next < waiting.count {
            perform(waiting[next])
            next += 1
        }
        waiting.removeAll(keepingCapacity: true)
        isPerforming = false
        setAlarm()
    }

    private func perform(_ action: PunchAction) {
        guard !isClosed else { return }
        switch action {
        case .open(let number): open(number)
        case .send(let number, let endpoint, let bytes, let hopLimit):
            guard let port = held[current(number)]?.port else { return }
            bytes.withUnsafeBytes { bytes in
                if let hopLimit {
                    port.send(bytes, to: endpoint, hopLimit: hopLimit)
                } else {
                    port.send(bytes, to: endpoint)
                }
            }
        case .close(let number): held.removeValue(forKey: current(number))?.port.close()
        case .tell(let message): tell(PunchWire.members(message))
        case .hit(let hit): take(hit)
        case .ended: ended()
        }
    }

    private func setAlarm() {
        guard !isClosed else { return }
        let next = min(nextSearch ?? .max, puncher?.nextDeadline ?? .max, isDirect ? .max : reminder.next)
        alarm.set(at: next == .max ? nil : next)
    }

    // MARK: Sockets

    private func current(_ socket: Int) -> Number { Number(search: searches, socket: socket) }

    private func open(_ socket: Int) {
        let number = current(socket)
        let port = facts().flatMap { facts in
            try? context.network.openDatagrams(at: facts.address, port: 0) { [weak self] event in
                self?.take(event, number)
            }
        }
        if let port { held[number] = Held(port: port) }
        run { $0.opened(socket, at: port?.local, now: $1, into: &$2) }
    }

    private func take(_ event: DatagramEvent, _ number: Number) {
        guard !isClosed else { return }
        switch event {
        case .datagram(let bytes, let source):
            var isProbe = false
            if number.search == searches {
                let plain = Endpoint(address: source.address.withoutLink, port: source.port)
                run { isProbe = $0.receive(bytes, on: number.socket, from: plain, now: $1, into: &$2) }
                // A check of ICE's says as much as a probe, and goes on to the agent.
                isProbe = isProbe && Demultiplexer.localFragment(bytes) == nil
            }
            if let base = held[number]?.base, !isProbe { context.router.receive(bytes, on: base, from: source) }
        case .unreachable(let peer):
            if let base = held[number]?.base { link.noteUnreachable(peer, from: base) }
        case .failed:
            if let base = held.removeValue(forKey: number)?.base { drop(base) }
        }
    }

    private func drop(_ base: ICEBase) {
        context.router.remove(base)
        link.remove(base)
    }

    /// The peer was heard: from here on the socket is a base like any other, and ICE judges what it is good for.
    private func take(_ hit: PunchHit) {
        let number = current(hit.socket)
        guard let port = held[number]?.port else { return }
        let base = context.router.add(port)
        held[number]?.base = base
        link.add(ICELocalCandidate(base: base, type: .host, endpoint: port.local, localPreference: Self.preference))
        if let mapped = hit.mapped, mapped != port.local {
            link.add(
                ICELocalCandidate(
                    base: base,
                    type: .serverReflexive,
                    endpoint: mapped,
                    baseEndpoint: port.local,
                    localPreference: Self.preference,
                    related: port.local
                )
            )
        }
        let candidate = ICECandidate(
            foundation: "punch",
            priority: ICEPriority.candidate(.peerReflexive, .udp, localPreference: Self.preference),
            address: .ip(hit.peer.address),
            port: hit.peer.port,
            type: .peerReflexive
        )
        link.ice { agent, now, actions in agent.addPunched(candidate, on: base, now: now, into: &actions) }
    }

    /// Ways that need no such socket are better: they outlive a change of the NAT's mappings.
    private static let preference: UInt16 = 1
}
