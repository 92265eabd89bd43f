import STUN

extension ICEAgent {
    /// What was tried so far.
    package var report: ICEReport {
        let old = previous?.pair.map { [$0] } ?? []
        return ICEReport(
            failure: failure,
            role: role,
            state: state,
            localCandidates: locals.count,
            remoteCandidates: remotes.count + named.count,
            unresolvedNames: named.compactMap { candidate in
                guard case .name(let name) = candidate.address else { return nil }
                return name
            },
            pairs: (pairs + old).sorted { $0.outranks($1) }.map(reported),
            counters: counters
        )
    }

    private func reported(_ pair: ICEPair) -> ICEReport.Pair {
        ICEReport.Pair(
            local: pair.mapped ?? pair.local.endpoint,
            localType: pair.mappedType,
            remote: pair.remoteEndpoint,
            remoteType: pair.remote.type,
            transport: pair.local.transport,
            state: pair.state,
            failure: pair.failure,
            isAlive: pair.isAlive,
            isNominated: pair.isNominated,
            isSelected: pair === selected,
            checksSent: pair.checksSent,
            answersReceived: pair.answers,
            requestsReceived: pair.requests,
            roundTripNanoseconds: pair.liveness.roundTrip
        )
    }

    /// Why there is no path, at any time: a caller's patience may be over before the agent's.
    private var failure: ICEFailure? {
        if selected != nil || state == .closed { return nil }
        if wasConnected {
            return pairs.contains { $0.failure == .consentRevoked } ? .consentRevoked : .consentExpired
        }
        if locals.isEmpty { return .noLocalCandidates }
        if remote == nil { return .noAnswer }
        if remotes.isEmpty { return .noRemoteCandidates }
        if pairs.isEmpty { return .noPairs }
        return pairs.contains(where: \.isPending) ? .unanswered : .allPairsFailed
    }
}
