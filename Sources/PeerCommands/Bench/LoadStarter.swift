import TurnpikeClient

/// Finds the server's address, and begins the load.
final class LoadStarter {
    private let plan: BenchPlan
    private let credential: TURNCredential
    private let surroundings: TURNConnection.Surroundings
    private let progress: ProgressLine?
    private let finish: (Result<BenchReport, Problem>) -> Void
    private var run: LoadRun?

    init(
        _ plan: BenchPlan,
        _ credential: TURNCredential,
        _ trust: ServerTrust,
        _ network: any ClientNetwork,
        _ progress: ProgressLine?,
        _ finish: @escaping (Result<BenchReport, Problem>) -> Void
    ) {
        (self.plan, self.credential, self.progress, self.finish) = (plan, credential, progress, finish)
        surroundings = TURNConnection.Surroundings(network: network, contexts: SecureContexts(), trust: trust)
        network.resolve(plan.host) { [weak self] result in self?.resolved(result) }
    }

    private func resolved(_ result: Result<[IPAddress], NetworkFailure>) {
        switch result {
        case .failure(let failure): finish(.failure(Problem(failure)))
        case .success(let addresses):
            let own = Set(surroundings.network.localAddresses().map(\.address.family))
            guard let address = addresses.first(where: { own.contains($0.family) }) ?? addresses.first else {
                let words = "the name \(plan.host.escapedForTerminal) has no address"
                return finish(.failure(Problem(.nameUnknown, words, mend: "check its spelling")))
            }
            begin(Endpoint(address: address, port: plan.port))
        }
    }

    private func begin(_ server: Endpoint) {
        let configuration = TURNConfiguration(server: server, transport: plan.transport, credential: credential)
        let connections = (0..<plan.connections).map { number in
            LoadConnection(number, configuration, serverName: plan.host, in: surroundings)
        }
        let run = LoadRun(plan, connections: connections, on: surroundings.network, progress: progress, finish)
        self.run = run
        run.start()
    }
}
