import STUN

/// What an engine asks of the world it lives in: relay sockets and a timer. A worker answers with the kernel's; a test
/// with its own.
package protocol RelayHost: AnyObject {
    /// Opens a relayed transport address for the allocation with that index and generation.
    func openRelay(_ request: RelayRequest) -> RelayOpening

    /// Closes what `openRelay` opened, and gives its port back.
    func closeRelay(_ leg: RelayLeg)

    /// Gives an open relay away, to a worker that will adopt it.
    func disownRelay(_ leg: RelayLeg)

    /// Takes a relay that another worker has given away.
    /// - Returns: false when it cannot; it is still open then.
    func adoptRelay(_ leg: RelayLeg, allocation: UInt32, isSecondary: Bool) -> Bool

    /// Tells another worker, or this one, something about an allocation whose client moves.
    func send(_ message: MoveMessage, to worker: Int)

    /// Whether a relay of this server, of any worker, is open at that advertised endpoint.
    func isLiveRelay(_ endpoint: Endpoint) -> Bool

    /// The same for one that relays TCP: a port may be open by one transport and another program's by the other.
    func isLiveStreamRelay(_ endpoint: Endpoint) -> Bool

    /// Whether a relay was open there a moment ago: the last that left it may still be on its way to another relay.
    func hasJustClosed(_ endpoint: Endpoint, at nanoseconds: UInt64) -> Bool

    /// Asks that `Engine.expire` be called for the allocation once that monotonic second has come. A later call for the
    /// same allocation replaces an earlier one; `.max` cancels.
    func scheduleExpiry(allocation: UInt32, atSecond second: UInt64)

    /// Takes note of what became of an allocation.
    func report(_ event: AllocationEvent)
}

extension RelayHost {
    /// For a world in which nothing is on its way between two relays.
    package func hasJustClosed(_ endpoint: Endpoint, at nanoseconds: UInt64) -> Bool { false }
}

package struct RelayRequest: Sendable {
    package var allocation: UInt32
    package var generation: UInt32
    package var isSecondary: Bool
    package var family: AddressFamily
    /// The server address the client reached, which is the first choice for the relay's.
    package var clientSide: IPAddress
    package var parity: Parity
    /// To relay TCP: what is opened listens.
    package var isStream = false

    package enum Parity: Sendable, Equatable {
        case any
        case even
        /// An even port whose next one is held for a later request.
        case evenReservingNext
        /// The port that was held under this token.
        case reserved(token: UInt64)
    }
}

package enum RelayOpening: Sendable {
    /// - Parameter token: for the held port, or 0.
    case opened(RelayLeg, token: UInt64)
    /// There is no relay address of that family.
    case familyUnavailable
    /// No port is free, or the token is unknown.
    case exhausted
}

package enum AllocationEvent: Sendable {
    case made(AllocationSummary)
    /// Its client has gone on from another address.
    case moved(AllocationSummary)
    case ended(AllocationSummary, AllocationEnd)
}

package enum AllocationEnd: String, Sendable {
    case released, expired, revoked, drained, disconnected
    /// The user has used up the month's bytes.
    case quota
    /// An operator ended this one.
    case killed
}

package struct AllocationSummary: Sendable {
    package var user: String
    package var client: Endpoint
    package var relayed: Endpoint
    package var traffic: Traffic
    package var durationSeconds: UInt64
}
