import Accounts
import Foundation
import LinuxIO
import Logging
import Relay
import Synchronization
import TURN

extension AccountDirectory {
    /// Adds to the store what users have relayed, and ends the allocations of those who have used up their month. Does
    /// not wait. The disk is waited for on a queue of its own.
    func recordUsageLater(_ relay: RelayService) {
        usageQueue.async { self.writeUsage(relay) }
    }

    /// The same, done when it returns.
    func recordUsage(_ relay: RelayService) {
        usageQueue.sync { writeUsage(relay) }
    }

    /// When a user may allocate again who has used up the month's bytes; nil while there are some left.
    func overQuotaUntil(_ user: CredentialRecord) throws(AccountError) -> UInt64? {
        guard user.monthlyBytes != nil else { return nil }
        let month = UsageMonth(containingSeconds: Int64(clamping: WallClock.seconds()))
        guard let state = try store.quotaState(of: user.name, month: month), state.isUsedUp else { return nil }
        return UInt64(clamping: month.next.startSeconds)
    }

    private func writeUsage(_ relay: RelayService) {
        usage.add(relay.takeUsage())
        let now = UsageMonth(containingSeconds: Int64(clamping: WallClock.seconds()))
        do throws(AccountError) {
            // Once at the start and with each month; where it fails, another month will do.
            if usage.isNewMonth(now) { try usageStore.pruneUsage(now: now) }
        } catch {
            tell(error)
        }
        do throws(AccountError) {
            while let (month, deltas) = usage.take() {
                let states: [QuotaState]
                do throws(AccountError) {
                    states = try usageStore.addUsage(deltas, month: month)
                } catch {
                    // It is kept until the store works again, with what comes meanwhile.
                    usage.putBack(deltas, month)
                    throw error
                }
                guard month == now else { continue }
                for state in states { tell(state, month) }
                let usedUp = states.filter(\.isUsedUp).map(\.user)
                // Over the directory's queue, so that no answer about a user from before can reach a worker after.
                if !usedUp.isEmpty { queue.async { for user in usedUp { relay.send(.overQuota(user)) } } }
                _ = usage.isNewTrouble(nil)
            }
        } catch {
            // Not by `tell`: the store may well answer and only not take anything, as on a full disk.
            guard usage.isNewTrouble(error.message) else { return }
            logger.error(
                "usage cannot be written down; it is kept in memory until it can",
                metadata: ["reason": .string(error.message)]
            )
        }
    }

    /// Says once a month of each user that the month's bytes come to their end, and that they have.
    private func tell(_ state: QuotaState, _ month: UsageMonth) {
        let isClose = state.usedBytes / 4 >= state.monthlyBytes / 5
        guard isClose, usage.isNews(state) else { return }
        let metadata: Logger.Metadata = [
            "user": .string(state.user), "month": .string(month.description),
            "used_bytes": .stringConvertible(state.usedBytes), "monthly_bytes": .stringConvertible(state.monthlyBytes),
        ]
        if state.isUsedUp {
            logger.warning("a user has used up the month's bytes and is refused until it ends", metadata: metadata)
        } else {
            logger.warning("a user has used four fifths of the month's bytes", metadata: metadata)
        }
    }
}

/// What the workers tell of usage, until it is written down. Workers add and must not wait: nothing here is slow.
final class UsageCollector: Sendable {
    private struct State {
        var pending: [UsageMonth: [String: Usage]] = [:]
        var month: UsageMonth?
        /// Whom the log has been told of this month, by whether he had used up all.
        var told: [Bool: Set<String>] = [:]
        var trouble: String?
    }

    private let state = Mutex(State())

    /// - Parameter seconds: Unix time, which says what month it counts for.
    func add(_ report: [UserUsage], at seconds: UInt64 = WallClock.seconds()) {
        let month = UsageMonth(containingSeconds: Int64(clamping: seconds))
        state.withLock { state in
            for entry in report {
                let traffic = entry.traffic
                let delta = Usage(
                    bytesToPeers: Int64(clamping: traffic.bytesToPeers),
                    bytesToClients: Int64(clamping: traffic.bytesToClient),
                    packetsToPeers: Int64(clamping: traffic.packetsToPeers),
                    packetsToClients: Int64(clamping: traffic.packetsToClient)
                )
                let known = state.pending[month, default: [:]][entry.user] ?? Usage()
                state.pending[month, default: [:]][entry.user] = known + delta
            }
        }
    }

    /// Takes out the oldest month there is something of.
    func take() -> (month: UsageMonth, deltas: [String: Usage])? {
        state.withLock { state in
            guard let month = state.pending.keys.min(), let deltas = state.pending.removeValue(forKey: month) else {
                return nil
            }
            return (month, deltas)
        }
    }

    func putBack(_ deltas: [String: Usage], _ month: UsageMonth) {
        state.withLock { $0.pending[month, default: [:]].merge(deltas) { $0 + $1 } }
    }

    /// Whether it is another month than when it was asked last.
    func isNewMonth(_ month: UsageMonth) -> Bool {
        state.withLock { state in
            guard state.month != month else { return false }
            state.month = month
            state.told = [:]
            return true
        }
    }

    /// Whether it is another trouble than the last one; nil for none.
    func isNewTrouble(_ trouble: String?) -> Bool {
        state.withLock { state in
            defer { state.trouble = trouble }
            return trouble != nil && state.trouble != trouble
        }
    }

    func isNews(_ quota: QuotaState) -> Bool {
        state.withLock { $0.told[quota.isUsedUp, default: []].insert(quota.user).inserted }
    }
}
