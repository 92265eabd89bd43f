import TurnpikeClient

/// The names of a check, each looked up once.
final class NameTable {
    private enum Entry {
        case waiting([(Result<[IPAddress], NetworkFailure>) -> Void])
        case known(Result<[IPAddress], NetworkFailure>)
    }

    private let network: any ClientNetwork
    private var entries: [String: Entry] = [:]

    init(_ network: any ClientNetwork) {
        self.network = network
    }

    /// Calls back once, perhaps at once.
    func resolve(_ name: String, _ body: @escaping (Result<[IPAddress], NetworkFailure>) -> Void) {
        switch entries[name] {
        case .known(let result)?: body(result)
        case .waiting(let bodies)?: entries[name] = .waiting(bodies + [body])
        case nil:
            entries[name] = .waiting([body])
            network.resolve(name) { [weak self] result in self?.answered(name, result) }
        }
    }

    private func answered(_ name: String, _ result: Result<[IPAddress], NetworkFailure>) {
        guard case .waiting(let bodies)? = entries[name] else { return }
        entries[name] = .known(result)
        for body in bodies { body(result) }
    }

    var isComplete: Bool {
        entries.values.allSatisfy { entry in if case .known = entry { true } else { false } }
    }

    func addresses(_ name: String) -> [IPAddress] {
        guard case .known(.success(let addresses))? = entries[name] else { return [] }
        return addresses
    }

    /// Nil where the name has addresses.
    func problem(_ name: String) -> Problem? {
        switch entries[name] {
        case .known(.success)?, nil: nil
        case .known(.failure(let failure))?: Problem(failure)
        case .waiting?:
            Problem(.nameUnknown, "the name was not resolved in time", mend: "check this machine's DNS")
        }
    }
}
