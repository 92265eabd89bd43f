/// One thing that a write transaction changed. It says what to read again, not what was done to it.
package struct Change: Hashable, Sendable {
    package enum Kind: String, Sendable {
        case user
        case secret
        case token
    }

    package let kind: Kind
    package let name: String

    package init(kind: Kind, name: String) {
        self.kind = kind
        self.name = name
    }
}

/// The answer to "what changed since". `upTo` is the sequence number to ask with the next time.
package enum Changes: Hashable, Sendable {
    case none
    /// Each change once, oldest first.
    case some([Change], upTo: Int64)
    /// The store no longer knows what changed: forget all that was read before.
    case everything(upTo: Int64)
}

/// Moves whenever anybody, this process included, has committed to the database.
package struct DataVersion: Hashable, Sendable {
    let others: Int64
    let own: UInt64
}
