import STUN

/// Why something with a TURN server did not work, in words for whoever has to mend it.
package struct TURNFailure: Error, Equatable, Sendable, CustomStringConvertible {
    package enum Reason: Equatable, Sendable {
        case wrongCredentials
        /// 441: the allocation is another user's.
        case foreignAllocation
        case serverSilent
        /// Answers came, and none was made with this password.
        case unverifiedAnswers
        case bidDown
        case noCommonAlgorithm
        case nonceNeverFresh
        case quotaReached
        case outOfCapacity
        case familyUnavailable
        case peerFamilyMismatch
        case unsupportedTransport
        case forbidden
        case mobilityForbidden
        /// 437 for an Allocate: the server thinks that this 5-tuple is in use.
        case portInUse
        /// 437 for anything else: the server knows of no allocation.
        case allocationLost
        case allocationExpired
        case redirectionLoop
        case redirectionRefused
        case badRequest
        case unknownAttributes
        case serverError
        case malformedAnswer
        case unexpectedCode
        case connectionLost
        /// What came by the stream is neither STUN nor ChannelData.
        case desynchronised
        case tooManyRequests
        case longCredential
    }

    package enum Operation: String, Sendable {
        case allocate = "Allocate"
        case refresh = "Refresh"
        case createPermission = "CreatePermission"
        case channelBind = "ChannelBind"
        case connection = "the connection"
    }

    package var reason: Reason
    package var operation: Operation
    /// The server's error code, and its own words, where it gave any.
    package var code: UInt16?
    package var phrase = ""
    package var server: Endpoint
    package var transport: TURNConfiguration.Transport

    package init(
        reason: Reason,
        operation: Operation,
        code: UInt16? = nil,
        phrase: String = "",
        server: Endpoint,
        transport: TURNConfiguration.Transport
    ) {
        self.reason = reason
        self.operation = operation
        self.code = code
        self.phrase = phrase
        self.server = server
        self.transport = transport
    }

    /// When the same may work, if it may: RFC 8656 section 7.4 has a minute for 486 and 508.
    package var retryAfterSeconds: UInt64? {
        switch reason {
        case .quotaReached, .outOfCapacity, .serverError: 60
        case .serverSilent, .connectionLost, .allocationLost, .allocationExpired: 0
        default: nil
        }
    }

    /// The server has looked at the request and does not want it; asking again would not change that.
    var isRefusal: Bool {
        switch reason {
        case .forbidden, .peerFamilyMismatch, .badRequest, .unknownAttributes, .unexpectedCode, .familyUnavailable,
            .unsupportedTransport, .mobilityForbidden:
            true
        default: false
        }
    }

    /// It is the server that says no, be it for good or for a while, and not the way to it.
    package var isServersWord: Bool {
        switch reason {
        case .quotaReached, .outOfCapacity, .serverError: true
        default: isRefusal
        }
    }

    package var description: String {
        let said = [code.map { String($0) } ?? "", phrase].filter { !$0.isEmpty }.joined(separator: " ")
        let answer = said.isEmpty ? "" : " (\(said))"
        return "\(operation.rawValue) over \(transport.rawValue): \(words)\(answer)"
    }

    private var words: String {
        switch reason {
        case .wrongCredentials:
            "the server does not accept this username and password; a time-limited credential may have expired"
        case .foreignAllocation: "the allocation was made with another user's credential"
        case .serverSilent:
            transport.isStream
                ? "the server takes the connection and does not answer"
                : "the server does not answer; \(transport.rawValue) may be blocked on the way, or no server be there"
        case .unverifiedAnswers:
            "answers came that were not made with this password: it is not the server's, or somebody changes them on "
                + "the way"
        case .bidDown: "somebody on the way has taken the stronger password algorithms out of the server's answer"
        case .noCommonAlgorithm: "the server offers no password algorithm that this client knows"
        case .nonceNeverFresh: "the server calls even its newest nonce stale"
        case .quotaReached: "this user has as many allocations as the server allows, or has used up a quota"
        case .outOfCapacity: "the server has no relay port free, or takes no more allocations"
        case .familyUnavailable: "the server has no relay address of this family"
        case .peerFamilyMismatch: "the relayed address is of another family than the peer's"
        case .unsupportedTransport: "the server does not relay this transport"
        case .forbidden: "the server's policy forbids it"
        case .mobilityForbidden: "the server does not let allocations move"
        case .portInUse: "the server holds an older allocation for this very port; other ports did not help"
        case .allocationLost: "the server has no such allocation any more; it may have been restarted"
        case .allocationExpired: "the allocation could not be refreshed in time"
        case .redirectionLoop: "the server sends its clients round in a circle"
        case .redirectionRefused: "the server sends its clients to an address that is not to be trusted"
        case .badRequest: "the server finds the request malformed"
        case .unknownAttributes: "one side uses attributes that the other does not know"
        case .serverError: "the server has failed"
        case .malformedAnswer: "the server's answer lacks what it must have"
        case .unexpectedCode: "the server refuses for a reason that this client does not know"
        case .connectionLost: "the connection to the server broke"
        case .desynchronised: "what comes by the connection is not TURN"
        case .tooManyRequests: "too many requests are under way"
        case .longCredential: "the username is longer than STUN can carry, or empty"
        }
    }
}
