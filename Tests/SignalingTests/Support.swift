import Foundation
import Testing

@testable import Signaling

/// A hub with virtual time and an account store that knows everyone: the password of `alice` is `pw-alice`.
final class Lab {
    private(set) var hub: Hub
    private(set) var now = HubTime(monotonicNanoseconds: 1_000_000_000_000, wallMilliseconds: 1_800_000_000_000)
    private(set) var clients: [ConnectionID: Client] = [:]
    /// Off: `authenticate` and `issueCredentials` wait in these.
    var answersAtOnce = true
    /// Off: `measure` waits.
    var measuresAtOnce = true
    private var pendingMeasures: [(ConnectionID, for: ConnectionID)] = []
    private(set) var pendingChecks: [(ConnectionID, Credentials, checkedAt: UInt64)] = []
    var pendingProbes: [(ticket: ProbeTicket, connection: ConnectionID, port: UInt16)] = []
    private(set) var pendingTickets: [(CredentialTicket, user: String, ttlSeconds: UInt64)] = []
    var disabledUsers: Set<String> = []
    private var lastConnection: UInt64 = 0
    private var actions: [Action] = []
    private var generator: SeededGenerator

    init(seed: UInt64 = 1, _ configure: (inout HubConfiguration) -> Void = { _ in }) {
        var configuration = HubConfiguration()
        configure(&configuration)
        generator = SeededGenerator(seed: seed)
        var ids = SeededGenerator(seed: seed &+ 1)
        hub = Hub(configuration: configuration) { ids.next() }
    }

    /// The server stops without a word and starts anew: sessions are gone, and connections with them.
    func restart() {
        var ids = SeededGenerator(seed: generator.next())
        hub = Hub(configuration: hub.configuration) { ids.next() }
        for client in clients.values { client.vanish() }
        clients = [:]
        actions = []
        pendingChecks = []
        pendingMeasures = []
        pendingTickets = []
    }

    // MARK: Clients

    /// A WebSocket that has said nothing yet.
    func socket(
        address: UInt32 = 0xC000_0201,
        grant: Grant? = nil,
        _ prepare: (Client) -> Void = { _ in }
    ) -> Client {
        lastConnection += 1
        let client = Client(ConnectionID(lastConnection), self)
        prepare(client)
        clients[client.id] = client
        perform { hub.connect(client.id, address: AddressKey(ipv4: address), grant: grant, now: now, into: &$0) }
        return client
    }

    /// A client that has said hello and got its welcome.
    func client(_ user: String, address: UInt32 = 0xC000_0201) throws -> Client {
        let client = socket(address: address)
        client.send(["type": "hello", "username": user, "password": "pw-\(user)"])
        client.welcome = try #require(client.take("welcome"))
        return client
    }

    /// The same, with a peer id registered.
    func peer(_ id: String, address: UInt32 = 0xC000_0201) throws -> Client {
        let client = try client(String(id.prefix { $0 != "/" }), address: address)
        client.send(["type": "register", "peerId": id])
        _ = try #require(client.take("registered"))
        return client
    }

    func grant(_ user: String, expiresInSeconds: Int64? = nil, checkedAt: UInt64? = nil) -> Grant {
        Grant(
            user: user,
            expiresAtWallMilliseconds: expiresInSeconds.map { now.wallMilliseconds + $0 * 1_000 },
            iceServers: Array(#"[{"urls":["turn:t.example"],"username":"\#(user)","credential":"c"}]"#.utf8),
            ttlSeconds: 3_600,
            checkedAtNanoseconds: checkedAt ?? now.monotonicNanoseconds
        )
    }

    // MARK: Time

    func advance(seconds: Double) { advance(to: now.monotonicNanoseconds + UInt64(seconds * 1e9)) }

    func advance(to end: UInt64) {
        while let deadline = hub.nextDeadline, deadline <= end {
            move(to: max(deadline, now.monotonicNanoseconds))
            perform { hub.expire(now: now, into: &$0) }
        }
        move(to: end)
    }

    private func move(to time: UInt64) {
        now.wallMilliseconds += Int64((time - now.monotonicNanoseconds) / 1_000_000)
        now.monotonicNanoseconds = time
    }

    /// The last one that is wanted.
    func takeProbe() -> (ticket: ProbeTicket, connection: ConnectionID, port: UInt16)? { pendingProbes.popLast() }

    // MARK: What happens

    func perform(_ step: (inout [Action]) -> Void) {
        var first: [Action] = []
        step(&first)
        actions += first
        // Answers of the store bring more actions.
        while !actions.isEmpty {
            let batch = actions
            actions.removeAll()
            for action in batch { carryOut(action) }
        }
    }

    private func carryOut(_ action: Action) {
        switch action {
        case .send(let id, let frame): clients[id]?.arrive(frame)
        case .probe(let id, let sequence): clients[id]?.probes.append(sequence)
        case .close(let id, let code, _): clients[id]?.close(code)
        case .measure(let old, let id):
            pendingMeasures.append((old, id))
            if measuresAtOnce { answerMeasures() }
        case .authenticate(let id, let credentials):
            pendingChecks.append((id, credentials, now.monotonicNanoseconds))
            if answersAtOnce { answerChecks() }
        case .issueCredentials(let ticket, let user, let ttlSeconds):
            pendingTickets.append((ticket, user, ttlSeconds))
            if answersAtOnce { answerTickets() }
        case .probeTCP(let ticket, let id, let port): pendingProbes.append((ticket, id, port))
        }
    }

    func answerChecks() {
        while !pendingChecks.isEmpty {
            let (id, credentials, checkedAt) = pendingChecks.removeFirst()
            var user: String?
            var expiry: Int64?
            switch credentials {
            case .password(let username, let password):
                let (name, seconds) = Name.user(ofUsername: username)
                if password == "pw-\(name)" { user = username }
                expiry = seconds
            case .token(let token): user = token.hasPrefix("token-") ? String(token.dropFirst(6)) : nil
            case .session(let name): user = name
            }
            if let user, !disabledUsers.contains(user) {
                let left = expiry.map { $0 - now.wallMilliseconds / 1_000 }
                let grant = grant(user, expiresInSeconds: left, checkedAt: checkedAt)
                hub.authenticated(id, grant, now: now, into: &actions)
            } else {
                hub.denied(id, .wrongCredentials, now: now, into: &actions)
            }
        }
    }

    func answerMeasures() {
        while !pendingMeasures.isEmpty {
            let (old, id) = pendingMeasures.removeFirst()
            let delivered = clients[old]?.acknowledgedByItsKernel
            hub.measured(old, deliveredThrough: delivered, for: id, now: now, into: &actions)
        }
    }

    func answerTickets() {
        while !pendingTickets.isEmpty {
            let (ticket, user, ttl) = pendingTickets.removeFirst()
            let servers = Array(#"[{"urls":["turn:t.example"],"username":"\#(user)","credential":"n"}]"#.utf8)
            hub.issued(ticket, iceServers: servers, ttlSeconds: ttl, now: now, into: &actions)
        }
    }

    func failTickets() {
        let tickets = pendingTickets
        pendingTickets = []
        perform { actions in
            for (ticket, _, _) in tickets { hub.issueFailed(ticket, now: now, into: &actions) }
        }
    }

    func random(_ range: Range<Int>) -> Int { Int.random(in: range, using: &generator) }
}

/// One WebSocket's far end, which counts as a client does that wants to resume.
final class Client {
    let id: ConnectionID
    let lab: Lab
    var welcome: [String: Any] = [:]
    /// What arrived and was not taken, as text.
    private(set) var inbox: [String] = []
    private(set) var newestWelcome: [String: Any]?
    /// Messages since the last `welcome`.
    private(set) var received: UInt64 = 0
    /// False: what arrives is lost on the way, as behind a cut that the server does not know of.
    var isReading = true
    private var seen = 0
    var probes: [UInt64] = []
    /// What the gateway says when it is asked how far the connection has come.
    var acknowledgedByItsKernel: UInt64?
    private(set) var closedWith: CloseCode?
    /// Something else reads what arrives.
    var onFrame: ((String) -> Void)?
    /// The server closed the connection; nil: it is gone without a word.
    var onClose: ((CloseCode?) -> Void)?

    init(_ id: ConnectionID, _ lab: Lab) {
        self.id = id
        self.lab = lab
    }

    var token: String { welcome["resumeToken"] as? String ?? "" }

    func arrive(_ frame: Frame) {
        guard isReading, closedWith == nil else { return }
        let text = String(decoding: frame.bytes, as: UTF8.self)
        if let onFrame { return onFrame(text) }
        let isWelcome = text.hasPrefix(#"{"type":"welcome""#)
        if isWelcome { newestWelcome = Client.object(text) }
        received = isWelcome ? 0 : received + (frame.sequence > 0 ? 1 : 0)
        if frame.sequence > 0 { #expect(frame.sequence == received, "the two ends count differently") }
        inbox.append(text)
    }

    func send(_ message: [String: Any]) {
        let data = try? JSONSerialization.data(withJSONObject: message, options: [.withoutEscapingSlashes])
        send(bytes: Array(data ?? Data()))
    }

    func send(_ text: String) { send(bytes: Array(text.utf8)) }

    func send(bytes: [UInt8]) {
        lab.perform { actions in
            bytes.withUnsafeBufferPointer { lab.hub.receive($0, from: id, now: lab.now, into: &actions) }
        }
    }

    func join(_ room: String, as peer: String) throws {
        send(["type": "join-room", "peerId": peer, "roomId": room])
        _ = try #require(take("room-joined"))
    }

    func end(_ ending: Ending) { lab.perform { lab.hub.closed(id, ending, now: lab.now, into: &$0) } }

    fileprivate func close(_ code: CloseCode) {
        closedWith = code
        onClose?(code)
    }

    fileprivate func vanish() { onClose?(nil) }

    func answerProbes() {
        for probe in probes { lab.hub.acknowledged(id, through: probe, now: lab.now) }
        probes = []
    }

    /// Takes the first message of this type out of the inbox.
    func take(_ type: String) -> [String: Any]? {
        guard let index = inbox.firstIndex(where: { $0.hasPrefix(#"{"type":"\#(type)""#) }) else { return nil }
        return Client.object(inbox.remove(at: index))
    }

    func takeAll() -> [[String: Any]] {
        defer { inbox = [] }
        return inbox.compactMap(Client.object)
    }

    /// What arrived since this was asked last; it stays in the inbox.
    func unseen() -> [[String: Any]] {
        defer { seen = inbox.count }
        return inbox.dropFirst(seen).compactMap(Client.object)
    }

    func takeTexts() -> [String] {
        defer { inbox = [] }
        return inbox
    }

    /// The `error` that came for a message: its code and text.
    func refusal() -> String? {
        guard let error = take("error") else { return nil }
        return "\(error["code"] ?? ""): \(error["error"] ?? "")"
    }

    static func object(_ text: String) -> [String: Any]? {
        let object = try? JSONSerialization.jsonObject(with: Data(text.utf8))
        #expect(object != nil, "the server sent no JSON: \(text)")
        return object as? [String: Any]
    }
}

/// SplitMix64: the same numbers for the same seed, everywhere.
struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var word = state
        word = (word ^ (word >> 30)) &* 0xBF58_476D_1CE4_E5B9
        word = (word ^ (word >> 27)) &* 0x94D0_49BB_1331_11EB
        return word ^ (word >> 31)
    }
}
