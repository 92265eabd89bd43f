import STUN

package enum PunchAction {
    /// A fresh socket; `opened` follows.
    case open(socket: Int)
    /// - Parameter hopLimit: nil for the usual one.
    case send(socket: Int, to: Endpoint, bytes: [UInt8], hopLimit: UInt8?)
    case close(socket: Int)
    case tell(PunchMessage)
    case hit(PunchHit)
    /// Nothing follows but what a late packet brings about; sockets with a hit are the caller's from here on.
    case ended(PunchOutcome)
}

/// A packet of the peer's has come in: there is a way between this socket and that endpoint.
package struct PunchHit: Hashable, Sendable {
    package var socket: Int
    package var peer: Endpoint
    /// Where the peer sees the socket, if it is known.
    package var mapped: Endpoint?
}

package enum PunchOutcome: String, Hashable, Sendable {
    case hit, missed
    /// Another search toward that address is under way, or was until just now.
    case busy
    case cancelled
}

package struct PunchCounters: Hashable, Sendable {
    package var attempts: UInt64 = 0
    package var probesSent: UInt64 = 0
    package var hits: UInt64 = 0
    /// What was told by the peer and not followed: addresses that nothing is sent to, ports of another plan.
    package var refused: UInt64 = 0
}
