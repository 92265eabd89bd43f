import STUN

/// UPnP's Internet Gateway Device, versions 1 and 2: the gateway is searched for, its description read, and ports are
/// mapped by its WANIPConnection or WANPPPConnection service, one exchange after the other.
///
/// Whoever answers the search is a stranger. It is spoken with at the address that it has answered from, its answers
/// are bounded in length and time, and nothing that it says leads to another host.
struct UPnPMapper {
    enum Job: Equatable {
        case describe(HTTPLocation)
        case address
        case add(InternalPort)
        case delete(InternalPort)
    }

    struct Exchange {
        let number: Int
        let job: Job
        var answer = HTTPAnswer()
        let deadline: UInt64
    }

    struct Lease {
        let port: InternalPort
        /// The external port that is asked for, or granted.
        var externalPort: UInt16
        var external: Endpoint?
        /// The device knows no leases that end by themselves.
        var isPermanent = false
        var conflicts = 0
        var nextAt: UInt64
        var expiresAt = UInt64.max
    }

    private let gateway: IPAddress
    private let client: IPAddress
    let cryptography: any Cryptography
    /// Ports are to be mapped; otherwise the device is only looked for.
    private(set) var isWanted = false
    private var others: [InternalPort: UInt16] = [:]
    var leases: [Lease] = []
    var service: UPnPService?
    var otherServices: [UPnPService] = []
    var external: IPAddress?
    var externalAskedAt: UInt64 = 0
    var availability = PortMappingAvailability.unknown
    /// Exchanges that came to nothing, in a row.
    var failures = 0
    var pausedUntil: UInt64 = 0
    /// The service has answered since it was found.
    var hasWorked = false
    var exchange: Exchange?
    private var nextExchange = 1
    private var searches = 0
    private var searchBegan: UInt64 = 0
    private var nextSearch = UInt64.max
    private var locations: [HTTPLocation] = []
    private var seen: Set<HTTPLocation> = []
    private(set) var isReleasing = false
    private var releaseBy = UInt64.max
    private var isOver = false

    init(gateway: IPAddress, client: IPAddress, with cryptography: any Cryptography) {
        (self.gateway, self.client, self.cryptography) = (gateway, client, cryptography)
    }

    var nextDeadline: UInt64? {
        guard !isOver else { return nil }
        var next = min(releaseBy, exchange?.deadline ?? .max)
        if service == nil { next = min(next, nextSearch) }
        if exchange == nil {
            if service == nil, !locations.isEmpty { next = min(next, strangersFrom) }
            if service != nil, external == nil { next = min(next, pausedUntil) }
            if isWanted, service != nil { for lease in leases { next = min(next, max(lease.nextAt, pausedUntil)) } }
        }
        for lease in leases where lease.external != nil { next = min(next, lease.expiresAt) }
        return next == .max ? nil : next
    }

    // MARK: What the owner says

    mutating func map(_ port: InternalPort, now: UInt64) {
        guard leases.count < PortMappingLimits.ports, !leases.contains(where: { $0.port == port }) else { return }
        leases.append(Lease(port: port, externalPort: port.port, nextAt: now))
        if searches == 0, service == nil { search(now) }
    }

    /// - Parameter others: the external ports that other protocols have mapped. To the gateway it is one mapping,
    ///   whoever has asked for it, and taking it back here would take it from them.
    mutating func want(_ isWanted: Bool, besides others: [InternalPort: UInt16]) {
        guard !isReleasing else { return }
        (self.isWanted, self.others) = (isWanted, others)
    }

    /// What was mapped may be gone with the device's memory.
    mutating func verify(now: UInt64) {
        guard !isReleasing else { return }
        for index in leases.indices where leases[index].external != nil { leases[index].nextAt = now }
        if service == nil, exchange == nil, locations.isEmpty, availability == .silent, !leases.isEmpty { search(now) }
    }

    mutating func release(now: UInt64, into actions: inout [PortMappingAction]) {
        guard !isReleasing else { return }
        (isReleasing, isWanted) = (true, false)
        releaseBy = now.addingSaturated(PortMappingLimits.releaseTime)
        nextSearch = .max
        locations = []
        pausedUntil = 0
        // An addition under way is a mapping as soon as it arrives.
        if let exchange {
            if case .add(let port) = exchange.job, let index = leases.firstIndex(where: { $0.port == port }) {
                leases[index].external = leases[index].external ?? Endpoint(address: client, port: port.port)
            }
            actions.append(.abandon(exchange.number))
            self.exchange = nil
        }
        advance(now: now, into: &actions)
    }

    mutating func advance(now: UInt64, into actions: inout [PortMappingAction]) {
        guard !isOver else { return }
        if isReleasing, now >= releaseBy || leases.allSatisfy({ $0.external == nil }) || service == nil {
            if let exchange { actions.append(.abandon(exchange.number)) }
            exchange = nil
            isOver = true
            return actions.append(.released)
        }
        if let exchange, now >= exchange.deadline {
            actions.append(.abandon(exchange.number))
            fail(exchange.job, now, &actions)
        }
        for index in leases.indices where leases[index].external != nil && now >= leases[index].expiresAt {
            lose(index, &actions)
        }
        if service == nil, now >= nextSearch { sendSearch(now, &actions) }
        pump(now, &actions)
    }

    // MARK: Search

    mutating func search(_ at: UInt64) {
        (searches, searchBegan, nextSearch) = (0, at, at)
        (locations, seen) = ([], [])
        (service, otherServices, external) = (nil, [], nil)
        (failures, pausedUntil, hasWorked) = (0, 0, false)
    }

    private mutating func sendSearch(_ now: UInt64, _ actions: inout [PortMappingAction]) {
        guard searches < PortMappingLimits.searchTransmissions else {
            let end = searchBegan.addingSaturated(PortMappingLimits.searchTime)
            guard now >= end else { return nextSearch = end }
            if seen.isEmpty { availability = .silent }
            let next = now.addingSaturated(PortMappingLimits.searchAgain)
            (searches, searchBegan, nextSearch) = (0, next, next)
            return seen = []
        }
        actions.append(.send(UPnPMessage.search(), to: UPnPMessage.searchGroup))
        // A gateway hears what is sent to itself, also where a switch keeps multicast away.
        let own = Endpoint(address: gateway, port: PortMappingLimits.searchPort)
        actions.append(.send(UPnPMessage.search(), to: own))
        nextSearch = now.addingSaturated(PortMappingLimits.firstWait << UInt64(min(searches, 10)))
        searches += 1
    }

    mutating func receive(
        _ bytes: [UInt8],
        from source: IPAddress,
        now: UInt64,
        into actions: inout [PortMappingAction]
    ) {
        // Strangers do not use up the gateway's place.
        let most = PortMappingLimits.locations + (source == gateway ? 1 : 0)
        guard searches > 0, service == nil, !isReleasing, seen.count < most,
            let location = UPnPMessage.location(bytes), location.endpoint.address == source,
            seen.insert(location).inserted
        else { return }
        if source == gateway { locations.insert(location, at: 0) } else { locations.append(location) }
        pump(now, &actions)
    }

    private var strangersFrom: UInt64 { searchBegan.addingSaturated(PortMappingLimits.gatewayPatience) }

    // MARK: Exchanges

    mutating func answered(
        _ number: Int,
        _ bytes: UnsafeRawBufferPointer,
        now: UInt64,
        into actions: inout [PortMappingAction]
    ) {
        guard exchange?.number == number else { return }
        exchange?.answer.take(bytes)
        if exchange?.answer.state != .incomplete { conclude(now, &actions) }
    }

    mutating func closed(_ number: Int, now: UInt64, into actions: inout [PortMappingAction]) {
        guard exchange?.number == number else { return }
        exchange?.answer.close()
        conclude(now, &actions)
    }

    private mutating func conclude(_ now: UInt64, _ actions: inout [PortMappingAction]) {
        guard let exchange else { return }
        actions.append(.abandon(exchange.number))
        if case .complete(let status, let body) = exchange.answer.state {
            take(status, body, exchange.job, now, &actions)
        } else {
            fail(exchange.job, now, &actions)
        }
        advance(now: now, into: &actions)
    }

    /// Begins what comes next, if nothing is under way.
    private mutating func pump(_ now: UInt64, _ actions: inout [PortMappingAction]) {
        guard exchange == nil, !isOver, now >= pausedUntil else { return }
        guard let service else {
            guard let first = locations.first, first.endpoint.address == gateway || now >= strangersFrom else { return }
            locations.removeFirst()
            return begin(.describe(first), with: first.endpoint, UPnPMessage.get(first), now, &actions)
        }
        let endpoint = service.control.endpoint
        if !isWanted {
            // Nobody wants it any more: the program ends, or the gateway has mapped by another protocol.
            let lease = leases.first {
                $0.external != nil && (isReleasing || others[$0.port] != $0.externalPort)
            }
            if let lease {
                let arguments = [
                    ("NewRemoteHost", ""), ("NewExternalPort", String(lease.externalPort)),
                    ("NewProtocol", Self.name(lease.port.transport)),
                ]
                let request = UPnPMessage.action("DeletePortMapping", arguments, at: service)
                return begin(.delete(lease.port), with: endpoint, request, now, &actions)
            }
            if isReleasing { return }
        }
        let due = isWanted ? leases.first { now >= $0.nextAt } : nil
        let isStale = now.subtractingClamped(externalAskedAt) >= PortMappingLimits.epochCheck
        if external == nil || due?.external != nil && isStale {
            let request = UPnPMessage.action("GetExternalIPAddress", [], at: service)
            return begin(.address, with: endpoint, request, now, &actions)
        }
        guard let due else { return }
        begin(.add(due.port), with: endpoint, addition(due, at: service), now, &actions)
    }

    private func addition(_ lease: Lease, at service: UPnPService) -> [UInt8] {
        UPnPMessage.action(
            "AddPortMapping",
            [
                ("NewRemoteHost", ""), ("NewExternalPort", String(lease.externalPort)),
                ("NewProtocol", Self.name(lease.port.transport)), ("NewInternalPort", String(lease.port.port)),
                ("NewInternalClient", AddressText.text(client)), ("NewEnabled", "1"),
                ("NewPortMappingDescription", "Turnpike"),
                ("NewLeaseDuration", lease.isPermanent ? "0" : String(PortMappingLimits.leaseSeconds)),
            ],
            at: service
        )
    }

    private static func name(_ transport: InternalPort.Transport) -> String { transport == .udp ? "UDP" : "TCP" }

    private mutating func begin(
        _ job: Job,
        with endpoint: Endpoint,
        _ request: [UInt8],
        _ now: UInt64,
        _ actions: inout [PortMappingAction]
    ) {
        let deadline = now.addingSaturated(PortMappingLimits.exchangeTime)
        exchange = Exchange(number: nextExchange, job: job, deadline: deadline)
        nextExchange &+= 1
        actions.append(.exchange(nextExchange &- 1, with: endpoint, request: request))
    }
}
