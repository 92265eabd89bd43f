import Synchronization

/// What each user has relayed, as sums that only grow, over all workers. A worker adds to it once a second, in place:
/// for a user it has heard of before, that asks for no memory. The control plane takes the differences.
package final class UsageLedger: Sendable {
    private struct Entry {
        var sum = Traffic()
        var told = Traffic()
    }

    // Room from the start, so that a user heard of for the first time costs a worker no memory either.
    private let entries = Mutex<[String: Entry]>(Dictionary(minimumCapacity: 1_024))

    package init() {}

    /// Adds what several users have relayed since.
    func add(_ body: (_ add: (String, Traffic) -> Void) -> Void) {
        entries.withLock { entries in
            body { user, traffic in entries[user, default: Entry()].sum.add(traffic) }
        }
    }

    /// What has come since this was called last, users without anything left out; those are forgotten, and heard of
    /// again when they relay again.
    package func take() -> [UserUsage] {
        entries.withLock { entries in
            var news: [UserUsage] = []
            var idle: [String] = []
            for (user, entry) in entries {
                if entry.sum == entry.told {
                    idle.append(user)
                } else {
                    news.append(UserUsage(user: user, traffic: entry.sum.since(entry.told)))
                }
            }
            for user in idle { entries[user] = nil }
            for usage in news { entries[usage.user]?.told.add(usage.traffic) }
            return news
        }
    }
}
