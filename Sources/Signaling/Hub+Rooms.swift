extension Hub {
    func joinRoom(_ request: Request, _ actions: inout [Action]) throws(Refusal) {
        let (peer, roomID) = try membership(request)
        try Name.check(roomID, "roomId")
        if let room = rooms[roomID], peer.isIn(room) { return sendRoster(of: room, to: peer, request, &actions) }
        let user = request.session.user
        guard peer.rooms.count < SignalingLimits.roomsPerPeer else {
            throw Refusal(.forbidden, "A peer is in at most \(SignalingLimits.roomsPerPeer) rooms")
        }
        guard user.memberships < SignalingLimits.roomsPerUser else {
            throw Refusal(.forbidden, "The peers of a user are in at most \(SignalingLimits.roomsPerUser) rooms")
        }
        guard let room = rooms[roomID] ?? (rooms.count < SignalingLimits.roomsMax ? Room(roomID) : nil) else {
            throw Refusal(.forbidden, "The server has no place for another room")
        }
        guard room.members.count < SignalingLimits.membersPerRoom,
            room.rosterBytes + peer.rosterBytes <= SignalingLimits.rosterBytesPerRoom
        else { throw Refusal(.forbidden, "Room \(roomID) is full") }
        // Whoever comes will leave, and may do that at any time, so both are paid here.
        let wait = user.fanOut.tryTake(
            2 * UInt64(room.members.count),
            of: rates.fanOut,
            now: request.now.monotonicNanoseconds
        )
        if wait > 0 { throw .rateLimited("Too many messages to rooms", wait: wait) }

        rooms[roomID] = room
        sendRoster(of: room, to: peer, request, &actions)
        room.members.append(peer)
        room.rosterBytes += peer.rosterBytes
        peer.rooms.append(room)
        user.memberships += 1
        announce("peer-joined", peer, room, request.now, &actions)
    }

    /// A room in which the peer is not is left already: the answer is the same whether it exists or not (case SG-04).
    func leaveRoom(_ request: Request, _ actions: inout [Action]) throws(Refusal) {
        let (peer, roomID) = try membership(request)
        if let room = peer.rooms.first(where: { $0.id == roomID }) { leave(room, peer, request.now, &actions) }
        var writer = FrameWriter("room-left", reserving: 96 + roomID.utf8.count + request.id.count)
        writer.member("roomId", roomID)
        writer.member("timestamp", request.now.wallMilliseconds)
        writer.echo(request.id)
        deliver(writer.finish(), to: request.session, &actions)
    }

    func broadcast(_ request: Request, _ actions: inout [Action]) throws(Refusal) {
        let message = request.message
        let required = "from, roomId, and data are required"
        let data = message.raw(.data)
        guard data.count > 0, let roomID = try message.string(.roomId, bytesMax: SignalingLimits.roomIDBytesMax) else {
            throw Refusal(.badMessage, required)
        }
        let peer = try sender(of: request, required)
        guard let room = peer.rooms.first(where: { $0.id == roomID }) else {
            throw Refusal(.notFound, "Room \(roomID) not found")
        }
        let copies = UInt64(room.members.count &- 1)
        let user = request.session.user
        let now = request.now.monotonicNanoseconds
        let wait = max(
            user.fanOut.waitNanoseconds(copies, of: rates.fanOut, now: now),
            room.fanOut.waitNanoseconds(copies, of: rates.roomFanOut, now: now)
        )
        if wait > 0 { throw .rateLimited("Too many messages to rooms", wait: wait) }
        user.fanOut.take(copies, of: rates.fanOut, now: now)
        room.fanOut.take(copies, of: rates.roomFanOut, now: now)

        var writer = FrameWriter(
            "broadcast",
            reserving: 96 + peer.encodedID.count + room.encodedID.count + data.count
        )
        writer.member("from", raw: peer.encodedID)
        writer.member("roomId", raw: room.encodedID)
        writer.member("data", raw: data)
        writer.member("timestamp", request.now.wallMilliseconds)
        fanOut(writer.finish(), to: room, except: peer, &actions)
    }

    func leave(_ room: Room, _ peer: Peer, _ now: HubTime, _ actions: inout [Action]) {
        room.members.removeAll { $0 === peer }
        room.rosterBytes -= peer.rosterBytes
        peer.rooms.removeAll { $0 === room }
        peer.session.user.memberships -= 1
        if room.members.isEmpty {
            rooms.removeValue(forKey: room.id)
        } else {
            announce("peer-left", peer, room, now, &actions)
        }
    }

    private func membership(_ request: Request) throws(Refusal) -> (Peer, roomID: String) {
        let message = request.message
        guard let peerID = try message.string(.peerId, bytesMax: SignalingLimits.peerIDBytesMax),
            let roomID = try message.string(.roomId, bytesMax: SignalingLimits.roomIDBytesMax)
        else { throw Refusal(.badMessage, "peerId and roomId are required") }
        return (try ownPeer(peerID, request.session), roomID)
    }

    private func sendRoster(of room: Room, to peer: Peer, _ request: Request, _ actions: inout [Action]) {
        var writer = FrameWriter("room-joined", reserving: 128 + room.encodedID.count + room.rosterBytes)
        writer.member("roomId", raw: room.encodedID)
        writer.list("peers", room.members.lazy.filter { $0 !== peer }) { writer, member in
            writer.element {
                $0.member("peerId", raw: member.encodedID)
                $0.member("metadata", raw: member.metadata)
            }
        }
        writer.member("timestamp", request.now.wallMilliseconds)
        writer.echo(request.id)
        deliver(writer.finish(), to: request.session, &actions)
    }

    private func announce(
        _ type: StaticString,
        _ peer: Peer,
        _ room: Room,
        _ now: HubTime,
        _ actions: inout [Action]
    ) {
        guard room.members.contains(where: { $0 !== peer }) else { return }
        var writer = FrameWriter(type, reserving: 128 + room.encodedID.count + peer.rosterBytes)
        writer.member("peerId", raw: peer.encodedID)
        writer.member("roomId", raw: room.encodedID)
        writer.member("metadata", raw: peer.metadata)
        writer.member("timestamp", now.wallMilliseconds)
        fanOut(writer.finish(), to: room, except: peer, &actions)
    }
}
