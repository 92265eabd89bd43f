/// Why something did not come about: a sentence, and what to do about it.
package struct SignalingError: Error, Hashable, Sendable, CustomStringConvertible {
    package enum Reason: Hashable, Sendable {
        // What the server says.
        case unauthenticated, forbidden, notFound, peerTaken, rateLimited, tooLarge, badMessage, badType
        case tooManyConnections, draining
        /// A code that this client does not know.
        case other
        // How a connection ends.
        case credentialsExpired, revoked, unreachable, timedOut, shutdown, policy, protocolViolation
        /// The upgrade was answered with this HTTP status.
        case rejected(status: Int)
        // What the session itself refuses or reports.
        /// It may have arrived, or not: the session that it was sent in is gone.
        case unconfirmed
        case queueFull
        /// A later call has made it pointless.
        case superseded
        case closed
    }

    package let reason: Reason
    /// A sentence without its full stop.
    package let text: String
    /// What to do; empty where waiting is all there is to do.
    package let mend: String
    /// When it is worth trying again, as the server says.
    package let retryAfterMilliseconds: UInt64?

    package init(_ reason: Reason, _ text: String, mend: String = "", retryAfterMilliseconds: UInt64? = nil) {
        self.reason = reason
        self.text = text
        self.mend = mend
        self.retryAfterMilliseconds = retryAfterMilliseconds
    }

    package var description: String { mend.isEmpty ? text : "\(text): \(mend)" }
}

extension SignalingError {
    /// An `error` of the server's.
    init(code: String, text: String, retryAfterMilliseconds: UInt64?) {
        let known = ErrorCode.allCases.first { $0.name.description == code }
        let (reason, mend): (Reason, String) =
            switch known {
            case .unauthenticated: (.unauthenticated, "check the username and the password or token")
            case .forbidden: (.forbidden, "use ids of your own, and no more than the server's limits")
            case .notFound: (.notFound, "check the id, and whether it is registered and shares a room with you")
            case .peerTaken: (.peerTaken, "end the other program that uses the id, or use another: NAME/something")
            case .rateLimited: (.rateLimited, "send less, or have signaling.messages_per_second raised")
            case .tooLarge: (.tooLarge, "send smaller messages, or have signaling.max_message_bytes raised")
            case .badMessage: (.badMessage, "")
            case .badType: (.badType, "the server is older than this client: upgrade it")
            case .tooManyConnections:
                (.tooManyConnections, "end other programs of this user, or have signaling.connections_per_user raised")
            case .draining: (.draining, "")
            case nil: (.other, "")
            }
        self.init(reason, text, mend: mend, retryAfterMilliseconds: retryAfterMilliseconds)
    }

    static let wrongCredentials = SignalingError(
        .unauthenticated,
        "The server does not know these credentials",
        mend: "check the username and the password or token"
    )
    static let credentialsExpired = SignalingError(
        .credentialsExpired,
        "The credentials have expired",
        mend: "get new ones, or have the account's time extended; if they are new, the clock of who makes them is wrong"
    )
    static let revoked = SignalingError(
        .revoked,
        "The user was removed or disabled, or an administrator ended the session",
        mend: "ask the server's operator, then set credentials again"
    )
    static let closed = SignalingError(.closed, "The signaling session is closed", mend: "open a new one")
    static let unconfirmed = SignalingError(
        .unconfirmed,
        "The session ended before it was known whether the message had arrived",
        mend: "send it again if it may come twice"
    )
    static let superseded = SignalingError(.superseded, "A later call has taken it back")

    static func timedOut(_ what: String) -> SignalingError {
        SignalingError(.timedOut, "\(what) was not answered in time", mend: "check the connection to the server")
    }

    static func queueFull() -> SignalingError {
        SignalingError(
            .queueFull,
            "More than \(SignalingClientLimits.waitingMessagesMax) messages or "
                + "\(SignalingClientLimits.waitingBytesMax) bytes wait for the connection",
            mend: "wait until some of them are gone"
        )
    }
}
