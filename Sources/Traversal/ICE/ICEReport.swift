import STUN

package enum ICEState: Hashable, Sendable {
    /// The peer's credentials are not known.
    case new
    case checking
    /// Data can flow; better pairs may follow.
    case connected
    /// The nominated pair is in use and no other is under way.
    case completed
    /// No pair answers; consent has not run out.
    case disconnected
    case failed
    case closed
}

/// Where data goes: by `base` to `remote`.
package struct ICEPath: Hashable, Sendable {
    package var base: ICEBase
    package var remote: Endpoint
    /// What this side's end is, as the peer sees it: reflexive behind a NAT, though checks leave from a host candidate.
    package var localType: ICECandidateType
    package var remoteType: ICECandidateType
    package var transport: ICETransport
    package var isNominated: Bool
    /// What relays add to each datagram, at most, beyond IP and UDP.
    package var overheadBytes: Int

    package var isRelayed: Bool { localType == .relayed || remoteType == .relayed }
}

/// What the caller does after a call, in order.
package enum ICEAction: Hashable, Sendable {
    /// `bytes` to `to` by the socket or relay `base`.
    case send(base: ICEBase, to: Endpoint, bytes: [UInt8])
    /// Have a connection from `base` to `to`, or go on trying to open one (RFC 6544 section 7.1). It comes ahead of
    /// each check that this side may have to connect for; what is sent before there is one waits.
    case connect(base: ICEBase, to: Endpoint)
    /// The relay `base` will hear from this peer: create a permission ahead of the checks (RFC 8445 section 7.2.1).
    /// Once for each address, until `release` or `ICEAgent.refuse`.
    case permit(base: ICEBase, peer: Endpoint)
    /// No pair needs that permission any more. Agents that share an allocation each give back what they asked for.
    case release(base: ICEBase, peer: IPAddress)
    /// Data goes by the relay `base` to this peer from now on: a channel is worth it. Comes right before `path`.
    case bindChannel(base: ICEBase, peer: Endpoint)
    /// Look this name up and call `resolve(name:)`.
    case resolve(name: String)
    /// Data goes this way from now on; nil when it may go nowhere. It comes whenever the value changes: another pair is
    /// in use, or the peer's address turned out to be a relay's, or the pair was nominated.
    case path(ICEPath?)
    /// The path carries datagrams of up to so many bytes from now on; `ICELimits.datagramBytes` until it is told.
    case datagramBytes(Int)
    /// Data leaves by `path`, and all is not well: the path before has died, and this peer follows to the new one by
    /// nothing but new credentials on both sides; or the last direct pair, or the last to fall back to, has been silent
    /// for so long that it is given up (RFC 7675 section 5.1). Call `restart`, and send an offer (RFC 8445 section 9).
    case restartWanted
    case role(ICERole)
    case state(ICEState)
    /// With `state(.failed)`: what was tried.
    case failed(ICEReport)
}

/// Why there is no connection.
package enum ICEFailure: Hashable, Sendable {
    case noLocalCandidates
    /// The peer has not told its credentials.
    case noAnswer
    case noRemoteCandidates
    /// Candidates there are, but none of a kind with the other side's: IPv4 on one side and IPv6 on the other, say.
    case noPairs
    case allPairsFailed
    /// No pair has been answered so far; some are still tried.
    case unanswered
    case consentExpired
    case consentRevoked
}

/// What an agent has tried, for a person to read.
package struct ICEReport: Hashable, Sendable {
    package struct Pair: Hashable, Sendable {
        package var local: Endpoint
        package var localType: ICECandidateType
        package var remote: Endpoint
        package var remoteType: ICECandidateType
        package var transport: ICETransport
        package var state: ICEPairState
        package var failure: ICEPairFailure?
        package var isAlive: Bool
        package var isNominated: Bool
        package var isSelected: Bool
        package var checksSent: UInt64
        package var answersReceived: UInt64
        package var requestsReceived: UInt64
        /// 0 while none was measured.
        package var roundTripNanoseconds: UInt64
    }

    /// Why there is no path; nil while there is one. It is told at any time, not only when the agent has given up.
    package var failure: ICEFailure?
    package var role: ICERole
    package var state: ICEState
    package var localCandidates: Int
    package var remoteCandidates: Int
    /// Names that nobody could resolve, or that were never answered for.
    package var unresolvedNames: [String]
    /// Best first.
    package var pairs: [Pair]
    package var counters: ICECounters
}

/// What came in and was of no use, by reason, and what was beyond a limit.
package struct ICECounters: Hashable, Sendable {
    /// No STUN message, or none of the Binding method.
    package var malformed: UInt64 = 0
    /// No MESSAGE-INTEGRITY, a wrong one, or another's user name.
    package var unauthenticated: UInt64 = 0
    /// An answer to nothing that was asked, or no longer waited for.
    package var unexpectedAnswers: UInt64 = 0
    /// Authenticated requests that were answered with 400 or 420.
    package var refusedRequests: UInt64 = 0
    package var roleConflicts: UInt64 = 0
    package var answeredRequests: UInt64 = 0
    package var indications: UInt64 = 0
    package var candidatesBeyondLimit: UInt64 = 0
    /// Of another component, generation or transport than any here.
    package var candidatesIgnored: UInt64 = 0
    /// A second address on a base that has one.
    package var candidatesOfOtherAddresses: UInt64 = 0
    package var pairsBeyondLimit: UInt64 = 0
    package var earlyChecksBeyondLimit: UInt64 = 0
    /// `permit` and `release` actions.
    package var permissionsAsked: UInt64 = 0
    package var permissionsReleased: UInt64 = 0

    package init() {}
}

extension ICEReport: CustomStringConvertible {
    package var description: String {
        var lines = ["\(state), \(role): \(localCandidates) local and \(remoteCandidates) remote candidates"]
        if let failure { lines.append("\(state == .failed ? "failed" : "so far"): \(failure.explanation)") }
        for name in unresolvedNames { lines.append("\(name): a name that could not be resolved") }
        for pair in pairs {
            let local =
                "\(pair.transport.isTCP ? "TCP " : "")\(pair.localType.rawValue) \(AddressText.text(pair.local))"
            let remote = "\(pair.remoteType.rawValue) \(AddressText.text(pair.remote))"
            var line = "\(local) -> \(remote): \(pair.explanation)"
            line += "; \(pair.checksSent) checks, \(pair.answersReceived) answers, \(pair.requestsReceived) requests"
            lines.append(line)
        }
        return lines.joined(separator: "\n")
    }
}

extension ICEReport.Pair {
    /// One line on how it stands, and why.
    package var explanation: String {
        switch state {
        case .frozen, .waiting: "not yet tried"
        case .inProgress: "no answer so far"
        case .succeeded where !isAlive: "worked, and is silent"
        case .succeeded: isSelected ? "in use" : "works"
        case .failed: failure?.explanation ?? "failed"
        }
    }
}

extension ICEPairFailure {
    package var explanation: String {
        switch self {
        case .noAnswer: "no answer: a firewall or NAT on the way, or nobody is there"
        case .unreachable: "the network says that this address cannot be reached"
        case .asymmetric: "answers come from another address than checks go to"
        case .refused(let code): "the peer refused with error \(code)"
        case .consentExpired: "it worked and went silent"
        case .consentRevoked: "it worked, and the peer wants no more by it"
        case .forbidden: "the relay does not relay to this address"
        case .baseRemoved: "its socket or relay is gone"
        }
    }
}

extension ICEFailure {
    package var explanation: String {
        switch self {
        case .noLocalCandidates: "there was no address or relay to connect from"
        case .noAnswer: "the peer has not answered"
        case .noRemoteCandidates: "the peer named no address"
        case .noPairs: "no address of the peer can be reached from any of ours: their families or transports differ"
        case .allPairsFailed: "no pair of addresses answered"
        case .unanswered: "no pair of addresses has answered yet"
        case .consentExpired: "the connection fell silent on every path"
        case .consentRevoked: "the peer has taken back its consent to be sent to"
        }
    }
}
