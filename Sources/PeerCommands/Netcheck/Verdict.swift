import TurnpikeClient

/// The sentences that a report ends with: what to expect of connections from here, and what to do about it.
package struct Verdict {
    private let report: NetworkReport

    package init(_ report: NetworkReport) {
        self.report = report
    }

    package var text: String {
        guard report.works else { return nothing }
        return [direct, help, relay, others, signaling].filter { !$0.isEmpty }.joined(separator: " ")
    }

    /// Nothing has answered as it should.
    private var nothing: String {
        if let relay = report.relays.first(where: { if case .reached = $0.outcome { true } else { false } }) {
            return "Nothing works yet: the TURN server is reached, but \(Self.mend(relay.problem))."
        }
        let problems = report.relays.compactMap(\.problem) + report.unasked.map(\.problem)
        // What is wrong with the names, the certificate or the credentials is nearer the cause than silence is.
        if let first = problems.first(where: { $0.code != .silent && $0.code != .refused }) {
            return "Nothing works yet: \(Self.mend(first))."
        }
        if !problems.isEmpty, problems.allSatisfy({ $0.code == .refused }) {
            return
                "Nothing works: no server listens where STUN_SERVERS and TURN_SERVERS point. Check the addresses, and "
                + "that the server runs."
        }
        return "Nothing works: no server answers, neither by UDP nor otherwise. Check that this machine is online, and "
            + "the addresses in STUN_SERVERS and TURN_SERVERS."
    }

    /// What to expect without a relay.
    private var direct: String {
        guard let nat = report.leading.nat else {
            return "What this network does to direct connections is not known, for no STUN server could be asked."
        }
        switch nat.name {
        case .undetermined where isMapped, .determined(.portRestricted) where isMapped,
            .determined(.symmetric) where isMapped:
            return "The router maps a port for this machine: nearly every peer will be reached directly."
        case .undetermined(let reason):
            return nat.answeringServers.isEmpty
                ? "Direct connections by UDP are in doubt: \(reason)."
                : "Direct connections by UDP may work; what NAT is on the way is not known, for \(reason)."
        case .determined(.open) where report.facts.isSeenFromInsideOnly:
            return "The server is in the private network that this machine is in: peers there will be reached "
                + "directly. What a NAT does to others is not seen from here; ask a STUN server elsewhere."
        case .determined(.open):
            return nat.isFirewalled.value == true
                ? "Nothing translates addresses here, and a firewall lets in only what was asked for: nearly every "
                    + "peer will be reached directly."
                : "This machine has a public address: every peer that gets UDP through will be reached directly."
        case .determined(.fullCone), .determined(.restricted):
            return "Nearly every peer will be reached directly."
        case .determined(.portRestricted):
            return "Most peers will be reached directly, those behind a Symmetric NAT mostly by guessing its port."
        case .determined(.symmetric):
            return
                "This NAT gives each destination another port, \(Self.ports(nat.allocation.value)), so only peers that "
                + "are Open, Full Cone or Restricted will be reached directly for sure"
                + (report.outlook.contains { $0.way == .guessed }
                    ? ", and Port-Restricted ones mostly, by guessing." : ".")
        case .determined(.blocked):
            return report.facts.hasOnlyPort443
                ? "This network lets nothing through but TCP to port 443, so connections go through the relay."
                : "This network lets no UDP through, so connections go through the relay."
        }
    }

    /// What somebody here can change for more direct paths.
    private var help: String { report.leading.nat == nil ? "" : Explanation.help(for: report.facts) }

    /// What a peer would have to know to send to the right port.
    private static func ports(_ allocation: NATPortAllocation?) -> String {
        switch allocation {
        case .sequential: "counted one after the other"
        case .chunked: "drawn from a block of its own, as carriers' NATs do"
        case .random: "drawn at random"
        case .preserving: "the socket's own where that is free"
        case nil: "in a way that could not be told"
        }
    }

    private var isMapped: Bool { report.portMapping?.isUsable == true }

    private var needsRelay: Bool {
        switch report.leading.nat?.name {
        case _ where isMapped: false
        case .determined(.open), .determined(.fullCone), .determined(.restricted): false
        default: true
        }
    }

    private var relay: String {
        if let best = report.bestRelay {
            let time = best.roundTripNanoseconds.map { ", \(Figure.time(nanoseconds: $0)) away" } ?? ""
            return "The relay is there for the rest, by \(best.transport.word.uppercased())\(time)."
        }
        let urgency = needsRelay ? "You need a relay for the rest" : "The few others need a relay"
        guard let problem = report.relays.compactMap(\.problem).min(by: { $0.rank < $1.rank }) else {
            if let issue = report.issues.first(where: { $0.contains("TURN_") }) {
                return "\(urgency), and none can be used: \(issue.escapedForTerminal)."
            }
            return
                "\(urgency), and none is configured: set TURN_SERVERS, TURN_USERNAME and TURN_PASSWORD (on the server, "
                + "turnpike user add NAME --format env prints them)."
        }
        return "\(urgency), and none works: \(Self.mend(problem))."
    }

    /// Ways to a relay that do not work beside one that does.
    private var others: String {
        let broken = report.relays.count { !$0.works }
        guard report.bestRelay != nil, broken > 0 else { return "" }
        let verb = broken == 1 ? "does" : "do"
        return "Of \(report.relays.count) ways to TURN servers, \(broken) \(verb) not work; see above."
    }

    /// Who finds no peer needs no path.
    private var signaling: String {
        guard let problem = report.signaling?.problem else { return "" }
        if problem.code == .wrongCredentials, report.relays.contains(where: { $0.problem?.code == problem.code }) {
            return "The signaling server does not accept them either, and without it no peer is found."
        }
        let state = report.signaling?.way == nil ? "is not reached" : "does not let this machine in"
        return "The signaling server \(state), and without it no peer is found: \(Self.mend(problem))."
    }

    private static func mend(_ problem: Problem?) -> String {
        guard let problem else { return "the reason is not known" }
        switch problem.code {
        // Everybody knows what that is about.
        case .noCredentials, .wrongCredentials: return problem.mend ?? problem.message
        default: return problem.message + (problem.mend.map { "; \($0)" } ?? "")
        }
    }
}

extension Problem {
    /// What somebody who sits here can mend comes first.
    fileprivate var rank: Int {
        switch code {
        case .noCredentials, .wrongCredentials, .expiredCredentials: 0
        case .certificate, .nameUnknown: 1
        case .notTURN, .notSignaling, .tls, .forbidden, .capacity, .family, .changedOnTheWay: 2
        case .other, .refused, .addressUnavailable: 3
        case .silent: 4
        }
    }
}
