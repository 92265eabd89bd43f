import STUN

/// ALTERNATE-SERVER (RFC 8489 section 10).
extension Engine {
    /// Refuses an Allocate of a server that drains: with 300 and the address of another server, or with 508 where there
    /// is none. The request is authenticated and so is the answer, or anyone on the path could send clients anywhere.
    func redirect(
        _ request: Request,
        _ authentication: Authentication,
        _ reply: UnsafeMutableRawBufferPointer
    ) -> Verdict {
        let family = request.tuple.client.address.family
        // The first must be of the request's family; one of the other family may follow.
        guard let first = alternate(of: family, for: request) else {
            return fail(request, .insufficientCapacity, authentication, reply)
        }
        var builder = MessageBuilder(
            MessageType(request.method, .errorResponse),
            request.message.transactionID,
            into: reply
        )
        builder.append(error: .tryAlternate)
        builder.append(.alternateServer, plain: first)
        if let second = alternate(of: family == .ipv4 ? .ipv6 : .ipv4, for: request) {
            builder.append(.alternateServer, plain: second)
        }
        return finish(&builder, request, authentication)
    }

    /// One of the servers of that family. Which one follows from the transaction, so that clients spread over them and
    /// a retransmission gets the same answer.
    private func alternate(of family: AddressFamily, for request: Request) -> Endpoint? {
        let server = request.tuple.server
        let candidates = configuration.alternateServers.compactMap { alternate -> Endpoint? in
            guard alternate.address.family == family else { return nil }
            // Loopback is another machine to everyone who does not come by it.
            guard !alternate.address.isLoopback || server.address.isLoopback else { return nil }
            let port = alternate.port == 0 ? server.port : alternate.port
            let endpoint = Endpoint(address: alternate.address, port: port)
            return endpoint == server || ownHost.isListener(endpoint) ? nil : endpoint
        }
        guard !candidates.isEmpty else { return nil }
        return candidates[Int(request.message.transactionID.low % UInt32(truncatingIfNeeded: candidates.count))]
    }
}

extension IPAddress {
    fileprivate var isLoopback: Bool { isIPv4 ? v4 >> 24 == 127 : high == 0 && low == 1 }
}
