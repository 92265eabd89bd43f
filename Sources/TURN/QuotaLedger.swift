import Synchronization

/// How many allocations each user holds, over all workers. It is asked when an allocation is made and told when one ends,
/// never by a packet.
package final class QuotaLedger: Sendable {
    private struct State {
        var total = 0
        var users: [String: Int] = [:]
    }

    private let state = Mutex(State())

    package init() {}

    package enum Outcome: Sendable {
        case granted, userLimitReached, totalLimitReached
    }

    /// - Parameters: limits of 0 mean none.
    package func reserve(_ user: String, userLimit: Int, totalLimit: Int) -> Outcome {
        state.withLock { state in
            let held = state.users[user, default: 0]
            if userLimit > 0, held >= userLimit { return .userLimitReached }
            if totalLimit > 0, state.total >= totalLimit { return .totalLimitReached }
            state.users[user] = held + 1
            state.total += 1
            return .granted
        }
    }

    package func release(_ user: String) {
        state.withLock { state in
            guard let held = state.users[user], held > 0 else { return }
            state.users[user] = held > 1 ? held - 1 : nil
            state.total -= 1
        }
    }

    package var total: Int { state.withLock { $0.total } }

    package func held(by user: String) -> Int { state.withLock { $0.users[user, default: 0] } }
}
