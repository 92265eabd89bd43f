import DataChannels

/// Where peers may have this side connect to.
package struct ForwardPolicy: Sendable, Equatable {
    /// Only peers of the user that this side signs in as.
    package var isOwnUserOnly = false
    /// Every port of this machine's loopback addresses.
    package var allowsLoopback = true
    /// Ports of this machine's loopback addresses.
    package var ports: Set<UInt16> = []
    /// Other hosts, by the very text that a peer has to name.
    package var targets: Set<ForwardTarget> = []

    package init() {}

    /// Nothing is allowed.
    package static var none: ForwardPolicy {
        var policy = ForwardPolicy()
        policy.allowsLoopback = false
        return policy
    }

    package var allowsNothing: Bool { !allowsLoopback && ports.isEmpty && targets.isEmpty }

    /// - Parameters:
    ///   - text: what the peer asks for. It may be anything.
    ///   - own: the id that the peer connected to.
    func answer(_ text: String, to peer: PeerID, by own: PeerID) -> Result<ForwardTarget, ForwardRefusal> {
        guard let target = ForwardTarget(text) else {
            return .failure(ForwardRefusal(.failed, "what was asked for is not of the form HOST:PORT"))
        }
        if allowsNothing {
            return .failure(ForwardRefusal(.notAllowed, "it forwards nothing (--forward none)"))
        }
        if isOwnUserOnly, peer.user != own.user {
            return .failure(
                ForwardRefusal(.notAllowed, "it forwards for peers of its own user alone (--forward own-user)")
            )
        }
        let isAllowed =
            targets.contains(target) || target.isLoopback && (allowsLoopback || ports.contains(target.port))
        guard isAllowed else {
            let mend = "the other side has to be started with --forward \(target.isLoopback ? "\(target.port)" : text)"
            return .failure(ForwardRefusal(.notAllowed, "it does not forward to there; \(mend)"))
        }
        return .success(target)
    }
}

extension PeerID {
    /// Who owns the id: a user has the ids `NAME` and `NAME/…`, and no name has a slash.
    var user: Substring { rawValue.prefix { $0 != "/" } }
}

extension ForwardRefusal: Error {
    init(_ reason: Reason, _ explanation: String) { self.init(reason: reason, explanation: explanation) }

    /// Why there is no connection to a target.
    init(_ failure: NetworkFailure) {
        let reason: Reason =
            switch failure.reason {
            case .refused: .refused
            case .unreachable, .addressUnavailable: .unreachable
            case .timedOut: .timedOut
            case .unknownName, .nameServiceFailed: .unknownHost
            case .tooManyFiles: .tooMany
            default: .failed
            }
        self.init(reason: reason, explanation: failure.description)
    }
}
