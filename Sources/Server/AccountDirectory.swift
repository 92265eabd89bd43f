import Accounts
import Foundation
import Gateway
import Logging
import Relay
import Synchronization
import TURN

/// The account store on behalf of the workers and the gateway: answers the workers' queries, and tells both what a
/// command has changed. All that workers hear of it goes over one queue, so an answer and the news that outdates it
/// keep their order.
final class AccountDirectory: Sendable {
    private struct State {
        var follower: AccountFollower
        var lastTrouble: String?
    }

    let store: AccountStore
    /// A connection of its own: a write waits for the disk, and no client may wait with it.
    let usageStore: AccountStore
    /// What users have relayed and the store does not know yet.
    let usage = UsageCollector()
    private let state: Mutex<State>
    let queue = DispatchQueue(label: "turnpike.accounts")
    let usageQueue = DispatchQueue(label: "turnpike.usage")
    let logger: Logger
    /// Called with all shared secrets when one was added or removed.
    private let onSecrets: @Sendable ([SharedSecret]) -> Void
    private let gateway: GatewayBox

    init(
        _ store: AccountStore,
        usageStore: AccountStore,
        logger: Logger,
        gateway: GatewayBox,
        onSecrets: @escaping @Sendable ([SharedSecret]) -> Void
    ) throws(AccountError) {
        self.store = store
        self.usageStore = usageStore
        self.logger = logger
        self.gateway = gateway
        self.onSecrets = onSecrets
        state = Mutex(State(follower: try AccountFollower(store)))
    }

    /// Answers a worker. Does not wait for the answer.
    func answer(_ query: CredentialQuery, worker: Int, relay: RelayService) {
        queue.async {
            do throws(AccountError) {
                relay.send(.learned(query, try self.record(query)), to: worker)
            } catch {
                self.tell(error)
                relay.send(.failed(query), to: worker)
            }
        }
    }

    /// Looks for changes by others, and passes them on. Does not wait.
    func poll(_ relay: RelayService) {
        queue.async { self.follow(relay) }
    }

    /// Ends the allocations of those among these users who may have none any more. A name that never was a user's is
    /// that of a time-limited credential, which is good without one. Does not wait.
    func refresh(_ names: Set<String>, _ relay: RelayService) {
        queue.async {
            do throws(AccountError) {
                for name in try self.store.namesEverUsed(among: names) { try self.refresh(name, relay) }
            } catch {
                self.tell(error)
            }
        }
    }

    private func follow(_ relay: RelayService) {
        do throws(AccountError) {
            var follower = state.withLock { $0.follower }
            let changes = try follower.poll()
            switch changes {
            case .none:
                break
            case .some(let list, _):
                for change in list where change.kind == .user { try refresh(change.name, relay) }
                for change in list where change.kind == .token {
                    if try store.token(named: change.name) == nil { gateway.value?.revoke(token: change.name) }
                }
                if list.contains(where: { $0.kind == .secret }) { onSecrets(try store.allSecrets()) }
            case .everything:
                relay.send(.forgetAllUsers)
                onSecrets(try store.allSecrets())
                gateway.value?.keep(tokens: Set(try store.allTokens().map(\.name)))
                lookAgain(relay)
            }
            // Only now: what failed on the way is asked for again.
            state.withLock { state in
                state.follower = follower
                state.lastTrouble = nil
            }
        } catch {
            tell(error)
        }
    }

    private func refresh(_ name: String, _ relay: RelayService) throws(AccountError) {
        let record = try store.credentialRecord(username: name)
        let now = Int64(Date().timeIntervalSince1970)
        if let record, record.isUsable(atSeconds: now) {
            let terms = UserTerms(
                name: record.name,
                bitsPerSecond: record.maxBitsPerSecond.map { UInt64(clamping: $0) },
                expiresAtSeconds: record.expiresAtSeconds.map { UInt64(clamping: $0) }
            )
            relay.send(.changed(terms))
            if let end = record.expiresAtSeconds { gateway.value?.limit(user: name, untilSeconds: end) }
            // The limit may have come down below what is used already.
            if try overQuotaUntil(record) != nil { relay.send(.overQuota(name)) }
        } else {
            relay.send(.revoke(name))
            gateway.value?.revoke(user: name)
        }
    }

    /// Looks at every user who signals, since any may have changed.
    private func lookAgain(_ relay: RelayService) {
        guard let gateway = gateway.value else { return }
        Task { self.refresh(await gateway.connectedUsers(), relay) }
    }

    private func record(_ query: CredentialQuery) throws(AccountError) -> UserRecord? {
        let found =
            switch query {
            case .name(let name): try store.credentialRecord(username: name)
            case .userhash(let hash): try store.credentialRecord(userhash: hash)
            }
        guard let found, let keys = CredentialKeys(md5: found.keys.md5Key, sha256: found.keys.sha256Key) else {
            return nil
        }
        return UserRecord(
            name: found.name,
            keys: keys,
            expiresAtSeconds: found.expiresAtSeconds.map { UInt64(clamping: $0) },
            maximumAllocations: found.maxAllocations,
            isEnabled: found.isEnabled,
            bitsPerSecond: found.maxBitsPerSecond.map { UInt64(clamping: $0) },
            overQuotaUntilSeconds: try overQuotaUntil(found)
        )
    }

    /// Says once what is wrong with the store, until it works again.
    func tell(_ error: AccountError) {
        let isNew = state.withLock { state in
            defer { state.lastTrouble = error.message }
            return state.lastTrouble != error.message
        }
        if isNew { logger.error("the account store does not answer", metadata: ["reason": .string(error.message)]) }
    }
}
