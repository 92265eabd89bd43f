import OpenSSLCrypto
import STUN
import TURN
import TestSupport
import Traversal

/// A host behind a NAT, servers in the world, and links that lose and delay; the servers are the real engine.
final class DiscoveryWorld {
    static let first = Endpoint("203.0.113.10", 3_478)
    static let second = Endpoint("203.0.113.11", 3_479)
    static let first6 = Endpoint("2606:4700::10", 3_478)
    static let second6 = Endpoint("2606:4700::11", 3_479)
    /// Servers with one address each.
    static let plain = [Endpoint("192.0.2.20", 3_478), Endpoint("192.0.2.21", 3_478)]

    /// The engines, which many runs share: they keep nothing of a Binding request.
    final class Servers {
        fileprivate var paired: Engine
        fileprivate var single: Engine
        fileprivate let relays = TestRelays()

        init() throws {
            let cryptography = try OpenSSLCryptography()
            var configuration = Configuration(realm: "example.org", nonceKeys: NonceKeys(current: Array(0..<32)))
            configuration.bindingRepliesPerSecond = 0
            configuration.unauthenticatedRepliesPerSecond = 0
            // Neither CHANGE-REQUEST nor RESPONSE-PORT is known there.
            configuration.discovery.isEnabled = false
            single = Engine(
                configuration: configuration,
                shared: Engine.Shared(seed: 7),
                cryptography: cryptography,
                host: relays
            )
            configuration.discovery.isEnabled = true
            let v4 = NATDiscovery.Pair(primary: first, alternate: second, isWildcard: false)
            let v6 = NATDiscovery.Pair(primary: first6, alternate: second6, isWildcard: false)
            (configuration.discovery.v4, configuration.discovery.v6) = (v4, v6)
            configuration.discovery.attach(udp: [first, first6] + v4.corners + v6.corners, tcp: [])
            paired = Engine(
                configuration: configuration,
                shared: Engine.Shared(seed: 8),
                cryptography: cryptography,
                host: relays
            )
        }
    }

    private enum Event {
        case atServer(from: Endpoint, to: Endpoint, [UInt8])
        case atNAT(from: Endpoint, to: Endpoint, [UInt8])
        case atHost(socket: Int, from: Endpoint, [UInt8])
    }

    private let servers: Servers
    private var nat: NATModel
    private let host: IPAddress
    private let lossPercent: Int
    private let delayNanoseconds: UInt64
    private var generator: SeededGenerator
    private var events: [(time: UInt64, number: Int, event: Event)] = []
    private var count = 0
    private(set) var now: UInt64 = 100 * seconds
    private(set) var discovery: BehaviourDiscovery
    private(set) var sockets: [Int: Endpoint] = [:]
    private(set) var openedEver = 0
    private(set) var sent = 0
    private(set) var concludedAt: UInt64?
    private(set) var report: NATReport?
    private(set) var refinements = 0
    /// When the first answer of the latest of the servers came.
    private(set) var lastServerAnswerAt: UInt64?
    var isBlocked = false
    /// Sockets that the system does not give.
    var unopenable: Set<Int> = []
    var silent: Set<IPAddress> = []
    /// Changes what a server answers.
    var onAnswer: ([UInt8]) -> [UInt8] = { $0 }
    /// Where an answer leaves from that is to leave from elsewhere than it was asked at; nil where it never leaves.
    var onChange: (_ origin: Endpoint, _ server: Endpoint) -> Endpoint? = { origin, _ in origin }

    init(
        _ servers: Servers,
        _ nat: NATModel,
        asking endpoints: [Endpoint] = [first],
        isKnownToRun: Bool = false,
        lifetimes: NATLifetimeSearch = .none,
        host: IPAddress? = nil,
        lossPercent: Int = 0,
        delayMilliseconds: UInt64 = 20,
        seed: UInt64
    ) throws {
        self.servers = servers
        self.nat = nat
        self.lossPercent = lossPercent
        delayNanoseconds = delayMilliseconds * milliseconds
        generator = SeededGenerator(seed: seed)
        self.host = host ?? (nat.mapping == .none ? IPAddress("198.51.100.1") : IPAddress("192.168.1.2"))
        discovery = BehaviourDiscovery(
            servers: endpoints.map { BehaviourDiscovery.Server($0, isKnownToRun: isKnownToRun) },
            lifetimes: lifetimes,
            with: ReplayableCryptography(seed: seed, try OpenSSLCryptography())
        )
    }

    /// Runs until nothing more is to come, or so long.
    func run(seconds limit: UInt64 = 600) {
        let end = now + limit * seconds
        perform { $0.start(now: $1, into: &$2) }
        while true {
            let event = events.indices.min {
                (events[$0].time, events[$0].number) < (events[$1].time, events[$1].number)
            }
            let eventTime = event.map { events[$0].time } ?? .max
            let deadline = discovery.nextDeadline ?? .max
            guard min(eventTime, deadline) <= end else { break }
            if let event, eventTime <= deadline {
                now = max(now, eventTime)
                happen(events.remove(at: event).event)
            } else {
                now = max(now, deadline)
                perform { $0.advance(now: $1, into: &$2) }
            }
        }
    }

    func perform(_ body: (inout BehaviourDiscovery, UInt64, inout [BehaviourDiscovery.Action]) -> Void) {
        var actions: [BehaviourDiscovery.Action] = []
        body(&discovery, now, &actions)
        // A system tells of its sockets after it was asked for all of them.
        var opened: [(socket: Int, local: Endpoint?)] = []
        for action in actions {
            switch action {
            case .open(let socket):
                openedEver += 1
                guard !unopenable.contains(socket) else {
                    opened.append((socket, nil))
                    continue
                }
                var local = Endpoint(address: host, port: .random(in: 20_000...60_000, using: &generator))
                while sockets.values.contains(local) { local.port += 1 }
                sockets[socket] = local
                opened.append((socket, local))
            case .close(let socket): sockets[socket] = nil
            case .send(let socket, let destination, let bytes): send(bytes, from: socket, to: destination)
            case .concluded(let report):
                self.report = report
                concludedAt = now
            case .refined(let report):
                self.report = report
                refinements += 1
            }
        }
        for (socket, local) in opened { perform { $0.opened(socket, at: local, now: $1, into: &$2) } }
    }

    /// The socket breaks.
    func lose(_ socket: Int) {
        sockets[socket] = nil
        perform { $0.lost(socket, now: $1, into: &$2) }
    }

    /// A packet out of nowhere.
    func deliver(_ bytes: [UInt8], on socket: Int, from source: Endpoint) {
        perform { discovery, now, actions in
            _ = bytes.withUnsafeBytes { discovery.receive($0, on: socket, from: source, now: now, into: &actions) }
        }
    }

    private func send(_ bytes: [UInt8], from socket: Int, to destination: Endpoint) {
        sent += 1
        guard let local = sockets[socket], !isBlocked, !isLost else { return }
        let source = nat.outbound(local, to: destination, now: now)
        if destination.address == nat.outside || destination.address == host {
            if nat.turnsRound, !isLost { schedule(1, .atNAT(from: source, to: destination, bytes)) }
        } else if !isLost {
            schedule(delay, .atServer(from: source, to: destination, bytes))
        }
    }

    private var isLost: Bool { lossPercent > 0 && Int.random(in: 0..<200, using: &generator) < lossPercent }

    /// A way of its own length, and up to a tenth more.
    private var delay: UInt64 {
        delayNanoseconds + UInt64.random(in: 0...(delayNanoseconds / 10), using: &generator)
    }

    private func schedule(_ delay: UInt64, _ event: Event) {
        count += 1
        events.append((now + delay, count, event))
    }

    private func happen(_ event: Event) {
        switch event {
        case .atServer(let source, let server, let bytes):
            guard !silent.contains(server.address), let answer = answer(bytes, source, server), !isLost, !isLost,
                let origin = answer.origin == server ? server : onChange(answer.origin, server)
            else { return }
            schedule(delay, .atNAT(from: origin, to: answer.destination, onAnswer(answer.bytes)))
        case .atNAT(let source, let destination, let bytes):
            guard let local = nat.inbound(from: source, to: destination, now: now),
                let socket = sockets.first(where: { $0.value == local })?.key
            else { return }
            schedule(1, .atHost(socket: socket, from: source, bytes))
        case .atHost(let socket, let source, let bytes):
            let before = discovery.report.answeringServers.count
            deliver(bytes, on: socket, from: source)
            if discovery.report.answeringServers.count > before, concludedAt == nil { lastServerAnswerAt = now }
        }
    }

    private func answer(
        _ bytes: [UInt8],
        _ source: Endpoint,
        _ server: Endpoint
    ) -> (bytes: [UInt8], origin: Endpoint, destination: Endpoint)? {
        let tuple = FiveTuple(client: source, server: server, transport: .udp)
        let moment = Moment(monotonicNanoseconds: now, wallSeconds: 1_800_000_000)
        var reply = [UInt8](repeating: 0, count: 1_500)
        let isPlain = Self.plain.contains(server)
        let verdict = bytes.withUnsafeBytes { bytes in
            reply.withUnsafeMutableBytes { reply in
                isPlain
                    ? servers.single.receive(bytes, from: tuple, listener: 0, at: moment, reply: reply)
                    : servers.paired.receive(bytes, from: tuple, listener: 0, at: moment, reply: reply)
            }
        }
        switch verdict {
        case .reply(let length): return (Array(reply.prefix(length)), server, source)
        case .replyElsewhere(let length, let origin, let destination):
            return (Array(reply.prefix(length)), origin, destination)
        default: return nil
        }
    }
}

/// Random numbers from a seed, so that a run can be had again; all else is the real thing.
final class ReplayableCryptography: Cryptography, @unchecked Sendable {
    // @unchecked: a test uses it from one thread.
    private var generator: SeededGenerator
    private let real: OpenSSLCryptography

    init(seed: UInt64, _ real: OpenSSLCryptography) {
        generator = SeededGenerator(seed: seed)
        self.real = real
    }

    func random(_ output: UnsafeMutableRawBufferPointer) {
        for index in output.indices { output[index] = .random(in: 0...255, using: &generator) }
    }

    func authenticate(
        _ hash: HashAlgorithm,
        key: UnsafeRawBufferPointer,
        first: UnsafeRawBufferPointer,
        second: UnsafeRawBufferPointer,
        mac: UnsafeMutableRawBufferPointer
    ) { real.authenticate(hash, key: key, first: first, second: second, mac: mac) }

    func digest(_ hash: HashAlgorithm, message: UnsafeRawBufferPointer, output: UnsafeMutableRawBufferPointer) {
        real.digest(hash, message: message, output: output)
    }

    func areEqual(_ first: UnsafeRawBufferPointer, _ second: UnsafeRawBufferPointer) -> Bool {
        real.areEqual(first, second)
    }
}
