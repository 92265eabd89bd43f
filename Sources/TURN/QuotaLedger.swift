import Synchronization

/// How many allocations each user holds, over all workers. It is asked when an allocation is made and told when one
/// ends, never by a packet.
package final class QuotaLedger: Sendable {
    private struct State {
        var total = 0
        var users: [String: Int] = [:]
        /// Those who came close to their limit since somebody asked, and how close.
        var near: [String: NearLimit] = [:]

        mutating func note(_ user: String, held: Int, limit: Int) {
            guard near.count < Limits.nearLimitUsersTold || near[user] != nil else { return }
            near[user] = NearLimit(user: user, held: held, limit: limit)
        }
    }

    private let state = Mutex(State())

    package init() {}

    package enum Outcome: Sendable {
        case granted, userLimitReached, totalLimitReached
    }

    /// A user who holds four fifths of what he may, or was refused.
    package struct NearLimit: Sendable, Equatable {
        package let user: String
        package let held: Int
        package let limit: Int
    }

    /// - Parameters: limits of 0 mean none.
    package func reserve(_ user: String, userLimit: Int, totalLimit: Int) -> Outcome {
        state.withLock { state in
            let held = state.users[user, default: 0]
            if userLimit > 0, held >= userLimit {
                state.note(user, held: held, limit: userLimit)
                return .userLimitReached
            }
            if totalLimit > 0, state.total >= totalLimit { return .totalLimitReached }
            state.users[user] = held + 1
            state.total += 1
            // Of a limit below five, four fifths are all there is, and nothing to tell of before a refusal.
            if userLimit >= 5, held + 1 >= userLimit - userLimit / 5 {
                state.note(user, held: held + 1, limit: userLimit)
            }
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

    /// Those who came close to their limit since this was called last, some of them if there are many.
    package func takeNearLimit() -> [NearLimit] {
        state.withLock { state in
            defer { state.near = [:] }
            return Array(state.near.values)
        }
    }

    package var total: Int { state.withLock { $0.total } }

    package func held(by user: String) -> Int { state.withLock { $0.users[user, default: 0] } }
}
