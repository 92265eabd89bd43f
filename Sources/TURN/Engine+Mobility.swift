import STUN

/// A mobile allocation, at its owner.
struct MobileAllocation {
    var index: UInt32
    /// Of the ticket that is good.
    var serial: UInt64
    /// Of the ticket before it, 0 when there was none.
    var previousSerial: UInt64 = 0
    /// Of the ticket that brought the allocation to its 5-tuple, 0 when it was made there.
    var arrivedWith: UInt64 = 0
    /// Where the client has moved to, until it sends data from there.
    var departure: Departure?

    struct Departure {
        let worker: Int
        let tuple: FiveTuple
        let listener: UInt32
    }
}

/// A 5-tuple that a client has moved to, while its allocation is still elsewhere.
struct Arrival {
    let allocation: UInt64
    let user: String
    /// The Refresh that the owner has not answered yet.
    var waiting: UInt64?
    var transaction: TransactionID
    var refusal: ErrorCode?
    /// Set by the first grant.
    var path: MovePath?
    var owner = 0
    var lifetimeSeconds: UInt32 = 0
    var isGone = false
    /// The allocation has been called for.
    var isComing = false
}

/// Mobility (RFC 8016), on the worker that a client's new 5-tuple leads to.
extension Engine {
    /// A Refresh with a ticket, which is authenticated (RFC 8016 section 3.2.2).
    /// - Returns: nil where it is to be handled as if it had none.
    mutating func refreshMoved(
        _ request: Request,
        _ ticketBytes: UnsafeRawBufferPointer,
        _ wished: (seconds: UInt32?, family: UInt8?),
        _ authentication: Authentication,
        _ reply: UnsafeMutableRawBufferPointer
    ) -> Verdict? {
        let opened = MobilityTicket(ticketBytes, ticketKeys, with: cryptography)
        guard configuration.allowsMobility else {
            // Without mobility the attribute is unknown, and ignored (RFC 8016 section 3.1.2); but a ticket of ours was
            // given out before mobility was switched off.
            return opened == nil ? nil : fail(request, .mobilityForbidden, authentication, reply)
        }
        // What may not allocate may not take an allocation over either (RFC 8656 section 21.4).
        guard PeerPolicy.acceptsClient(at: request.tuple.client.address) else {
            return fail(request, .forbidden, authentication, reply)
        }
        guard let ticket = opened else { return fail(request, .badRequest, authentication, reply) }
        let index = allocation(of: request.tuple)
        if index != noIndex {
            // A ticket is for moving only, unless this is the Refresh again that brought the allocation here.
            let mobile = mobiles[allocations[index].pointee.mobileName]
            guard allocations[index].pointee.mobileName == ticket.allocation, mobile?.arrivedWith == ticket.serial
            else { return fail(request, .badRequest, authentication, reply) }
            return nil
        }
        if let arrival = arrivals[request.tuple] {
            guard arrival.allocation == ticket.allocation, arrival.user == authentication.identity else {
                return fail(request, .allocationMismatch, authentication, reply)
            }
            // It has been sent again while the owner is being asked.
            guard arrival.waiting == nil else { return .handled }
            if arrival.transaction == request.message.transactionID {
                return settled(arrival, request, authentication, reply)
            }
        }
        guard let owner = mobileDirectory.worker(of: ticket.allocation) else {
            return fail(request, .allocationMismatch, authentication, reply)
        }
        let move = moveRequest(request, ticket, wished, authentication)
        var arrival =
            arrivals[request.tuple]
            ?? Arrival(
                allocation: ticket.allocation,
                user: authentication.identity,
                transaction: request.message.transactionID
            )
        arrival.transaction = request.message.transactionID
        arrival.waiting = move.number
        arrival.refusal = nil
        arrivals[request.tuple] = arrival
        return .needsOwner(move, worker: owner)
    }

    private mutating func moveRequest(
        _ request: Request,
        _ ticket: MobilityTicket,
        _ wished: (seconds: UInt32?, family: UInt8?),
        _ authentication: Authentication
    ) -> MoveRequest {
        moveRequests &+= 1
        let deadline = hardDeadline(authentication, request.moment)
        return MoveRequest(
            number: moveRequests,
            worker: worker,
            tuple: request.tuple,
            listener: request.listener,
            ticket: ticket,
            newSerial: randomNumber(),
            transaction: request.message.transactionID,
            user: authentication.identity,
            ownBitsPerSecond: authentication.bitsPerSecond,
            isOverQuota: authentication.isOverQuota,
            wishedSeconds: wished.seconds,
            lifetimeSeconds: wished.seconds == 0 ? 0 : lifetime(wished.seconds, request.moment, deadline),
            hardDeadlineNanoseconds: deadline,
            family: wished.family
        )
    }

    /// Answers a Refresh that the owner has decided on.
    private mutating func settled(
        _ arrival: Arrival,
        _ request: Request,
        _ authentication: Authentication,
        _ reply: UnsafeMutableRawBufferPointer
    ) -> Verdict {
        if let refusal = arrival.refusal {
            // An earlier grant stays good.
            if arrival.path == nil { arrivals[request.tuple] = nil }
            return fail(request, refusal, authentication, reply)
        }
        guard let path = arrival.path else { return fail(request, .allocationMismatch, authentication, reply) }
        if arrival.isGone {
            arrivals[request.tuple] = nil
            deletions.remember(request.tuple, request.message.transactionID, at: request.moment)
        }
        return refreshed(
            arrival.lifetimeSeconds,
            request,
            authentication,
            reply,
            ticket: arrival.isGone ? nil : MobilityTicket(allocation: path.allocation, serial: path.serial)
        )
    }

    /// Clients that have moved here and whose allocations have not yet.
    package var arrivalCount: Int { arrivals.count }

    /// Whether an allocation waits to be called to this 5-tuple, or is on its way.
    package func isArriving(_ tuple: FiveTuple) -> Bool {
        guard !arrivals.isEmpty, let arrival = arrivals[tuple] else { return false }
        return arrival.path != nil && !arrival.isGone
    }

    /// Whether a request other than one with a ticket is for an allocation that is not here yet.
    func awaitsArrival(_ request: Request, _ authentication: Authentication) -> Bool {
        guard !arrivals.isEmpty, request.method != .allocate, isArriving(request.tuple),
            arrivals[request.tuple]?.user == authentication.identity
        else { return false }
        return request.method != .refresh || request.message.first(.mobilityTicket) == nil
    }

    /// Calls for the allocation of this 5-tuple, since its client has sent something by it.
    package mutating func callAllocation(to tuple: FiveTuple) {
        guard var arrival = arrivals[tuple], let path = arrival.path, !arrival.isComing else { return }
        arrival.isComing = true
        arrivals[tuple] = arrival
        host.send(.wanted(path, worker: worker), to: arrival.owner)
    }

    /// The 5-tuple is gone, or its request could not be kept until the owner has answered.
    package mutating func forgetArrival(at tuple: FiveTuple) {
        guard !arrivals.isEmpty, let arrival = arrivals.removeValue(forKey: tuple) else { return }
        // One that is on its way finds nobody, and ends: its client has given up the old 5-tuple by sending on this
        // one.
        if let path = arrival.path, !arrival.isComing { host.send(.withdrawn(path), to: arrival.owner) }
    }

    /// Forgets an answer that its request did not take, as when its nonce had become stale meanwhile.
    package mutating func forgetAnswer(at tuple: FiveTuple) {
        guard let arrival = arrivals[tuple], arrival.waiting == nil, arrival.path == nil || arrival.isGone else {
            return
        }
        arrivals[tuple] = nil
    }

    // MARK: What the owner says

    mutating func granted(_ grant: MoveGrant) -> MoveOutcome {
        guard var arrival = arrivals[grant.path.tuple], arrival.waiting == grant.request else {
            if !grant.isGone { host.send(.withdrawn(grant.path), to: grant.owner) }
            return .answer(request: grant.request)
        }
        arrival.waiting = nil
        arrival.path = grant.path
        arrival.owner = grant.owner
        arrival.lifetimeSeconds = grant.lifetimeSeconds
        arrival.isGone = grant.isGone
        arrivals[grant.path.tuple] = arrival
        return .answer(request: grant.request)
    }

    mutating func refused(_ number: UInt64, _ tuple: FiveTuple, _ code: ErrorCode) -> MoveOutcome {
        if arrivals[tuple]?.waiting == number {
            arrivals[tuple]?.waiting = nil
            arrivals[tuple]?.refusal = code
        }
        return .answer(request: number)
    }

    mutating func ended(_ path: MovePath) -> MoveOutcome {
        if arrivals[path.tuple]?.path == path {
            if arrivals[path.tuple]?.waiting == nil {
                arrivals[path.tuple] = nil
            } else {
                arrivals[path.tuple]?.path = nil
                arrivals[path.tuple]?.isComing = false
            }
        }
        return .release(path.tuple, request: nil)
    }

    func randomNumber() -> UInt64 {
        var number: UInt64 = 0
        while number == 0 { withUnsafeMutableBytes(of: &number) { cryptography.random($0) } }
        return number
    }
}
