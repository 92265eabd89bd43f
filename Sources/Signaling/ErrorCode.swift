/// The member `code` of an `error`.
package enum ErrorCode: Int, CaseIterable, Sendable {
    case unauthenticated, forbidden, notFound, peerTaken, rateLimited, tooLarge, badMessage, badType
    case tooManyConnections, draining

    package var name: StaticString {
        switch self {
        case .unauthenticated: "unauthenticated"
        case .forbidden: "forbidden"
        case .notFound: "not-found"
        case .peerTaken: "peer-taken"
        case .rateLimited: "rate-limited"
        case .tooLarge: "too-large"
        case .badMessage: "bad-message"
        case .badType: "bad-type"
        case .tooManyConnections: "too-many-connections"
        case .draining: "draining"
        }
    }
}

/// How the server closes a WebSocket (RFC 6455 section 7.4; 4000 and up are ours).
package enum CloseCode: UInt16, Sendable {
    case shutdown = 1001
    case policy = 1008
    case tooLarge = 1009
    case unauthenticated = 4401
    case revoked = 4403
}

/// Why a message has no effect.
struct Refusal: Error {
    let code: ErrorCode
    let text: String
    var retryAfterNanoseconds: UInt64?

    init(_ code: ErrorCode, _ text: String, retryAfterNanoseconds: UInt64? = nil) {
        self.code = code
        self.text = text
        self.retryAfterNanoseconds = retryAfterNanoseconds
    }

    /// `wait` is what a bucket answered.
    static func rateLimited(_ text: String, wait: UInt64) -> Refusal {
        Refusal(.rateLimited, text, retryAfterNanoseconds: wait)
    }
}
