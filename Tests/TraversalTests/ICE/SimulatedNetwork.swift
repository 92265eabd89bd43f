import OpenSSLCrypto
import STUN
import TestSupport
import Traversal

/// Real MACs, and randomness that comes back with its seed.
final class SeededCryptography: Cryptography, @unchecked Sendable {
    // @unchecked: one test uses it on one thread.
    private let real: OpenSSLCryptography
    private var generator: SeededGenerator

    init(seed: UInt64) throws {
        real = try OpenSSLCryptography()
        generator = SeededGenerator(seed: seed)
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

    func random(_ output: UnsafeMutableRawBufferPointer) {
        for index in output.indices { output[index] = UInt8(truncatingIfNeeded: generator.next()) }
    }

    func areEqual(_ first: UnsafeRawBufferPointer, _ second: UnsafeRawBufferPointer) -> Bool {
        real.areEqual(first, second)
    }
}

/// A NAT by RFC 4787's two behaviours, with ports by chance and no hairpin.
final class SimulatedNAT {
    enum Behavior { case endpointIndependent, addressDependent, portDependent }

    struct Kind: Hashable, CustomStringConvertible {
        let name: String
        let mapping: Behavior
        let filtering: Behavior
        var description: String { name }

        static let fullCone = Kind(name: "Full Cone", mapping: .endpointIndependent, filtering: .endpointIndependent)
        static let restricted = Kind(name: "Restricted", mapping: .endpointIndependent, filtering: .addressDependent)
        static let portRestricted = Kind(
            name: "Port-Restricted",
            mapping: .endpointIndependent,
            filtering: .portDependent
        )
        static let symmetric = Kind(name: "Symmetric", mapping: .portDependent, filtering: .portDependent)
    }

    private struct Key: Hashable {
        var inside: Endpoint
        var outside: Endpoint
    }

    let kind: Kind
    var address: IPAddress
    private var mappings: [Key: UInt16] = [:]
    private var insides: [UInt16: Endpoint] = [:]
    private var opened: Set<Key> = []

    init(_ kind: Kind, _ address: IPAddress) {
        self.kind = kind
        self.address = address
    }

    /// The public end of what `inside` sends to `target`, which opens the way back.
    func outbound(_ inside: Endpoint, to target: Endpoint, _ generator: inout SeededGenerator) -> Endpoint {
        let key = Key(inside: inside, outside: blurred(target, kind.mapping))
        var port = mappings[key]
        while port == nil {
            let guess = UInt16.random(in: 20_000...60_000, using: &generator)
            if insides[guess] == nil {
                insides[guess] = inside
                mappings[key] = guess
                port = guess
            }
        }
        let outside = Endpoint(address: address, port: port ?? 0)
        opened.insert(Key(inside: outside, outside: blurred(target, kind.filtering)))
        return outside
    }

    func inbound(_ outside: Endpoint, from source: Endpoint) -> Endpoint? {
        guard opened.contains(Key(inside: outside, outside: blurred(source, kind.filtering))) else { return nil }
        return insides[outside.port]
    }

    /// As after a restart of the device: everything is forgotten.
    func forget() { (mappings, insides, opened) = ([:], [:], []) }

    private func blurred(_ endpoint: Endpoint, _ behavior: Behavior) -> Endpoint {
        switch behavior {
        case .endpointIndependent: Endpoint(address: IPAddress(v4: 0), port: 0)
        case .addressDependent: Endpoint(address: endpoint.address, port: 0)
        case .portDependent: endpoint
        }
    }
}

/// A host with one socket, perhaps behind a NAT, perhaps with a relay, and its agent.
final class SimulatedPeer {
    static let socket = ICEBase(rawValue: 1)
    static let relayBase = ICEBase(rawValue: 2)

    let agent: ICEAgent
    let host: Endpoint
    let nat: SimulatedNAT?
    let relay: Endpoint?
    var permissions: Set<IPAddress> = []
    /// With the time of each.
    var paths: [(at: UInt64, path: ICEPath?)] = []
    var states: [(at: UInt64, state: ICEState)] = []
    var names: [String] = []
    var channels: [Endpoint] = []
    /// What the caller does when the agent wants a restart.
    var onRestartWanted: (() -> Void)?
    var restartsWanted = 0
    var reports: [ICEReport] = []
    /// When data came in.
    var arrivals: [UInt64] = []
    /// How long datagrams may be, with the time of each change.
    var sizes: [(at: UInt64, bytes: Int)] = []
    /// Every message that was sent, for tests of the wire.
    var sent: [(base: ICEBase, to: Endpoint, bytes: [UInt8])] = []
    var answers = true

    init(_ agent: ICEAgent, host: Endpoint, nat: SimulatedNAT?, relay: Endpoint?) {
        self.agent = agent
        self.host = host
        self.nat = nat
        self.relay = relay
    }
}

/// Two peers and what lies between them, in virtual time. One seed is one run.
final class SimulatedNetwork {
    private struct Event {
        let time: UInt64
        let order: UInt64
        let body: () -> Void
    }

    static let stunServer = Endpoint(address: IPAddress(v4: 0xC612_0001), port: 3_478)

    private(set) var now: UInt64 = 1_000 * seconds
    var generator: SeededGenerator
    var lossPercent = 0
    var delay = 20 * milliseconds
    var jitter = 5 * milliseconds
    /// What is longer does not pass by a direct path, and nobody says so.
    var longestDatagramBytes = Int.max
    /// Nothing passes but by the relays.
    var isDirectCut = false
    var isRelayCut = false
    /// More than these two: what the test wants dropped.
    var drops: ((_ from: Endpoint, _ to: Endpoint) -> Bool)?
    private(set) var peers: [SimulatedPeer] = []
    private var events: [Event] = []
    private var order: UInt64 = 0

    init(seed: UInt64) { generator = SeededGenerator(seed: seed) }

    /// - Parameter kind: nil for a host with a public address.
    func addPeer(
        _ kind: SimulatedNAT.Kind?,
        role: ICERole,
        relayed: Bool = true,
        _ configuration: ICEConfiguration = ICEConfiguration()
    ) throws -> SimulatedPeer {
        let number = UInt32(peers.count + 1)
        let cryptography = try SeededCryptography(seed: generator.next())
        let peer = SimulatedPeer(
            ICEAgent(role: role, configuration: configuration, cryptography: cryptography),
            host: Endpoint(
                address: IPAddress(v4: (kind == nil ? 0xCB00_7100 : 0xC0A8_0000) + number << (kind == nil ? 0 : 8)),
                port: 5_000
            ),
            nat: kind.map { SimulatedNAT($0, IPAddress(v4: 0xC633_6400 + number)) },
            relay: relayed ? Endpoint(address: IPAddress(v4: 0xC612_0100 + number), port: 50_000) : nil
        )
        peers.append(peer)
        return peer
    }

    // MARK: Time

    func after(_ nanoseconds: UInt64, _ body: @escaping () -> Void) {
        order += 1
        let event = Event(time: now + nanoseconds, order: order, body: body)
        let place = events.lastIndex { ($0.time, $0.order) < (event.time, event.order) }.map { $0 + 1 } ?? 0
        events.insert(event, at: place)
    }

    /// Runs until the condition holds or the time has passed, and says which.
    @discardableResult
    func run(for nanoseconds: UInt64, until condition: () -> Bool = { false }) -> Bool {
        let end = now + nanoseconds
        while !condition() {
            let deadline = peers.compactMap(\.agent.nextDeadline).min() ?? .max
            let next = min(events.first?.time ?? .max, deadline)
            guard next <= end else {
                now = end
                return condition()
            }
            now = max(now, next)
            if let event = events.first, event.time <= now {
                events.removeFirst().body()
            } else {
                for peer in peers where peer.agent.nextDeadline.map({ $0 <= now }) ?? false {
                    act(peer) { peer.agent.advance(now: now, into: &$0) }
                }
            }
        }
        return true
    }

    /// Calls the agent and does what it asks for.
    func act(_ peer: SimulatedPeer, _ call: (inout [ICEAction]) -> Void) {
        var actions: [ICEAction] = []
        call(&actions)
        for action in actions {
            switch action {
            case .send(let base, let target, let bytes):
                peer.sent.append((base, target, bytes))
                transmit(peer, base, target, bytes)
            case .permit(_, let target): peer.permissions.insert(target.address)
            case .release(_, let address): peer.permissions.remove(address)
            case .bindChannel(_, let target): peer.channels.append(target)
            case .connect: break
            case .restartWanted: peer.onRestartWanted?()
            case .resolve(let name): peer.names.append(name)
            case .path(let path): peer.paths.append((now, path))
            case .datagramBytes(let bytes): peer.sizes.append((now, bytes))
            case .state(let state): peer.states.append((now, state))
            case .failed(let report): peer.reports.append(report)
            case .role: break
            }
        }
    }

    // MARK: Packets

    func sendData(_ peer: SimulatedPeer) {
        guard let path = peer.agent.path else { return }
        sendData(peer, by: path)
        peer.agent.noteSent(now: now)
    }

    /// As much as fits.
    func sendLongData(_ peer: SimulatedPeer) {
        guard let path = peer.agent.path else { return }
        let count = peer.agent.datagramBytes
        transmit(peer, path.base, path.remote, [22] + [UInt8](repeating: 0, count: count - 1))
        // As the client does where time has come nearer.
        if peer.agent.noteSent(count, now: now) { act(peer) { peer.agent.advance(now: now, into: &$0) } }
    }

    /// By a path of the caller's choice.
    func sendData(_ peer: SimulatedPeer, by path: ICEPath) { transmit(peer, path.base, path.remote, [22, 0, 0]) }

    func every(_ interval: UInt64, _ body: @escaping () -> Void) {
        body()
        after(interval) { [self] in every(interval, body) }
    }

    /// Data in both directions at this interval, until the condition holds.
    func exchangeData(every interval: UInt64, while condition: @escaping () -> Bool) {
        guard condition() else { return }
        for peer in peers { sendData(peer) }
        after(interval) { [self] in exchangeData(every: interval, while: condition) }
    }

    private func transmit(_ peer: SimulatedPeer, _ base: ICEBase, _ target: Endpoint, _ bytes: [UInt8]) {
        if base == SimulatedPeer.relayBase {
            guard let relay = peer.relay, !isRelayCut, !isLost else { return }
            after(transit) { [self] in
                guard peer.permissions.contains(target.address) else { return }
                carry(bytes, from: relay, to: target, sender: nil, isRelayed: true)
            }
            return
        }
        let source = peer.nat?.outbound(peer.host, to: target, &generator) ?? peer.host
        carry(bytes, from: source, to: target, sender: peer, isRelayed: false)
    }

    private func carry(
        _ bytes: [UInt8],
        from source: Endpoint,
        to target: Endpoint,
        sender: SimulatedPeer?,
        isRelayed: Bool
    ) {
        let reachesRelay = peers.contains { $0.relay == target }
        if isDirectCut, !isRelayed, !reachesRelay { return }
        if bytes.count > longestDatagramBytes, !isRelayed, !reachesRelay { return }
        if isRelayCut, reachesRelay { return }
        if isLost || drops?(source, target) == true { return }
        after(transit) { [self] in arrive(bytes, from: source, to: target) }
    }

    private func arrive(_ bytes: [UInt8], from source: Endpoint, to target: Endpoint) {
        for peer in peers {
            if peer.relay == target {
                guard peer.permissions.contains(source.address), !isLost else { return }
                after(transit) { [self] in hand(bytes, to: peer, SimulatedPeer.relayBase, from: source) }
                return
            }
            if let nat = peer.nat, nat.address == target.address {
                if nat.inbound(target, from: source) == peer.host {
                    hand(bytes, to: peer, SimulatedPeer.socket, from: source)
                }
                return
            }
            if peer.nat == nil, peer.host == target {
                hand(bytes, to: peer, SimulatedPeer.socket, from: source)
                return
            }
        }
    }

    func hand(_ bytes: [UInt8], to peer: SimulatedPeer, _ base: ICEBase, from source: Endpoint) {
        guard peer.answers else { return }
        bytes.withUnsafeBytes { buffer in
            switch Demultiplexer.kind(buffer) {
            case .stun:
                act(peer) { peer.agent.receive(buffer, on: base, from: source, now: now, into: &$0) }
            case .dtls:
                peer.arrivals.append(now)
                peer.agent.noteReceived(on: base, from: source, now: now)
            default: break
            }
        }
    }

    private var isLost: Bool { lossPercent > 0 && Int.random(in: 0..<100, using: &generator) < lossPercent }

    private var transit: UInt64 { delay + (jitter > 0 ? UInt64.random(in: 0..<jitter, using: &generator) : 0) }
}
