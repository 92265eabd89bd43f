import TURN

/// A request that waits for the account store.
struct ParkedRequest {
    let bytes: [UInt8]
    let tuple: FiveTuple
    let route: ClientRoute
}

/// Requests by what they wait for. Bounded: a flood of names nobody has costs this much and no more.
struct ParkedRequests {
    private var waiting: [CredentialQuery: [ParkedRequest]] = [:]
    private(set) var count = 0

    enum Outcome {
        /// The store has to be asked.
        case first
        /// It has been asked already.
        case waiting
        case full
    }

    mutating func add(_ query: CredentialQuery, _ request: ParkedRequest) -> Outcome {
        guard count < Limits.parkedRequests else { return .full }
        count += 1
        let isFirst = waiting[query] == nil
        waiting[query, default: []].append(request)
        return isFirst ? .first : .waiting
    }

    mutating func take(_ query: CredentialQuery) -> [ParkedRequest] {
        let requests = waiting.removeValue(forKey: query) ?? []
        count -= requests.count
        return requests
    }

    mutating func dropAll(into counters: inout Counters) {
        counters.drop(.parkingFull, UInt64(count))
        waiting = [:]
        count = 0
    }
}
