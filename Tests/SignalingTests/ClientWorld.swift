import Testing

@testable import Signaling

/// Clients of the lab's hub whose messages take their time, in both directions, over lines that can be cut.
final class ClientWorld {
    let lab: Lab
    private(set) var stations: [Station] = []
    let latencyNanoseconds: UInt64 = 10_000_000

    init(seed: UInt64 = 1, _ configure: (inout HubConfiguration) -> Void = { _ in }) {
        lab = Lab(seed: seed, configure)
    }

    var now: UInt64 { lab.now.monotonicNanoseconds }

    func station(
        _ user: String,
        password: String? = nil,
        seed: UInt64 = 7,
        _ configure: (inout SignalingConfiguration) -> Void = { _ in }
    ) -> Station {
        let credentials = SignalingCredentials.password(username: user, password: password ?? "pw-\(user)")
        var configuration = SignalingConfiguration(credentials: credentials)
        configure(&configuration)
        let station = Station(configuration, self, seed: seed &+ UInt64(stations.count))
        stations.append(station)
        return station
    }

    /// A station that is in, with its user's name as peer id.
    func peer(_ user: String) throws -> Station {
        let station = station(user)
        station.start()
        _ = try station.call { s, now, actions throws(SignalingError) in
            try s.register(user, now: now, into: &actions)
        }
        run(seconds: 1)
        #expect(station.session.state == .open && station.has { if case .registered = $0 { true } else { false } })
        return station
    }

    func run(seconds: Double) { run(until: now + UInt64(seconds * 1e9)) }

    /// Whether it came to that in time.
    func run(atMostSeconds seconds: Double, until isDone: () -> Bool) -> Bool {
        let end = now + UInt64(seconds * 1e9)
        while !isDone() {
            guard now < end else { return false }
            step(until: end)
        }
        return true
    }

    private func run(until end: UInt64) { while now < end { step(until: end) } }

    /// To the next time at which something happens.
    private func step(until end: UInt64) {
        let next = stations.reduce(min(end, lab.hub.nextDeadline ?? end)) { min($0, $1.nextTime) }
        lab.advance(to: max(next, now))
        for station in stations { station.work() }
        // A machine whose deadline stays in the past would stop the clock.
        for station in stations { #expect((station.session.nextDeadline ?? .max) > now, "a deadline stays") }
    }
}

/// One client: its session, its line to the hub, and what it was told.
final class Station {
    private(set) var session: SignalingSession
    private(set) var events: [SignalingEvent] = []
    /// What it sent, as text.
    private(set) var sent: [String] = []
    private(set) var connects: [UInt64] = []
    /// Messages that reached an end of its lines.
    private(set) var arrivals = 0
    /// Called before each such message; false: the line is cut there, and the message is lost.
    var mayArrive: ((_ number: Int) -> Bool)?
    /// Off: the server does not notice cuts.
    var serverSeesCuts = true
    /// Off: nobody answers.
    var isServerUp = true
    /// A cut that the client does not notice by itself.
    var isMute = false
    private unowned let world: ClientWorld
    private var socket: UInt64 = 0
    private var link: Client?
    private var up: [(at: UInt64, socket: UInt64, text: String)] = []
    private var down: [(at: UInt64, socket: UInt64, item: Item)] = []

    private enum Item {
        case opened
        case text(String)
        case closed(UInt16?)
    }

    init(_ configuration: SignalingConfiguration, _ world: ClientWorld, seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        session = SignalingSession(configuration) { generator.next() }
        self.world = world
    }

    var isConnected: Bool { link != nil }

    func start() { perform { $0.start(now: $1, into: &$2) } }

    func close() { perform { $0.close(now: $1, into: &$2) } }

    func setCredentials(_ credentials: SignalingCredentials) {
        perform { $0.setCredentials(credentials, now: $1, into: &$2) }
    }

    func call<Answer>(
        _ step: (inout SignalingSession, UInt64, inout [SignalingAction]) throws(SignalingError) -> Answer
    ) throws(SignalingError) -> Answer {
        var actions: [SignalingAction] = []
        defer { carryOut(actions) }
        return try step(&session, world.now, &actions)
    }

    @discardableResult
    func send(_ number: Int, to peer: String, from: String) throws -> SignalingRequestID {
        let payload = try JSONText("\(number)")
        return try call { session, now, actions throws(SignalingError) in
            try session.send(.signal, payload, from: from, to: peer, now: now, into: &actions)
        }
    }

    /// The numbers that came, in order.
    var numbers: [Int] {
        events.compactMap { event in
            guard case .message(let message) = event else { return nil }
            return message.payload.value.number.map { Int($0) }
        }
    }

    func has(_ matches: (SignalingEvent) -> Bool) -> Bool { events.contains(where: matches) }

    func takeEvents() -> [SignalingEvent] {
        defer { events = [] }
        return events
    }

    var failures: [SignalingError] {
        events.compactMap { if case .failed(_, let error) = $0 { error } else { nil } }
    }

    func reject(status: Int, retryAfterSeconds: UInt64?) {
        let socket = socket
        perform {
            $0.rejected(socket: socket, status: status, retryAfterSeconds: retryAfterSeconds, now: $1, into: &$2)
        }
    }

    func forgetResume() { session.resume = nil }

    /// The line breaks: what is on it is lost.
    func cut() {
        guard socket > 0 else { return }
        up.removeAll { $0.socket == socket }
        down.removeAll { $0.socket == socket }
        link?.onFrame = { _ in }
        link?.onClose = nil
        let old = link
        link = nil
        if serverSeesCuts { old?.end(.lost(deliveredThrough: nil)) }
        if !isMute { down.append((world.now + world.latencyNanoseconds, socket, .closed(nil))) }
    }

    var nextTime: UInt64 {
        let line = min(up.first?.at ?? .max, down.first?.at ?? .max)
        return min(line, session.nextDeadline ?? .max)
    }

    /// Does what its time has come for.
    func work() {
        while let first = up.first, first.at <= world.now {
            up.removeFirst()
            guard first.socket == socket, let link else { continue }
            guard arrive() else { continue }
            link.send(first.text)
        }
        while let first = down.first, first.at <= world.now {
            down.removeFirst()
            switch first.item {
            case .opened: perform { $0.opened(socket: first.socket, now: $1, into: &$2) }
            case .text(let text):
                guard first.socket == socket, arrive() else { continue }
                perform { $0.received(text, socket: first.socket, now: $1, into: &$2) }
            case .closed(let code): perform { $0.closed(socket: first.socket, code: code, now: $1, into: &$2) }
            }
        }
        if let deadline = session.nextDeadline, deadline <= world.now {
            perform { $0.advance(now: $1, into: &$2) }
        }
    }

    private func arrive() -> Bool {
        arrivals += 1
        if mayArrive?(arrivals) == false {
            cut()
            return false
        }
        return true
    }

    private func perform(_ step: (inout SignalingSession, UInt64, inout [SignalingAction]) -> Void) {
        var actions: [SignalingAction] = []
        step(&session, world.now, &actions)
        carryOut(actions)
    }

    private func carryOut(_ actions: [SignalingAction]) {
        for action in actions {
            switch action {
            case .connect(let number, let authorization): connect(number, authorization)
            case .send(let text):
                sent.append(text)
                up.append((world.now + world.latencyNanoseconds, socket, text))
            case .close(let code): hangUp(code)
            case .deliver(let event): events.append(event)
            }
        }
    }

    private func connect(_ number: UInt64, _ authorization: String?) {
        if let link { link.end(.lost(deliveredThrough: nil)) }
        link = nil
        socket = number
        connects.append(world.now)
        let opensAt = world.now + 2 * world.latencyNanoseconds
        guard isServerUp else { return down.append((opensAt, number, .closed(nil))) }
        // The server takes the connection at once; the client hears of it later.
        down.append((opensAt, number, .opened))
        let user = session.credentials.user ?? ""
        let link = world.lab.socket(grant: authorization == nil ? nil : world.lab.grant(user)) {
            [unowned self] client in
            client.onFrame = { [unowned self] text in
                let at = max(opensAt, world.now + world.latencyNanoseconds)
                down.append((at, number, .text(text)))
            }
            client.onClose = { [unowned self] code in
                let at = max(opensAt, world.now + world.latencyNanoseconds)
                down.append((at, number, .closed(code?.rawValue)))
                if socket == number { self.link = nil }
            }
        }
        if link.closedWith == nil { self.link = link }
    }

    /// What was sent arrives before the close.
    private func hangUp(_ code: UInt16) {
        for message in up where message.socket == socket { link?.send(message.text) }
        up.removeAll { $0.socket == socket }
        let old = link
        link = nil
        old?.onFrame = { _ in }
        old?.onClose = nil
        old?.end(code == 1000 ? .goodbye : .lost(deliveredThrough: nil))
    }
}
