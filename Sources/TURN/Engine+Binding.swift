import STUN

/// Binding (RFC 8489 section 3), and what a client asks with it to learn of the NATs on its way (RFC 5780).
///
/// Whoever sends the request may have forged its source, so none of this makes the server talk more than a plain
/// Binding does: every answer comes from the same budget, PADDING makes none longer than the request, and the address
/// an answer goes to is always the one the request came from.
extension Engine {
    func binding(_ request: Request, _ reply: UnsafeMutableRawBufferPointer) -> Verdict {
        let (tuple, message) = (request.tuple, request.message)
        // An error to anyone comes from the budget for errors, whatever the method (case AM-05).
        let unknown = unknownAttributes(of: message) { isDiscoveryAttribute($0, over: tuple.transport) }
        if !unknown.isEmpty { return refuse(request, .unknownAttribute, reply, unknown: unknown) }
        guard let wish = DiscoveryWish(message) else { return refuse(request, .badRequest, reply) }

        let other = configuration.discovery.other(than: tuple.server, over: tuple.transport)
        guard
            let origin = configuration.discovery.origin(
                tuple.server,
                other,
                changesAddress: wish.changesAddress,
                changesPort: wish.changesPort
            )
        else { return refuse(request, .unknownAttribute, reply, unknown: [.changeRequest]) }
        var destination = tuple.client
        if let port = wish.responsePort {
            destination.port = port
            guard mayReceive(destination, from: origin) else { return refuse(request, .forbidden, reply) }
        }

        guard take(from: bindings, configuration.bindingRepliesPerSecond, request)
        else { return .drop(.replyBudget) }
        var builder = MessageBuilder(MessageType(.binding, .successResponse), message.transactionID, into: reply)
        builder.append(.xorMappedAddress, xor: tuple.client)
        // RFC 5780 section 6.1 has these in every answer. Where no operator has set up a second address, nobody looks
        // for them in the answer to a plain request, and it stays as short as can be (case AM-01).
        if other != nil || wish.isAny {
            builder.append(.mappedAddress, plain: tuple.client)
            builder.append(.responseOrigin, plain: advertised(origin))
            if let other { builder.append(.otherAddress, plain: advertised(other)) }
        }
        if wish.isPadded { pad(&builder, message, roomBytes: reply.count) }
        let verdict = finish(&builder, request)
        if origin != tuple.server || destination != tuple.client, case .reply(let length) = verdict {
            return .replyElsewhere(length: length, from: origin, to: destination)
        }
        return verdict
    }

    /// Attributes that only a Binding request may have (RFC 5780 section 7). What tells an answer to go another way has
    /// no meaning on a connection.
    private func isDiscoveryAttribute(_ type: AttributeType, over transport: ClientTransport) -> Bool {
        guard configuration.discovery.isEnabled else { return false }
        switch type {
        case .padding: return true
        case .changeRequest, .responsePort: return transport == .udp
        default: return false
        }
    }

    /// Whether an answer may go to a port that somebody named: not to another service, which might answer it, nor to a
    /// listener of ours, which would be talking to itself (cases AM-09, AM-11).
    private func mayReceive(_ destination: Endpoint, from origin: Endpoint) -> Bool {
        !Limits.isDenied(clientPort: destination.port) && !Limits.isDenied(peerPort: destination.port)
            && !ownHost.isListener(destination) && destination != origin
    }

    /// What clients reach this host's endpoint by.
    private func advertised(_ endpoint: Endpoint) -> Endpoint {
        guard let outside = configuration.outsideAddresses[endpoint.address] else { return endpoint }
        return Endpoint(address: outside, port: endpoint.port)
    }

    /// Makes the answer as long as the request at most. RFC 5780 section 6.1 would have the interface's MTU, whatever
    /// was sent; that would be an amplifier (case AM-07). A client that wants fragments back sends them.
    private func pad(_ builder: inout MessageBuilder, _ message: MessageView, roomBytes: Int) {
        let fingerprintBytes = message.fingerprintOffset == 0 ? 0 : 8
        let length = min(message.bytes.count, roomBytes) - builder.count - fingerprintBytes - 4
        if length >= 0 { builder.append(paddingBytes: length & ~3) }
    }
}

/// What a Binding request asks beside its address.
private struct DiscoveryWish {
    var changesAddress = false
    var changesPort = false
    var responsePort: UInt16?
    var isPadded = false
    /// Something was asked, if only with an attribute that has no flag set.
    var isAny = false

    /// Nil for a bad request. Attributes that the server does not offer were refused before.
    init?(_ message: MessageView) {
        if let value = message.first(.changeRequest) {
            guard value.count == 4 else { return nil }
            // RFC 5780 section 7.2: A is the third bit from the right, B the second.
            let flags = value.uint32(at: 0)
            changesAddress = flags & 4 != 0
            changesPort = flags & 2 != 0
            isAny = true
        }
        if let value = message.first(.responsePort) {
            // Section 7.5: two bytes and two of padding, which some count into the length.
            guard value.count == 2 || value.count == 4 else { return nil }
            responsePort = value.uint16(at: 0)
            isAny = true
        }
        if message.first(.padding) != nil {
            // Sections 6.1 and 10: together they would send something large to somebody else.
            guard responsePort == nil else { return nil }
            isPadded = true
            isAny = true
        }
    }
}
