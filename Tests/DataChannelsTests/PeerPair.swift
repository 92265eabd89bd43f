import DataChannels
import Synchronization
import TestSupport

/// Two associations and the network between them, in virtual time.
final class PeerPair {
    struct Network {
        var lossPercent = 0
        var delayMilliseconds: UInt64 = 10
        /// Up to so much is added to the delay, so that packets overtake one another.
        var jitterMilliseconds: UInt64 = 0
        /// Nothing arrives at all.
        var isCut = false
    }

    enum Side: CaseIterable { case client, server }

    private struct Flight {
        let arrival: UInt64
        let target: Side
        let packet: [UInt8]
    }

    /// Sides that were told to look.
    private final class Woken: Sendable {
        private let sides = Mutex<Set<Side>>([])

        func note(_ side: Side) { _ = sides.withLock { $0.insert(side) } }

        func take() -> Set<Side> {
            sides.withLock { sides in
                defer { sides = [] }; return sides
            }
        }
    }

    let client: DataChannelAssociation
    let server: DataChannelAssociation
    var network: Network
    /// What each side said and `take` did not take yet.
    private(set) var events: [Side: [DataChannelEvent]] = [.client: [], .server: []]
    /// Sides that read nothing.
    var sleeping: Set<Side> = [] {
        didSet { collect() }
    }
    private(set) var now: UInt64 = 0
    private(set) var longestPacket = 0
    private(set) var sentPackets = 0
    private(set) var steps = 0
    /// Changes what arrives.
    var tamper: ((inout [UInt8]) -> Void)?
    private let woken = Woken()
    private var flights: [Flight] = []
    private var random: SeededGenerator

    init(
        _ network: Network = Network(),
        seed: UInt64 = 1,
        client clientOptions: DataChannelOptions = .init(),
        server serverOptions: DataChannelOptions = .init()
    ) throws {
        self.network = network
        random = SeededGenerator(seed: seed)
        let woken = woken
        client = try DataChannelAssociation(.client, options: clientOptions, wake: { woken.note(.client) })
        server = try DataChannelAssociation(.server, options: serverOptions, wake: { woken.note(.server) })
        SCTPStack.shared.forgetTime()
        advance()
    }

    /// Both connected, and their first events taken.
    static func connected(
        _ network: Network = Network(),
        seed: UInt64 = 1,
        client clientOptions: DataChannelOptions = .init(),
        server serverOptions: DataChannelOptions = .init()
    ) throws -> PeerPair {
        let pair = try PeerPair(network, seed: seed, client: clientOptions, server: serverOptions)
        try pair.connect()
        guard pair.run(until: { $0.has(.opened, .client) && $0.has(.opened, .server) }) else { throw NotConnected() }
        pair.events = [.client: [], .server: []]
        return pair
    }

    struct NotConnected: Error {}

    func connect() throws {
        try client.connect()
        try server.connect()
    }

    subscript(side: Side) -> DataChannelAssociation { side == .client ? client : server }

    func has(_ event: DataChannelEvent, _ side: Side) -> Bool { events[side, default: []].contains(event) }

    /// What arrived on a channel, in order.
    func messages(_ channel: UInt16, _ side: Side) -> [[UInt8]] {
        events[side, default: []].compactMap {
            if case .message(channel, let bytes, _) = $0 { bytes } else { nil }
        }
    }

    func take(_ side: Side) -> [DataChannelEvent] {
        defer { events[side] = [] }
        return events[side, default: []]
    }

    /// Lets time pass until something holds.
    /// - Returns: whether it did within the time.
    @discardableResult
    func run(for milliseconds: UInt64 = 60_000, until isDone: (PeerPair) -> Bool = { _ in false }) -> Bool {
        let end = now + milliseconds * Self.millisecond
        collect()
        while !isDone(self) {
            guard now < end else { return false }
            step(before: end)
        }
        return true
    }

    /// To whatever is next: a packet's arrival, or what the stack wants to be called for.
    private func step(before end: UInt64) {
        steps += 1
        let arrival = flights.map(\.arrival).min() ?? .max
        now = max(now, min(arrival, SCTPStack.shared.nextDeadline ?? .max, end))
        advance()
        let arrived = flights.filter { $0.arrival <= now }.sorted { $0.arrival < $1.arrival }
        flights.removeAll { $0.arrival <= now }
        for flight in arrived {
            var packet = flight.packet
            tamper?(&packet)
            packet.withUnsafeBytes { self[flight.target].receive($0) }
        }
        // Whom nothing came for and nobody woke is left alone, so a missing wake is noticed.
        for side in woken.take().union(arrived.map(\.target)) { collect(side) }
    }

    private func advance() {
        VirtualClock.set(nanoseconds: now)
        SCTPStack.shared.advance(to: now)
    }

    /// Takes what both have to say and to send.
    func collect() {
        for side in Side.allCases { collect(side) }
    }

    private func collect(_ side: Side) {
        self[side].isPaused = sleeping.contains(side)
        self[side].drain(
            sending: { launch([UInt8]($0), to: side == .client ? .server : .client) },
            handling: { events[side, default: []].append($0) }
        )
    }

    private func launch(_ packet: [UInt8], to target: Side) {
        longestPacket = max(longestPacket, packet.count)
        sentPackets += 1
        if network.isCut || Int.random(in: 0..<100, using: &random) < network.lossPercent { return }
        let jitter = network.jitterMilliseconds * Self.millisecond
        let delay =
            network.delayMilliseconds * Self.millisecond + (jitter > 0 ? .random(in: 0..<jitter, using: &random) : 0)
        flights.append(Flight(arrival: now + delay, target: target, packet: packet))
    }

    private static let millisecond: UInt64 = 1_000_000
}

extension DataChannelAssociation {
    func send(_ bytes: [UInt8], isText: Bool = false, on id: UInt16) -> SendOutcome {
        bytes.withUnsafeBytes { send($0, isText: isText, on: id) }
    }

    /// What waits to be sent; its events are dropped.
    func packets() -> [[UInt8]] {
        var packets: [[UInt8]] = []
        drain(sending: { packets.append([UInt8]($0)) }, handling: { _ in })
        return packets
    }
}

/// Bytes that are another for each seed.
func pattern(_ count: Int, seed: Int) -> [UInt8] {
    (0..<count).map { UInt8(truncatingIfNeeded: ($0 &* 31 &+ seed) ^ $0 >> 8) }
}
