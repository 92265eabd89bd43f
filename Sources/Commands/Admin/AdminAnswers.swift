/// What the server answers, as far as the commands print it.

struct StatusAnswer: Codable {
    struct Relay: Codable {
        let version: String
        let listen: [String]
        let realm: String
        let workers: Int
        let isDraining: Bool
        let allocations: Int
        let allocationsMade: UInt64
        let packetsIn: UInt64
        let packetsToPeers: UInt64
        let packetsToClients: UInt64
        let bytesToPeers: UInt64
        let bytesToClients: UInt64
        let packetsDropped: UInt64
        let drops: [String: UInt64]
        let authenticationFailures: UInt64
        let connectionsAccepted: UInt64
        let busyNanoseconds: UInt64
    }

    struct Signaling: Codable {
        let connections: Int
        let sessions: Int
        let peers: Int
        let rooms: Int
    }

    struct Gateway: Codable {
        let connections: Int
        let handshakes: Int
        let connectionsRefused: UInt64
    }

    let uptimeSeconds: UInt64
    let relay: Relay
    let signaling: Signaling
    let gateway: Gateway
}

struct SessionsAnswer: Codable {
    struct Allocation: Codable {
        let id: String
        let user: String
        let client: String
        let transport: String
        let relayed: [String]
        let bytesToPeers: UInt64
        let bytesToClient: UInt64
        let packetsToPeers: UInt64
        let packetsToClient: UInt64
        let permissions: Int
        let channels: Int
        let ageSeconds: UInt64
        let expiresInSeconds: UInt64
    }

    struct Socket: Codable {
        let id: String
        let user: String
        /// `nil` while it is cut off and may come back.
        let client: String?
        let peers: [String]
        let rooms: [String]
        let ageSeconds: UInt64

        private enum CodingKeys: String, CodingKey {
            case id, user, client, peers, rooms, ageSeconds
        }

        func encode(to encoder: any Encoder) throws {
            var container = encoder.container(keyedBy: CodingKeys.self)
            try container.encode(id, forKey: .id)
            try container.encode(user, forKey: .user)
            try container.encode(client, forKey: .client)
            try container.encode(peers, forKey: .peers)
            try container.encode(rooms, forKey: .rooms)
            try container.encode(ageSeconds, forKey: .ageSeconds)
        }
    }

    let allocations: [Allocation]
    /// Whether there are more than were asked for.
    let allocationsAreCut: Bool
    let signaling: [Socket]
}

struct ReloadAnswer: Decodable {
    let isReloaded: Bool
    let messages: [String]
}

struct HealthAnswer: Codable {
    let status: String
    let peers: Int
    let rooms: Int
    let uptime: UInt64
}
