import STUN

/// Refresh (RFC 8656 section 8.2), and the look-up that every later request begins with.
extension Engine {
    mutating func refresh(
        _ request: Request,
        _ authentication: Authentication,
        _ reply: UnsafeMutableRawBufferPointer
    ) -> Verdict {
        let wished = request.message.first(.lifetime)
        let family = request.message.first(.requestedAddressFamily)
        guard wished.map({ $0.count == 4 }) ?? true, family.map({ $0.count == 4 }) ?? true else {
            return fail(request, .badRequest, authentication, reply)
        }
        let wishedSeconds = wished.map { $0.uint32(at: 0) }
        // The first Refresh of this transaction ended the allocation, or a family of it; the second gets its answer. It
        // must not end an allocation that the client has made since.
        if wishedSeconds == 0, deletions.contains(request.tuple, request.message.transactionID, at: request.moment) {
            return refreshed(0, request, authentication, reply)
        }
        if let ticket = request.message.first(.mobilityTicket),
            let verdict = refreshMoved(
                request,
                ticket,
                (seconds: wishedSeconds, family: family.map { $0[0] }),
                authentication,
                reply
            )
        {
            return verdict
        }
        let index: UInt32
        switch owned(request, authentication) {
        case .failure(let code): return fail(request, code.value, authentication, reply)
        case .success(let found): index = found
        }
        let slot = allocations[index]
        // Who has come here with a ticket and asks again gets the next one again.
        let isMoved = configuration.allowsMobility && request.message.first(.mobilityTicket) != nil
        let ticket = isMoved ? ticket(of: index) : nil
        if isRetransmission(request, of: index) {
            return refreshed(slot.pointee.lastLifetimeSeconds, request, authentication, reply, ticket: ticket)
        }
        guard let touched = legs(of: index, family.map { $0[0] }) else {
            return fail(request, .peerAddressFamilyMismatch, authentication, reply)
        }
        if wishedSeconds == 0 {
            deletions.remember(request.tuple, request.message.transactionID, at: request.moment)
            note(request, index, lifetimeSeconds: 0)
            close(index, primary: touched.primary, secondary: touched.secondary, .released, at: request.moment)
            return refreshed(0, request, authentication, reply)
        }
        // No longer life for one who has used up the month's bytes; ending it, above, stays free to everyone.
        guard !authentication.isOverQuota else {
            return fail(request, .allocationQuotaReached, authentication, reply)
        }
        slot.pointee.ownBitsPerSecond = authentication.bitsPerSecond
        limitBandwidth(of: index)
        let hardDeadline = hardDeadline(authentication, request.moment)
        let lifetime = lifetime(wishedSeconds, request.moment, hardDeadline)
        prolong(index, touched, lifetime, hardDeadline, at: request.moment)
        note(request, index, lifetimeSeconds: lifetime)
        return refreshed(lifetime, request, authentication, reply, ticket: ticket)
    }

    func refreshed(
        _ lifetimeSeconds: UInt32,
        _ request: Request,
        _ authentication: Authentication,
        _ reply: UnsafeMutableRawBufferPointer,
        ticket: MobilityTicket? = nil
    ) -> Verdict {
        var builder = success(request, reply)
        builder.append(.lifetime, lifetimeSeconds)
        if let ticket { append(ticket, to: &builder) }
        return finish(&builder, request, authentication)
    }

    func append(_ ticket: MobilityTicket, to builder: inout MessageBuilder) {
        builder.append(.mobilityTicket, ticket.sealed(ticketKeys, with: cryptography))
    }

    /// The open legs that a Refresh is about: all, or those of the family it names.
    /// - Returns: nil when there are none.
    func legs(of index: UInt32, _ family: UInt8?) -> (primary: Bool, secondary: Bool)? {
        let slot = allocations[index]
        var primary = slot.pointee.primary.isOpen
        var secondary = slot.pointee.secondary.isOpen
        if let family {
            let value = AddressFamily(rawValue: family)
            primary = primary && slot.pointee.primary.advertised.family == value
            secondary = secondary && slot.pointee.secondary.advertised.family == value
            guard primary || secondary else { return nil }
        }
        return (primary, secondary)
    }

    mutating func prolong(
        _ index: UInt32,
        _ touched: (primary: Bool, secondary: Bool),
        _ lifetimeSeconds: UInt32,
        _ hardDeadline: UInt64,
        at moment: Moment
    ) {
        let slot = allocations[index]
        slot.pointee.hardDeadlineNanoseconds = hardDeadline
        let expiry = min(moment.after(seconds: UInt64(lifetimeSeconds)), hardDeadline)
        if touched.primary { slot.pointee.primary.expiryNanoseconds = expiry }
        if touched.secondary { slot.pointee.secondary.expiryNanoseconds = expiry }
        schedule(index, noLaterThan: expiry)
    }

    /// The allocation a request is about: 437 when there is none, 441 when it is somebody else's (RFC 8656 section 5).
    func owned(_ request: Request, _ authentication: Authentication) -> Result<UInt32, RefusalCode> {
        let index = allocation(of: request.tuple)
        guard index != noIndex else { return .failure(RefusalCode(.allocationMismatch)) }
        guard users.name(allocations[index].pointee.user) == authentication.identity else {
            return .failure(RefusalCode(.wrongCredentials))
        }
        return .success(index)
    }

    /// Whether this is the last request that took effect on the allocation, sent again.
    func isRetransmission(_ request: Request, of index: UInt32) -> Bool {
        allocations[index].pointee.lastTransaction == request.message.transactionID
            && allocations[index].pointee.lastMethod == request.method.rawValue
    }

    /// Remembers a request that took effect.
    func note(_ request: Request, _ index: UInt32, lifetimeSeconds: UInt32 = 0) {
        let slot = allocations[index]
        slot.pointee.lastTransaction = request.message.transactionID
        slot.pointee.lastMethod = request.method.rawValue
        slot.pointee.lastLifetimeSeconds = lifetimeSeconds
    }
}
