import STUN

/// PCP (RFC 6887) and, where the gateway is older, NAT-PMP (RFC 6886): ports mapped by datagrams to the gateway,
/// renewed in time, asked for anew when the gateway has started anew, and given back.
struct GatewayMapper {
    enum Mode { case undecided, pcp, natPMP }

    struct Entry {
        let port: InternalPort
        /// Section 11.1: the same for all that concerns the mapping.
        let nonce: [UInt8]
        var external: Endpoint?
        /// NAT-PMP tells the address by another answer.
        var externalPort: UInt16?
        var lifetimeSeconds: UInt32 = 0
        var expiresAt = UInt64.max
        /// Requests since the last answer.
        var sent = 0
        var nextAt: UInt64
    }

    private let gateway: Endpoint
    private let client: IPAddress
    let cryptography: any Cryptography
    var mode = Mode.undecided
    var entries: [Entry] = []
    var address: IPAddress?
    var epoch = GatewayEpoch()
    var hasAnswered: Set<PortMappingProtocol> = []
    /// Those that were asked often enough, and have not answered.
    var silent: Set<PortMappingProtocol> = []
    var failures: [PortMappingProtocol: PortMappingFailure] = [:]
    var probes = 0
    var nextProbe = UInt64.max
    var quietUntil: UInt64 = 0
    var unsuspectedUntil: UInt64 = 0
    var releaseBy: UInt64?
    var isOver = false

    init(gateway: IPAddress, client: IPAddress, with cryptography: any Cryptography) {
        self.gateway = Endpoint(address: gateway, port: PortMappingLimits.serverPort)
        self.client = client
        self.cryptography = cryptography
    }

    var nextDeadline: UInt64? {
        guard !isOver else { return nil }
        var next = min(nextProbe, releaseBy ?? .max)
        for entry in entries { next = min(next, entry.nextAt, entry.external == nil ? .max : entry.expiresAt) }
        return next == .max ? nil : next
    }

    /// Nothing was asked that has no answer: PCP and NAT-PMP have said what they have to say.
    var hasFailed: Bool {
        entries.allSatisfy { $0.external == nil }
            && [PortMappingProtocol.pcp, .natPMP].allSatisfy { failures[$0] != nil || isSilent($0) }
    }

    /// It has answered by a protocol, and has not refused.
    var isAnswering: Bool { hasAnswered.contains { failures[$0] == nil } }

    func fill(_ report: inout PortMappingReport) {
        report.pcp = availability(.pcp)
        report.natPMP = availability(.natPMP)
        report.externalAddress = entries.compactMap(\.external?.address).first ?? address
    }

    // MARK: What the owner says

    mutating func map(_ port: InternalPort, now: UInt64) {
        guard entries.count < PortMappingLimits.ports, !entries.contains(where: { $0.port == port }) else { return }
        var nonce = [UInt8](repeating: 0, count: PCPMessage.nonceBytes)
        nonce.withUnsafeMutableBytes { cryptography.random($0) }
        entries.append(Entry(port: port, nonce: nonce, nextAt: now))
        if nextProbe == .max { nextProbe = now }
    }

    /// A path was lost, maybe with the gateway's memory: its epoch tells.
    mutating func verify(now: UInt64) {
        guard releaseBy == nil, !entries.isEmpty else { return }
        (probes, nextProbe) = (0, min(nextProbe, now))
        for index in entries.indices where entries[index].external == nil {
            entries[index].sent = 0
            entries[index].nextAt = min(entries[index].nextAt, now)
        }
    }

    mutating func release(now: UInt64, into actions: inout [PortMappingAction]) {
        guard releaseBy == nil else { return }
        // Where nobody has ever answered nothing is mapped.
        entries.removeAll { $0.external == nil && ($0.sent == 0 || hasAnswered.isEmpty) }
        nextProbe = .max
        releaseBy = now.addingSaturated(PortMappingLimits.releaseTime)
        for index in entries.indices {
            (entries[index].sent, entries[index].nextAt, entries[index].expiresAt) = (0, now, .max)
        }
        advance(now: now, into: &actions)
    }

    mutating func advance(now: UInt64, into actions: inout [PortMappingAction]) {
        guard !isOver else { return }
        if let releaseBy, entries.isEmpty || now >= releaseBy { return end(&actions) }
        for index in entries.indices {
            if entries[index].external != nil, now >= entries[index].expiresAt { lose(index, retryAt: now, &actions) }
            if now >= entries[index].nextAt { ask(index, now, &actions) }
        }
        if now >= nextProbe { probe(now, &actions) }
    }

    // MARK: Requests

    mutating func ask(_ index: Int, _ now: UInt64, _ actions: inout [PortMappingAction]) {
        if mode == .undecided, entries[index].sent > 0, hasAnswered.contains(.natPMP) {
            // It answers the one and not the other.
            mode = .natPMP
            entries[index].sent = 0
        }
        let entry = entries[index]
        let most = releaseBy == nil ? PortMappingLimits.transmissions : PortMappingLimits.releaseTransmissions
        guard entry.sent < most else {
            entries[index].nextAt = releaseBy == nil ? now.addingSaturated(PortMappingLimits.silentRetry) : .max
            entries[index].sent = 0
            if mode == .undecided { silent.insert(.pcp) }
            return
        }
        let lifetime = releaseBy == nil ? PortMappingLimits.wantedLifetimeSeconds : 0
        if mode != .natPMP {
            let suggested =
                lifetime == 0
                ? nil : entry.external ?? Endpoint(address: IPAddress(v4: 0), port: entry.port.port)
            actions.append(
                .send(
                    PCPMessage.mapRequest(
                        entry.port,
                        nonce: entry.nonce,
                        lifetimeSeconds: lifetime,
                        suggested: suggested,
                        from: client
                    ),
                    to: gateway
                )
            )
        } else {
            let wanted = entry.externalPort ?? entry.port.port
            actions.append(
                .send(
                    NATPMPMessage.mapRequest(entry.port, externalPort: wanted, lifetimeSeconds: lifetime),
                    to: gateway
                )
            )
        }
        entries[index].nextAt = now.addingSaturated(Self.wait(entry.sent))
        entries[index].sent += 1
    }

    /// NAT-PMP's question for the address shows that it is there, and its epoch; PCP has an opcode for that.
    private mutating func probe(_ now: UInt64, _ actions: inout [PortMappingAction]) {
        let most = hasAnswered.isEmpty ? PortMappingLimits.transmissions : PortMappingLimits.epochTransmissions
        guard probes < most else {
            if !hasAnswered.contains(.natPMP) { silent.insert(.natPMP) }
            probes = 0
            let pause = hasAnswered.isEmpty ? PortMappingLimits.silentRetry : PortMappingLimits.epochCheck
            nextProbe = now.addingSaturated(pause)
            return
        }
        if mode == .pcp { actions.append(.send(PCPMessage.announceRequest(from: client), to: gateway)) }
        if mode != .pcp || !hasAnswered.contains(.natPMP) && !silent.contains(.natPMP) {
            actions.append(.send(NATPMPMessage.addressRequest, to: gateway))
        }
        nextProbe = now.addingSaturated(Self.wait(probes))
        probes += 1
        if probes > PortMappingLimits.transmissionsBeforeSilence, !hasAnswered.contains(.natPMP) {
            silent.insert(.natPMP)
        }
    }

    private static func wait(_ sent: Int) -> UInt64 {
        min(PortMappingLimits.firstWait << UInt64(min(sent, 10)), PortMappingLimits.longestWait)
    }

    // MARK: Report

    private func isSilent(_ which: PortMappingProtocol) -> Bool {
        guard !hasAnswered.contains(which) else { return false }
        if silent.contains(which) { return true }
        return which == .pcp && entries.contains { $0.sent > PortMappingLimits.transmissionsBeforeSilence }
    }

    private func availability(_ which: PortMappingProtocol) -> PortMappingAvailability {
        if let failure = failures[which] { return .refused(failure) }
        if hasAnswered.contains(which) { return .available }
        return isSilent(which) ? .silent : .unknown
    }
}
