import STUN

/// What an engine asks of the world it lives in: relay sockets and a timer. A worker answers with the kernel's; a test with
/// its own.
package protocol RelayHost: AnyObject {
    /// Opens a relayed transport address for the allocation with that index and generation.
    func openRelay(_ request: RelayRequest) -> RelayOpening

    /// Closes what `openRelay` opened, and gives its port back.
    func closeRelay(_ leg: RelayLeg)

    /// Whether a relay of this server, of any worker, is open at that advertised endpoint.
    func isLiveRelay(_ endpoint: Endpoint) -> Bool

    /// Asks that `Engine.expire` be called for the allocation once that monotonic second has come. A later call for the same
    /// allocation replaces an earlier one; `.max` cancels.
    func scheduleExpiry(allocation: UInt32, atSecond second: UInt64)

    /// Takes note of what became of an allocation.
    func report(_ event: AllocationEvent)
}

package struct RelayRequest: Sendable {
    package var allocation: UInt32
    package var generation: UInt32
    package var isSecondary: Bool
    package var family: AddressFamily
    /// The server address the client reached, which is the first choice for the relay's.
    package var clientSide: IPAddress
    package var parity: Parity

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
