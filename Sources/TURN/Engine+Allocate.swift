import STUN

/// Allocate (RFC 8656 section 7.2, whose numbers the comments give).
extension Engine {
    mutating func allocate(
        _ request: Request,
        _ authentication: Authentication,
        _ reply: UnsafeMutableRawBufferPointer
    ) -> Verdict {
        let existing = allocation(of: request.tuple)
        if existing != noIndex {
            // 2, and its note: the same transaction again gets the same answer, another one 437.
            guard allocations[existing].pointee.allocateTransaction == request.message.transactionID,
                users.name(allocations[existing].pointee.user) == authentication.identity
            else { return fail(request, .allocationMismatch, authentication, reply) }
            return allocated(existing, request, authentication, reply)
        }
        // An allocation is about to come to this 5-tuple.
        guard arrivals.isEmpty || arrivals[request.tuple] == nil else {
            return fail(request, .allocationMismatch, authentication, reply)
        }
        // RFC 8656 section 21.4.
        guard PeerPolicy.acceptsClient(at: request.tuple.client.address) else {
            return fail(request, .forbidden, authentication, reply)
        }
        let wish: AllocateWish
        switch AllocateWish.read(request.message, relaysTCP: configuration.relaysTCP) {
        case .failure(let code): return fail(request, code.value, authentication, reply)
        case .success(let read): wish = read
        }
        // RFC 6062 section 5.1: a client of a TCP allocation speaks TCP itself.
        guard !wish.isStream || request.tuple.transport.isStream else {
            return fail(request, .badRequest, authentication, reply)
        }
        // An allocation that relays TCP stays with its connection, which its peers depend on: it is given no ticket.
        let isMobile = configuration.allowsMobility && !wish.isStream
        let ticket = isMobile ? request.message.first(.mobilityTicket) : nil
        // RFC 8016 section 3.1.2: an empty one asks for a ticket, and there is no other to show yet.
        guard ticket?.count ?? 0 == 0 else { return fail(request, .badRequest, authentication, reply) }
        guard !configuration.isDraining else { return redirect(request, authentication, reply) }
        guard !authentication.isOverQuota else {
            return fail(request, .allocationQuotaReached, authentication, reply)
        }
        let userLimit = authentication.maximumAllocations ?? configuration.allocationsPerUser
        switch quota.reserve(
            authentication.identity,
            userLimit: userLimit,
            totalLimit: configuration.allocationsTotal
        )
        {
        case .userLimitReached: return fail(request, .allocationQuotaReached, authentication, reply)
        case .totalLimitReached: return fail(request, .insufficientCapacity, authentication, reply)
        case .granted: break
        }
        switch open(wish, request, authentication) {
        case .failure(let code):
            quota.release(authentication.identity)
            return fail(request, code.value, authentication, reply)
        case .success(let index):
            if ticket != nil { makeMobile(index) }
            counters.allocationsMade &+= 1
            host.report(.made(summary(of: index, at: request.moment)))
            return allocated(index, request, authentication, reply)
        }
    }

    private mutating func open(
        _ wish: AllocateWish,
        _ request: Request,
        _ authentication: Authentication
    ) -> Result<UInt32, RefusalCode> {
        let moment = request.moment
        let hardDeadline = hardDeadline(authentication, moment)
        let lifetime = lifetime(wish.lifetimeSeconds, moment, hardDeadline)
        let record = Allocation(
            tuple: request.tuple,
            primary: .none,
            secondary: .none,
            listener: request.listener,
            user: 0,
            generation: 0,
            isLive: false,
            isStream: wish.isStream,
            permissionTokens: permissionBurst,
            permissionTokensAtNanoseconds: moment.monotonicNanoseconds,
            hardDeadlineNanoseconds: hardDeadline,
            allocateTransaction: request.message.transactionID,
            allocateLifetimeSeconds: lifetime,
            reservationToken: 0,
            lastTransaction: request.message.transactionID,
            createdNanoseconds: moment.monotonicNanoseconds
        )
        let isFirstUse = allocations.count == allocations.everUsed
        guard let index = allocations.insert(record) else { return .failure(RefusalCode(.insufficientCapacity)) }
        let slot = allocations[index]
        slot.pointee.generation = isFirstUse ? 1 : nextGeneration(index)

        var relay = RelayRequest(
            allocation: index,
            generation: slot.pointee.generation,
            isSecondary: false,
            family: wish.family,
            clientSide: request.tuple.server.address,
            parity: wish.parity,
            isStream: wish.isStream
        )
        switch host.openRelay(relay) {
        case .familyUnavailable:
            abandon(index)
            return .failure(RefusalCode(.addressFamilyNotSupported))
        case .exhausted:
            abandon(index)
            return .failure(RefusalCode(.insufficientCapacity))
        case .opened(let leg, let token):
            slot.pointee.primary = leg
            slot.pointee.reservationToken = token
        }
        if let additional = wish.additionalFamily {
            // 9: what cannot be had of the second family is told beside the success of the first.
            relay.isSecondary = true
            relay.family = additional
            relay.parity = .any
            let refusal: ErrorCode?
            switch host.openRelay(relay) {
            case .opened(let leg, _):
                slot.pointee.secondary = leg
                refusal = nil
            case .familyUnavailable: refusal = .addressFamilyNotSupported
            case .exhausted: refusal = .insufficientCapacity
            }
            if let refusal {
                slot.pointee.addressErrorFamily = additional.rawValue
                slot.pointee.addressErrorCode = refusal.rawValue
            }
        }
        let expiry = min(moment.after(seconds: UInt64(lifetime)), hardDeadline)
        slot.pointee.primary.expiryNanoseconds = expiry
        slot.pointee.secondary.expiryNanoseconds = expiry
        slot.pointee.user = users.retain(authentication.identity)
        slot.pointee.ownBitsPerSecond = authentication.bitsPerSecond
        limitBandwidth(of: index)
        slot.pointee.isLive = true
        allocationByTuple.insert(hash(request.tuple), index)
        schedule(index, noLaterThan: expiry)
        return .success(index)
    }

    /// The success answer, from what the allocation remembers, so that a retransmission gets the same bytes.
    private func allocated(
        _ index: UInt32,
        _ request: Request,
        _ authentication: Authentication,
        _ reply: UnsafeMutableRawBufferPointer
    ) -> Verdict {
        let slot = allocations[index]
        var builder = success(request, reply)
        // A family that has been refreshed to its end since is no longer told.
        if slot.pointee.primary.isOpen { builder.append(.xorRelayedAddress, xor: slot.pointee.primary.advertised) }
        if slot.pointee.secondary.isOpen {
            builder.append(.xorRelayedAddress, xor: slot.pointee.secondary.advertised)
        }
        builder.append(.lifetime, slot.pointee.allocateLifetimeSeconds)
        builder.append(.xorMappedAddress, xor: request.tuple.client)
        if slot.pointee.reservationToken != 0 { builder.append(.reservationToken, slot.pointee.reservationToken) }
        if let ticket = ticket(of: index) { append(ticket, to: &builder) }
        if let family = AddressFamily(rawValue: slot.pointee.addressErrorFamily),
            let code = ErrorCode(rawValue: slot.pointee.addressErrorCode)
        {
            builder.append(addressError: code, family: family)
        }
        return finish(&builder, request, authentication)
    }

    /// What a client gets of the lifetime it wishes for: never less than the default nor more than the maximum
    /// (RFC 8656 section 7.2), and not past the end of its credential.
    func lifetime(_ wished: UInt32?, _ moment: Moment, _ hardDeadline: UInt64) -> UInt32 {
        let granted = min(max(wished ?? 0, Limits.defaultLifetimeSeconds), Limits.maximumLifetimeSeconds)
        guard hardDeadline != .max else { return granted }
        let left =
            hardDeadline > moment.monotonicNanoseconds
            ? (hardDeadline - moment.monotonicNanoseconds) / 1_000_000_000 : 0
        return UInt32(min(UInt64(granted), max(left, 1)))
    }

    func hardDeadline(_ authentication: Authentication, _ moment: Moment) -> UInt64 {
        deadline(ofExpirySeconds: authentication.credentialExpirySeconds, moment)
    }

    /// The monotonic end of a credential and its grace; `.max` for one without an end.
    func deadline(ofExpirySeconds expiry: UInt64?, _ moment: Moment) -> UInt64 {
        guard let expiry else { return .max }
        let left = expiry > moment.wallSeconds ? expiry - moment.wallSeconds : 0
        let (sum, overflow) = left.addingReportingOverflow(Limits.credentialGraceSeconds)
        return moment.after(seconds: overflow ? .max : sum)
    }

    private mutating func abandon(_ index: UInt32) { allocations.remove(index) }

    mutating func nextGeneration(_ index: UInt32) -> UInt32 {
        generations &+= 1
        return generations
    }
}

/// An error code as a `Result`'s failure.
struct RefusalCode: Error {
    let value: ErrorCode

    init(_ value: ErrorCode) { self.value = value }
}

/// What an Allocate request asks for.
struct AllocateWish {
    var family = AddressFamily.ipv4
    var additionalFamily: AddressFamily?
    var parity = RelayRequest.Parity.any
    var lifetimeSeconds: UInt32?
    /// TCP is to be relayed.
    var isStream = false

    /// Checks in the order of RFC 8656 section 7.2, items 3 to 9.
    static func read(_ message: MessageView, relaysTCP: Bool) -> Result<AllocateWish, RefusalCode> {
        var wish = AllocateWish()
        guard let transport = message.first(.requestedTransport), transport.count == 4 else {
            return refuse(.badRequest)
        }
        switch transport[0] {
        case 17: break
        case 6 where relaysTCP:
            // RFC 6062 section 5.1: ports come one by one, and a stream has no datagrams to fragment.
            guard message.first(.evenPort) == nil, message.first(.dontFragment) == nil,
                message.first(.reservationToken) == nil
            else { return refuse(.badRequest) }
            wish.isStream = true
        default: return refuse(.unsupportedTransport)
        }
        if let fragment = message.first(.dontFragment), fragment.count != 0 { return refuse(.badRequest) }
        if let lifetime = message.first(.lifetime) {
            guard lifetime.count == 4 else { return refuse(.badRequest) }
            wish.lifetimeSeconds = lifetime.uint32(at: 0)
        }
        let even = message.first(.evenPort)
        let requested = message.first(.requestedAddressFamily)
        let additional = message.first(.additionalAddressFamily)
        guard even.map({ $0.count == 1 }) ?? true, requested.map({ $0.count == 4 }) ?? true,
            additional.map({ $0.count == 4 }) ?? true
        else { return refuse(.badRequest) }
        if let token = message.first(.reservationToken) {
            guard token.count == 8, even == nil, requested == nil, additional == nil else { return refuse(.badRequest) }
            wish.parity = .reserved(token: token.uint64(at: 0))
        }
        if let requested {
            guard additional == nil else { return refuse(.badRequest) }
            guard let family = AddressFamily(rawValue: requested[0]) else { return refuse(.addressFamilyNotSupported) }
            wish.family = family
        }
        let reservesNext = even.map { $0[0] & 0x80 != 0 } ?? false
        if even != nil { wish.parity = reservesNext ? .evenReservingNext : .even }
        if let additional {
            // An additional family is IPv6 beside IPv4, and a reservation cannot be for two.
            guard !reservesNext, AddressFamily(rawValue: additional[0]) != .ipv4 else { return refuse(.badRequest) }
            guard AddressFamily(rawValue: additional[0]) == .ipv6 else { return refuse(.addressFamilyNotSupported) }
            wish.additionalFamily = .ipv6
        }
        return .success(wish)
    }

    private static func refuse(_ code: ErrorCode) -> Result<AllocateWish, RefusalCode> { .failure(RefusalCode(code)) }
}
