/// What the API asks of signaling.
protocol SignalingQueries: Sendable {
    func overview() async -> SignalingOverview
    /// Rooms with a peer of that user in them; nil for all rooms.
    func rooms(visibleTo user: String?) async -> [RoomEntry]
    /// - Returns: nil where there is no such room, or that user has nobody in it.
    func peers(in room: String, visibleTo user: String?) async -> [PeerEntry]?
    /// - Parameter user: nil for all.
    func sessions(of user: String?, limit: Int) async -> [SocketEntry]
    /// - Returns: whether there was such a session.
    func end(session id: String) async -> Bool
}

struct SignalingOverview: Codable, Sendable {
    var connections = 0
    var sessions = 0
    var peers = 0
    var rooms = 0
    /// Since the start.
    var messagesReceived: UInt64 = 0
    var messagesSent: UInt64 = 0
    /// By reason; those that never happened are left out.
    var rejections: [String: UInt64] = [:]
}

struct RoomEntry: Codable, Sendable {
    var roomId: String
    var peerCount: Int
    var peers: [String]
}

struct PeerEntry: Sendable {
    var peerId: String
    /// The peer's own JSON, an object, which was checked when it came.
    var metadata: [UInt8]
    var joinedAt: Int64
}

struct SocketEntry: Codable, Sendable {
    var id: String
    var user: String
    /// Where it is connected from; null while it is cut off and may come back.
    @Nullable var client: String?
    var peers: [String]
    var rooms: [String]
    var ageSeconds: UInt64
}
