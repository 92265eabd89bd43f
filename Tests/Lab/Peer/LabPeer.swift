import STUN
import TestSupport
import Traversal

/// A peer made of the real `ICEAgent` and `TURNClient`, which meets another by the real servers: host candidates,
/// reflexive ones by STUN, relayed ones by UDP and TCP, told as they are found (RFC 8838) through the rendezvous.
///
///     let alice = LabPeer(internet, "alice", on: "a")
///     let bob = LabPeer(internet, "bob", on: "b")
///     bob.start()
///     alice.connect(to: "bob")
///     try internet.run(while: { alice.path == nil })
///     alice.send("0 hello")
///
/// The servers of the internet are called "turn" and "signaling", and know every peer by its name and the password
/// `LabPeer.password(name)`.
package final class LabPeer {
    package struct Options {
        package var transports: [TURNConfiguration.Transport] = [.udp, .tcp]
        /// What the other transports wait for a relay by the first one.
        package var headStartSeconds = 0.25
        package var streamPort: UInt16 = 3_478
        package var ice = ICEConfiguration()
        package var supportsRenomination = true
        /// Sends back what comes and begins with `LabPeer.question`, with `LabPeer.answer` in its place.
        package var echoes = true

        package init() { ice.pacing = 20_000_000 }
    }

    /// What data begins with, in the range of DTLS (RFC 7983).
    package static let question = UInt8(ascii: "0")
    package static let answer = UInt8(ascii: "1")

    package static func password(_ name: String) -> String { "password of \(name)" }

    package let name: String
    package let host: Host
    package let options: Options
    /// Sees all data that comes.
    package var onData: (_ bytes: [UInt8], _ isRelayed: Bool) -> Void = { _, _ in }
    /// Hears of each path.
    package var onPath: (ICEPath?) -> Void = { _ in }
    /// When each path was taken, in nanoseconds.
    package private(set) var paths: [(at: UInt64, path: ICEPath?)] = []
    package private(set) var states: [(at: UInt64, state: ICEState)] = []
    package private(set) var reports: [ICEReport] = []
    /// Data that had nowhere to go.
    package private(set) var unsent = 0
    /// Sessions that were begun because the one before had failed.
    package private(set) var restarts = 0
    /// Sessions that were begun to find a direct path again, or because the agent wanted it.
    package private(set) var renegotiations = 0

    package let ice: ICEAgent
    unowned let internet: Internet
    let cryptography: SeededCryptography
    var signaling = PeerSignaling()
    var locals: [ICELocalCandidate] = []
    var links: [RelayLink] = []
    /// Relays that are being given back.
    var closing: [RelayLink] = []
    /// Pauses before the next attempt at a relay, by its transport.
    var patience: [TURNConfiguration.Transport: Double] = [:]
    /// A look at the relays in whose place there are others is under way.
    var isRetiring = false
    private(set) var isGathering = false
    private(set) var isClosed = false
    private var relayBaseCount: UInt32 = 0
    private var searches = 0

    private(set) lazy var core = Agent<PeerMachine, PeerMachine.Action>(
        on: host,
        PeerMachine(ice, cryptography),
        take: { machine, input, now, actions in machine.take(input, now: now, into: &actions) },
        expire: { machine, now, actions in machine.expire(now: now, into: &actions) },
        deadline: { $0.nextDeadline },
        perform: { [unowned self] _, action in perform(action) }
    )

    package init(_ internet: Internet, _ name: String, on host: String, _ options: Options = Options()) {
        self.internet = internet
        self.name = name
        self.host = internet.host(host)
        self.options = options
        guard let cryptography = try? SeededCryptography(seed: self.host.dice.next()) else {
            preconditionFailure("OpenSSL has no HMAC")
        }
        self.cryptography = cryptography
        ice = ICEAgent(role: .controlled, configuration: options.ice, cryptography: cryptography)
    }

    package var path: ICEPath? { isClosed ? nil : ice.path }

    package var isDirect: Bool { path.map { !$0.isRelayed } ?? false }

    package var isRelayed: Bool { path?.isRelayed ?? false }

    package var isRegistered: Bool { signaling.isReady }

    /// Sockets and relays that are there, or are being opened or given back.
    package var openBaseCount: Int { core.sockets.count { $0 != nil } + links.count + closing.count }

    /// What its agent and its relays' clients hold: pairs, candidates, transactions, permissions, channels.
    package var weight: Int {
        (links + closing).reduce(TestSupport.weight(of: ice, except: { $0 is SeededCryptography })) { $0 + $1.weight }
    }

    // MARK: What the owner does

    /// Registers with the rendezvous and waits for offers.
    /// - Parameter gathers: whether candidates, and with them relays, are there before anybody asks.
    package func start(gathers: Bool = false) {
        dial()
        if gathers { gather() }
    }

    /// Connects to a peer, with whatever is there already.
    package func connect(to peer: String) {
        signaling.peer = peer
        signaling.isOfferer = true
        begin(as: .controlling)
        dial()
        gather()
        offer()
    }

    /// Begins a session anew, whatever the state of the one there is.
    /// - Parameter role: of this side, though the other one may have it as well.
    package func renegotiate(as role: ICERole? = nil) {
        renegotiations += 1
        begin(as: role)
        offer()
    }

    /// Sends data by the path.
    /// - Returns: false while there is none.
    @discardableResult
    package func send(_ bytes: [UInt8]) -> Bool {
        guard let path else {
            unsent += 1
            return false
        }
        send(bytes, to: path.remote, by: path.base)
        // The agent may have to look sooner than it wanted.
        if ice.noteSent(now: host.now) { core.step { _, _, _ in } }
        return true
    }

    @discardableResult
    package func send(_ text: String) -> Bool { send(Array(text.utf8)) }

    package func close() {
        guard !isClosed else { return }
        isClosed = true
        core.step { machine, _, actions in machine.turn(&actions) { $0.close(into: &$1) } }
        for link in links { link.close() }
        for socket in core.sockets.indices { core.close(socket: socket) }
        hangUpSignaling()
    }

    // MARK: Candidates

    /// Opens sockets and relays, once.
    func gather() {
        guard !isGathering else { return }
        isGathering = true
        let preferences = AddressOrder.preferences(host.addresses)
        for (address, preference) in zip(host.addresses, preferences) {
            guard let socket = core.open(at: address), let local = core.sockets[socket]?.local(address.family) else {
                continue
            }
            let base = ICEBase(rawValue: UInt32(socket))
            add(ICELocalCandidate(base: base, type: .host, endpoint: local, localPreference: preference))
        }
        askForReflexive()
        openRelays()
    }

    /// Asks anew what the world sees of the sockets.
    func askForReflexive() {
        for (number, socket) in core.sockets.enumerated() {
            guard let address = socket?.address else { continue }
            let server = internet.relay("turn").endpoint(address.family)
            core.step { machine, now, actions in
                machine.query(server, from: number, now: now, into: &actions)
            }
        }
    }

    func nextBase() -> ICEBase {
        // Above every socket's number.
        relayBaseCount += 1
        return ICEBase(rawValue: 1_000 + relayBaseCount)
    }

    /// Adds a candidate, and tells the peer.
    func add(_ candidate: ICELocalCandidate) {
        core.step { [weak self] machine, now, actions in
            var signaled: ICECandidate?
            machine.turn(&actions) { ice, wanted in
                signaled = ice.addLocalCandidate(candidate, now: now, into: &wanted)
            }
            guard let signaled, let self else { return }
            if candidate.type == .serverReflexive {
                locals.removeAll { $0.type == .serverReflexive && $0.base == candidate.base }
            }
            locals.append(candidate)
            tell(signaled)
        }
    }

    func remove(_ base: ICEBase) {
        locals.removeAll { $0.base == base }
        core.step { machine, now, actions in
            machine.turn(&actions) { ice, wanted in ice.remove(base, now: now, into: &wanted) }
        }
    }

    // MARK: Actions

    private func perform(_ action: PeerMachine.Action) {
        guard !isClosed else { return }
        switch action {
        case .query(let bytes, let server, let socket): core.send(bytes, to: server, from: socket)
        case .reflexive(let mapped, let socket, let server): found(mapped, socket, server)
        case .data(let bytes, let base, let source): take(bytes, base, source)
        case .ice(let action): perform(action)
        }
    }

    private func perform(_ action: ICEAction) {
        switch action {
        case .send(let base, let target, let bytes): send(bytes, to: target, by: base)
        case .connect: break
        case .permit(let base, let peer): links.first { $0.base == base }?.permit(peer.address)
        case .release(let base, let peer): links.first { $0.base == base }?.forget(peer)
        case .bindChannel(let base, let peer): links.first { $0.base == base }?.bindChannel(to: peer)
        case .restartWanted: renegotiate()
        case .path(let path):
            let before = paths.last?.path
            paths.append((host.now, path))
            onPath(path)
            // The NAT may see this side anew, and the way back to the direct path is by what it sees.
            if path?.isRelayed == true, before?.isRelayed == false {
                searches += 1
                askForReflexive()
                seekDirectPath(search: searches, round: 1)
            }
        case .state(let state):
            states.append((host.now, state))
            if state == .disconnected { recover() }
            if state == .connected { tidy() }
            if state == .failed, signaling.isOfferer, !signaling.awaitsAnswer { restart() }
        case .failed(let report): reports.append(report)
        case .resolve, .role, .datagramBytes: break
        }
    }

    private func found(_ mapped: Endpoint, _ socket: Int, _ server: Endpoint) {
        guard let address = core.sockets[socket]?.address, let port = core.sockets[socket]?.port else { return }
        let local = Endpoint(address: address, port: port)
        guard mapped != local else { return }
        add(
            ICELocalCandidate(
                base: ICEBase(rawValue: UInt32(socket)),
                type: .serverReflexive,
                endpoint: mapped,
                baseEndpoint: local,
                server: server.address
            )
        )
    }

    private func take(_ bytes: [UInt8], _ base: ICEBase, _ source: Endpoint) {
        ice.noteReceived(on: base, from: source, now: host.now)
        onData(bytes, links.contains { $0.base == base })
        guard options.echoes, bytes.first == Self.question else { return }
        send([Self.answer] + bytes.dropFirst())
    }

    private func send(_ bytes: [UInt8], to target: Endpoint, by base: ICEBase) {
        if let link = links.first(where: { $0.base == base }) { return link.send(bytes, to: target) }
        core.send(bytes, to: target, from: Int(base.rawValue))
    }

    // MARK: When nothing answers

    /// Nothing works: relays may have forgotten this side, and NATs have changed.
    private func recover() {
        askForReflexive()
        renewRelays()
    }

    private func restart() {
        restarts += 1
        begin(as: nil)
        recover()
        offer()
    }

    /// The path was direct, and is not: the NATs may have changed, and a pair that nobody answered on for as long as
    /// consent lasts is not used again in its session (RFC 7675 section 5.1).
    private func seekDirectPath(search: Int, round: Int) {
        internet.scheduler.after(seconds: min(120, 20 * Double(round))) { [weak self] in
            guard let self, !isClosed, isRelayed, search == searches else { return }
            askForReflexive()
            if signaling.isOfferer, round > 1 { renegotiate() }
            seekDirectPath(search: search, round: round + 1)
        }
    }

    /// Every change of an address leaves candidates behind that nobody takes back (RFC 8838 has no word for it): before
    /// they fill the checklist, a new session forgets them.
    private func tidy() {
        internet.scheduler.after(seconds: 10) { [weak self] in
            guard let self, !isClosed, signaling.isOfferer, !signaling.awaitsAnswer, path != nil,
                ice.report.remoteCandidates > 12
            else { return }
            renegotiate()
        }
    }

    /// A session with new credentials (RFC 8445 section 9). Whoever offers controls (section 6.1.1).
    func begin(as role: ICERole?) {
        signaling.remoteFragment = nil
        core.step { machine, now, actions in
            machine.turn(&actions) { ice, wanted in ice.restart(role: role, now: now, into: &wanted) }
        }
    }
}
