/// When a request is sent again, and when it is given up.
package struct RetransmissionSchedule: Equatable, Sendable {
    /// From each transmission to the next, in nanoseconds; there is one transmission more than there are gaps.
    package var gapsNanoseconds: [UInt64]
    /// From the last transmission to the end.
    package var lastWaitNanoseconds: UInt64

    package init(gapsNanoseconds: [UInt64], lastWaitNanoseconds: UInt64) {
        self.gapsNanoseconds = gapsNanoseconds
        self.lastWaitNanoseconds = lastWaitNanoseconds
    }

    /// Over datagrams (RFC 8489 section 6.2.1): with 500 ms requests go out at 0, 500, 1500, 3500, 7500, 15500 and
    /// 31500 ms, and the transaction fails at 39500 ms.
    package static func datagram(
        retransmissionNanoseconds: UInt64 = Limits.initialRetransmission,
        transmissions: Int = Limits.transmissions,
        lastWait: UInt64 = Limits.lastWait
    ) -> RetransmissionSchedule {
        let first = min(retransmissionNanoseconds, Limits.longestRetransmission)
        return RetransmissionSchedule(
            gapsNanoseconds: (0..<max(0, min(transmissions, 16) - 1)).map { first << UInt64($0) },
            lastWaitNanoseconds: first &* min(lastWait, 64)
        )
    }

    /// Over a connection nothing is sent twice (RFC 8489 section 6.2.2).
    package static let stream = RetransmissionSchedule(gapsNanoseconds: [], lastWaitNanoseconds: Limits.streamWait)
}
