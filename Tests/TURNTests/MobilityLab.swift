import STUN
import TURN

/// Several engines side by side, as workers are, and the messages between them, which a test delivers by hand.
final class MobilityLab {
    let labs: [Lab]
    let relays: [FakeRelays]
    /// In the order they were sent.
    private(set) var messages: [(message: MoveMessage, to: Int)] = []
    /// Requests that wait for an owner, by worker and number.
    private var parked: [Int: [UInt64: (bytes: [UInt8], tuple: FiveTuple)]] = [:]
    private(set) var answers: [Answer] = []

    init(workers: Int, _ configure: @escaping (inout Configuration) -> Void = { _ in }) throws {
        let shared = Engine.Shared(seed: 7)
        let pool = FakeRelays.Handover()
        let relays = (0..<workers).map { _ in FakeRelays(pool) }
        let six = IPAddress("2a00:1::5")
        for host in relays { host.addresses[.ipv6] = FakeRelays.Address(inside: six, advertised: six) }
        self.relays = relays
        labs = try (0..<workers).map { number in
            try Lab(relays: relays[number], shared: shared, worker: number) { configuration in
                configuration.allowsMobility = true
                configuration.nonceLifetimeSeconds = 86_400
                configure(&configuration)
            }
        }
        for host in relays { host.onMessage = { [unowned self] in messages.append(($0, $1)) } }
    }

    /// A client of a worker, on a port of its own.
    func client(_ username: String = "alice", on worker: Int, port: UInt16) -> Client {
        labs[worker].client(username, at: Endpoint("198.51.100.7", port))
    }

    /// Sends a request that an owner may have to be asked about, and delivers what that takes.
    func perform(
        _ client: Client,
        _ method: STUN.Method = .refresh,
        transaction: TransactionID? = nil,
        delivering: Bool = true,
        _ attributes: (inout MessageBuilder) -> Void
    ) -> Answer? {
        if client.nonce.isEmpty { client.challenge() }
        let bytes = client.request(method, transaction: transaction, signing: client.signing(), attributes)
        let before = answers.count
        give(bytes, client.tuple, to: worker(of: client))
        if delivering { deliverAll() }
        return answers.count > before ? answers[before] : nil
    }

    func move(
        _ client: Client,
        _ ticket: [UInt8],
        lifetimeSeconds: UInt32? = nil,
        transaction: TransactionID? = nil,
        delivering: Bool = true
    ) -> Answer? {
        perform(client, transaction: transaction, delivering: delivering) { builder in
            if let lifetimeSeconds { builder.append(.lifetime, lifetimeSeconds) }
            builder.append(.mobilityTicket, ticket)
        }
    }

    /// Calls for the allocation of a client, as a worker does for the first datagram by a new 5-tuple.
    func sendData(_ client: Client) {
        labs[worker(of: client)].engine.callAllocation(to: client.tuple)
        deliverAll()
    }

    func deliverAll() {
        while !messages.isEmpty { deliver() }
    }

    /// Delivers the oldest message.
    func deliver() {
        let (message, worker) = messages.removeFirst()
        switch labs[worker].receive(message) {
        case .nothing: break
        case .answer(let number): answer(number, worker)
        case .release(_, let number): if let number { answer(number, worker) }
        }
    }

    private func answer(_ number: UInt64, _ worker: Int) {
        guard let request = parked[worker]?.removeValue(forKey: number) else { return }
        give(request.bytes, request.tuple, to: worker)
        labs[worker].engine.forgetAnswer(at: request.tuple)
    }

    private func give(_ bytes: [UInt8], _ tuple: FiveTuple, to worker: Int) {
        switch labs[worker].receive(bytes, from: tuple) {
        case .reply(let answer): answers.append(answer)
        case .needsOwner(let request, let owner):
            parked[worker, default: [:]][request.number] = (bytes, tuple)
            messages.append((.asked(request), owner))
        default: break
        }
    }

    private func worker(of client: Client) -> Int { labs.firstIndex { $0 === client.lab } ?? 0 }

    /// Relay sockets that are open, over all workers, and where they are.
    var open: [Int] { relays.map(\.open.count) }

    func advance(seconds: UInt64) { for lab in labs { lab.advance(seconds: seconds) } }
}
