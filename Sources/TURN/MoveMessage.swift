import STUN

/// What workers tell each other about allocations whose clients move (RFC 8016). The owner has the allocation; the
/// other is the worker that the client's new 5-tuple leads to, which may be the same.
///
///     other                         owner
///       │ asked ───────────────────▶ │   a Refresh with a ticket has come and was proved
///       │ ◀──────── granted/refused  │   the allocation stays, and so does the old 5-tuple
///       │ wanted ──────────────────▶ │   the client has sent data by the new 5-tuple
///       │ ◀──────────────── arrived  │   the allocation itself: its sockets and all it knows
///
/// Messages from one worker to another keep their order.
package enum MoveMessage: Sendable {
    case asked(MoveRequest)
    case granted(MoveGrant)
    case refused(request: UInt64, FiveTuple, ErrorCode)
    /// - Parameter worker: the other's number.
    case wanted(MovePath, worker: Int)
    case arrived(MovingAllocation)
    /// To the owner: the new 5-tuple is gone.
    case withdrawn(MovePath)
    /// To the other: the allocation has ended, or will go elsewhere.
    case ended(MovePath)
}

/// A move that was granted: which allocation, by which ticket, where to.
package struct MovePath: Sendable, Equatable {
    let allocation: UInt64
    /// Of the ticket that the grant gave out.
    let serial: UInt64
    package let tuple: FiveTuple
}

/// A proved Refresh with a ticket, as the owner needs it.
package struct MoveRequest: Sendable {
    /// Its number on the worker that asks.
    package let number: UInt64
    let worker: Int
    package let tuple: FiveTuple
    /// How that worker reaches the client.
    let listener: UInt32
    let ticket: MobilityTicket
    /// For the next ticket.
    let newSerial: UInt64
    let transaction: TransactionID
    let user: String
    let ownBitsPerSecond: UInt64?
    let isOverQuota: Bool
    /// LIFETIME as it came.
    let wishedSeconds: UInt32?
    /// What is granted of it.
    let lifetimeSeconds: UInt32
    let hardDeadlineNanoseconds: UInt64
    /// The first byte of REQUESTED-ADDRESS-FAMILY.
    let family: UInt8?
    /// How many workers have passed it on.
    var hops = 0
}

package struct MoveGrant: Sendable {
    let request: UInt64
    let owner: Int
    let path: MovePath
    let lifetimeSeconds: UInt32
    /// The Refresh had a lifetime of zero, and that was the allocation's end.
    let isGone: Bool
}

/// An allocation on its way to another worker. Its sockets are open and nobody watches them; what peers send waits
/// there.
package struct MovingAllocation: Sendable {
    let record: Allocation
    let user: String
    let permissions: [Permission]
    /// Their `permission` is a place in `permissions`.
    let channels: [Channel]
    let path: MovePath
    /// Of the ticket that the client has moved with.
    let previousSerial: UInt64
    let listener: UInt32
    /// How many users had been revoked at the owner.
    let revocations: UInt64

    /// For whoever finds it in the mailbox of a worker that has ended.
    package var descriptors: [Int32] { [record.primary, record.secondary].filter(\.isOpen).map(\.descriptor) }
}

/// What a worker has to do after a message.
package enum MoveOutcome: Sendable {
    case nothing
    /// The request with that number is to be given to the engine again.
    case answer(request: UInt64)
    /// What was held for that 5-tuple is to be given again, and then the request, if one waits.
    case release(FiveTuple, request: UInt64?)
}
