import TurnpikeClient

/// One connection of a load: its allocation, and the channel to its partner's.
final class LoadConnection {
    enum State: Int, Comparable {
        case new, connecting, allocated, ready, ended

        static func < (one: State, other: State) -> Bool { one.rawValue < other.rawValue }
    }

    let number: Int
    private(set) var state = State.new
    /// From the start to the allocation.
    private(set) var allocationNanoseconds: UInt64?
    private(set) var problem: Problem?
    /// What came from the partner.
    var receive: ((UnsafeRawBufferPointer) -> Void)?

    private let network: any ClientNetwork
    private var connection: TURNConnection?
    private var startedAt: UInt64 = 0
    private var partner: Endpoint?
    private var isClosing = false

    /// - Parameter configuration: of the TURN client.
    init(
        _ number: Int,
        _ configuration: TURNConfiguration,
        serverName: String,
        in surroundings: TURNConnection.Surroundings
    ) {
        (self.number, network) = (number, surroundings.network)
        connection = TURNConnection(configuration, serverName: serverName, in: surroundings) { [weak self] event in
            self?.take(event)
        }
    }

    func start(now: UInt64) {
        (state, startedAt) = (.connecting, now)
        connection?.start()
    }

    /// Binds a channel to the other connection's relayed address. Each does so, as an allocation lets in only whom it
    /// knows.
    func pair(with other: LoadConnection) {
        guard state == .allocated, let peer = other.connection?.allocation?.relayed.first else { return }
        (state, partner) = (.connecting, peer)
        connection?.bindChannel(to: peer)
    }

    /// Whether a stream takes another packet; a queue of seconds would only be late.
    var hasRoom: Bool { state == .ready && (connection?.queuedBytes ?? 0) < Self.queueBytes }

    func send(_ bytes: UnsafeRawBufferPointer) {
        guard let partner else { return }
        connection?.send(bytes, to: partner)
    }

    func close() {
        guard state != .new, state != .ended else { return }
        isClosing = true
        connection?.close()
    }

    private func take(_ event: TURNConnection.Event) {
        switch event {
        case .allocated:
            allocationNanoseconds = network.nowNanoseconds &- startedAt
            state = .allocated
        case .bound: if state == .connecting { state = .ready }
        case .refused(let failure):
            problem = Problem(
                .forbidden,
                "the server does not relay to its own relayed addresses: \(failure.description.escapedForTerminal)",
                mend: "allow them for the test: relay.allow_peers of turnpike, allowed-peer-ip of coturn"
            )
            close()
        case .received(let bytes, let peer): if peer == partner { receive?(bytes) }
        case .ended(let problem):
            state = .ended
            if !isClosing, let problem { self.problem = problem }
        }
    }

    /// A tenth of a second at 20 Mbit/s.
    private static let queueBytes = 262_144
}
