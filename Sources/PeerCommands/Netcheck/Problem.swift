import TurnpikeClient

/// Something that does not work: what, and what somebody can do about it.
package struct Problem: Error, Equatable, Sendable {
    /// For programs; these words do not change.
    package enum Code: String, Sendable {
        case noCredentials = "no-credentials"
        case wrongCredentials = "wrong-credentials"
        case expiredCredentials = "expired-credentials"
        case nameUnknown = "name-unknown"
        case addressUnavailable = "address-unavailable"
        case refused = "connection-refused"
        case silent = "no-answer"
        case certificate = "certificate"
        case tls = "tls"
        case notTURN = "not-a-turn-server"
        case notSignaling = "not-a-signaling-server"
        case forbidden
        case capacity = "no-capacity"
        case family = "no-relay-address"
        case changedOnTheWay = "changed-on-the-way"
        case other
    }

    package var code: Code
    package var message: String
    /// Nil where only the server's operator could tell.
    package var mend: String?

    package init(_ code: Code, _ message: String, mend: String? = nil) {
        (self.code, self.message, self.mend) = (code, message, mend)
    }
}

extension Problem {
    /// - Parameter nowSeconds: since 1970, to tell a time-limited credential that has expired from a wrong one.
    package init(_ failure: TURNFailure, username: String, nowSeconds: Int64) {
        let words = failure.description.escapedForTerminal
        switch failure.reason {
        case .wrongCredentials, .unverifiedAnswers, .bidDown, .longCredential:
            self = Self.credentials(failure.reason, words, username: username, nowSeconds: nowSeconds)
        case .noCommonAlgorithm, .nonceNeverFresh, .badRequest, .unknownAttributes, .serverError, .malformedAnswer,
            .unexpectedCode, .unsupportedTransport, .tooManyRequests, .portInUse:
            self.init(.other, words, mend: "look into the server's log")
        case .serverSilent, .allocationExpired, .connectionLost:
            self.init(.silent, words, mend: Self.silenceMend(failure.transport))
        case .quotaReached:
            self.init(.capacity, words, mend: "wait a minute, or raise the user's limit on the server")
        case .outOfCapacity:
            self.init(.capacity, words, mend: "wait a minute, or widen the server's range of relay ports")
        case .familyUnavailable, .peerFamilyMismatch:
            self.init(.family, words, mend: "give the server a relay address of that family")
        case .forbidden, .mobilityForbidden, .foreignAllocation:
            self.init(.forbidden, words, mend: "ask the server's operator what this user may do")
        case .allocationLost:
            self.init(.other, words, mend: "try again")
        case .redirectionLoop, .redirectionRefused:
            self.init(.other, words, mend: "the server's operator has to mend its redirections")
        case .desynchronised:
            self.init(.notTURN, words, mend: "check the host and the port")
        }
    }

    private static func credentials(
        _ reason: TURNFailure.Reason,
        _ words: String,
        username: String,
        nowSeconds: Int64
    ) -> Problem {
        if reason == .bidDown { return Problem(.changedOnTheWay, words, mend: "use TLS: a turns: URL") }
        if reason == .longCredential { return Problem(.wrongCredentials, words, mend: "correct TURN_USERNAME") }
        // A time-limited username begins with the second since 1970 at which it ends.
        if let expiry = Int64(username.prefix { $0 != ":" }), expiry < nowSeconds, expiry > 1_000_000_000 {
            let ago = TimeText.duration(seconds: UInt64(nowSeconds - expiry))
            return Problem(
                .expiredCredentials,
                "the credential expired \(ago) ago",
                mend: "get another; on the server: turnpike credentials NAME --format env"
            )
        }
        let isAbout = reason == .unverifiedAnswers ? "TURN_PASSWORD" : "TURN_USERNAME and TURN_PASSWORD"
        return Problem(
            .wrongCredentials,
            words,
            mend: "correct \(isAbout); \(Self.otherPassword)"
        )
    }

    private static let otherPassword = "on the server, turnpike user passwd NAME sets another password"

    static func silenceMend(_ transport: TURNConfiguration.Transport) -> String {
        transport.isStream
            ? "check that a TURN server has this port"
            : "where a firewall drops UDP, use TCP or TLS; else check that the server runs"
    }

    /// - Parameter nowSeconds: since 1970.
    package init(_ failure: RelayFailure, nowSeconds: Int64) {
        switch failure.cause {
        case .network(let cause): self.init(cause)
        case .turn(let cause):
            self.init(cause, username: failure.server.credential.username, nowSeconds: nowSeconds)
        case .noFamily:
            self.init(.addressUnavailable, "this machine has no address of the server's family")
        case .tooLate:
            self.init(.silent, "the server was not reached in time", mend: Self.silenceMend(failure.server.transport))
        }
    }

    package init(_ failure: SignalingFailure) {
        if failure.kind == .other, let cause = failure.cause {
            self.init(cause)
            if code == .notTURN { code = .notSignaling }
            if code == .tls { mend = "check that SIGNALING_SERVER has the server's port for HTTPS" }
            return
        }
        let code: Code =
            switch failure.kind {
            case .noCredentials: .noCredentials
            case .wrongCredentials: .wrongCredentials
            case .expiredCredentials: .expiredCredentials
            case .forbidden: .forbidden
            case .busy: .capacity
            case .silent: .silent
            case .foreign: .notSignaling
            case .other: .other
            }
        self.init(
            code,
            failure.text.escapedForTerminal,
            mend: failure.mend.isEmpty ? nil : failure.mend.escapedForTerminal
        )
        if code == .wrongCredentials { mend = "correct TURN_USERNAME and TURN_PASSWORD; \(Self.otherPassword)" }
    }

    package init(_ failure: NetworkFailure) {
        // These say what is wrong, then the mend behind a semicolon, and at the end what the system said.
        var text = failure.description.escapedForTerminal
        let said = failure.detail.isEmpty ? "" : " (\(failure.detail.escapedForTerminal))"
        let isAtEnd = !said.isEmpty && text.hasSuffix(said)
        if isAtEnd { text.removeLast(said.count) }
        let parts = text.split(separator: "; ", maxSplits: 1).map(String.init)
        let words = (parts.first ?? "") + (isAtEnd ? said : "")
        let mend = parts.count > 1 ? parts[1] : nil
        switch failure.reason {
        case .unknownName, .nameServiceFailed: self.init(.nameUnknown, words, mend: mend)
        case .refused: self.init(.refused, words, mend: mend)
        case .timedOut: self.init(.silent, words, mend: mend)
        case .certificate: self.init(.certificate, words, mend: mend)
        case .tls: self.init(.tls, words, mend: mend ?? "check that the port is the server's for TLS or DTLS")
        case .unreachable, .addressUnavailable: self.init(.addressUnavailable, words, mend: mend)
        case .notWebSocket, .protocolViolation:
            self.init(.notTURN, words, mend: mend ?? "check the host and the port")
        case .reset, .addressInUse, .notPermitted, .tooManyFiles, .overflow, .other:
            self.init(.other, words, mend: mend)
        }
    }
}
