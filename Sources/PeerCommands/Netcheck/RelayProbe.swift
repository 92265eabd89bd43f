import TurnpikeClient

/// Allocates on one TURN server by one transport, and gives the allocation back.
final class RelayProbe {
    let transport: TURNConfiguration.Transport
    private(set) var address: Endpoint?
    private(set) var isOver = false
    private let server: Configuration.TURNServer
    private let surroundings: TURNConnection.Surroundings
    private let changed: () -> Void
    private var connection: TURNConnection?
    private var deadline: (any Alarm)?
    private var relayed: [Endpoint]?
    private var problem: Problem?

    /// - Parameter changed: called when something has been found out.
    init(
        _ server: Configuration.TURNServer,
        _ transport: TURNConfiguration.Transport,
        in surroundings: TURNConnection.Surroundings,
        _ changed: @escaping () -> Void
    ) {
        (self.server, self.transport, self.surroundings, self.changed) = (server, transport, surroundings, changed)
    }

    /// - Parameters:
    ///   - endpoint: nil where the name has no address.
    ///   - host: what the certificate is to be made out to.
    func start(_ endpoint: Endpoint?, _ host: String, patienceNanoseconds: UInt64) {
        guard let endpoint else {
            return fail(Problem(.nameUnknown, "the name \(host.escapedForTerminal) has no address"))
        }
        address = endpoint
        var configuration = TURNConfiguration(
            server: endpoint,
            transport: transport,
            credential: TURNCredential(username: server.username, password: server.password)
        )
        configuration.families = .both
        let connection = TURNConnection(configuration, serverName: host, in: surroundings) { [weak self] event in
            self?.take(event)
        }
        self.connection = connection
        deadline = surroundings.network.alarm { [weak self] in
            self?.stop()
            self?.changed()
        }
        // Before all is over, so that the allocation of a slow server is given back.
        deadline?.set(at: surroundings.network.nowNanoseconds + patienceNanoseconds / 10 * 9)
        connection.start()
    }

    func fail(_ problem: Problem) {
        guard !isOver else { return }
        self.problem = problem
        over()
    }

    /// What has not come by now does not come.
    func stop() {
        guard !isOver else { return }
        if relayed == nil, problem == nil {
            let words = address == nil ? "its name was not resolved in time" : "it has not answered in time"
            problem = Problem(.silent, words, mend: Problem.silenceMend(transport))
        }
        connection?.close()
        over()
    }

    /// The server has said something, whatever it was.
    var hasAnswered: Bool { connection?.hasAnswered == true }

    var result: NetworkReport.Relay {
        let time = connection?.roundTripNanoseconds
        let outcome: NetworkReport.Relay.Outcome
        if let relayed {
            outcome = .works(roundTripNanoseconds: time, relayed: relayed)
        } else {
            let problem = problem ?? Problem(.silent, "it was not asked")
            outcome = hasAnswered ? .reached(roundTripNanoseconds: time, problem) : .failed(problem)
        }
        return NetworkReport.Relay(url: server.url, transport: transport, address: address, outcome: outcome)
    }

    private func take(_ event: TURNConnection.Event) {
        switch event {
        case .allocated(let allocation):
            relayed = allocation.relayed
            connection?.close()
        case .ended(let problem):
            if relayed == nil, self.problem == nil {
                self.problem = problem ?? Problem(.silent, "the connection was closed")
            }
            over()
        case .bound, .refused, .received: break
        }
        changed()
    }

    private func over() {
        isOver = true
        deadline?.set(at: nil)
    }
}
