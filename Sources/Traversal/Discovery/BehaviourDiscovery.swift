import STUN

/// Finds out what NATs do between here and the servers (RFC 5780), for one address family. It asks its caller for
/// sockets, by numbers of its own, and for datagrams to be sent from them; it owns no socket and reads no clock.
///
///     socket 0      plain requests to every address there is: what the mapping depends on
///     sockets 1, 2  fresh ones that ask for answers from elsewhere: whom the filter lets in
///     sockets 3-6   one after the other: how ports are given out
///     socket 7      speaks to socket 0 by its outside address, and the other way round: hairpinning
///     sockets 8-    stay idle for a while, in the background: how long mappings live
package struct BehaviourDiscovery {
    package struct Server: Sendable {
        package var endpoint: Endpoint
        /// It was reached by TCP, or speaks to us otherwise: silence over UDP is not the server's.
        package var isKnownToRun: Bool

        package init(_ endpoint: Endpoint, isKnownToRun: Bool = false) {
            self.endpoint = endpoint
            self.isKnownToRun = isKnownToRun
        }
    }

    package enum Action: Sendable {
        /// Opens a UDP socket on a port of the system's choice, and calls `opened`. Number 0 may be one that exists and
        /// has not sent anything.
        case open(Int)
        case close(Int)
        case send(Int, to: Endpoint, [UInt8])
        /// The name and all that goes with it; once.
        case concluded(NATReport)
        /// Something of the report has become known later.
        case refined(NATReport)
    }

    enum Probe {
        case server(Int)
        case alternate
        /// A plain request beside one for an answer from elsewhere.
        case control(FilterTest)
        case changed(FilterTest)
        /// The same from the first socket, whose filter lets such an answer in.
        case proof(FilterTest)
        case sample(Int)
        case hairpin
        case lifetimeMapping(Int)
        case lifetimeControl(Int)
    }

    enum FilterTest: Int, CaseIterable {
        case both = 1
        case port = 2

        /// CHANGE-REQUEST: the third bit from the right is the address, the second the port (RFC 5780 section 7.2).
        var flags: UInt32 { self == .both ? 6 : 2 }

        /// Where the answer is to come from.
        func origin(_ pair: Pair) -> Endpoint {
            self == .both ? pair.second : Endpoint(address: pair.first.address, port: pair.second.port)
        }
    }

    enum Alarm: Hashable {
        case filterRound
        case hairpinCopy
        case look
        case conclude
        case lifetime(Int)

        /// Which of two that are due at the same time comes first, so that one seed gives one run.
        var rank: Int {
            switch self {
            case .filterRound: 0
            case .hairpinCopy: 1
            case .look: 2
            case .conclude: 3
            case .lifetime(let index): 4 + index
            }
        }
    }

    struct Sighting {
        var server: Endpoint
        var mapped: Endpoint
    }

    /// A server with a second address and port.
    struct Pair {
        var first: Endpoint
        var second: Endpoint

        var corners: [Endpoint] {
            [
                Endpoint(address: second.address, port: first.port), second,
                Endpoint(address: first.address, port: second.port),
            ]
        }
    }

    struct FilterState {
        var sent = 0
        var proved = 0
        /// Where an answer came from.
        var source: Endpoint?
        var isRefused = false
    }

    static let hairpinSocket = 7
    static let proberSocket = 8

    let servers: [Server]
    /// Times in seconds, of which each has a socket that is idle for so long.
    let lifetimes: [UInt64]
    let cryptography: any Cryptography
    package internal(set) var report = NATReport()
    var transactions = TransactionTable<Probe>()
    var alarms: [Alarm: UInt64] = [:]
    /// Open sockets, with where they are bound; nil while the caller opens one.
    var sockets: [Int: Endpoint?] = [:]
    var knownToRun: Set<Endpoint> = []
    var isStarted = false
    var isConcluded = false
    var isOver = false

    var sightings: [Sighting] = []
    var anchor: Endpoint?
    var pair: Pair?
    var filters: [FilterTest: FilterState] = [:]
    /// Which of them the server was seen to do as asked, and which of that are under way.
    var proved: Set<FilterTest> = []
    var proving: Set<FilterTest> = []
    var samples: [Int: PortPattern.Sample] = [:]
    /// The sample that is under way or comes next.
    var nextSample = 0
    var isSampling = false
    var hairpinMapped: Endpoint?
    var hairpinIDs: (toSecond: TransactionID, toFirst: TransactionID)?
    var hairpinSent = 0
    var isHairpinning = false
    var otherPorts: [UInt16] = []
    var lifetime = LifetimeTest()

    /// - Parameters:
    ///   - servers: of one family, the preferred ones first; what is past the limit is not asked.
    ///   - lifetimes: what of mappings' lives is found out, in the background.
    package init(servers: [Server], lifetimes: NATLifetimeSearch = .none, with cryptography: any Cryptography) {
        let family = servers.first?.endpoint.family
        self.servers = Array(servers.filter { $0.endpoint.family == family }.prefix(Limits.discoveryServers))
        self.lifetimes = lifetimes.seconds
        self.cryptography = cryptography
        knownToRun = Set(servers.filter(\.isKnownToRun).map(\.endpoint))
    }

    package mutating func start(now: UInt64, into actions: inout [Action]) {
        guard !isStarted, !isOver else { return }
        isStarted = true
        guard !servers.isEmpty else {
            report.name = .undetermined("there is no server to ask")
            return conclude(now: now, into: &actions)
        }
        open(0, into: &actions)
    }

    /// A socket that was asked for is there.
    /// - Parameter local: where it is bound, with the address it sends from and not a wildcard; nil when it could not
    ///   be opened.
    package mutating func opened(_ socket: Int, at local: Endpoint?, now: UInt64, into actions: inout [Action]) {
        guard !isOver, sockets[socket] == .some(nil) else { return }
        guard let local else {
            return lost(socket, now: now, into: &actions)
        }
        sockets[socket] = local
        if socket == 0 {
            report.local = local
            for (index, server) in servers.enumerated() {
                ask(.server(index), from: 0, server.endpoint, Self.serverSchedule, now: now, into: &actions)
            }
        }
        lifetimeOpened(socket, now: now, into: &actions)
        pump(now: now, into: &actions)
        settleLifetime(into: &actions)
    }

    /// A socket is broken, and closed already; what was asked by it stays without an answer.
    package mutating func lost(_ socket: Int, now: UInt64, into actions: inout [Action]) {
        guard !isOver, sockets.removeValue(forKey: socket) != nil else { return }
        if socket == 0, !isConcluded {
            report.name = .undetermined(
                report.local == nil ? "no socket could be opened" : "the socket broke before there was an answer"
            )
            // Nothing can be told of a socket that is not there.
            report.local = nil
            conclude(now: now, into: &actions)
        }
        for probe in transactions.abandon(where: { request, _ in request.socket == socket }) {
            missed(probe, now: now, into: &actions)
        }
        guard !isOver else { return }
        lifetimeLost(socket, into: &actions)
        pump(now: now, into: &actions)
        settleLifetime(into: &actions)
    }

    /// The server was reached some other way, so that silence over UDP says something about the way.
    package mutating func confirmRunning(_ server: Endpoint, into actions: inout [Action]) {
        knownToRun.insert(server)
        guard isConcluded, report.answeringServers.isEmpty else { return }
        let old = report.name
        report.name = silentName()
        if report.name != old { actions.append(.refined(report)) }
    }

    /// Does what is due.
    package mutating func advance(now: UInt64, into actions: inout [Action]) {
        guard !isOver else { return }
        for event in transactions.advance(now: now) {
            switch event {
            case .transmit(let socket, let destination, let bytes):
                actions.append(.send(socket, to: destination, bytes))
            case .failed(let probe, _): missed(probe, now: now, into: &actions)
            }
        }
        let due = alarms.filter { $0.value <= now }
            .sorted { ($0.value, $0.key.rank) < ($1.value, $1.key.rank) }
        for (alarm, _) in due {
            alarms[alarm] = nil
            switch alarm {
            case .filterRound: filterRound(now: now, into: &actions)
            case .hairpinCopy: hairpinCopy(now: now, into: &actions)
            case .look: break
            case .conclude: conclude(now: now, into: &actions)
            case .lifetime(let index): probeLifetime(index, now: now, into: &actions)
            }
        }
        pump(now: now, into: &actions)
        settleLifetime(into: &actions)
    }

    package var nextDeadline: UInt64? {
        guard !isOver else { return nil }
        return [transactions.nextDeadline, alarms.values.min()].compactMap { $0 }.min()
    }

    /// Ends everything; what is known stays in `report`.
    package mutating func stop(into actions: inout [Action]) {
        guard !isOver else { return }
        isOver = true
        _ = transactions.abandon()
        alarms = [:]
        for socket in sockets.keys.sorted() { actions.append(.close(socket)) }
        sockets = [:]
    }

    // MARK: Sockets and requests

    mutating func open(_ socket: Int, into actions: inout [Action]) {
        guard sockets[socket] == nil else { return }
        sockets[socket] = .some(nil)
        actions.append(.open(socket))
    }

    mutating func close(_ socket: Int, into actions: inout [Action]) {
        guard sockets.removeValue(forKey: socket) != nil else { return }
        actions.append(.close(socket))
    }

    func isOpen(_ socket: Int) -> Bool { (sockets[socket] ?? nil) != nil }

    mutating func ask(
        _ probe: Probe,
        from socket: Int,
        _ destination: Endpoint,
        _ schedule: RetransmissionSchedule,
        now: UInt64,
        into actions: inout [Action]
    ) {
        let id = cryptography.randomTransaction()
        var flags: UInt32?
        switch probe {
        case .changed(let test), .proof(let test): flags = test.flags
        default: break
        }
        let bytes = binding(id) { builder in
            if let flags { builder.append(.changeRequest, flags) }
        }
        var request = TransactionTable<Probe>.Request(
            bytes: bytes,
            transactionID: id,
            method: .binding,
            destination: destination,
            socket: socket,
            schedule: schedule
        )
        request.acceptsAnyOrigin = flags != nil
        guard transactions.begin(request, probe, now: now) else { return }
        actions.append(.send(socket, to: destination, bytes))
    }

    func binding(_ id: TransactionID, _ body: (inout MessageBuilder) -> Void = { _ in }) -> [UInt8] {
        [UInt8](unsafeUninitializedCapacity: 64) { buffer, count in
            var builder = MessageBuilder(
                MessageType(.binding, .request),
                id,
                into: UnsafeMutableRawBufferPointer(buffer)
            )
            body(&builder)
            count = builder.finish() ?? 0
        }
    }

    static let serverSchedule = RetransmissionSchedule(
        gapsNanoseconds: Limits.discoveryGaps,
        lastWaitNanoseconds: Limits.discoveryLastWait
    )
    static let alternateSchedule = RetransmissionSchedule(
        gapsNanoseconds: Limits.alternateGaps,
        lastWaitNanoseconds: Limits.alternateLastWait
    )
}
