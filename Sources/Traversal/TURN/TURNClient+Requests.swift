import STUN

/// Making requests, and making them again.
extension TURNClient {
    mutating func request(
        _ kind: Kind,
        isRenewal: Bool = false,
        hasFreshNonce: Bool = false,
        now: UInt64,
        into actions: inout [TURNAction]
    ) {
        if isMoving, phase == .live {
            guard case .move = kind else {
                let pending = Pending(kind: kind, isSigned: false, isRenewal: isRenewal)
                return putBack(pending, now: now)
            }
        }
        let id = cryptography.randomTransaction()
        let signer = isRenewal ? renewal ?? session : session
        let bytes = build(MessageType(kind.method, .request), id) { builder in
            append(kind, to: &builder)
            if let software = configuration.software { builder.append(.software, Array(software.utf8.prefix(127))) }
            if kind.isSigned { signer.sign(&builder, cryptography) }
        }
        var request = TransactionTable<Pending>.Request(
            bytes: bytes,
            transactionID: id,
            method: kind.method,
            destination: server,
            schedule: configuration.transport.isStream ? .stream : transactions.schedule(to: server, now: now),
            key: kind.isSigned ? signer.key : nil
        )
        request.isReliable = configuration.transport.isStream
        if phase == .closing {
            request.schedule = .datagram(
                retransmissionNanoseconds: request.schedule.gapsNanoseconds.first
                    ?? Limits.initialRetransmission,
                transmissions: configuration.transport.isStream ? 1 : Limits.farewellTransmissions,
                lastWait: 4
            )
        }
        let pending = Pending(
            kind: kind,
            isSigned: signer.key != nil && kind.isSigned,
            isRenewal: isRenewal,
            hasFreshNonce: hasFreshNonce
        )
        guard !bytes.isEmpty, transactions.begin(request, pending, now: now) else {
            return fail(pending, failure(.tooManyRequests, kind.operation), now: now, into: &actions)
        }
        emit(bytes, now: now, into: &actions)
    }

    /// A message, or nothing when it does not fit.
    func build(
        _ type: MessageType,
        _ id: TransactionID,
        capacity: Int = 4_096,
        _ body: (inout MessageBuilder) -> Void
    ) -> [UInt8] {
        [UInt8](unsafeUninitializedCapacity: capacity) { buffer, count in
            var builder = MessageBuilder(type, id, into: UnsafeMutableRawBufferPointer(buffer))
            body(&builder)
            count = builder.finish() ?? 0
        }
    }

    private func append(_ kind: Kind, to builder: inout MessageBuilder) {
        switch kind {
        case .allocate: appendAllocate(to: &builder)
        case .refresh(let lifetime):
            if let lifetime { builder.append(.lifetime, lifetime) }
        case .move: builder.append(.mobilityTicket, ticket)
        case .permissions(let peers):
            for peer in peers { builder.append(.xorPeerAddress, xor: Endpoint(address: peer, port: 0)) }
        case .channel(let number, let peer):
            builder.append(.channelNumber, UInt32(number) << 16)
            builder.append(.xorPeerAddress, xor: peer)
        case .keepAlive: break
        }
    }

    private func appendAllocate(to builder: inout MessageBuilder) {
        // 17 is UDP, by the numbers of IP's header (RFC 8656 section 18.8).
        builder.append(.requestedTransport, 17 << 24 as UInt32)
        if let lifetime = configuration.lifetimeSeconds { builder.append(.lifetime, lifetime) }
        if configuration.prohibitsFragments, !leavesOut.contains(.dontFragment) { builder.append(.dontFragment, []) }
        // RFC 8016 section 3.1.1: empty, to ask for one.
        if configuration.wantsMobility, !leavesOut.contains(.mobilityTicket) { builder.append(.mobilityTicket, []) }
        if let token = configuration.reservationToken {
            builder.append(.reservationToken, token)
            return
        }
        switch configuration.parity {
        case nil: break
        case .even: builder.append(.evenPort, [0])
        // RFC 8656 section 18.7: the R bit is the first.
        case .evenReservingNext: builder.append(.evenPort, [0x80])
        }
        let v6 = UInt32(AddressFamily.ipv6.rawValue) << 24
        switch configuration.families {
        // IPv4 is what a server gives that is asked for nothing, and what one of RFC 5766 can alone.
        case .ipv4: break
        case .ipv6: builder.append(.requestedAddressFamily, v6)
        case .both where asksForIPv6Alone: builder.append(.requestedAddressFamily, v6)
        case .both:
            if !leavesOut.contains(.additionalAddressFamily) { builder.append(.additionalAddressFamily, v6) }
        }
    }
}

extension TURNClient.Kind {
    /// A Binding request needs no credential (RFC 8489 section 9.2).
    var isSigned: Bool { if case .keepAlive = self { false } else { true } }

    var method: Method {
        switch self {
        case .allocate: .allocate
        case .refresh, .move: .refresh
        case .permissions: .createPermission
        case .channel: .channelBind
        case .keepAlive: .binding
        }
    }

    var operation: TURNFailure.Operation {
        switch self {
        case .allocate: .allocate
        case .refresh, .move, .keepAlive: .refresh
        case .permissions: .createPermission
        case .channel: .channelBind
        }
    }
}
