import Signaling
import Traversal

extension PeerClient {
    /// This side, as far as it is known.
    var networkFacts: NetworkFacts {
        var facts = NetworkFacts(servers.nat)
        for candidate in gatherer.candidates where candidate.type == .host {
            facts.note(host: candidate.endpoint.address)
        }
        for candidate in gatherer.candidates where candidate.type == .serverReflexive {
            facts.note(outside: candidate.endpoint.address)
        }
        let relays = servers.relays?.up ?? []
        facts.hasOnlyPort443 =
            facts.type == .blocked && !relays.isEmpty
            && relays.allSatisfy { $0.server.transport.isStream && $0.server.port == ClientLimits.httpsPort }
        return facts
    }

    /// Tells the peer what is known of this side's network, unless it has been told that.
    func tellNetwork(in session: PeerSession) {
        guard servers.natTypeForPeers != .unknown, session.toldNetwork != networkFacts.told else { return }
        session.tell(signal: NetworkFacts.kind, [:])
    }
}

extension PeerSession {
    /// Why the connection is direct, or is not.
    var explanation: Explanation { Explanation(situation) }

    private var situation: Situation {
        let report = link?.agent.report ?? lastReport
        var remote = host.networkFacts(of: remote) ?? NetworkFacts()
        let pairs = report?.pairs ?? []
        for pair in pairs {
            switch pair.remoteType {
            case .host: remote.note(host: pair.remote.address)
            case .serverReflexive, .peerReflexive: remote.note(outside: pair.remote.address)
            case .relayed: break
            }
        }
        let direct = pairs.filter { $0.localType != .relayed && $0.remoteType != .relayed }
        let path = phase == .ended ? nil : link?.agent.path.map { Path($0) }
        var situation = Situation(local: host.networkFacts, remote: remote, path: path)
        situation.isSettled = direct.allSatisfy { $0.state == .failed } && !pairs.isEmpty
        situation.isGuessed = link?.agent.path.flatMap(foundBy).map { $0 != .udpHolePunch } ?? false
        situation.isHeard = direct.contains { $0.requestsReceived > 0 }
        situation.hasRelay = pairs.contains { $0.localType == .relayed || $0.remoteType == .relayed }
        if isRelayOnly {
            situation.relayRequired = .here
        } else if direct.isEmpty, !pairs.isEmpty, pairs.allSatisfy({ $0.remoteType == .relayed }) {
            situation.relayRequired = .there
        } else {
            situation.lacksPairs = direct.isEmpty && (report?.failure == .noPairs || !pairs.isEmpty)
        }
        return situation
    }
}
