/// Tells a running server what others changed in the store. The caller polls it, as often as it likes: a poll with no
/// news is one pragma, which reads no page.
package struct AccountFollower {
    private let store: AccountStore
    private var version: DataVersion?
    private var sequence: Int64

    /// Follows from now on: whatever is committed after this call is told by a `poll`.
    package init(_ store: AccountStore) throws(AccountError) {
        self.store = store
        sequence = try store.changeSequence()
    }

    /// What was committed since the last call. After an error the next call tells it still.
    package mutating func poll() throws(AccountError) -> Changes {
        // The version is taken before the changes: what is committed in between is then asked for again, not missed.
        let version = try store.dataVersion()
        if version == self.version { return .none }
        let changes = try store.changes(since: sequence)
        switch changes {
        case .none: break
        case .some(_, let upTo), .everything(let upTo): sequence = upTo
        }
        self.version = version
        return changes
    }
}
