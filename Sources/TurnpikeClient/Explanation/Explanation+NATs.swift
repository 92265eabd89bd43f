/// What two NATs do to each other, in words.
extension Explanation {
    static func betweenNATs(_ situation: Situation) -> Explanation {
        let (here, there) = (situation.local, situation.remote)
        if here.type == .unknown || there.type == .unknown { return unknown(situation) }
        if isHard(here, there) { return unpredictable(situation) }
        let pair = both(situation)
        guard situation.isSettled else {
            return Explanation(
                cause: .underWay,
                reason: "\(pair). A direct path is to be expected, and is being tried.",
                advice: ""
            )
        }
        let direction =
            situation.isHeard
            ? "what the peer sends arrives here and what you send does not arrive there"
            : "nothing of what was tried came through"
        let place = situation.isHeard ? "the peer's machine and router" : "both machines and routers"
        return Explanation(
            cause: .firewall,
            reason: "\(pair). That allows a direct path, yet \(direction): a firewall drops it.",
            advice: "Let UDP out, and answers in, by the firewalls of \(place)." + layersAdvice(here, there)
        )
    }

    /// What is to be expected of a peer, before anything was tried. `isDirect` says whether the path will be.
    package static func forecast(_ here: NetworkFacts, _ there: NetworkFacts) -> Explanation {
        let situation = Situation(local: here, remote: there)
        if let blocked = blocked(situation) { return blocked }
        if here.type == .unknown || there.type == .unknown { return unknown(situation) }
        if isHard(here, there) { return unpredictable(situation) }
        let isReached = [here, there].contains { $0.type == .open && !$0.isFirewalled }
        return Explanation(
            cause: isReached ? .reachable : .punched,
            reason: "\(both(situation)): a direct path is to be expected.",
            advice: ""
        )
    }

    /// What somebody behind this NAT can do for more direct paths; empty where nothing is to be done.
    package static func help(for facts: NetworkFacts) -> String {
        let layers = layersAdvice(facts, NetworkFacts()).drop { $0 == " " }
        guard facts.type == .symmetric else { return String(layers) }
        let router =
            facts.layers == .carrier
            ? "" : "Set the router to \"full cone\" or \"endpoint-independent\", or ask it for UPnP or PCP; "
        let family = facts.hasIPv6 ? "IPv6, which you have, is free of it" : "IPv6 is free of it"
        return (router + family).prefix(1).uppercased() + (router + family).dropFirst() + "."
            + (layers.isEmpty ? "" : " \(layers)")
    }

    /// Both ends in a sentence without its full stop; empty where neither is known.
    static func both(_ situation: Situation) -> String {
        let (here, there) = (situation.local, situation.remote)
        guard let mine = clause(here, .mine) else { return clause(there, .theirs) ?? "" }
        let known = [clause(here, .each), clause(there, .each)]
        if let same = known[0], same == known[1] { return same }
        return clause(there, .theirsToo).map { "\(mine); \($0)" } ?? mine
    }

    /// Neither lets the other in by what can be known beforehand.
    static func isHard(_ one: NetworkFacts, _ other: NetworkFacts) -> Bool {
        switch (one.filteringType, other.filteringType) {
        case (.symmetric, .symmetric), (.symmetric, .portRestricted), (.portRestricted, .symmetric): true
        default: false
        }
    }

    /// Whose NAT, address, router or network a clause is about.
    private enum Owner {
        case mine, theirs
        /// Behind a clause about the other's.
        case theirsToo
        /// Both, if the same holds for either.
        case each

        var nat: String {
            switch self {
            case .mine: "Your NAT"
            case .theirs: "The peer's NAT"
            case .theirsToo: "theirs"
            case .each: "Each NAT"
            }
        }

        /// Before a noun.
        var whose: String {
            switch self {
            case .mine: "Your"
            case .theirs: "The peer's"
            case .theirsToo: "the peer's"
            case .each: "Each side's"
            }
        }
    }

    /// What a side does, as a clause; nil where it is not known.
    private static func clause(_ facts: NetworkFacts, _ owner: Owner) -> String? {
        let (nat, whose) = (owner.nat, owner.whose)
        return switch facts.type {
        case .open where facts.isFirewalled:
            "\(whose) address is public, behind a firewall that lets in only who was sent to, port by port"
        case .open where facts.isSeenFromInsideOnly: "\(whose) address is in the same private network as the server"
        case .open: "\(whose) address is public and open to all"
        case .fullCone where facts.isMapped: "\(whose) router has opened a port that everybody may send to"
        case .fullCone: "\(nat) lets anybody in by an open port"
        case .restricted: "\(nat) lets in the hosts it has sent to"
        case .portRestricted: "\(nat) lets in only who it has sent to, port by port"
        case .symmetric: "\(nat) gives each destination another port\(ports(facts.ports))"
        case .blocked: "\(whose) network lets no UDP through"
        case .unknown: nil
        }
    }

    private static func ports(_ ports: NetworkFacts.Ports?) -> String {
        switch ports {
        case .random: ", at random"
        case .sequential: ", one after the other"
        case .chunked: ", out of a block"
        case .preserving: ", the socket's own where that is free"
        case nil: ""
        }
    }

    private static func unpredictable(_ situation: Situation) -> Explanation {
        let (here, there) = (situation.local, situation.remote)
        let symmetric = [here, there].filter { $0.type == .symmetric }
        let conclusion: String
        if let guess = PortGuess(here, there) {
            conclusion = "a direct UDP path takes \(guess.expectation)"
        } else if symmetric.count == 2 {
            conclusion = "no direct UDP path, for neither side can tell where to send to"
        } else {
            conclusion = "no direct UDP path without guessing"
        }
        return Explanation(
            cause: .unpredictablePorts,
            reason: "\(both(situation)): \(conclusion).",
            advice: helpForSymmetric(here, there)
        )
    }

    /// What to ask for where a NAT's ports cannot be known.
    static func helpForSymmetric(_ here: NetworkFacts, _ there: NetworkFacts) -> String {
        var advice: [String] = []
        let routers = routersThatCanMap(here, there)
        let ipv6 =
            here.hasIPv6 && !there.hasIPv6
            ? "IPv6 at the peer's end" : there.hasIPv6 && !here.hasIPv6 ? "IPv6 at your end" : "IPv6"
        if let routers {
            advice.append("Ask for UPnP or PCP on \(routers), or \(ipv6).")
        } else {
            advice.append("Ask for \(ipv6).")
        }
        return advice.joined() + layersAdvice(here, there)
    }

    /// Nil where no router is anybody's own.
    private static func routersThatCanMap(_ here: NetworkFacts, _ there: NetworkFacts) -> String? {
        switch (here.layers == .carrier, there.layers == .carrier) {
        case (false, false): "either router"
        case (false, true): "your router"
        case (true, false): "the peer's router"
        case (true, true): nil
        }
    }

    static func layersAdvice(_ here: NetworkFacts, _ there: NetworkFacts) -> String {
        [(here, "Your", "you"), (there, "The peer's", "the peer")].compactMap { facts, whose, whom in
            switch facts.layers {
            case .carrier:
                " \(whose) provider has a NAT of its own (CGNAT) that nobody here can change: a public address from it "
                    + "would help."
            case .double:
                " There are two routers before \(whom), one behind the other: put the nearer one into bridge mode."
            case nil: nil
            }
        }
        .joined()
    }

    private static func unknown(_ situation: Situation) -> Explanation {
        let (here, there) = (situation.local, situation.remote)
        let missing: String =
            switch (here.type == .unknown, there.type == .unknown) {
            case (true, true): "What the NATs on the way do is not known."
            case (true, false): "What your NAT does is not known."
            default: "The peer does not tell what its NAT does."
            }
        let known = both(situation)
        let state =
            situation.isSettled
            ? "No address of either side was reached from the other." : "A direct path is being tried."
        let help =
            here.type == .symmetric || there.type == .symmetric
            ? helpForSymmetric(here, there)
            : situation.isSettled ? "Run turnpike-peer netcheck at both ends." : ""
        return Explanation(
            cause: .unknown,
            reason: [known.isEmpty ? "" : "\(known).", missing, state].filter { !$0.isEmpty }.joined(separator: " "),
            advice: help
        )
    }
}
