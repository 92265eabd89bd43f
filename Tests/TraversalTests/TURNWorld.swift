import OpenSSLCrypto
import STUN
import TURN
import TestSupport
import Traversal

/// A client and the real server's engine with a wire between them, peers that answer, and the time.
final class TURNWorld {
    static let realm = "example.org"
    static let server = Endpoint("203.0.113.5", 3_478)

    let cryptography: OpenSSLCryptography
    let relays = TestRelays()
    var engine: Engine
    var client: TURNClient
    var source: Endpoint
    let transport: TURNConfiguration.Transport
    private(set) var moment = Moment(monotonicNanoseconds: 1_000 * seconds, wallSeconds: 1_800_000_000)
    /// What the client wanted, apart from `send`.
    private(set) var events: [TURNAction] = []
    private(set) var received: [(bytes: [UInt8], peer: Endpoint)] = []
    /// Messages to the server, by method.
    private(set) var requests: [STUN.Method: Int] = [:]
    private(set) var channelDataSent = 0
    /// What the server relayed.
    private(set) var atPeers: [(bytes: [UInt8], peer: Endpoint)] = []
    /// Changes what the server answers, or takes it out; for tests of a hostile way.
    var onAnswer: ([UInt8]) -> [UInt8]? = { $0 }
    /// The same for what the client sends.
    var onRequest: ([UInt8]) -> [UInt8]? = { $0 }
    /// The stream is cut into pieces of this length on its way to the client.
    var pieceBytes = Int.max
    private var users: [String: String] = ["alice": "wonderland", "bob": "builder"]
    private var isServerUp = true
    private var reply = [UInt8](repeating: 0, count: 1_500)
    private var parked: [UInt64: (bytes: [UInt8], tuple: FiveTuple)] = [:]

    init(
        transport: TURNConfiguration.Transport = .udp,
        username: String = "alice",
        password: String = "wonderland",
        server: (inout Configuration) -> Void = { _ in },
        client configure: (inout TURNConfiguration) -> Void = { _ in }
    ) throws {
        cryptography = try OpenSSLCryptography()
        self.transport = transport
        source = Endpoint("198.51.100.7", 40_000)
        engine = Self.makeEngine(relays, cryptography, server)
        var configuration = TURNConfiguration(
            server: Self.server,
            transport: transport,
            credential: TURNCredential(username: username, password: password)
        )
        configure(&configuration)
        client = TURNClient(configuration, with: try OpenSSLCryptography())
    }

    private static func makeEngine(
        _ relays: TestRelays,
        _ cryptography: OpenSSLCryptography,
        _ configure: (inout Configuration) -> Void
    ) -> Engine {
        var configuration = Configuration(realm: realm, nonceKeys: NonceKeys(current: Array(0..<32)))
        configuration.unauthenticatedRepliesPerSecond = 0
        configuration.bindingRepliesPerSecond = 0
        configure(&configuration)
        return Engine(
            configuration: configuration,
            shared: Engine.Shared(seed: 7),
            cryptography: cryptography,
            host: relays
        )
    }

    /// A server that knows nothing of what was before.
    func restartServer(_ configure: (inout Configuration) -> Void = { _ in }) {
        relays.reset()
        engine = Self.makeEngine(relays, cryptography, configure)
    }

    func stopServer() { isServerUp = false }

    var now: UInt64 { moment.monotonicNanoseconds }

    func add(user: String, password: String) { users[user] = password }

    var failure: TURNFailure? {
        events.lazy.compactMap { if case .ended(let failure) = $0 { failure } else { nil } }.first
    }

    var hasEnded: Bool { client.hasEnded }

    var reconnections: [Endpoint] {
        events.compactMap { if case .reconnect(let server, _) = $0 { server } else { nil } }
    }

    /// The transaction id of the last message to the server.
    private(set) var lastTransaction: [UInt8]?

    var allocation: TURNAllocation? { client.allocation }

    // MARK: What the caller does

    func start() {
        perform { $0.start(now: $1, into: &$2) }
    }

    func perform(_ body: (inout TURNClient, UInt64, inout [TURNAction]) -> Void) {
        var actions: [TURNAction] = []
        body(&client, now, &actions)
        apply(actions)
    }

    @discardableResult
    func send(_ text: String, to peer: Endpoint) -> TURNClient.SendOutcome {
        var actions: [TURNAction] = []
        let outcome = Array(text.utf8).withUnsafeBytes { client.send($0, to: peer, now: now, into: &actions) }
        apply(actions)
        return outcome
    }

    /// A peer's datagram to the client's relay.
    func peerSends(_ text: String, from peer: Endpoint, family: AddressFamily = .ipv4) {
        guard let relay = relays.open.values.first(where: { $0.leg.local.family == family }) else { return }
        let data = Array(text.utf8)
        var run = PayloadRun(packets: 1, bytes: UInt64(data.count), segmentBytes: UInt64(data.count))
        switch engine.peerData(from: peer, allocation: relay.request.allocation, run: &run, now: now) {
        case .channel(let number):
            let padding = transport.isStream ? [UInt8](repeating: 0, count: -data.count & 3) : []
            deliver([UInt8(number >> 8), UInt8(number & 0xFF), 0, UInt8(data.count)] + data + padding)
        case .indication(let peer):
            let bytes = try? message(.data, .indication, TransactionID(high: 1, low: 1)) {
                $0.append(.xorPeerAddress, xor: peer)
                $0.append(.data, data)
            }
            deliver(bytes ?? [])
        case .drop: break
        }
    }

    /// Lets time pass with everybody's timers.
    func advance(seconds duration: UInt64) {
        let end = now + duration * seconds
        while true {
            let clientTime = client.nextDeadline ?? .max
            let serverTime = relays.nextTimerSecond.map { $0 * seconds } ?? .max
            let next = min(clientTime, serverTime)
            guard next <= end else { break }
            move(to: max(now, next))
            for allocation in relays.takeTimers(bySecond: now / seconds) {
                engine.expire(allocation: allocation, at: moment)
            }
            if clientTime <= now { perform { $0.advance(now: $1, into: &$2) } }
        }
        move(to: end)
    }

    private func move(to time: UInt64) {
        moment.wallSeconds += (time - moment.monotonicNanoseconds) / seconds
        moment.monotonicNanoseconds = time
    }

    // MARK: The wire

    func apply(_ actions: [TURNAction]) {
        for action in actions {
            switch action {
            case .send(let bytes): carry(bytes)
            case .received(let bytes, let peer): received.append((bytes, peer))
            default: events.append(action)
            }
        }
    }

    /// To the client.
    func deliver(_ bytes: [UInt8]) {
        guard let bytes = onAnswer(bytes) else { return }
        var start = 0
        while start < bytes.count {
            let piece = Array(bytes[start..<min(bytes.count, start + min(pieceBytes, bytes.count))])
            perform { client, now, actions in
                piece.withUnsafeBytes { client.receive($0, now: now, into: &actions) }
            }
            start += piece.count
        }
    }

    private func carry(_ bytes: [UInt8]) {
        if let first = bytes.first, first & 0xC0 == 0, bytes.count >= 2 {
            let type = MessageType(rawValue: UInt16(bytes[0]) << 8 | UInt16(bytes[1]))
            if let type { requests[type.method, default: 0] += 1 }
            lastTransaction = Array(bytes[8..<20])
        } else {
            channelDataSent += 1
        }
        guard isServerUp, let bytes = onRequest(bytes) else { return }
        let kind: ClientTransport =
            switch transport {
            case .udp: .udp
            case .tcp: .tcp
            case .tls: .tls
            case .dtls: .dtls
            }
        let tuple = FiveTuple(client: source, server: client.server, transport: kind)
        guard bytes[0] & 0xC0 == 0 else {
            // The first data by a new 5-tuple brings a mobile allocation there.
            if engine.allocation(of: tuple) == noIndex {
                engine.callAllocation(to: tuple)
                deliverMoves()
            }
            if transport.isStream, bytes.count % 4 != 0 { return }
            let verdict = bytes.withUnsafeBytes {
                engine.channelData($0, allocation: engine.allocation(of: tuple), now: now)
            }
            return settle(verdict, bytes)
        }
        give(bytes, tuple)
        deliverMoves()
    }

    private func give(_ bytes: [UInt8], _ tuple: FiveTuple) {
        for _ in 0..<3 {
            let verdict = bytes.withUnsafeBytes { bytes in
                reply.withUnsafeMutableBytes { engine.receive(bytes, from: tuple, listener: 3, at: moment, reply: $0) }
            }
            switch verdict {
            case .needsCredentials(let query): engine.learn(query, record(for: query))
            case .needsOwner(let request, _):
                parked[request.number] = (bytes, tuple)
                relays.moves.append(.asked(request))
                return
            case .arriving:
                engine.callAllocation(to: tuple)
                deliverMoves()
            default: return settle(verdict, bytes)
            }
        }
    }

    /// What workers would tell each other about an allocation that moves; here there is one, which tells itself.
    private func deliverMoves() {
        while !relays.moves.isEmpty {
            let outcome = engine.receive(relays.moves.removeFirst(), at: moment)
            guard case .answer(let number) = outcome, let request = parked.removeValue(forKey: number) else { continue }
            give(request.bytes, request.tuple)
            engine.forgetAnswer(at: request.tuple)
        }
    }

    private func settle(_ verdict: Verdict, _ bytes: [UInt8]) {
        switch verdict {
        case .reply(let length): deliver(Array(reply.prefix(length)))
        case .forward(let forward):
            atPeers.append((Array(bytes[forward.offset..<(forward.offset + forward.length)]), forward.destination))
        default: break
        }
    }

    private func record(for query: CredentialQuery) -> UserRecord? {
        let name: String? =
            switch query {
            case .name(let name): name
            case .userhash(let hash): users.keys.first { Digest.sha256(Array("\($0):\(Self.realm)".utf8)) == hash }
            }
        guard let name, let password = users[name] else { return nil }
        let text = Array("\(name):\(Self.realm):\(password)".utf8)
        return CredentialKeys(md5: Digest.md5(text), sha256: Digest.sha256(text)).map {
            UserRecord(name: name, keys: $0, expiresAtSeconds: nil, maximumAllocations: nil, isEnabled: true)
        }
    }
}

/// Relay sockets without a kernel.
final class TestRelays: RelayHost {
    private(set) var open: [Int32: (leg: RelayLeg, request: RelayRequest)] = [:]
    var families: Set<AddressFamily> = [.ipv4]
    var moves: [MoveMessage] = []
    private var timers: [UInt32: UInt64] = [:]
    private var nextPort: UInt16 = 50_000
    private var nextDescriptor: Int32 = 10
    private var held: [UInt64: UInt16] = [:]

    func reset() {
        open = [:]
        timers = [:]
    }

    func openRelay(_ request: RelayRequest) -> RelayOpening {
        guard families.contains(request.family) else { return .familyUnavailable }
        var token: UInt64 = 0
        var port = nextPort
        switch request.parity {
        case .reserved(let asked):
            guard let reserved = held.removeValue(forKey: asked) else { return .exhausted }
            port = reserved
        case .evenReservingNext:
            token = UInt64(port) + 1_000_000
            held[token] = port + 1
            nextPort += 2
        case .any, .even: nextPort += 2
        }
        nextDescriptor += 1
        let address = request.family == .ipv4 ? IPAddress("203.0.113.5") : IPAddress("2606:4700::5")
        let local = Endpoint(address: address, port: port)
        let leg = RelayLeg(descriptor: nextDescriptor, local: local, advertised: local)
        open[nextDescriptor] = (leg, request)
        return .opened(leg, token: token)
    }

    func closeRelay(_ leg: RelayLeg) { open[leg.descriptor] = nil }
    func disownRelay(_ leg: RelayLeg) {}
    func send(_ message: MoveMessage, to worker: Int) { moves.append(message) }

    func adoptRelay(_ leg: RelayLeg, allocation: UInt32, isSecondary: Bool) -> Bool {
        open[leg.descriptor]?.request.allocation = allocation
        return true
    }

    func isLiveRelay(_ endpoint: Endpoint) -> Bool { false }
    func isLiveStreamRelay(_ endpoint: Endpoint) -> Bool { false }
    func report(_ event: AllocationEvent) {}

    func scheduleExpiry(allocation: UInt32, atSecond second: UInt64) {
        timers[allocation] = second == .max ? nil : second
    }

    var nextTimerSecond: UInt64? { timers.values.min() }

    func takeTimers(bySecond second: UInt64) -> [UInt32] {
        let due = timers.filter { $0.value <= second }.map(\.key).sorted()
        for allocation in due { timers[allocation] = nil }
        return due
    }
}
