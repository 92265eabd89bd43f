import STUN
import TURN
import TestSupport
import Testing

/// Scripts of good, odd, repeated and damaged messages with leaps of the clock between them. After each step the books
/// must agree, and nothing may have gone where no permission let it.
@Suite struct StateMachineFuzzTests {
    @Test func noScriptBreaksTheBooksOrThePermissions() throws {
        var generator = SeededGenerator(for: "noScriptBreaksTheBooksOrThePermissions")
        var tally = Script.Tally()
        for number in 0..<fuzzRounds(120) {
            let script = try Script(&generator)
            for step in 0..<250 {
                let action = script.step(&generator)
                if let fault = script.fault() {
                    Issue.record("seed \(generator.seed), script \(number), step \(step), \(action): \(fault)")
                    return
                }
            }
            tally.add(script.tally)
        }
        // A script whose every step is refused at the door would show nothing.
        #expect(tally.allocations > 100)
        #expect(tally.forwards > 100)
        #expect(tally.inbound > 50)
        #expect(tally.expired > 20)
    }
}

/// One server with a handful of clients, and a model of what they have been granted at most.
private final class Script {
    struct Tally {
        var allocations = 0
        var forwards = 0
        var inbound = 0
        var expired = 0

        mutating func add(_ other: Tally) {
            allocations += other.allocations
            forwards += other.forwards
            inbound += other.inbound
            expired += other.expired
        }
    }

    private struct Sent {
        var bytes: [UInt8]
        var tuple: FiveTuple
        /// The addresses a success permits.
        var peers: [IPAddress] = []
    }

    private struct Grant: Hashable {
        var descriptor: Int32
        var address: IPAddress
    }

    private static let own = [Endpoint("185.0.0.5", 1), Endpoint("2600:1::5", 1)]
    private static let ports: ClosedRange<UInt16> = 50_000...50_019
    private static let peers = [
        "8.8.8.8", "8.8.4.4", "9.9.9.9", "1.1.1.1", "2606:4700::1111", "2606:4700::1112", "10.0.0.1", "127.0.0.1",
        "169.254.169.254", "64:ff9b::7f00:1", "::1", "fe80::1", "2002::1", "185.0.0.5", "2600:1::5",
    ]

    private let lab: Lab
    private let clients: [Client]
    private var history: [Sent] = []
    private var tokens: [[UInt8]] = [Array(repeating: 7, count: 8)]
    /// When each permission ends at the latest, by relay socket and address.
    private var grants: [Grant: UInt64] = [:]
    private var found: String?
    private(set) var tally = Tally()

    init(_ generator: inout SeededGenerator) throws {
        let relays = FakeRelays()
        for own in Self.own {
            relays.addresses[own.family] = FakeRelays.Address(inside: own.address, advertised: own.address)
        }
        relays.ports = Self.ports
        lab = try Lab(relays: relays) {
            ($0.allocationsPerUser, $0.allocationsTotal, $0.permissionsPerAllocation) = (3, 5, 6)
            $0.nonceLifetimeSeconds = 900
            $0.policy.ownAddresses = Set(Self.own.map(\.address))
            $0.policy.listeners = [Endpoint("185.0.0.5", 3_478)]
        }
        let lab = lab
        clients = (0..<8).map { index in
            // The last two share their 5-tuples with others, as somebody else.
            let port = 2_000 + UInt16(index % 6)
            let client = lab.client(index % 2 == 0 ? "alice" : "bob", at: Endpoint("185.1.1.\(port % 3)", port))
            if index >= 6 { client.username = index == 6 ? "bob" : "alice" }
            client.password = client.username == "alice" ? "wonderland" : "builder"
            client.mode = [.legacy, .sha256, .sha256OverMD5][index % 3]
            client.usesUserhash = index == 4
            return client
        }
    }

    func step(_ generator: inout SeededGenerator) -> String {
        // Mostly one who has an allocation, so that there is something to get wrong.
        let live = clients.filter { lab.allocation(of: $0.tuple) != noIndex }
        let crowd = live.isEmpty || Int.random(in: 0..<10, using: &generator) < 4 ? clients : live
        guard let client = crowd.randomElement(using: &generator) else { return "" }
        if client.nonce.isEmpty || Int.random(in: 0..<40, using: &generator) == 0 { client.challenge() }
        switch Int.random(in: 0..<100, using: &generator) {
        case 0..<16: allocate(client, &generator); return "allocate"
        case 16..<24: refresh(client, &generator); return "refresh"
        case 24..<38: permit(client, &generator); return "permit"
        case 38..<50: bind(client, &generator); return "bind"
        case 50..<58:
            forwarded(client.channelData(0x4000 + UInt16.random(in: 0..<3, using: &generator)), by: client.tuple)
            return "channel data"
        case 58..<66:
            // Where a request once led, or anywhere.
            let known = history.suffix(20).filter { $0.tuple == client.tuple }.flatMap(\.peers)
            var target = peer(&generator)
            if let address = known.randomElement(using: &generator) { target.address = address }
            forwarded(client.indicate(target), by: client.tuple)
            return "send"
        case 66..<76: inbound(&generator); return "inbound"
        case 76..<82: replay(&generator); return "replay"
        case 82..<90: mutate(&generator); return "mutation"
        case 90..<96:
            lab.advance(seconds: [1, 1, 1, 2, 5, 10, 29, 60, 299, 301, 601].randomElement(using: &generator) ?? 1)
            return "time"
        case 96, 97: reload(&generator); return "reload"
        case 98: lab.engine.revoke(user: "bob", at: lab.moment); return "revocation"
        default:
            lab.setWallClock(lab.moment.wallSeconds + UInt64.random(in: 0..<100, using: &generator))
            return "wall clock"
        }
    }

    /// What is wrong now, if anything.
    func fault() -> String? {
        if let found { return found }
        let count = lab.engine.allocationCount
        let relays = lab.relays
        if lab.shared.quota.total != count { return "the quota counts \(lab.shared.quota.total) of \(count)" }
        if lab.shared.quota.held(by: "alice") + lab.shared.quota.held(by: "bob") != count {
            return "users' quotas do not add up"
        }
        if count > 5 || lab.shared.quota.held(by: "alice") > 3 || lab.shared.quota.held(by: "bob") > 3 {
            return "a quota is passed"
        }
        if relays.madeCount - relays.ended.count != count { return "events do not add up" }
        if relays.openings - relays.closings != relays.open.count || relays.strayClosings > 0 {
            return "a relay leaked or was closed twice"
        }
        if relays.timers.count != count { return "\(relays.timers.count) timers for \(count) allocations" }
        for relay in relays.open.values where !lab.isCurrent(relay.request) { return "a relay outlived its allocation" }
        if Set(relays.open.values.map(\.request.allocation)).count != count { return "an allocation has no relay" }
        for family in [AddressFamily.ipv4, .ipv6] {
            // Asked first, since it gives lapsed reservations back.
            let free = relays.freePorts(family).count
            let used = relays.open.values.filter { $0.leg.local.family == family }.map(\.leg.local.port)
            let held = relays.reservations.values.filter { $0.family == family }.map(\.port)
            if Set(used + held).count != used.count + held.count { return "a port has two owners" }
            if free + used.count + held.count != Self.ports.count { return "a port is lost" }
        }
        tally.allocations = relays.madeCount
        tally.expired = relays.ended.count { $0.end == .expired }
        return nil
    }

    // MARK: Requests

    private func peer(_ generator: inout SeededGenerator) -> Endpoint {
        let ports: [UInt16] = [4_000, 4_000, 4_000, 4_000, 4_001, 53, 3_478, 0]
        let port = ports.randomElement(using: &generator) ?? 1
        // Mostly few that are allowed, so that what one step grants a later one uses.
        let texts = Int.random(in: 0..<10, using: &generator) < 6 ? Self.peers[..<2] : Self.peers[...]
        guard let text = texts.randomElement(using: &generator) else { return Self.own[0] }
        let address = IPAddress(text)
        guard Self.own.contains(where: { $0.address == address }) else { return Endpoint(address: address, port: port) }
        return Endpoint(address: address, port: UInt16.random(in: Self.ports, using: &generator))
    }

    private func allocate(_ client: Client, _ generator: inout SeededGenerator) {
        let kind = Int.random(in: 0..<8, using: &generator)
        let lifetime = ([0, 600, 700, 4_000, .max] as [UInt32]).randomElement(using: &generator) ?? 0
        let token = tokens.randomElement(using: &generator) ?? []
        let answer = send(client, .allocate) { builder in
            builder.append(.requestedTransport, 0x1100_0000 as UInt32)
            switch kind {
            case 0: builder.append(.evenPort, [0x80])
            case 1: builder.append(.evenPort, [0])
            case 2: builder.append(.additionalAddressFamily, [2, 0, 0, 0])
            case 3: builder.append(.requestedAddressFamily, [2, 0, 0, 0])
            case 4: builder.append(.reservationToken, token)
            case 5: builder.append(.lifetime, lifetime)
            default: break
            }
        }
        if let token = answer?.value(.reservationToken) { tokens.append(token) }
    }

    private func refresh(_ client: Client, _ generator: inout SeededGenerator) {
        let lifetime = ([0, 600, 600, 600, 3_600, 3_600] as [UInt32]).randomElement(using: &generator) ?? 0
        let family = UInt8.random(in: 0...3, using: &generator)
        _ = send(client, .refresh) { builder in
            builder.append(.lifetime, lifetime)
            if family > 0 { builder.append(.requestedAddressFamily, [family, 0, 0, 0]) }
        }
    }

    private func permit(_ client: Client, _ generator: inout SeededGenerator) {
        let peers = (0..<Int.random(in: 0...2, using: &generator)).map { _ in peer(&generator) }
        _ = send(client, .createPermission, peers: peers.map(\.address)) { builder in
            for peer in peers { builder.append(.xorPeerAddress, xor: peer) }
        }
    }

    private func bind(_ client: Client, _ generator: inout SeededGenerator) {
        let peer = peer(&generator)
        let number = 0x4000 + UInt32.random(in: 0..<3, using: &generator)
        _ = send(client, .channelBind, peers: [peer.address]) { builder in
            builder.append(.channelNumber, number << 16)
            builder.append(.xorPeerAddress, xor: peer)
        }
    }

    private func send(
        _ client: Client,
        _ method: STUN.Method,
        peers: [IPAddress] = [],
        _ attributes: (inout MessageBuilder) -> Void
    ) -> Answer? {
        let bytes = client.request(method, signing: client.signing(), attributes)
        let sent = Sent(bytes: bytes, tuple: client.tuple, peers: peers)
        history.append(sent)
        let answer = deliver(sent)
        if answer?.error == 438 { client.learn(from: answer) }
        return answer
    }

    // MARK: Oracles

    /// Sends it, judges the answer, and notes what a success grants at most.
    @discardableResult
    private func deliver(_ sent: Sent) -> Answer? {
        let outcome = lab.receive(sent.bytes, from: sent.tuple)
        guard case .reply(let answer) = outcome else {
            forwarded(outcome, by: sent.tuple)
            return nil
        }
        let isSigned = answer.types.contains(.messageIntegrity) || answer.types.contains(.messageIntegritySHA256)
        // 28 bytes are the headers of IP and UDP.
        if !isSigned, answer.bytes.count + 28 > 3 * (sent.bytes.count + 28) {
            found = "\(answer.bytes.count) bytes to a stranger for \(sent.bytes.count)"
        }
        if Array(answer.bytes[4..<20]) != Array(sent.bytes[4..<20]) { found = "an answer to another transaction" }
        if !isSigned, answer.isSuccess, answer.type.method != .binding { found = "an unsigned success" }
        guard answer.isSuccess else { return answer }
        for address in sent.peers {
            for leg in legs(of: sent.tuple) {
                let end = lab.moment.monotonicNanoseconds + 300_000_000_000
                grants[Grant(descriptor: leg.descriptor, address: address)] = end
            }
        }
        return answer
    }

    private func legs(of tuple: FiveTuple) -> [RelayLeg] {
        let index = lab.allocation(of: tuple)
        return lab.relays.open.values.filter { $0.request.allocation == index }.map(\.leg)
    }

    private func isGranted(_ descriptor: Int32, _ peer: Endpoint) -> Bool {
        guard let end = grants[Grant(descriptor: descriptor, address: peer.address)] else { return false }
        guard end > lab.moment.monotonicNanoseconds else { return false }
        let isOwn = Self.own.contains { $0.address == peer.address }
        return isOwn ? lab.relays.isLiveRelay(peer) : PolicyOracle.allows(bits(peer.address))
    }

    private func bits(_ address: IPAddress) -> String {
        func digits(_ number: UInt64, _ width: Int) -> String {
            let text = String(number, radix: 2)
            return String(repeating: "0", count: width - text.count) + text
        }
        return address.isIPv4 ? digits(UInt64(address.v4), 32) : digits(address.high, 64) + digits(address.low, 64)
    }

    private func forwarded(_ outcome: Lab.Outcome, by tuple: FiveTuple) {
        guard let forward = outcome.forward else { return }
        tally.forwards += 1
        if !legs(of: tuple).contains(where: { $0.descriptor == forward.descriptor }) {
            found = "it left by another's relay"
        }
        if !isGranted(forward.descriptor, forward.destination) {
            found = "it went to \(forward.destination) without leave"
        }
        if [0, 53].contains(forward.destination.port) { found = "it went to port \(forward.destination.port)" }
    }

    private func inbound(_ generator: inout SeededGenerator) {
        let sorted = lab.relays.open.values.map(\.leg).sorted { $0.descriptor < $1.descriptor }
        guard let leg = sorted.randomElement(using: &generator) else { return }
        let source = peer(&generator)
        guard source.family == leg.local.family, let verdict = lab.receive(from: source, at: leg.local),
            verdict.drop == nil
        else { return }
        tally.inbound += 1
        if !isGranted(leg.descriptor, source) { found = "\(source) came in without leave" }
    }

    // MARK: Disturbances

    private func replay(_ generator: inout SeededGenerator) {
        guard var sent = history.suffix(60).randomElement(using: &generator) else { return }
        if Bool.random(using: &generator), let thief = clients.randomElement(using: &generator) {
            sent.tuple = thief.tuple
            if sent.tuple.client.port == 2_000 { sent.tuple.client.port = 2_999 }
        }
        deliver(sent)
    }

    private func mutate(_ generator: inout SeededGenerator) {
        guard var sent = history.suffix(60).randomElement(using: &generator) else { return }
        for _ in 0..<Int.random(in: 1...3, using: &generator) {
            let place = Int.random(in: 0..<sent.bytes.count, using: &generator)
            switch Int.random(in: 0..<4, using: &generator) {
            case 0: sent.bytes[place] ^= 1 << UInt8.random(in: 0..<8, using: &generator)
            case 1: sent.bytes[place] = UInt8.random(in: .min ... .max, using: &generator)
            case 2:
                let smuggled = hex("0012 0008 0001 2ca4 2916 ae46") + hex("000d 0004 00000000")
                sent.bytes = smuggling(smuggled, into: sent.bytes, fingerprint: Bool.random(using: &generator))
            default: if sent.bytes.count > 24 { sent.bytes.removeLast(4) }
            }
            if sent.bytes.count >= 20, Bool.random(using: &generator) {
                let length = sent.bytes.count - 20
                sent.bytes[2] = UInt8(truncatingIfNeeded: length >> 8)
                sent.bytes[3] = UInt8(truncatingIfNeeded: length)
            }
        }
        deliver(sent)
    }

    private func reload(_ generator: inout SeededGenerator) {
        var configuration = lab.engine.configuration
        configuration.policy.deny = Bool.random(using: &generator) ? [.v4(0x0808_0000, 16)] : []
        lab.engine.reconfigure(configuration, at: lab.moment)
        guard !configuration.policy.deny.isEmpty else { return }
        for grant in grants.keys where grant.address.isIPv4 && grant.address.v4 >> 16 == 0x0808 { grants[grant] = nil }
    }
}
