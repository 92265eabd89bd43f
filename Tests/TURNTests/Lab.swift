import Foundation
import OpenSSLCrypto
import STUN
import TURN

/// A server without sockets or clocks: an engine, its fake relays, an account store, and the time.
final class Lab {
    static let realm = "example.org"

    let relays: FakeRelays
    let cryptography: OpenSSLCryptography
    let shared: Engine.Shared
    var engine: Engine
    private let initialConfiguration: Configuration
    private(set) var moment: Moment
    /// Passwords by name; what the account store knows.
    private(set) var passwords: [String: String] = [:]
    private var records: [String: UserRecord] = [:]
    private(set) var lookups: [CredentialQuery] = []
    private var reply = [UInt8](repeating: 0xA5, count: 1_500)

    /// What became of a client's datagram.
    enum Outcome {
        case reply(Answer)
        /// An answer that leaves from elsewhere, or goes elsewhere.
        case replyElsewhere(Answer, from: Endpoint, to: Endpoint)
        case forward(Forward, payload: [UInt8])
        case bind(ConnectionBinding)
        case handled
        case drop(DropReason)
        case needsOwner(MoveRequest, worker: Int)
    }

    /// - Parameters:
    ///   - shared: another worker's, to be a second worker beside it.
    ///   - configure: changes the configuration: no reply budget, since every test here comes from few addresses.
    init(
        relays: FakeRelays = FakeRelays(),
        shared: Engine.Shared = Engine.Shared(seed: 7),
        worker: Int = 0,
        _ configure: (inout Configuration) -> Void = { _ in }
    ) throws {
        self.relays = relays
        self.shared = shared
        cryptography = try OpenSSLCryptography()
        moment = Moment(monotonicNanoseconds: 1_000_000_000_000, wallSeconds: 1_800_000_000)
        var configuration = Configuration(realm: Self.realm, nonceKeys: NonceKeys(current: Array(0..<32)))
        configuration.unauthenticatedRepliesPerSecond = 0
        configuration.bindingRepliesPerSecond = 0
        configure(&configuration)
        initialConfiguration = configuration
        engine = Engine(
            configuration: configuration,
            shared: shared,
            cryptography: cryptography,
            host: relays,
            worker: worker
        )
        relays.nowNanoseconds = moment.monotonicNanoseconds
        add(user: "alice", password: "wonderland")
        add(user: "bob", password: "builder")
    }

    func add(
        user name: String,
        password: String,
        expiresAtSeconds: UInt64? = nil,
        maximumAllocations: Int? = nil,
        isEnabled: Bool = true,
        bitsPerSecond: UInt64? = nil,
        overQuotaUntilSeconds: UInt64? = nil
    ) {
        let text = Array("\(name):\(Self.realm):\(password)".utf8)
        guard let keys = CredentialKeys(md5: Digest.md5(text), sha256: Digest.sha256(text)) else { return }
        passwords[name] = password
        records[name] = UserRecord(
            name: name,
            keys: keys,
            expiresAtSeconds: expiresAtSeconds,
            maximumAllocations: maximumAllocations,
            isEnabled: isEnabled,
            bitsPerSecond: bitsPerSecond,
            overQuotaUntilSeconds: overQuotaUntilSeconds
        )
    }

    /// A client of alice's, unless another user is named, on an address of its own.
    func client(
        _ username: String = "alice",
        at endpoint: Endpoint = Endpoint("198.51.100.7", 40_000),
        server: Endpoint = Endpoint("203.0.113.5", 3_478)
    ) -> Client {
        Client(
            lab: self,
            tuple: FiveTuple(client: endpoint, server: server, transport: .udp),
            username: username,
            password: passwords[username] ?? "unknown"
        )
    }

    /// A client with a credential for this name, minted with a shared secret.
    func timeLimitedClient(_ name: String, secret: String) -> Client {
        let client = client("\(moment.wallSeconds + 3_600):\(name)")
        client.password = Data(HMAC.sha1(key: Array(secret.utf8), message: Array(client.username.utf8)))
            .base64EncodedString()
        return client
    }

    /// Hands one STUN message to the engine; asks the account store when the engine must.
    func receive(_ bytes: [UInt8], from tuple: FiveTuple) -> Outcome {
        for _ in 0..<3 {
            let verdict = bytes.withUnsafeBytes { bytes in
                reply.withUnsafeMutableBytes { reply in
                    engine.receive(bytes, from: tuple, listener: 3, at: moment, reply: reply)
                }
            }
            guard case .needsCredentials(let query) = verdict else { return outcome(verdict, bytes) }
            lookups.append(query)
            engine.learn(query, record(for: query))
        }
        return .handled
    }

    /// Hands ChannelData to the engine, as a worker does.
    func receiveChannelData(_ bytes: [UInt8], from tuple: FiveTuple) -> Outcome {
        let verdict = bytes.withUnsafeBytes {
            engine.channelData($0, allocation: engine.allocation(of: tuple), now: moment.monotonicNanoseconds)
        }
        return outcome(verdict, bytes)
    }

    /// A datagram from a peer to the relay socket that is bound at `local`; nil when there is none.
    func receive(from peer: Endpoint, at local: Endpoint, bytes: Int = 10) -> Engine.PeerVerdict? {
        var run = PayloadRun(packets: 1, bytes: UInt64(bytes), segmentBytes: UInt64(bytes))
        return receive(&run, from: peer, at: local)
    }

    /// The same for datagrams that the kernel has merged; the run is left as the engine lets it pass.
    func receive(_ run: inout PayloadRun, from peer: Endpoint, at local: Endpoint) -> Engine.PeerVerdict? {
        guard let relay = relays.open.values.first(where: { $0.leg.local == local }) else { return nil }
        return engine.peerData(
            from: peer,
            allocation: relay.request.allocation,
            run: &run,
            now: moment.monotonicNanoseconds
        )
    }

    /// Lets time pass, and the timers with it.
    func advance(seconds: UInt64 = 0, nanoseconds: UInt64 = 0) {
        let end = moment.monotonicNanoseconds + seconds * 1_000_000_000 + nanoseconds
        let wall = moment.wallSeconds
        let start = moment.monotonicNanoseconds
        while let timer = relays.takeTimer(by: end) {
            moment.monotonicNanoseconds = max(moment.monotonicNanoseconds, timer.second * 1_000_000_000)
            moment.wallSeconds = wall + (moment.monotonicNanoseconds - start) / 1_000_000_000
            relays.nowNanoseconds = moment.monotonicNanoseconds
            engine.expire(allocation: timer.allocation, at: moment)
        }
        moment.monotonicNanoseconds = end
        moment.wallSeconds = wall + (end - start) / 1_000_000_000
        relays.nowNanoseconds = end
    }

    /// Lets time pass as a worker under a crowd of timers does: those that come are let through `batch` at a time, and
    /// `between` runs after each batch.
    func advance(seconds: UInt64, batch: Int, _ between: (Lab) -> Void) {
        moment.monotonicNanoseconds += seconds * 1_000_000_000
        moment.wallSeconds += seconds
        relays.nowNanoseconds = moment.monotonicNanoseconds
        var due = relays.takeTimers(bySecond: moment.monotonicNanoseconds / 1_000_000_000)[...]
        while !due.isEmpty {
            for allocation in due.prefix(batch) { engine.expire(allocation: allocation, at: moment) }
            due = due.dropFirst(batch)
            between(self)
        }
    }

    // `#expect` takes no calls on a value that cannot be copied, so the engine is asked through the lab.
    func allocation(of tuple: FiveTuple) -> UInt32 { engine.allocation(of: tuple) }

    func peerError(_ report: PeerErrorReport, of tuple: FiveTuple, into bytes: inout [UInt8]) -> Int? {
        bytes.withUnsafeMutableBytes {
            engine.peerError(report, allocation: engine.allocation(of: tuple), at: moment, into: $0)
        }
    }

    func receive(_ message: MoveMessage) -> MoveOutcome { engine.receive(message, at: moment) }

    func isArriving(_ tuple: FiveTuple) -> Bool { engine.isArriving(tuple) }

    /// Clients that have moved here and whose allocations have not yet.
    var arrivals: Int { engine.arrivalCount }

    func revoke(_ name: String) { engine.revoke(user: name, at: moment) }

    func disconnect(_ tuple: FiveTuple) { engine.disconnect(tuple, at: moment) }

    func isCurrent(_ request: RelayRequest) -> Bool {
        engine.isCurrent(request.allocation, generation: request.generation)
    }

    func dropped(_ reason: DropReason) -> UInt64 { engine.counters[reason] }

    var authenticationFailures: UInt64 { engine.counters.authenticationFailures }

    func takeLoad() -> EngineLoad { engine.takeLoad() }

    func learn(_ name: String, _ record: UserRecord) { engine.learn(.name(name), record) }

    var cachedUsers: Int { engine.cachedUserCount }

    func takeUsage() -> [UserUsage] {
        engine.reportUsage()
        return shared.usage.take()
    }

    func change(_ terms: UserTerms) { engine.change(terms, at: moment) }

    /// Replaces the configuration by the one the lab began with, changed.
    func reconfigure(_ change: (inout Configuration) -> Void) {
        var configuration = initialConfiguration
        change(&configuration)
        engine.reconfigure(configuration, at: moment)
    }

    /// Sets the wall clock, and nothing else.
    func setWallClock(_ seconds: UInt64) { moment.wallSeconds = seconds }

    private func record(for query: CredentialQuery) -> UserRecord? {
        switch query {
        case .name(let name): records.values.first { Array($0.name.utf8) == Array(name.utf8) }
        case .userhash(let hash):
            records.values.first { Digest.sha256(Array("\($0.name):\(Self.realm)".utf8)) == hash }
        }
    }

    private func outcome(_ verdict: Verdict, _ bytes: [UInt8]) -> Outcome {
        switch verdict {
        case .reply(let length):
            // An answer that is no STUN message would be a defect of its own; tests then miss their reply.
            return Answer(Array(reply.prefix(length))).map(Outcome.reply) ?? .handled
        case .replyElsewhere(let length, let origin, let destination):
            return Answer(Array(reply.prefix(length)))
                .map { Outcome.replyElsewhere($0, from: origin, to: destination) } ?? .handled
        case .forward(let forward):
            return .forward(forward, payload: Array(bytes[forward.offset..<(forward.offset + forward.length)]))
        case .bind(let binding): return .bind(binding)
        case .needsOwner(let request, let worker): return .needsOwner(request, worker: worker)
        case .handled, .needsCredentials, .arriving: return .handled
        case .drop(let reason): return .drop(reason)
        }
    }
}

extension Lab.Outcome {
    var answer: Answer? { if case .reply(let answer) = self { answer } else { nil } }
    var drop: DropReason? { if case .drop(let reason) = self { reason } else { nil } }
    var forward: Forward? { if case .forward(let forward, _) = self { forward } else { nil } }
    var payload: [UInt8]? { if case .forward(_, let payload) = self { payload } else { nil } }
    var diverted: (answer: Answer, origin: Endpoint, destination: Endpoint)? {
        if case .replyElsewhere(let answer, let origin, let destination) = self {
            (answer, origin, destination)
        } else {
            nil
        }
    }
    var isSilence: Bool { answer == nil && forward == nil && diverted == nil }
}

extension Engine.PeerVerdict {
    var channel: UInt16? { if case .channel(let number) = self { number } else { nil } }
    var peer: Endpoint? { if case .indication(let peer) = self { peer } else { nil } }
    var drop: DropReason? { if case .drop(let reason) = self { reason } else { nil } }
}
