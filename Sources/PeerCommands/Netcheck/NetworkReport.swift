import TurnpikeClient

/// What `netcheck` has found out.
package struct NetworkReport: Equatable, Sendable {
    /// One address family.
    package struct Family: Equatable, Sendable {
        package var nat: NATReport?
        /// Why nothing was asked, where it was not.
        package var absence: String?

        package init(nat: NATReport? = nil, absence: String? = nil) {
            (self.nat, self.absence) = (nat, absence)
        }
    }

    /// A TURN server by one transport.
    package struct Relay: Equatable, Sendable {
        package enum Outcome: Equatable, Sendable {
            /// It has allocated.
            case works(roundTripNanoseconds: UInt64?, relayed: [Endpoint])
            /// It was reached, and there is nothing to allocate with.
            case reached(roundTripNanoseconds: UInt64?, Problem)
            case failed(Problem)
        }

        /// As it was configured.
        package var url: String
        package var transport: TURNConfiguration.Transport
        /// Nil where the name has none.
        package var address: Endpoint?
        package var outcome: Outcome

        package init(
            url: String,
            transport: TURNConfiguration.Transport,
            address: Endpoint?,
            outcome: Outcome
        ) {
            (self.url, self.transport, self.address, self.outcome) = (url, transport, address, outcome)
        }

        var works: Bool { if case .works = outcome { true } else { false } }

        var problem: Problem? {
            switch outcome {
            case .works: nil
            case .reached(_, let problem), .failed(let problem): problem
            }
        }

        var roundTripNanoseconds: UInt64? {
            switch outcome {
            case .works(let time, _), .reached(let time, _): time
            case .failed: nil
            }
        }
    }

    /// The signaling server.
    package struct Signaling: Equatable, Sendable {
        package var url: ServerURL
        /// Nil where nothing of it was heard.
        package var way: WebSocketWay?
        package var trust: ServerTrust
        /// Nil where it has let this user in.
        package var problem: Problem?

        package init(url: ServerURL, way: WebSocketWay?, trust: ServerTrust, problem: Problem?) {
            (self.url, self.way, self.trust, self.problem) = (url, way, trust, problem)
        }
    }

    /// A STUN server whose name could not be resolved, or that could not be asked.
    package struct Unasked: Equatable, Sendable {
        package var url: String
        package var problem: Problem

        package init(url: String, problem: Problem) {
            (self.url, self.problem) = (url, problem)
        }
    }

    package var ipv4: Family
    package var ipv6: Family
    /// In the order of the configuration.
    package var relays: [Relay]
    /// What the NAT does with TCP, by IPv4; nil where that took too long.
    package var tcp: StreamNATReport?
    /// Nil where none is named.
    package var signaling: Signaling?
    package var unasked: [Unasked]
    /// What of the environment could not be used, with the mend; a line each.
    package var issues: [String]
    /// What the gateway maps; nil where there is none to ask, or it was not wanted.
    package var portMapping: PortMappingInfo?
    package var tookNanoseconds: UInt64

    package init(
        ipv4: Family,
        ipv6: Family,
        relays: [Relay],
        tcp: StreamNATReport? = nil,
        signaling: Signaling? = nil,
        unasked: [Unasked] = [],
        issues: [String] = [],
        portMapping: PortMappingInfo? = nil,
        tookNanoseconds: UInt64
    ) {
        (self.ipv4, self.ipv6, self.relays, self.tcp, self.unasked) = (ipv4, ipv6, relays, tcp, unasked)
        (self.issues, self.portMapping, self.tookNanoseconds) = (issues, portMapping, tookNanoseconds)
        self.signaling = signaling
    }

    /// The family whose NAT stands for the whole: peers meet by IPv4 where they can, as more of them have it.
    var leading: Family {
        let order = [ipv4, ipv6]
        return order.first { $0.nat?.answeringServers.isEmpty == false } ?? order.first { $0.nat != nil } ?? ipv4
    }

    /// What connections from here go by.
    var facts: NetworkFacts {
        var facts = leading.nat.map { NetworkFacts($0) } ?? NetworkFacts()
        for nat in [ipv4, ipv6].compactMap(\.nat) {
            if let mapped = nat.mapped { facts.note(outside: mapped.address) }
        }
        let working = relays.filter(\.works)
        facts.hasOnlyPort443 =
            facts.type == .blocked && !working.isEmpty && relays.count > working.count
            && working.allSatisfy { $0.transport.isStream && $0.address?.port == 443 }
        return facts
    }

    /// How a peer is reached.
    enum Way: String, Sendable {
        case direct
        /// Ports are guessed, while the relay carries the data.
        case guessed
        case relay
    }

    /// What is to be expected of peers behind each kind of NAT, in the order of the original's names; none where
    /// nothing is known of this side's.
    var outlook: [(peer: NATName, way: Way, explanation: Explanation)] {
        guard leading.nat?.name.value != nil else { return [] }
        return [NATName.open, .fullCone, .restricted, .portRestricted, .symmetric].map { name in
            let (here, there) = (facts, NetworkFacts(peer: name))
            let explanation = Explanation.forecast(here, there)
            let way: Way = explanation.isDirect ? .direct : PortGuess(here, there) == nil ? .relay : .guessed
            return (name, way, explanation)
        }
    }

    /// Peers whose NAT is `Symmetric` too and counts its ports, as this one does.
    var guessesBothSides: Bool { PortGuess(facts, NetworkFacts(type: .symmetric, ports: .sequential)) == .bothNext }

    /// Whether anything at all has answered as it should.
    package var works: Bool {
        relays.contains(where: \.works) || [ipv4, ipv6].contains { $0.nat?.answeringServers.isEmpty == false }
    }

    /// The relay that answers first; UDP before others, since it has no queues of its own.
    var bestRelay: Relay? {
        let order: [TURNConfiguration.Transport] = [.udp, .dtls, .tcp, .tls]
        return relays.filter(\.works).min { one, other in
            let (first, second) = (order.firstIndex(of: one.transport) ?? 0, order.firstIndex(of: other.transport) ?? 0)
            return first == second
                ? one.roundTripNanoseconds ?? .max < other.roundTripNanoseconds ?? .max : first < second
        }
    }
}
