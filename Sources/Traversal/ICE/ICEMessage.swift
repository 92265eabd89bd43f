import STUN

extension AttributeType {
    // RFC 8445 section 16.1
    static let priority = AttributeType(rawValue: 0x0024)
    static let useCandidate = AttributeType(rawValue: 0x0025)
    static let iceControlled = AttributeType(rawValue: 0x8029)
    static let iceControlling = AttributeType(rawValue: 0x802A)
    /// The number of a nomination: draft-thatcher-ice-renomination, as libwebrtc writes it.
    static let nomination = AttributeType(rawValue: 0xC001)
}

/// A connectivity check's content (RFC 8445 section 7.1).
struct ICERequest {
    var username: [UInt8]
    var priority: UInt32
    var role: ICERole
    var tieBreaker: UInt64
    var usesCandidate = false
    /// 0 for none.
    var nomination: UInt32 = 0
    /// What the message is filled up to, with PADDING; a multiple of 4. Nil for one as short as can be.
    var lengthBytes: Int?

    /// - Returns: nothing when a credential is longer than the limits allow.
    func encoded(_ transaction: TransactionID, key: [UInt8], with cryptography: any Cryptography) -> [UInt8] {
        let room = max(ICELimits.messageBytes, lengthBytes ?? 0)
        return ICEMessage.build(
            MessageType(.binding, .request),
            transaction,
            key: key,
            with: cryptography,
            roomBytes: room
        ) { builder in
            builder.append(.username, username)
            builder.append(.priority, priority)
            builder.append(role == .controlling ? .iceControlling : .iceControlled, tieBreaker)
            if usesCandidate { builder.append(.useCandidate, []) }
            if nomination > 0 { builder.append(.nomination, nomination) }
            if let lengthBytes {
                builder.append(paddingBytes: max(0, lengthBytes - builder.count - ICEMessage.paddedTailBytes))
            }
        }
    }

    /// What an authenticated request says; nil when PRIORITY or the role is missing or malformed.
    init?(_ message: MessageView, username: [UInt8]) {
        guard let priority = message.first(.priority), priority.count == 4 else { return nil }
        self.username = username
        self.priority = priority.uint32(at: 0)
        if let controlling = message.first(.iceControlling), controlling.count == 8 {
            (role, tieBreaker) = (.controlling, controlling.uint64(at: 0))
        } else if let controlled = message.first(.iceControlled), controlled.count == 8 {
            (role, tieBreaker) = (.controlled, controlled.uint64(at: 0))
        } else {
            return nil
        }
        usesCandidate = message.first(.useCandidate) != nil
        if let nomination = message.first(.nomination), nomination.count == 4 {
            self.nomination = nomination.uint32(at: 0)
        }
    }

    init(username: [UInt8], priority: UInt32, role: ICERole, tieBreaker: UInt64) {
        self.username = username
        self.priority = priority
        self.role = role
        self.tieBreaker = tieBreaker
    }
}

enum ICEMessage {
    /// PADDING's own header, MESSAGE-INTEGRITY and FINGERPRINT.
    static let paddedTailBytes = 4 + 24 + 8
    static let roleConflict: UInt32 = 4 << 8 | 87
    static let badRequest: UInt32 = 4 << 8
    static let unknownAttribute: UInt32 = 4 << 8 | 20

    static func success(
        _ transaction: TransactionID,
        mapped: Endpoint,
        key: [UInt8],
        with cryptography: any Cryptography
    ) -> [UInt8] {
        build(MessageType(.binding, .successResponse), transaction, key: key, with: cryptography) { builder in
            builder.append(.xorMappedAddress, xor: mapped)
        }
    }

    static func failure(
        _ transaction: TransactionID,
        code: UInt32,
        unknown: [AttributeType] = [],
        key: [UInt8],
        with cryptography: any Cryptography
    ) -> [UInt8] {
        build(MessageType(.binding, .errorResponse), transaction, key: key, with: cryptography) { builder in
            builder.append(.errorCode, code)
            if !unknown.isEmpty { builder.append(unknown: unknown) }
        }
    }

    static func build(
        _ type: MessageType,
        _ transaction: TransactionID,
        key: [UInt8],
        with cryptography: any Cryptography,
        roomBytes: Int = ICELimits.messageBytes,
        _ attributes: (inout MessageBuilder) -> Void
    ) -> [UInt8] {
        withUnsafeTemporaryAllocation(byteCount: roomBytes, alignment: 8) { space in
            var builder = MessageBuilder(type, transaction, into: space)
            attributes(&builder)
            key.withUnsafeBytes { builder.append(.sha1, key: $0, with: cryptography) }
            // RFC 8445 section 7.2.2: checks are told from other protocols by FINGERPRINT.
            builder.appendFingerprint()
            return builder.finish().map { Array(UnsafeRawBufferPointer(space).slice(0, $0)) } ?? []
        }
    }

    static func isAuthentic(_ message: MessageView, key: [UInt8], with cryptography: any Cryptography) -> Bool {
        key.withUnsafeBytes { Integrity.sha1.verifies(message, key: $0, with: cryptography) }
    }

    /// The number in ERROR-CODE, or 0.
    static func errorCode(_ message: MessageView) -> UInt16 {
        guard let value = message.first(.errorCode), value.count >= 4 else { return 0 }
        return UInt16(value[2] & 7) * 100 + UInt16(value[3])
    }

    /// Attributes of a request that must be understood and are not (RFC 8489 section 6.3.1).
    static func unknownAttributes(_ message: MessageView) -> [AttributeType] {
        var unknown: [AttributeType] = []
        var iterator = message.attributes
        while let attribute = iterator.next(), unknown.count < ICELimits.unknownAttributesListed {
            if attribute.type.isComprehensionRequired, !understood.contains(attribute.type) {
                unknown.append(attribute.type)
            }
        }
        return unknown
    }

    private static let understood: Set<AttributeType> = [
        .username, .messageIntegrity, .messageIntegritySHA256, .priority, .useCandidate,
        // RFC 5780 section 7.6: of a probe of the path MTU.
        .padding,
    ]
}
