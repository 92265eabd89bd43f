/// Why something that a client wanted did not happen, beyond the codes that it was told.
package enum RejectionReason: Int, CaseIterable, Sendable {
    // The error codes, in their order.
    case unauthenticated, forbidden, notFound, peerTaken, rateLimited, tooLarge, badMessage, badType
    case tooManyConnections, draining
    // Closed without an error.
    case helloTimeout, peerTimeout, slowConsumer, revoked, expired

    init(_ code: ErrorCode) { self = Self(rawValue: code.rawValue) ?? .badMessage }

    /// As it stands in metrics.
    package var label: String {
        switch self {
        case .unauthenticated: "unauthenticated"
        case .forbidden: "forbidden"
        case .notFound: "not_found"
        case .peerTaken: "peer_taken"
        case .rateLimited: "rate_limited"
        case .tooLarge: "too_large"
        case .badMessage: "bad_message"
        case .badType: "bad_type"
        case .tooManyConnections: "too_many_connections"
        case .draining: "draining"
        case .helloTimeout: "hello_timeout"
        case .peerTimeout: "peer_timeout"
        case .slowConsumer: "slow_consumer"
        case .revoked: "revoked"
        case .expired: "expired"
        }
    }
}

/// What the hub counts. Every message that came in is under its type, or under none where it had none that is known.
package struct HubCounters: Sendable {
    private var received = InlineArray<16, UInt64>(repeating: 0)
    private var rejected = InlineArray<15, UInt64>(repeating: 0)
    package internal(set) var messagesReceived: UInt64 = 0
    package internal(set) var messagesSent: UInt64 = 0
    package internal(set) var bytesReceived: UInt64 = 0
    package internal(set) var bytesSent: UInt64 = 0
    package internal(set) var connectionsOpened: UInt64 = 0
    package internal(set) var sessionsResumed: UInt64 = 0
    package internal(set) var messagesReplayed: UInt64 = 0
    /// Messages that a resumed session had to be told it missed.
    package internal(set) var messagesMissed: UInt64 = 0
    /// Direct messages whose senders were told that they did not arrive.
    package internal(set) var messagesReturned: UInt64 = 0
    /// Reports on paths: those that were remembered, and those that were too many or about a pair that has not met.
    package internal(set) var pathReportsTaken: UInt64 = 0
    package internal(set) var pathReportsIgnored: UInt64 = 0
    /// How often a peer was told what worked before.
    package internal(set) var pathMemoriesSent: UInt64 = 0

    package init() {}

    package subscript(kind: MessageKind) -> UInt64 { received[kind.rawValue] }

    package subscript(reason: RejectionReason) -> UInt64 { rejected[reason.rawValue] }

    mutating func count(_ kind: MessageKind) { received[kind.rawValue] &+= 1 }

    mutating func count(_ reason: RejectionReason) { rejected[reason.rawValue] &+= 1 }
}
