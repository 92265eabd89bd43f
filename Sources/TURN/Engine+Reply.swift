import STUN

/// Building answers.
extension Engine {
    /// The user a request was proved to come from. The key that signs the answer is in `signingKey`.
    struct Authentication {
        /// Who it is, for quotas and ownership: the name without the expiry of a time-limited credential.
        let identity: String
        let integrity: Integrity
        let keyLength: Int
        /// The nonce was not made for where the request came from. Only a ConnectionBind gets so far with one.
        let hasBorrowedNonce: Bool
        let maximumAllocations: Int?
        /// The user's own limit, as in `UserRecord`.
        let bitsPerSecond: UInt64?
        /// The user has used up the month's bytes.
        let isOverQuota: Bool
        let credentialExpirySeconds: UInt64?
    }

    /// An error answer to someone who has proved nothing. It is short, unsigned, and taken from the source's budget.
    func refuse(
        _ request: Request,
        _ code: ErrorCode,
        _ reply: UnsafeMutableRawBufferPointer,
        unknown: [AttributeType] = []
    ) -> Verdict {
        guard takeReply(request) else { return .drop(.replyBudget) }
        var builder = MessageBuilder(
            MessageType(request.method, .errorResponse),
            request.message.transactionID,
            into: reply
        )
        builder.append(error: code)
        if !unknown.isEmpty { builder.append(unknown: unknown) }
        return finish(&builder, request)
    }

    /// 401 or 438, with what a client needs to try again (RFC 8489 section 9.2.4).
    mutating func challenge(
        _ request: Request,
        _ code: ErrorCode,
        _ reply: UnsafeMutableRawBufferPointer
    ) -> Verdict {
        guard takeReply(request) else { return .drop(.replyBudget) }
        var builder = MessageBuilder(
            MessageType(request.method, .errorResponse),
            request.message.transactionID,
            into: reply
        )
        builder.append(error: code)
        withUnsafeTemporaryAllocation(byteCount: Nonce.length, alignment: 1) { nonce in
            Nonce.issue(
                for: request.tuple.client,
                wallSeconds: request.moment.wallSeconds,
                keys: configuration.nonceKeys,
                with: cryptography,
                into: nonce
            )
            builder.append(.nonce, UnsafeRawBufferPointer(nonce))
        }
        var realm = configuration.realm
        realm.withUTF8 { builder.append(.realm, UnsafeRawBufferPointer($0)) }
        withUnsafeBytes(of: configuration.passwordAlgorithms) {
            builder.append(.passwordAlgorithms, $0.slice(0, configuration.passwordAlgorithmsLength))
        }
        return finish(&builder, request)
    }

    /// An error answer to an authenticated request, signed.
    func fail(
        _ request: Request,
        _ code: ErrorCode,
        _ authentication: Authentication,
        _ reply: UnsafeMutableRawBufferPointer,
        unknown: [AttributeType] = []
    ) -> Verdict {
        var builder = MessageBuilder(
            MessageType(request.method, .errorResponse),
            request.message.transactionID,
            into: reply
        )
        builder.append(error: code)
        if !unknown.isEmpty { builder.append(unknown: unknown) }
        return finish(&builder, request, authentication)
    }

    /// Begins a success answer to an authenticated request; `finish` signs it.
    func success(_ request: Request, _ reply: UnsafeMutableRawBufferPointer) -> MessageBuilder {
        MessageBuilder(
            MessageType(request.method, .successResponse),
            request.message.transactionID,
            into: reply
        )
    }

    func finish(
        _ builder: inout MessageBuilder,
        _ request: Request,
        _ authentication: Authentication? = nil
    ) -> Verdict {
        if let authentication {
            let key = UnsafeRawBufferPointer(signingKey).slice(0, authentication.keyLength)
            builder.append(authentication.integrity, key: key, with: cryptography)
        }
        // FINGERPRINT is mirrored: whoever did not send it does not need its eight bytes.
        if request.message.fingerprintOffset != 0 { builder.appendFingerprint() }
        // No answer outgrows the buffer; if one did, silence would be the right size.
        return builder.finish().map(Verdict.reply(length:)) ?? .handled
    }

    /// Attributes of a request that must be understood and are not, or nothing (RFC 8489 section 6.3.1).
    /// - Parameter known: further ones that this kind of request may have.
    func unknownAttributes(
        of message: MessageView,
        known: (AttributeType) -> Bool = { _ in false }
    ) -> [AttributeType] {
        var unknown: [AttributeType] = []
        var iterator = message.attributes
        while let attribute = iterator.next(), unknown.count < Limits.unknownAttributesListed {
            if attribute.type.isComprehensionRequired, !Self.understands(attribute.type),
                !known(attribute.type), !unknown.contains(attribute.type)
            {
                unknown.append(attribute.type)
            }
        }
        return unknown
    }

    private func takeReply(_ request: Request) -> Bool {
        take(from: replies, configuration.unauthenticatedRepliesPerSecond, request)
    }

    /// Budgets are for sources that may be forged; one that holds a connection or a session is not.
    func take(from budget: ReplyBudget, _ limit: UInt32, _ request: Request) -> Bool {
        request.tuple.transport.isProven
            || budget.take(request.tuple.client.address, limit: limit, at: request.moment)
    }

    private static func understands(_ type: AttributeType) -> Bool {
        switch type {
        case .mappedAddress, .username, .messageIntegrity, .errorCode, .unknownAttributes, .realm, .nonce,
            .messageIntegritySHA256, .passwordAlgorithm, .userhash, .xorMappedAddress, .channelNumber, .lifetime,
            .xorPeerAddress, .data, .xorRelayedAddress, .requestedAddressFamily, .evenPort, .requestedTransport,
            .dontFragment, .reservationToken, .connectionID:
            true
        default:
            false
        }
    }
}
