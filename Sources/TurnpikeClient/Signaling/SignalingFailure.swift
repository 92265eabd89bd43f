import Signaling

/// Why the signaling server is of no use, in words for whoever has to mend it.
package struct SignalingFailure: Error, Hashable, Sendable {
    package enum Kind: Hashable, Sendable {
        case noCredentials, wrongCredentials, expiredCredentials, forbidden, busy, silent
        /// What answers is no signaling server, or none for this client.
        case foreign
        case other
    }

    package let kind: Kind
    /// A sentence without its full stop.
    package let text: String
    /// Empty where waiting is all there is to do.
    package let mend: String
    /// What was wrong with the network or with what answered, where it was that.
    package let cause: NetworkFailure?

    package init(_ kind: Kind, _ text: String, mend: String, cause: NetworkFailure? = nil) {
        (self.kind, self.text, self.mend, self.cause) = (kind, text, mend, cause)
    }

    init(_ error: SignalingError, cause: NetworkFailure?) {
        self.init(Kind(error.reason), error.text, mend: error.mend, cause: cause)
    }
}

extension SignalingFailure.Kind {
    fileprivate init(_ reason: SignalingError.Reason) {
        switch reason {
        case .unauthenticated: self = .wrongCredentials
        case .credentialsExpired: self = .expiredCredentials
        case .forbidden, .revoked, .policy: self = .forbidden
        case .tooManyConnections, .rateLimited, .draining, .shutdown: self = .busy
        case .timedOut: self = .silent
        case .rejected, .protocolViolation, .badMessage, .badType: self = .foreign
        default: self = .other
        }
    }
}
