import STUN
import TestSupport
import Traversal

/// A NAT between hosts with addresses of 192.168.1.0/24 and the world, by its mapping, its filter and its way of giving
/// out ports. No two mappings have the same outside port.
struct NATModel {
    enum Mapping: CaseIterable { case none, endpointIndependent, addressDependent, addressAndPortDependent }
    enum Filtering: CaseIterable { case none, addressDependent, addressAndPortDependent }
    enum Allocation { case preserving, sequential(Int), chunked(ClosedRange<UInt16>), random }

    private struct Key: Hashable {
        var local: Endpoint
        var address: IPAddress?
        var port: UInt16?
    }

    private struct Entry {
        var local: Endpoint
        var usedAt: UInt64
        var contacted: Set<Endpoint> = []
    }

    let mapping: Mapping
    let filtering: Filtering
    let allocation: Allocation
    let turnsRound: Bool
    let lifetimeNanoseconds: UInt64
    let outside: IPAddress
    private var keys: [Key: UInt16] = [:]
    private var entries: [Endpoint: Entry] = [:]
    private var next: Int
    private var generator: SeededGenerator

    /// A usual home router, but for its ports, which tell a mapping from the one after it.
    static func home(lifetimeSeconds: UInt64, seed: UInt64) -> Self {
        Self(.endpointIndependent, .addressAndPortDependent, .random, lifetimeSeconds: lifetimeSeconds, seed: seed)
    }

    init(
        _ mapping: Mapping,
        _ filtering: Filtering,
        _ allocation: Allocation = .preserving,
        turnsRound: Bool = false,
        lifetimeSeconds: UInt64 = 300,
        outside: IPAddress = IPAddress("198.51.100.1"),
        seed: UInt64
    ) {
        self.mapping = mapping
        self.filtering = filtering
        self.allocation = allocation
        self.turnsRound = turnsRound
        self.outside = outside
        lifetimeNanoseconds = lifetimeSeconds * seconds
        generator = SeededGenerator(seed: seed ^ 0x5EED)
        next = Int.random(in: 1_024...65_535, using: &generator)
    }

    /// A packet from inside.
    /// - Returns: where it comes from as the world sees it.
    mutating func outbound(_ local: Endpoint, to destination: Endpoint, now: UInt64) -> Endpoint {
        var key = Key(local: local)
        switch mapping {
        case .none, .endpointIndependent: break
        case .addressDependent: key.address = destination.address
        case .addressAndPortDependent: (key.address, key.port) = (destination.address, destination.port)
        }
        if mapping == .none {
            entries[local, default: Entry(local: local, usedAt: now)].contacted.insert(destination)
            entries[local]?.usedAt = now
            return local
        }
        if let port = keys[key] {
            let source = Endpoint(address: outside, port: port)
            if let entry = entries[source], now - entry.usedAt < lifetimeNanoseconds {
                entries[source]?.usedAt = now
                entries[source]?.contacted.insert(destination)
                return source
            }
            entries[source] = nil
        }
        let source = Endpoint(address: outside, port: freePort(local.port))
        keys[key] = source.port
        entries[source] = Entry(local: local, usedAt: now, contacted: [destination])
        return source
    }

    /// A packet from the world.
    /// - Returns: to whom inside it goes, if it is let in.
    mutating func inbound(from source: Endpoint, to destination: Endpoint, now: UInt64) -> Endpoint? {
        guard let entry = entries[destination], now - entry.usedAt < lifetimeNanoseconds else { return nil }
        let isWelcome =
            switch filtering {
            case .none: true
            case .addressDependent: entry.contacted.contains { $0.address == source.address }
            case .addressAndPortDependent: entry.contacted.contains(source)
            }
        guard isWelcome else { return nil }
        entries[destination]?.usedAt = now
        return entry.local
    }

    private mutating func freePort(_ local: UInt16) -> UInt16 {
        for attempt in 0..<100_000 {
            let port: UInt16
            switch allocation {
            case .preserving where attempt == 0: port = local
            case .preserving, .random: port = .random(in: 1_024...65_535, using: &generator)
            case .chunked(let range): port = .random(in: range, using: &generator)
            case .sequential(let step):
                next += step
                if next > 65_535 { next = 1_024 + step }
                if next < 1_024 { next = 65_535 }
                port = UInt16(next)
            }
            if entries[Endpoint(address: outside, port: port)] == nil { return port }
        }
        return 0
    }
}
