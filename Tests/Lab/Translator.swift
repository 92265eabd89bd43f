import STUN

/// A mapping that a host has asked for.
package struct ExplicitMapping {
    package var transport: Transport
    package var inside: Endpoint
    package var outside: Endpoint
    package var expiresAt: UInt64

    package init(_ transport: Transport, inside: Endpoint, outside: Endpoint, expiresAt: UInt64) {
        (self.transport, self.inside, self.outside, self.expiresAt) = (transport, inside, outside, expiresAt)
    }

    func isOf(_ mapping: Mapping) -> Bool {
        mapping.transport == transport && mapping.inside == inside && mapping.outside == outside
    }
}

/// The tables of a NAT, or of a stateful firewall, which is a NAT that changes no address.
package final class Translator {
    package enum Verdict {
        case pass
        case drop(Drop)
    }

    private struct External: Hashable {
        var transport: Transport
        var endpoint: Endpoint
    }

    private struct Pair: Hashable {
        var external: External
        var remote: Endpoint
    }

    /// What makes a mapping: the internal endpoint, and of the other end as much as makes a difference.
    private struct Key: Hashable {
        var transport: Transport
        var inside: Endpoint
        var remoteAddress: IPAddress?
        var remotePort: UInt16?
    }

    package let behavior: NATBehavior
    /// Empty for a firewall.
    package private(set) var publicAddresses: [IPAddress] = []
    private var ports: PortAllocator
    private var mappings: [Key: Mapping] = [:]
    private var externals: [External: [Mapping]] = [:]
    /// What hosts have asked for (RFC 6887 section 11): open to everybody, and there without traffic.
    private var explicit: [Mapping] = []
    /// Datagrams that nobody asked for, where those are remembered: when each is forgotten.
    private var unsolicited: [Pair: UInt64] = [:]
    private var sweepAt = 1_024

    package init(_ behavior: NATBehavior, publicAddresses: [IPAddress], dice: Dice) {
        self.behavior = behavior
        self.publicAddresses = publicAddresses
        ports = PortAllocator(behavior, dice: dice)
    }

    package var isFirewall: Bool { publicAddresses.isEmpty }

    package func mappingCount(_ now: UInt64) -> Int { mappings.values.count { $0.isLive(now) } }

    /// Loses all that it knew.
    package func reset(publicAddresses: [IPAddress]) {
        self.publicAddresses = publicAddresses
        mappings = [:]
        externals = [:]
        explicit = []
        unsolicited = [:]
        ports.reset()
    }

    /// Replaces what hosts have asked for.
    package func setExplicit(_ wanted: [ExplicitMapping]) {
        for old in explicit where !wanted.contains(where: { $0.isOf(old) }) { forget(old) }
        explicit = wanted.map { wanted in
            let known = explicit.first(where: wanted.isOf)
            let mapping = known ?? Mapping(wanted.transport, inside: wanted.inside, outside: wanted.outside)
            mapping.isExplicit = true
            mapping.refresh(wanted.inside, until: wanted.expiresAt, opens: false, now: wanted.expiresAt)
            if known == nil {
                externals[External(transport: wanted.transport, endpoint: wanted.outside), default: []].append(mapping)
            }
            return mapping
        }
    }

    /// Linux sends by a mapping that was asked for only to those who came by it.
    private func explicit(_ transport: Transport, _ inside: Endpoint, _ remote: Endpoint, _ now: UInt64) -> Mapping? {
        explicit.first {
            $0.transport == transport && $0.inside == inside && $0.isLive(now)
                && (behavior.mapping(transport) == .endpointIndependent || $0.sessions[remote] != nil)
        }
    }

    /// Translates a packet from inside.
    package func outbound(_ packet: inout Packet, now: UInt64) -> Verdict {
        if case .problem(var problem) = packet.body {
            // About a packet that came in: it names the internal endpoint.
            guard let mapping = mapping(inside: problem.destination, problem, now) else { return .drop(.unmapped) }
            problem.destination = mapping.outside
            packet.source.address = mapping.outside.address
            packet.body = .problem(problem)
            return .pass
        }
        guard let transport = packet.transport else { return .drop(.unmapped) }
        let remote = packet.destination
        let key = key(transport, packet.source, remote)
        var mapping =
            explicit(transport, packet.source, remote, now) ?? mappings[key].flatMap { $0.isLive(now) ? $0 : nil }
        if mapping == nil {
            // A reset or the tail of a connection makes no mapping, or a NAT after a reboot would answer for the dead.
            if case .segment(let segment) = packet.body, segment.flags.contains(.rst) { return .drop(.unmapped) }
            mapping = make(key, remote, now)
        }
        guard let mapping else { return .drop(.portsExhausted) }
        if case .segment(let segment) = packet.body {
            mapping.follow(segment.flags, with: remote, isOutbound: true, opens: true, behavior, now: now)
        } else {
            mapping.refresh(remote, until: now &+ nanoseconds(behavior.udpLifetimeSeconds), opens: true, now: now)
        }
        packet.source = mapping.outside
        return .pass
    }

    /// Translates a packet from outside.
    package func inbound(_ packet: inout Packet, now: UInt64) -> Verdict {
        if case .problem(var problem) = packet.body {
            let candidates = externals[External(transport: problem.transport, endpoint: problem.source)] ?? []
            let known = candidates.last { $0.admits(problem.destination, .addressAndPortDependent, now) }
            guard let mapping = known ?? candidates.last else { return .drop(.unmapped) }
            problem.source = mapping.inside
            packet.destination.address = mapping.inside.address
            packet.body = .problem(problem)
            return .pass
        }
        guard let transport = packet.transport else { return .drop(.unmapped) }
        let filtering = behavior.filtering(transport)
        let candidates = externals[External(transport: transport, endpoint: packet.destination)] ?? []
        let live = candidates.filter { $0.isLive(now) }
        if live.isEmpty, isFirewall, filtering == .endpointIndependent { return .pass }
        guard !live.isEmpty else {
            remember(packet, transport, now)
            return .drop(.unmapped)
        }
        // Where a port is overloaded, the one that knows the sender comes first, and the youngest after that.
        let found =
            live.last { $0.admits(packet.source, .addressAndPortDependent, now) }
            ?? live.last { $0.isExplicit || $0.admits(packet.source, filtering, now) }
        guard let mapping = found, mapping.isExplicit || mapping.admits(packet.source, filtering, now) else {
            remember(packet, transport, now)
            return .drop(.filtered)
        }
        if case .segment(let segment) = packet.body {
            mapping.follow(
                segment.flags,
                with: packet.source,
                isOutbound: false,
                opens: segment.flags.contains(.syn),
                behavior,
                now: now
            )
        } else if mapping.isExplicit {
            let until = now &+ nanoseconds(behavior.udpLifetimeSeconds)
            mapping.refresh(packet.source, until: until, opens: true, now: now)
        } else if behavior.refresh == .both {
            let until = now &+ nanoseconds(behavior.udpLifetimeSeconds)
            mapping.refresh(packet.source, until: until, opens: false, now: now)
        }
        packet.destination = mapping.inside
        return .pass
    }

    /// Translates a packet from inside to one of the NAT's own addresses.
    package func hairpin(_ packet: inout Packet, now: UInt64) -> Verdict {
        guard behavior.hairpinning != .none else { return .drop(.hairpin) }
        let sender = packet.source
        if case .drop(let reason) = outbound(&packet, now: now) { return .drop(reason) }
        if case .drop(let reason) = inbound(&packet, now: now) { return .drop(reason) }
        if behavior.hairpinning == .internalSource { packet.source = sender }
        return .pass
    }

    private func key(_ transport: Transport, _ inside: Endpoint, _ remote: Endpoint) -> Key {
        let dependence = behavior.mapping(transport)
        return Key(
            transport: transport,
            inside: inside,
            remoteAddress: dependence == .endpointIndependent ? nil : remote.address,
            remotePort: dependence == .addressAndPortDependent ? remote.port : nil
        )
    }

    /// The mapping that a packet came in by of which a host complains.
    private func mapping(inside: Endpoint, _ problem: Problem, _ now: UInt64) -> Mapping? {
        mappings[key(problem.transport, inside, problem.source)].flatMap { $0.isLive(now) ? $0 : nil }
    }

    private func make(_ key: Key, _ remote: Endpoint, _ now: UInt64) -> Mapping? {
        sweep(now)
        let outside =
            isFirewall
            ? key.inside
            : ports.choose(for: key.inside, among: publicAddresses, now: now) { taken in
                isTaken(External(transport: key.transport, endpoint: taken), remote, now)
            }
        guard let outside else { return nil }
        let mapping = Mapping(key.transport, inside: key.inside, outside: outside)
        if let old = mappings[key] { forget(old) }
        mappings[key] = mapping
        externals[External(transport: key.transport, endpoint: outside), default: []].append(mapping)
        return mapping
    }

    private func isTaken(_ external: External, _ remote: Endpoint, _ now: UInt64) -> Bool {
        let pair = Pair(external: external, remote: remote)
        if unsolicited[pair, default: 0] > now { return true }
        let live = (externals[external] ?? []).filter { $0.isLive(now) }
        return switch behavior.overloading {
        case .never: !live.isEmpty
        case .unlessSameDestination: live.contains { $0.admits(remote, .addressAndPortDependent, now) }
        case .always: false
        }
    }

    private func remember(_ packet: Packet, _ transport: Transport, _ now: UInt64) {
        guard behavior.remembersUnsolicited, transport == .udp else { return }
        if unsolicited.count >= 1_024 { unsolicited = unsolicited.filter { $0.value > now } }
        let external = External(transport: transport, endpoint: packet.destination)
        unsolicited[Pair(external: external, remote: packet.source)] =
            now &+ nanoseconds(behavior.unsolicitedLifetimeSeconds)
    }

    private func forget(_ mapping: Mapping) {
        let external = External(transport: mapping.transport, endpoint: mapping.outside)
        externals[external]?.removeAll { $0 === mapping }
        if externals[external]?.isEmpty == true { externals[external] = nil }
    }

    /// Forgets what has lapsed, now and then, so that a long run needs no more memory than a short one.
    private func sweep(_ now: UInt64) {
        guard mappings.count >= sweepAt else { return }
        for mapping in mappings.values where !mapping.isLive(now) { forget(mapping) }
        mappings = mappings.filter { $0.value.isLive(now) }
        sweepAt = max(1_024, 2 * mappings.count)
    }
}

/// Chooses external endpoints.
struct PortAllocator {
    private let behavior: NATBehavior
    private var dice: Dice
    /// The port given last; nil before the first.
    private var last: Int?
    private var lastAt: UInt64 = 0
    /// The first port of each subscriber's block.
    private var chunks: [IPAddress: UInt16] = [:]
    private var paired: [IPAddress: IPAddress] = [:]

    init(_ behavior: NATBehavior, dice: Dice) {
        self.behavior = behavior
        self.dice = dice
    }

    mutating func reset() {
        last = nil
        chunks = [:]
        paired = [:]
    }

    /// - Returns: nil where there is no free port.
    mutating func choose(
        for inside: Endpoint,
        among addresses: [IPAddress],
        now: UInt64,
        isTaken: (Endpoint) -> Bool
    ) -> Endpoint? {
        let address = address(for: inside.address, among: addresses)
        func isFree(_ port: UInt16) -> Bool { !isTaken(Endpoint(address, port)) }
        switch behavior.allocation {
        case .preserving:
            if behavior.ports.contains(inside.port) && isFree(inside.port) {
                return Endpoint(address, inside.port)
            }
            return random(in: behavior.ports, isFree).map { Endpoint(address, $0) }
        case .sequential(let step): return next(step, now, isFree).map { Endpoint(address, $0) }
        case .random: return random(in: behavior.ports, isFree).map { Endpoint(address, $0) }
        case .chunked(let size):
            return chunk(of: inside.address, size).flatMap { random(in: $0, isFree) }.map { Endpoint(address, $0) }
        }
    }

    private mutating func address(for inside: IPAddress, among addresses: [IPAddress]) -> IPAddress {
        guard addresses.count > 1 else { return addresses[0] }
        let drawn = addresses[Int(dice.below(UInt64(addresses.count)))]
        guard behavior.pooling == .paired else { return drawn }
        if let known = paired[inside] { return known }
        paired[inside] = drawn
        return drawn
    }

    private mutating func random(in ports: ClosedRange<UInt16>, _ isFree: (UInt16) -> Bool) -> UInt16? {
        for _ in 0..<64 {
            let port = dice.port(ports)
            if isFree(port) { return port }
        }
        return ports.first(where: isFree)
    }

    private mutating func next(_ step: Int, _ now: UInt64, _ isFree: (UInt16) -> Bool) -> UInt16? {
        let (low, count) = (Int(behavior.ports.lowerBound), behavior.ports.count)
        var port = last ?? low + Int(dice.below(UInt64(count)))
        if last != nil, behavior.backgroundFlowsPerSecond > 0 {
            let elapsed = Double(now - lastAt) / 1e9
            port += step * dice.poisson(elapsed * behavior.backgroundFlowsPerSecond)
        }
        lastAt = now
        for _ in 0..<count {
            port = low + (((port + step - low) % count) + count) % count
            if let candidate = UInt16(exactly: port), isFree(candidate) {
                last = port
                return candidate
            }
        }
        return nil
    }

    private mutating func chunk(of subscriber: IPAddress, _ size: Int) -> ClosedRange<UInt16>? {
        let blocks = behavior.ports.count / max(1, size)
        let low = behavior.ports.lowerBound
        func block(_ first: UInt16) -> ClosedRange<UInt16> { first...(first + UInt16(size - 1)) }
        if let first = chunks[subscriber] { return block(first) }
        guard chunks.count < blocks else { return nil }
        let used = Set(chunks.values)
        let start = Int(dice.below(UInt64(blocks)))
        for offset in 0..<blocks {
            let first = low + UInt16((start + offset) % blocks * size)
            if used.contains(first) { continue }
            chunks[subscriber] = first
            return block(first)
        }
        return nil
    }
}
