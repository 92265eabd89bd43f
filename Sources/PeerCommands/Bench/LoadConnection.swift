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
    private var link: RelayLink?
    private var relayed: Endpoint?
    private var startedAt: UInt64 = 0
    private var partner: Endpoint?

    init(_ number: Int, _ server: RelayServer, on network: any ClientNetwork, contexts: SecureContexts) {
        (self.number, self.network) = (number, network)
        // A second relayed address would take another port of the server's, and carry nothing.
        link = RelayLink(server, families: .ipv4, network: network, contexts: contexts) { [weak self] event in
            self?.take(event)
        }
    }

    func start(now: UInt64) {
        (state, startedAt) = (.connecting, now)
        link?.start()
    }

    /// Binds a channel to the other connection's relayed address. Each does so, as an allocation lets in only whom it
    /// knows.
    func pair(with other: LoadConnection) {
        guard state == .allocated, let peer = other.relayed else { return }
        (state, partner) = (.connecting, peer)
        link?.bindChannel(to: peer)
    }

    /// Whether a stream takes another packet; a queue of seconds would only be late.
    var hasRoom: Bool { state == .ready && (link?.queuedBytes ?? 0) < Self.queueBytes }

    func send(_ bytes: UnsafeRawBufferPointer) {
        guard let partner else { return }
        link?.send(bytes, to: partner)
    }

    /// Gives the allocation back.
    func close() {
        state = .ended
        link?.close()
    }

    private func take(_ event: RelayEvent) {
        switch event {
        case .allocated(let allocation):
            allocationNanoseconds = network.nowNanoseconds &- startedAt
            (state, relayed) = (.allocated, allocation.relayed.first)
        // A channel permits its peer, and nothing else was asked for.
        case .permitted: if state == .connecting { state = .ready }
        case .refused(_, let failure):
            problem = Problem(
                .forbidden,
                "the server does not relay to its own relayed addresses: \(failure.description.escapedForTerminal)",
                mend: "allow them for the test: relay.allow_peers of turnpike, allowed-peer-ip of coturn"
            )
            close()
        case .received(let bytes, let peer): if peer == partner { receive?(bytes) }
        case .ended(let failure):
            state = .ended
            problem = failure.map { Problem($0, nowSeconds: network.wallMilliseconds / 1_000) }
        case .peerError, .renewed, .silent, .renewalRefused: break
        }
    }

    /// Half of what the library lets wait before it drops.
    private static let queueBytes = 131_072
}
