import Lab
import STUN
import Testing
import Traversal

/// Two hosts that find out what their NATs do, tell each other, and look for a way between them, without ICE: what the
/// search finds, how soon, and what it sends for that.
///
///     core ─┬─ turn
///           ├─ one ──── a     who offers
///           └─ other ── b
final class PunchWorld {
    let internet: Internet
    private(set) var a: PunchSide
    private(set) var b: PunchSide
    let traffic = PunchTraffic()
    /// The way of signaling, from peer to peer.
    private let signalingSeconds: Double
    private var dice: Dice

    init(_ one: NATBehavior, _ other: NATBehavior, _ quality: LinkQuality, seed: UInt64) throws {
        internet = Internet(seed: seed) { net in
            net.relay("turn", quality)
            net.nat("one", one, quality) { $0.host("a") }
            net.nat("other", other, quality) { $0.host("b") }
        }
        signalingSeconds = 2 * (quality.delayMilliseconds + 1) / 1_000
        dice = Dice(seed: seed, for: "signaling")
        let credentials = try ["a", "b"].map {
            try ICECredentials(usernameFragment: "fragment\($0)", password: "ThePasswordOfPeer\($0)12345678")
        }
        a = try PunchSide(internet, "a", own: credentials[0], peer: credentials[1], isOfferer: true)
        b = try PunchSide(internet, "b", own: credentials[1], peer: credentials[0], isOfferer: false)
        for (side, other) in [(a, b), (b, a)] {
            // The way of signaling is made of the same links.
            side.signal = { [weak self, weak other] message in
                guard let self, !dice.chance(quality.lossRatio) else { return }
                internet.scheduler.after(seconds: signalingSeconds) { other?.take(message) }
            }
        }
    }

    /// Both learn what their NATs do.
    func measure() throws {
        try internet.run(while: { a.report == nil || b.report == nil }, atMostSeconds: 5)
        // The allocation is learned by now as well.
        try internet.run(seconds: 0.5)
        let addresses = ["a": internet.router("other").publicAddress, "b": internet.router("one").publicAddress]
        internet.log.observe = { [traffic] entry in
            guard entry.event == .sent, let peer = addresses[entry.place] else { return }
            traffic.note(entry.packet, from: entry.place, peer: peer, at: entry.time)
        }
    }

    func begin() -> Bool {
        // With loss, now and then one of them is not found out.
        guard let one = a.punchReport, let other = b.punchReport else { return false }
        let reports = (one, other)
        let plans = (
            PunchPlan.make(own: reports.0, peer: reports.1), PunchPlan.make(own: reports.1, peer: reports.0)
        )
        guard let own = plans.0, let peer = plans.1 else {
            #expect(plans.0 == nil && plans.1 == nil)
            return false
        }
        let roundTrip = UInt64(signalingSeconds * 2e9)
        b.begin(peer, server: internet.relay("turn").endpoint(), roundTrip: roundTrip)
        a.begin(own, server: internet.relay("turn").endpoint(), roundTrip: roundTrip)
        return true
    }

    var haveMet: Bool { !a.hits.isEmpty && !b.hits.isEmpty }

    /// - Returns: after how many seconds both had a hit; nil where there was none.
    func meet(atMostSeconds limit: Double) throws -> Double? {
        let began = internet.seconds
        guard try internet.run(while: { !haveMet }, atMostSeconds: limit) else { return nil }
        return internet.seconds - began
    }
}

/// One of them.
final class PunchSide {
    private(set) var hits: [PunchHit] = []
    private(set) var outcome: PunchOutcome?
    var signal: (PunchMessage) -> Void = { _ in }
    let gate = PunchGate()
    private(set) var puncher: Puncher?

    private let probe: NATProbe
    private let host: Host
    private let credentials: (own: ICECredentials, peer: ICECredentials)
    private let isOfferer: Bool
    private let cryptography: SeededCryptography
    private var agent: Agent<Puncher, PunchAction>?
    private var numbers: [Int: Int] = [:]

    init(_ internet: Internet, _ name: String, own: ICECredentials, peer: ICECredentials, isOfferer: Bool) throws {
        host = internet.host(name)
        probe = NATProbe(internet, on: name)
        (credentials, self.isOfferer) = ((own, peer), isOfferer)
        cryptography = try SeededCryptography(seed: internet.seed &* 2 &+ (isOfferer ? 0 : 1))
    }

    var report: NATReport? { probe.report }

    var punchReport: PunchReport? { report.flatMap { PunchReport($0, wish: .auto) } }

    var openSockets: Int { agent?.sockets.count { $0 != nil } ?? 0 }

    func begin(_ plan: PunchPlan, server: Endpoint, roundTrip: UInt64) {
        let session = Puncher.Session(
            own: credentials.own,
            peer: credentials.peer,
            server: server,
            ownAddress: punchReport?.address ?? IPAddress(v4: 0),
            roundTrip: roundTrip
        )
        let puncher = Puncher(
            plan,
            session,
            begins: plan.begins(isOfferer: isOfferer),
            gate: gate,
            cryptography: cryptography
        )
        self.puncher = puncher
        let agent = Agent<Puncher, PunchAction>(
            on: host,
            puncher,
            take: { [unowned self] machine, input, now, actions in
                guard case .datagram(let socket, let bytes, let source, _) = input,
                    let number = numbers.first(where: { $0.value == socket })?.key
                else { return }
                bytes.withUnsafeBytes { _ = machine.receive($0, on: number, from: source, now: now, into: &actions) }
            },
            expire: { machine, now, actions in machine.advance(now: now, into: &actions) },
            deadline: { $0.nextDeadline },
            perform: { [unowned self] agent, action in perform(action, agent) }
        )
        self.agent = agent
        agent.step { machine, now, actions in machine.start(now: now, into: &actions) }
    }

    func take(_ message: PunchMessage) {
        agent?.step { machine, now, actions in machine.take(message, now: now, into: &actions) }
    }

    private func perform(_ action: PunchAction, _ agent: Agent<Puncher, PunchAction>) {
        switch action {
        case .open(let number):
            let socket = agent.open()
            numbers[number] = socket
            let local = socket.flatMap { agent.sockets[$0]?.local() }
            agent.step { machine, now, actions in machine.opened(number, at: local, now: now, into: &actions) }
        case .send(let number, let endpoint, let bytes, let hopLimit):
            guard let socket = numbers[number] else { return }
            agent.send(bytes, to: endpoint, from: socket, hopLimit: Int(hopLimit ?? 64))
        case .close(let number):
            if let socket = numbers.removeValue(forKey: number) { agent.close(socket: socket) }
        case .tell(let message): signal(message)
        case .hit(let hit): hits.append(hit)
        case .ended(let outcome): self.outcome = outcome
        }
    }
}
