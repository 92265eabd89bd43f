/// How a connection is made.
public enum ConnectionMethod: String, Sendable, Hashable, Codable, CaseIterable {
    /// One side can be reached as it is.
    case direct
    /// Both sides send until their NATs let the other in.
    case udpHolePunch = "udp-hole-punch"
    /// As by UDP, by connecting from both sides at the same time.
    case tcpHolePunch = "tcp-hole-punch"
    /// Over a TURN server.
    case turnRelay = "turn-relay"
}

/// What is to be expected of a connection, from the NATs on the way. It is a forecast: every way is tried at once, and
/// `Connection.method` says which one it was.
public struct Strategy: Sendable, Hashable, Codable {
    /// The best way that is likely to work.
    public var method: ConnectionMethod
    /// Why, and what helps.
    public var description: String
    /// Whether there may be no connection without a TURN server.
    public var requiresTurn: Bool
}

extension Strategy {
    /// Where nothing is known of how the NAT gives out ports.
    init(for local: NATType) { self.init(for: NetworkFacts(type: local)) }

    /// The same between two.
    init(for local: NATType, and remote: NATType) {
        self.init(for: NetworkFacts(type: local), and: NetworkFacts(type: remote))
    }

    /// Against an unknown peer: one behind the usual home router, which is `Port-Restricted`.
    /// - Parameter guesses: whether ports are guessed at all.
    init(for local: NetworkFacts, guesses: Bool = true) {
        switch local.type {
        case .open:
            self.init(
                method: .direct,
                description: "This host can be reached directly by every peer that sends UDP.",
                requiresTurn: false
            )
        case .fullCone, .restricted, .portRestricted:
            self.init(
                method: .udpHolePunch,
                description: "UDP hole punching reaches every peer but those behind a Symmetric NAT"
                    + (local.type != .portRestricted
                        ? ", and most of those."
                        : guesses
                            ? ": their ports are guessed, while a TURN server carries the data."
                            : ", for which a TURN server is needed."),
                requiresTurn: false
            )
        case .symmetric:
            let reachable = "Peers that are Open, Full Cone or Restricted are reached by UDP hole punching; "
            let guess = guesses ? PortGuess(local, NetworkFacts(type: .portRestricted)) : nil
            // As the original has it, where the direct path takes as long as a person waits.
            self.init(
                method: guess == nil || guess == .anywhere ? .turnRelay : .udpHolePunch,
                description: reachable
                    + (guess.map {
                        "Port-Restricted ones take \($0.expectation); until then, and for others, a TURN server helps."
                    } ?? "others need a TURN server."),
                requiresTurn: true
            )
        case .blocked:
            self.init(
                method: .turnRelay,
                description: "No UDP gets through: a TURN server by TCP or TLS is the way to every peer.",
                requiresTurn: true
            )
        case .unknown:
            self.init(
                method: .udpHolePunch,
                description: "The NAT is not known: UDP hole punching is tried, and a TURN server helps if it fails.",
                requiresTurn: true
            )
        }
    }

    /// Between two NATs; the table is the same in both directions.
    /// - Parameter guesses: whether both sides guess ports.
    init(for local: NetworkFacts, and remote: NetworkFacts, guesses: Bool = true) {
        let pair = "\(local.type.rawValue) and \(remote.type.rawValue)"
        if guesses, let guess = PortGuess(local, remote) {
            self.init(
                method: .udpHolePunch,
                description: "\(pair): it takes \(guess.expectation); until then data goes over a TURN server.",
                requiresTurn: true
            )
            return
        }
        switch (local.type, remote.type) {
        case (.blocked, _), (_, .blocked):
            self.init(
                method: .turnRelay,
                description: "\(pair): one side has no UDP, so data goes over a TURN server.",
                requiresTurn: true
            )
        case (.unknown, _), (_, .unknown):
            self.init(
                method: .udpHolePunch,
                description: "\(pair): what is not known is tried; a TURN server helps if it fails.",
                requiresTurn: true
            )
        case (.open, .open):
            self.init(
                method: .direct,
                description: "\(pair): each side is reached as it is.",
                requiresTurn: false
            )
        case (.open, _), (_, .open):
            self.init(
                method: .direct,
                description: "\(pair): the open side is reached directly.",
                requiresTurn: false
            )
        case (.symmetric, .symmetric), (.symmetric, .portRestricted), (.portRestricted, .symmetric):
            self.init(
                method: .turnRelay,
                description: "\(pair): neither side can know the port that the other will send from, so data goes "
                    + "over a TURN server.",
                requiresTurn: true
            )
        default:
            self.init(
                method: .udpHolePunch,
                description: "\(pair): both sides send by UDP until their NATs let the other in.",
                requiresTurn: false
            )
        }
    }
}
