import STUN
import Signaling

/// A signaling server: the real hub. Its messages go as frames over TCP, in place of WebSockets over TLS.
package final class Rendezvous {
    package struct Configuration {
        package var hub = HubConfiguration()
        package var port: UInt16 = 8_443
        /// How long the account store takes to answer.
        package var lookupMilliseconds: Double = 1
        /// A JSON array, for a user.
        package var iceServers: (_ user: String) -> String = { _ in "[]" }
    }

    package let host: Host
    package let configuration: Configuration
    package private(set) var hub: Hub
    private var users: [String: String]
    private var connections: [ConnectionID: SignalingFramer] = [:]
    private var lastConnection: UInt64 = 0
    private lazy var alarm = Alarm(host.internet.scheduler) { [weak self] in self?.expire() }
    private var internet: Internet { host.internet }

    init(_ host: Host, users: [String: String], _ configure: (inout Configuration) -> Void) {
        self.host = host
        self.users = users
        var configuration = Configuration()
        configure(&configuration)
        self.configuration = configuration
        hub = Self.hub(configuration, host)
        host.listen(configuration.port) { [unowned self] in accept($0) }
    }

    private static func hub(_ configuration: Configuration, _ host: Host) -> Hub {
        Hub(configuration: configuration.hub) { [unowned host] in host.dice.next() }
    }

    package func endpoint(_ family: AddressFamily = .ipv4) -> Endpoint {
        Endpoint(host.address(family) ?? IPAddress(v4: 0), configuration.port)
    }

    /// Stops and starts anew: sessions are gone, connections are reset.
    package func restart() {
        connections = [:]
        for stream in host.streams.all { stream.abort() }
        hub = Self.hub(configuration, host)
        alarm.set(nil)
    }

    private var time: HubTime {
        let milliseconds = (internet.now - Scheduler.start) / 1_000_000
        let wall = Int64(internet.wallStartSeconds * 1_000 + milliseconds)
        return HubTime(monotonicNanoseconds: internet.now, wallMilliseconds: wall)
    }

    // MARK: Connections

    private func accept(_ connection: TCPConnection) {
        lastConnection += 1
        let id = ConnectionID(lastConnection)
        let framer = SignalingFramer(connection)
        connections[id] = framer
        connection.onReceive = { [unowned self] bytes in framer.take(bytes) { self.take($0, $1, from: id) } }
        connection.onEnd = { [unowned self, unowned connection] in
            close(id, .lost(deliveredThrough: nil))
            connection.finish()
        }
        connection.onClose = { [unowned self] _ in close(id, .lost(deliveredThrough: nil)) }
        perform { hub.connect(id, address: AddressKey(connection.remote.address), grant: nil, now: time, into: &$0) }
    }

    private func close(_ id: ConnectionID, _ ending: Ending) {
        guard connections.removeValue(forKey: id) != nil else { return }
        perform { hub.closed(id, ending, now: time, into: &$0) }
    }

    private func take(_ kind: SignalingFramer.Kind, _ payload: [UInt8], from id: ConnectionID) {
        switch kind {
        case .text:
            perform { actions in
                payload.withUnsafeBufferPointer { hub.receive($0, from: id, now: time, into: &actions) }
            }
        case .pong:
            let sequence = payload.reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
            hub.acknowledged(id, through: sequence, now: time)
            arm()
        case .close:
            // 1000, or no code, is for good; after any other the client may come back.
            let isGoodbye = payload.count < 2 || payload.prefix(2) == [0x03, 0xE8]
            close(id, isGoodbye ? .goodbye : .lost(deliveredThrough: nil))
        case .ping: connections[id]?.send(.pong, payload)
        }
    }

    // MARK: The hub

    private func expire() { perform { hub.expire(now: time, into: &$0) } }

    private func arm() { alarm.set(hub.nextDeadline) }

    private func perform(_ step: (inout [Action]) -> Void) {
        var actions: [Action] = []
        step(&actions)
        for action in actions { perform(action) }
        arm()
    }

    private func perform(_ action: Action) {
        switch action {
        case .send(let id, let frame): connections[id]?.send(.text, frame.bytes)
        case .probe(let id, let sequence):
            connections[id]?.send(.ping, withUnsafeBytes(of: sequence.bigEndian, Array.init))
        case .measure(let before, let id):
            // The lab's connections do not tell what has been acknowledged: the client's own count holds.
            later { rendezvous, actions in
                rendezvous.hub.measured(
                    before,
                    deliveredThrough: nil,
                    for: id,
                    now: rendezvous.time,
                    into: &actions
                )
            }
        case .close(let id, let code, _):
            let framer = connections.removeValue(forKey: id)
            framer?.send(.close, withUnsafeBytes(of: UInt16(code.rawValue).bigEndian, Array.init))
            framer?.connection.finish()
        case .authenticate(let id, let credentials): authenticate(id, credentials)
        case .probeTCP(let ticket, let id, let port): probe(ticket, id, port)
        case .issueCredentials(let ticket, let user, let ttlSeconds):
            let servers = Array(configuration.iceServers(user).utf8)
            later { rendezvous, actions in
                rendezvous.hub.issued(
                    ticket,
                    iceServers: servers,
                    ttlSeconds: ttlSeconds,
                    now: rendezvous.time,
                    into: &actions
                )
            }
        }
    }

    private func authenticate(_ id: ConnectionID, _ credentials: Credentials) {
        let began = internet.now
        let user = user(showing: credentials)
        later { rendezvous, actions in
            guard let user else {
                return rendezvous.hub.denied(id, .wrongCredentials, now: rendezvous.time, into: &actions)
            }
            let grant = Grant(
                user: user,
                expiresAtWallMilliseconds: nil,
                iceServers: Array(rendezvous.configuration.iceServers(user).utf8),
                ttlSeconds: 3_600,
                checkedAtNanoseconds: began
            )
            rendezvous.hub.authenticated(id, grant, now: rendezvous.time, into: &actions)
        }
    }

    private func probe(_ ticket: ProbeTicket, _ id: ConnectionID, _ port: UInt16) {
        guard let client = connections[id]?.connection.remote.address else {
            return later { $0.hub.probed(ticket, ProbeReport(.impossible), now: $0.time, into: &$1) }
        }
        // From an address that the client's signaling does not go to.
        let own = host.addresses.last { $0.family == client.family }
        guard let connection = host.connect(to: Endpoint(client, port), at: own) else {
            return later { $0.hub.probed(ticket, ProbeReport(.impossible), now: $0.time, into: &$1) }
        }
        let from = connection.local.address.text
        func conclude(_ outcome: ProbeReport.Outcome) {
            connection.onClose = nil
            connection.abort()
            let report = ProbeReport(outcome, address: client.text, from: from)
            later { $0.hub.probed(ticket, report, now: $0.time, into: &$1) }
        }
        var isOver = false
        func once(_ outcome: ProbeReport.Outcome) {
            guard !isOver else { return }
            isOver = true
            conclude(outcome)
        }
        connection.onOpen = { once(.accepted) }
        connection.onClose = { once($0 == .refused ? .refused : .dropped) }
        internet.scheduler.after(seconds: Double(SignalingLimits.probeSeconds)) { once(.dropped) }
    }

    private func user(showing credentials: Credentials) -> String? {
        switch credentials {
        case .password(let name, let password):
            users[name].flatMap { Array($0.utf8) == Array(password.utf8) ? name : nil }
        case .session(let user): users[user] != nil ? user : nil
        case .token: nil
        }
    }

    private func later(_ step: @escaping (Rendezvous, inout [Action]) -> Void) {
        let asked = hub
        internet.scheduler.after(seconds: configuration.lookupMilliseconds / 1_000) { [weak self] in
            // A server that has started anew knows nothing of the question.
            guard let self, hub === asked else { return }
            perform { step(self, &$0) }
        }
    }
}

extension AddressKey {
    fileprivate init(_ address: IPAddress) {
        if address.isIPv4 { self.init(ipv4: address.v4) } else { self.init(ipv6: address.high, address.low) }
    }
}
