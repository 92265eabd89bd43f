/// An attribute's 16-bit type (RFC 8489 section 14). Types below 0x8000 must be understood by who receives them.
package struct AttributeType: RawRepresentable, Hashable, Sendable {
    package let rawValue: UInt16

    @inlinable
    package init(rawValue: UInt16) { self.rawValue = rawValue }

    package var isComprehensionRequired: Bool { rawValue < 0x8000 }

    // RFC 8489 section 18.3
    package static let mappedAddress = AttributeType(rawValue: 0x0001)
    package static let username = AttributeType(rawValue: 0x0006)
    package static let messageIntegrity = AttributeType(rawValue: 0x0008)
    package static let errorCode = AttributeType(rawValue: 0x0009)
    package static let unknownAttributes = AttributeType(rawValue: 0x000A)
    package static let realm = AttributeType(rawValue: 0x0014)
    package static let nonce = AttributeType(rawValue: 0x0015)
    package static let messageIntegritySHA256 = AttributeType(rawValue: 0x001C)
    package static let passwordAlgorithm = AttributeType(rawValue: 0x001D)
    package static let userhash = AttributeType(rawValue: 0x001E)
    package static let xorMappedAddress = AttributeType(rawValue: 0x0020)
    package static let passwordAlgorithms = AttributeType(rawValue: 0x8002)
    package static let alternateDomain = AttributeType(rawValue: 0x8003)
    package static let software = AttributeType(rawValue: 0x8022)
    package static let alternateServer = AttributeType(rawValue: 0x8023)
    package static let fingerprint = AttributeType(rawValue: 0x8028)

    // RFC 8656 section 18
    package static let channelNumber = AttributeType(rawValue: 0x000C)
    package static let lifetime = AttributeType(rawValue: 0x000D)
    package static let xorPeerAddress = AttributeType(rawValue: 0x0012)
    package static let data = AttributeType(rawValue: 0x0013)
    package static let xorRelayedAddress = AttributeType(rawValue: 0x0016)
    package static let requestedAddressFamily = AttributeType(rawValue: 0x0017)
    package static let evenPort = AttributeType(rawValue: 0x0018)
    package static let requestedTransport = AttributeType(rawValue: 0x0019)
    package static let dontFragment = AttributeType(rawValue: 0x001A)
    package static let reservationToken = AttributeType(rawValue: 0x0022)
    package static let additionalAddressFamily = AttributeType(rawValue: 0x8000)
    package static let addressErrorCode = AttributeType(rawValue: 0x8001)
    package static let icmp = AttributeType(rawValue: 0x8004)

    // RFC 5780 section 7
    package static let changeRequest = AttributeType(rawValue: 0x0003)
    package static let padding = AttributeType(rawValue: 0x0026)
    package static let responsePort = AttributeType(rawValue: 0x0027)
    package static let responseOrigin = AttributeType(rawValue: 0x802B)
    package static let otherAddress = AttributeType(rawValue: 0x802C)

    // RFC 3489 section 11.2.3; RFC 5780 has OTHER-ADDRESS instead.
    package static let changedAddress = AttributeType(rawValue: 0x0005)

    // RFC 6062 section 6.2 and RFC 8016 section 3
    package static let connectionID = AttributeType(rawValue: 0x002A)
    package static let mobilityTicket = AttributeType(rawValue: 0x8030)
}

/// The error codes this server answers with (RFC 8489 section 18.4, RFC 8656 section 19, RFC 6062 section 6.3).
package enum ErrorCode: UInt16, Hashable, Sendable {
    case tryAlternate = 300
    case badRequest = 400
    case unauthenticated = 401
    case forbidden = 403
    case mobilityForbidden = 405
    case unknownAttribute = 420
    case allocationMismatch = 437
    case staleNonce = 438
    case addressFamilyNotSupported = 440
    case wrongCredentials = 441
    case unsupportedTransport = 442
    case peerAddressFamilyMismatch = 443
    case connectionAlreadyExists = 446
    case connectionTimeoutOrFailure = 447
    case allocationQuotaReached = 486
    case serverError = 500
    case insufficientCapacity = 508
}
