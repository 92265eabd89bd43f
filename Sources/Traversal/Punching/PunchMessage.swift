import STUN

/// What the two sides tell each other on the way of signaling. Attempts are numbered, so that what comes late is not
/// taken for an answer.
package enum PunchMessage: Hashable, Sendable {
    /// Where the asking side's socket is seen: the other one opens its ports toward it.
    case ready(attempt: UInt32, at: Endpoint)
    /// Ports have been opened toward the asking side: these are where they may be.
    case opened(attempt: UInt32, at: IPAddress, PunchPorts)
    /// Both sides count: ask the server what comes next.
    case measure(attempt: UInt32)
    /// What came next; the row of sockets follows behind it.
    case base(attempt: UInt32, at: Endpoint)
    /// Nothing more is tried.
    case cancel
}

package enum PunchPorts: Hashable, Sendable {
    /// The likeliest first.
    case list([UInt16])
    case range(ClosedRange<UInt16>)
}
