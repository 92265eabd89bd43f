import DataChannels
import TestSupport

/// Two associations and the network between them, in virtual time.
final class PeerPair {
    struct Network {
        var lossPercent = 0
        var delayMilliseconds: Int64 = 10
        /// Up to so much is added to the delay, so that packets overtake one another.
        var jitterMilliseconds: Int64 = 0
        /// Nothing arrives at all.
        var isCut = false
    }

    enum Side: CaseIterable { case client, server }

    private struct Flight {
        let arrival: Int64
        let target: Side
        let packet: [UInt8]
    }

    let client: DataChannelAssociation
    let server: DataChannelAssociation
    var network: Network
    /// What each side said and `take` did not take yet.
    private(set) var events: [Side: [DataChannelEvent]] = [.client: [], .server: []]
    /// Sides whose events nobody takes.
    var sleeping: Set<Side> = []
    private(set) var now: Int64 = 0
    private(set) var longestPacket = 0
    private(set) var sentPackets = 0
    /// Changes what arrives.
    var tamper: ((inout [UInt8]) -> Void)?
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
        client = try DataChannelAssociation(.client, options: clientOptions, wake: {})
        server = try DataChannelAssociation(.server, options: serverOptions, wake: {})
        SCTPStack.shared.advance(to: 0)
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
    func run(for milliseconds: Int64 = 60_000, until isDone: (PeerPair) -> Bool = { _ in false }) -> Bool {
        let end = now + milliseconds * Self.millisecond
        collect()
        while !isDone(self) {
            guard now < end else { return false }
            step()
        }
        return true
    }

    private func step() {
        let next = flights.map(\.arrival).min() ?? .max
        now = min(max(next, now), now + 10 * Self.millisecond)
        SCTPStack.shared.advance(to: now)
        let arrived = flights.filter { $0.arrival <= now }.sorted { $0.arrival < $1.arrival }
        flights.removeAll { $0.arrival <= now }
        for flight in arrived {
            var packet = flight.packet
            tamper?(&packet)
            packet.withUnsafeBytes { self[flight.target].receive($0) }
        }
        for side in Side.allCases { self[side].update() }
        collect()
    }

    /// Takes what both have to say and to send.
    func collect() {
        for side in Side.allCases {
            while !sleeping.contains(side), let event = self[side].nextEvent() {
                events[side, default: []].append(event)
            }
            while let packet = self[side].nextPacket() { launch(packet, to: side == .client ? .server : .client) }
            // Taking packets may have said that a channel's buffer is low.
            while !sleeping.contains(side), let event = self[side].nextEvent() {
                events[side, default: []].append(event)
            }
        }
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

    private static let millisecond: Int64 = 1_000_000
}

extension DataChannelAssociation {
    func send(_ bytes: [UInt8], isText: Bool = false, on id: UInt16) -> SendOutcome {
        bytes.withUnsafeBytes { send($0, isText: isText, on: id) }
    }
}

/// Bytes that are another for each seed.
func pattern(_ count: Int, seed: Int) -> [UInt8] {
    (0..<count).map { UInt8(truncatingIfNeeded: ($0 &* 31 &+ seed) ^ $0 >> 8) }
}
