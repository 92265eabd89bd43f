extension Hub {
    /// Carries an `offer`, `answer`, `ice-candidate` or `signal`: the payload goes on as the bytes that came.
    func forward(_ request: Request, _ field: Field, _ actions: inout [Action]) throws(Refusal) {
        let message = request.message
        let payload = message.raw(field)
        guard payload.count > 0, let to = try message.string(.to, bytesMax: SignalingLimits.peerIDBytesMax) else {
            throw Refusal(.badMessage, "from, to, and \(field.name) are required")
        }
        let peer = try sender(of: request, "from, to, and \(field.name) are required")
        let roomID = try message.string(.roomId, bytesMax: SignalingLimits.roomIDBytesMax)
        guard let recipient = peers[to], mayReach(peer, recipient, roomID) else {
            throw Refusal(.notFound, "Peer \(to) not found")
        }
        switch request.kind {
        case .offer: tellMemory(peer, recipient, request.now, &actions)
        case .answer: noteMeeting(peer, recipient, request.now)
        default: break
        }
        var writer = FrameWriter(
            request.kind.name,
            reserving: 96 + peer.encodedID.count + recipient.encodedID.count + 2 * payload.count
        )
        writer.member("from", raw: peer.encodedID)
        writer.member("to", raw: recipient.encodedID)
        // The first is what clients of the original read; the second is the same member for all four types.
        writer.member(field.name, raw: payload)
        writer.member("payload", raw: payload)
        writer.member("timestamp", request.now.wallMilliseconds)
        let origin = Origin(
            session: request.session,
            kind: request.kind,
            requestID: Array(request.id),
            recipient: recipient.id
        )
        deliver(writer.finish(), to: recipient.session, origin: origin, &actions)
    }

    /// The peer that a message is from. A client says it only where it has several, and then it has to be one of its
    /// own (case SG-02).
    func sender(of request: Request, _ required: @autoclosure () -> String) throws(Refusal) -> Peer {
        let message = request.message
        let session = request.session
        guard message[.from] != nil else {
            guard let peer = session.peers.first else { throw Refusal(.notFound, "Peer not registered") }
            guard session.peers.count == 1 else { throw Refusal(.badMessage, required()) }
            return peer
        }
        let raw = message.raw(.from)
        if let peer = session.peers.first(where: { $0.encodedID.elementsEqual(raw) }) { return peer }
        guard let from = try message.string(.from, bytesMax: SignalingLimits.peerIDBytesMax) else {
            throw Refusal(.badMessage, required())
        }
        guard let peer = session.peer(from) else {
            throw Refusal(.forbidden, "from must be a peer id that this connection has registered")
        }
        return peer
    }

    func tellTime(_ request: Request, _ actions: inout [Action]) throws(Refusal) {
        let t0 = request.message[.t0]
        guard t0 == nil || (t0?.kind == .number && (t0?.count ?? 0) <= SignalingLimits.requestIDBytesMax) else {
            throw Refusal(.badMessage, "t0 must be a number")
        }
        var writer = FrameWriter("time", reserving: 96 + request.id.count + (t0?.count ?? 4))
        if t0 == nil { writer.member("t0", raw: Self.null) } else { writer.member("t0", raw: request.message.raw(.t0)) }
        writer.member("serverTime", request.now.wallMilliseconds)
        writer.echo(request.id)
        deliver(writer.finish(), to: request.session, isLasting: false, &actions)
    }

    func pong(_ request: Request, _ actions: inout [Action]) {
        if let received = try? request.message.wholeNumber(.received) {
            request.session.replay.acknowledge(through: received, total: &replayBytes)
        }
        var writer = FrameWriter("pong", reserving: 64 + request.id.count)
        writer.member("timestamp", request.now.wallMilliseconds)
        writer.echo(request.id)
        deliver(writer.finish(), to: request.session, isLasting: false, &actions)
    }

    /// A message that names a room goes only where both are in it (case SG-06).
    private func mayReach(_ peer: Peer, _ recipient: Peer, _ roomID: String?) -> Bool {
        guard let roomID else { return sees(peer, recipient) }
        return peer.rooms.contains { $0.id == roomID && recipient.isIn($0) }
    }

    private static let null = Array("null".utf8)
}
