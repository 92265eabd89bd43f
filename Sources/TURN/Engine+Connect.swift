import STUN

/// What a client asks for of a TCP allocation: Connect and ConnectionBind (RFC 6062 section 5).
extension Engine {
    /// Connect (RFC 6062 section 5.2). The answer comes later, when the peer has answered or has not.
    mutating func connect(
        _ request: Request,
        _ authentication: Authentication,
        _ reply: UnsafeMutableRawBufferPointer
    ) -> Verdict {
        let index: UInt32
        switch owned(request, authentication) {
        case .failure(let code): return fail(request, code.value, authentication, reply)
        case .success(let found): index = found
        }
        guard allocations[index].pointee.isStream else { return fail(request, .forbidden, authentication, reply) }
        guard let value = request.message.first(.xorPeerAddress),
            let peer = AddressAttribute.decodeXOR(value, request.message.transactionID), peer.port != 0
        else { return fail(request, .badRequest, authentication, reply) }
        guard let leg = leg(of: index, peer.family) else {
            return fail(request, .peerAddressFamilyMismatch, authentication, reply)
        }
        guard peerConnection(of: index, peer) == noIndex else {
            return fail(request, .connectionAlreadyExists, authentication, reply)
        }
        // A connection from an address to itself would be a loop.
        guard mayConnect(peer), peer != leg.advertised, peer != leg.local else {
            return fail(request, .forbidden, authentication, reply)
        }
        // Ports are as good to scan as addresses: each Connect takes from the pace of new peers (case PC-08).
        guard takePeerTokens(1, of: index, at: request.moment) else {
            return fail(request, .insufficientCapacity, authentication, reply)
        }
        let deadline = request.moment.after(seconds: Limits.connectSeconds)
        guard let key = insertPeerConnection(peer, on: index, .connecting, deadline) else {
            return fail(request, .insufficientCapacity, authentication, reply)
        }
        // Both answers are signed now: the key of the request is not kept for later.
        var builder = success(request, reply)
        builder.append(.connectionID, key.id)
        let success = bytes(of: finish(&builder, request, authentication), in: reply)
        let failure = bytes(of: fail(request, .connectionTimeoutOrFailure, authentication, reply), in: reply)
        connectAnswers[key.number] = ConnectAnswers(success: success, failure: failure)
        effects.append(.connect(key, to: ownHost.destination(for: peer), from: leg.local))
        schedule(index, noLaterThan: deadline)
        return .handled
    }

    /// ConnectionBind (RFC 6062 section 5.4), as far as it can be judged where it came in.
    mutating func connectionBind(
        _ request: Request,
        _ authentication: Authentication,
        _ reply: UnsafeMutableRawBufferPointer
    ) -> Verdict {
        let nonce = authentication.hasBorrowedNonce ? request.message.first(.nonce).map { Array($0) } : nil
        // A connection that carries an allocation, or that one is about to come to (RFC 8016), cannot become one that
        // carries data (RFC 6062 section 4.3).
        guard request.tuple.transport.isStream, allocation(of: request.tuple) == noIndex,
            arrivals.isEmpty || arrivals[request.tuple] == nil, let value = request.message.first(.connectionID),
            value.count == 4
        else { return fail(request, .badRequest, authentication, reply) }
        var builder = success(request, reply)
        let success = bytes(of: finish(&builder, request, authentication), in: reply)
        // One answer for all that is wrong: it tells nobody which numbers others hold.
        let refusal =
            nonce == nil
            ? fail(request, .badRequest, authentication, reply) : challenge(request, .staleNonce, reply)
        let failure = bytes(of: refusal, in: reply)
        return .bind(
            ConnectionBinding(
                id: value.uint32(at: 0),
                user: authentication.identity,
                borrowedNonce: nonce,
                success: success,
                failure: failure
            )
        )
    }

    private func bytes(of verdict: Verdict, in reply: UnsafeMutableRawBufferPointer) -> [UInt8] {
        guard case .reply(let length) = verdict else { return [] }
        return Array(UnsafeRawBufferPointer(reply).slice(0, length))
    }

    /// What a peer by UDP is asked, asked of one by TCP: the same policy, and on this host nothing but a live relay by
    /// TCP.
    func mayConnect(_ peer: Endpoint) -> Bool {
        guard !Limits.isDenied(streamPeerPort: peer.port), !ownHost.isListener(peer) else { return false }
        switch configuration.policy.decide(peer.address) {
        case .denied: return false
        case .allowed: return true
        case .ownHost: return host.isLiveStreamRelay(peer)
        }
    }
}

/// The answers to a Connect that is under way.
struct ConnectAnswers {
    var success: [UInt8]
    var failure: [UInt8]
}
