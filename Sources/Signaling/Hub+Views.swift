package struct RoomView: Sendable {
    package let roomID: String
    package let peerIDs: [String]
}

package struct PeerView: Sendable {
    package let peerID: String
    /// A JSON object.
    package let metadata: [UInt8]
    package let joinedAtWallMilliseconds: Int64
}

package struct SessionView: Sendable {
    package let id: String
    package let user: String
    /// `nil` while the client is away.
    package let connection: ConnectionID?
    package let openedAtWallMilliseconds: Int64
    package let peerIDs: [String]
    package let roomIDs: [String]
    package let unacknowledgedMessages: Int
}

package struct HubStatistics: Sendable, Equatable {
    package let connections: Int
    package let unauthenticatedConnections: Int
    package let sessions: Int
    package let peers: Int
    package let rooms: Int
    package let users: Int
    /// Bytes that are kept for replay.
    package let replayBytes: Int
    /// Pairs of networks of which is known what worked between them.
    package let networkPairs: Int
}

/// What the HTTP API and the metrics read. Nothing here changes anything.
extension Hub {
    package var statistics: HubStatistics {
        HubStatistics(
            connections: connections.count,
            unauthenticatedConnections: unauthenticatedConnections,
            sessions: sessions.count,
            peers: peers.count,
            rooms: rooms.count,
            users: users.count,
            replayBytes: replayBytes,
            networkPairs: memory.count
        )
    }

    /// The rooms in which the user has a peer, by id.
    package func rooms(visibleTo user: String) -> [RoomView] {
        var found: [String: Room] = [:]
        for session in users[user]?.sessions ?? [] {
            for peer in session.peers { for room in peer.rooms { found[room.id] = room } }
        }
        return found.values.map(view).sorted { $0.roomID < $1.roomID }
    }

    /// Who is in a room; `nil` where there is no such room or the user has no peer in it, which is the same to him.
    package func peers(inRoom id: String, visibleTo user: String) -> [PeerView]? {
        guard let room = rooms[id], room.members.contains(where: { $0.session.user.name == user }) else { return nil }
        return view(of: room.members)
    }

    /// All rooms behind the given one in order of ids, for an administrator.
    package func rooms(after id: String?, limit: Int) -> [RoomView] {
        page(rooms.keys, after: id, limit: limit).compactMap { rooms[$0] }.map(view)
    }

    package func peers(inRoom id: String) -> [PeerView]? { rooms[id].map { view(of: $0.members) } }

    /// All sessions behind the given one in order of ids, for an administrator.
    package func sessions(after id: String?, limit: Int) -> [SessionView] {
        page(sessions.keys, after: id, limit: limit).compactMap { sessions[$0] }.map(view)
    }

    /// A user's sessions, in the order in which they came.
    package func sessions(of user: String) -> [SessionView] { users[user]?.sessions.map(view) ?? [] }

    private func page(_ ids: some Collection<String>, after id: String?, limit: Int) -> ArraySlice<String> {
        ids.filter { id.map($0.isAfter) ?? true }.sorted().prefix(max(0, limit))
    }

    private func view(_ room: Room) -> RoomView { RoomView(roomID: room.id, peerIDs: room.members.map(\.id)) }

    private func view(_ session: Session) -> SessionView {
        SessionView(
            id: session.id,
            user: session.user.name,
            connection: session.connection?.id,
            openedAtWallMilliseconds: session.openedAtWallMilliseconds,
            peerIDs: session.peers.map(\.id),
            roomIDs: Set(session.peers.flatMap { $0.rooms.map(\.id) }).sorted(),
            unacknowledgedMessages: session.replay.retained
        )
    }

    private func view(of peers: [Peer]) -> [PeerView] {
        peers.map {
            PeerView(
                peerID: $0.id,
                metadata: $0.metadata,
                joinedAtWallMilliseconds: $0.registeredAtWallMilliseconds
            )
        }
    }
}

extension String {
    fileprivate func isAfter(_ other: String) -> Bool { self > other }
}
