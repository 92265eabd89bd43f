import TurnpikeClient

/// Allocates on one TURN server by one transport, and gives the allocation back.
final class RelayProbe {
    let server: RelayServer
    private(set) var isOver = false
    private let url: String
    private let network: any ClientNetwork
    private let changed: () -> Void
    private var link: RelayLink?
    private var deadline: (any Alarm)?
    private var relayed: [Endpoint]?
    private var address: Endpoint?
    private var failure: RelayFailure?

    /// - Parameters:
    ///   - url: as it was configured, for the report.
    ///   - changed: called when something has been found out.
    init(
        _ url: String,
        _ server: RelayServer,
        on network: any ClientNetwork,
        contexts: SecureContexts,
        _ changed: @escaping () -> Void
    ) {
        (self.url, self.server, self.network, self.changed) = (url, server, network, changed)
        link = RelayLink(server, network: network, contexts: contexts) { [weak self] event in self?.take(event) }
        deadline = network.alarm { [weak self] in
            self?.stop()
            changed()
        }
    }

    func start(patienceNanoseconds: UInt64) {
        deadline?.set(at: network.nowNanoseconds + patienceNanoseconds)
        link?.start()
    }

    /// Nothing at all was heard of the server. A name that is being looked up is part of that.
    var isSilent: Bool { !isOver && link?.hasShownLife != true }

    /// What has not come by now does not come.
    func stop() {
        guard !isOver else { return }
        isOver = true
        deadline?.set(at: nil)
        link?.close()
    }

    /// Where the server has said something, whatever it was.
    var answeringServer: Endpoint? {
        if let address { return address }
        if case .turn(let failure)? = failure?.cause, failure.isAnswer { return failure.server }
        return nil
    }

    /// - Parameter nowSeconds: since 1970.
    func result(nowSeconds: Int64) -> NetworkReport.Relay {
        let time = link?.roundTripNanoseconds
        let outcome: NetworkReport.Relay.Outcome
        if let relayed {
            outcome = .works(roundTripNanoseconds: time, relayed: relayed)
        } else if let failure {
            let problem = Problem(failure, nowSeconds: nowSeconds)
            outcome = answeringServer == nil ? .failed(problem) : .reached(roundTripNanoseconds: time, problem)
        } else {
            outcome = .failed(
                Problem(.silent, "it has not answered in time", mend: Problem.silenceMend(server.transport))
            )
        }
        return NetworkReport.Relay(url: url, transport: server.transport, address: answeringServer, outcome: outcome)
    }

    private func take(_ event: RelayEvent) {
        switch event {
        case .allocated(let allocation):
            (relayed, address) = (allocation.relayed, link?.serverEndpoint)
            // One more exchange, for an allocation is made in the rush of the beginning: whatever the server answers,
            // the time is a round trip. It says about our own address, which bothers nobody.
            if link?.permit(allocation.mapped.address) == true { stop() }
        case .permitted, .refused: stop()
        case .ended(let failure):
            if relayed == nil { self.failure = failure }
            stop()
        case .received, .peerError, .renewed, .silent, .renewalRefused: return
        }
        changed()
    }
}

extension TURNFailure {
    /// The server has said it, and not its silence.
    fileprivate var isAnswer: Bool {
        switch reason {
        case .serverSilent, .connectionLost, .desynchronised, .allocationExpired, .tooManyRequests, .longCredential:
            false
        default: true
        }
    }
}
