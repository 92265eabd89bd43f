extension Hub {
    func register(_ request: Request, _ actions: inout [Action]) throws(Refusal) {
        let message = request.message
        let session = request.session
        guard let id = try message.string(.peerId, bytesMax: SignalingLimits.peerIDBytesMax) else {
            throw Refusal(.badMessage, "peerId is required")
        }
        try Name.check(id, "peerId")
        guard Name.isPeerID(id, of: session.user.name) else {
            let name = session.user.name
            throw Refusal(.forbidden, "Peer \(id) is not yours; your peer ids are \(name) and \(name)/…")
        }
        let metadata = try message.metadata()
        let wantsMemory = try message.bool(.memory) ?? false
        if let peer = session.peer(id) {
            try update(peer, metadata)
            peer.wantsMemory = wantsMemory
            return confirm("registered", peer, request, &actions)
        }
        if let holder = peers[id]?.session {
            // A client that came back without resuming finds its own ghost, and may lay it.
            guard holder.connection == nil else { throw Refusal(.peerTaken, "Peer \(id) is already registered") }
            end(holder, request.now, &actions, returning: true)
        }
        guard session.peers.count < SignalingLimits.peersPerSession else {
            throw Refusal(.forbidden, "A connection has at most \(SignalingLimits.peersPerSession) peers")
        }
        let peer = Peer(id, metadata: metadata, session: session, now: request.now)
        peer.wantsMemory = wantsMemory
        session.peers.append(peer)
        peers[id] = peer
        confirm("registered", peer, request, &actions)
    }

    func unregister(_ request: Request, _ actions: inout [Action]) throws(Refusal) {
        guard let id = try request.message.string(.peerId, bytesMax: SignalingLimits.peerIDBytesMax) else {
            throw Refusal(.badMessage, "peerId is required")
        }
        let peer = try ownPeer(id, request.session)
        remove(peer, request.now, &actions)
        request.session.peers.removeAll { $0 === peer }
        confirm("unregistered", peer, request, &actions)
    }

    func lookup(_ request: Request, _ actions: inout [Action]) throws(Refusal) {
        guard let id = try request.message.string(.peerId, bytesMax: SignalingLimits.peerIDBytesMax) else {
            throw Refusal(.badMessage, "peerId is required")
        }
        // One that may not be seen and one that is not there look the same (cases SG-03, SG-20).
        let peer = peers[id].flatMap { sees(request.session, $0) ? $0 : nil }
        var writer = FrameWriter("peer", reserving: 128 + id.utf8.count + (peer?.metadata.count ?? 0))
        writer.member("peerId", id)
        writer.member("online", peer != nil)
        writer.member("metadata", raw: peer?.metadata ?? Array("{}".utf8))
        writer.echo(request.id)
        deliver(writer.finish(), to: request.session, &actions)
    }

    /// Takes a peer out of its rooms and out of the table; the session's list is the caller's.
    func remove(_ peer: Peer, _ now: HubTime, _ actions: inout [Action]) {
        for room in peer.rooms { leave(room, peer, now, &actions) }
        if peers[peer.id] === peer { peers.removeValue(forKey: peer.id) }
    }

    /// The peer of this id that the session registered. The answer depends on nothing that others did.
    func ownPeer(_ id: String, _ session: Session) throws(Refusal) -> Peer {
        if let peer = session.peer(id) { return peer }
        if Name.isPeerID(id, of: session.user.name) { throw Refusal(.notFound, "Peer not registered") }
        throw Refusal(.forbidden, "Peer \(id) is not yours")
    }

    /// Who may see and reach whom: a user's own peers, peers in one room, and peers that are in none at all. A room is
    /// a wall: whoever enters one is out of sight of everybody outside.
    func sees(_ viewer: Peer, _ peer: Peer) -> Bool {
        if viewer.session.user === peer.session.user { return true }
        if viewer.rooms.isEmpty { return peer.rooms.isEmpty }
        return viewer.rooms.contains { peer.isIn($0) }
    }

    /// The same for a session, which sees what any of its peers does. Without a peer it stands outside all rooms.
    private func sees(_ session: Session, _ peer: Peer) -> Bool {
        if session.user === peer.session.user { return true }
        if session.peers.isEmpty { return peer.rooms.isEmpty }
        return session.peers.contains { sees($0, peer) }
    }

    private func update(_ peer: Peer, _ metadata: [UInt8]) throws(Refusal) {
        let growth = metadata.count - peer.metadata.count
        guard growth <= 0 || peer.rooms.allSatisfy({ $0.rosterBytes + growth <= SignalingLimits.rosterBytesPerRoom })
        else { throw Refusal(.forbidden, "A room of this peer has no place for so much metadata") }
        for room in peer.rooms { room.rosterBytes += growth }
        peer.metadata = metadata
    }

    private func confirm(_ type: StaticString, _ peer: Peer, _ request: Request, _ actions: inout [Action]) {
        var writer = FrameWriter(type, reserving: 96 + peer.encodedID.count + request.id.count)
        writer.member("peerId", raw: peer.encodedID)
        writer.member("timestamp", request.now.wallMilliseconds)
        writer.echo(request.id)
        deliver(writer.finish(), to: request.session, &actions)
    }
}
