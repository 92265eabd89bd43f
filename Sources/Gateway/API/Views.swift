/// Bodies of the API, in and out. Times are ISO 8601 in UTC; absent is null.

package struct UserView: Codable, Sendable {
    package var name: String
    package var realm: String
    /// active, disabled, expired or damaged.
    package var state: String
    package var createdAt: String
    @Nullable package var expiresAt: String?
    @Nullable package var maxAllocations: Int?
    @Nullable package var maxBps: Int64?
    @Nullable package var monthlyBytes: Int64?

    package init(
        name: String,
        realm: String,
        state: String,
        createdAt: String,
        expiresAt: String?,
        maxAllocations: Int?,
        maxBps: Int64?,
        monthlyBytes: Int64?
    ) {
        self.name = name
        self.realm = realm
        self.state = state
        self.createdAt = createdAt
        self.expiresAt = expiresAt
        self.maxAllocations = maxAllocations
        self.maxBps = maxBps
        self.monthlyBytes = monthlyBytes
    }
}

package struct NewUser: APIBody, Sendable {
    package var name: String
    /// Without it the server makes one.
    package var password: String?
    package var realm: String?
    package var expiresAt: String?
    package var maxAllocations: Int?
    package var maxBps: Int64?
    package var monthlyBytes: Int64?

    enum CodingKeys: String, CodingKey, CaseIterable {
        case name, password, realm, expiresAt, maxAllocations, maxBps, monthlyBytes
    }
}

/// The one moment at which a password can be seen.
package struct PasswordView: Codable, Sendable {
    package var name: String
    package var realm: String
    /// Null where the caller gave it.
    @Nullable package var password: String?

    package init(name: String, realm: String, password: String?) {
        self.name = name
        self.realm = realm
        self.password = password
    }
}

/// A change of a user's limits. A member that is absent stays; null takes the limit away.
package struct LimitsChange: APIBody, Sendable {
    package var expiresAt: Settable<String>
    package var maxAllocations: Settable<Int>
    package var maxBps: Settable<Int64>
    package var monthlyBytes: Settable<Int64>

    enum CodingKeys: String, CodingKey, CaseIterable {
        case expiresAt, maxAllocations, maxBps, monthlyBytes
    }

    package init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        func read<Value: Decodable>(_ key: CodingKeys) throws -> Settable<Value> {
            guard container.contains(key) else { return .absent }
            return .present(try container.decodeIfPresent(Value.self, forKey: key))
        }
        expiresAt = try read(.expiresAt)
        maxAllocations = try read(.maxAllocations)
        maxBps = try read(.maxBps)
        monthlyBytes = try read(.monthlyBytes)
    }
}

package enum Settable<Value: Decodable & Sendable>: Sendable {
    case absent
    case present(Value?)
}

package struct UsageView: Codable, Sendable {
    package var user: String
    package var month: String
    package var bytesToPeers: Int64
    package var bytesToClients: Int64
    package var packetsToPeers: Int64
    package var packetsToClients: Int64
    @Nullable package var monthlyBytes: Int64?

    package init(
        user: String,
        month: String,
        bytesToPeers: Int64,
        bytesToClients: Int64,
        packetsToPeers: Int64,
        packetsToClients: Int64,
        monthlyBytes: Int64?
    ) {
        self.user = user
        self.month = month
        self.bytesToPeers = bytesToPeers
        self.bytesToClients = bytesToClients
        self.packetsToPeers = packetsToPeers
        self.packetsToClients = packetsToClients
        self.monthlyBytes = monthlyBytes
    }
}

package struct SecretView: Codable, Sendable {
    package var name: String
    package var createdAt: String
    /// Shown once, where the server made it; null ever after.
    @Nullable package var value: String?

    package init(name: String, createdAt: String, value: String? = nil) {
        self.name = name
        self.createdAt = createdAt
        self.value = value
    }
}

package struct NewToken: APIBody, Sendable {
    package var name: String
    /// The user it logs in as; without one it is an admin's.
    package var user: String?
    package var expiresAt: String?

    enum CodingKeys: String, CodingKey, CaseIterable {
        case name, user, expiresAt
    }
}

package struct TokenView: Codable, Sendable {
    package var name: String
    /// Null for an admin's.
    @Nullable package var user: String?
    package var createdAt: String
    @Nullable package var expiresAt: String?
    /// Shown once, when it is made.
    @Nullable package var token: String?

    package init(name: String, user: String?, createdAt: String, expiresAt: String?, token: String? = nil) {
        self.name = name
        self.user = user
        self.createdAt = createdAt
        self.expiresAt = expiresAt
        self.token = token
    }
}

package struct AllocationView: Codable, Sendable {
    package var id: String
    package var user: String
    package var client: String
    /// udp, tcp, tls or dtls.
    package var transport: String
    package var relayed: [String]
    package var bytesToPeers: UInt64
    package var bytesToClient: UInt64
    package var packetsToPeers: UInt64
    package var packetsToClient: UInt64
    package var permissions: Int
    package var channels: Int
    package var ageSeconds: UInt64
    package var expiresInSeconds: UInt64

    package init(
        id: String,
        user: String,
        client: String,
        transport: String,
        relayed: [String],
        bytesToPeers: UInt64,
        bytesToClient: UInt64,
        packetsToPeers: UInt64,
        packetsToClient: UInt64,
        permissions: Int,
        channels: Int,
        ageSeconds: UInt64,
        expiresInSeconds: UInt64
    ) {
        self.id = id
        self.user = user
        self.client = client
        self.transport = transport
        self.relayed = relayed
        self.bytesToPeers = bytesToPeers
        self.bytesToClient = bytesToClient
        self.packetsToPeers = packetsToPeers
        self.packetsToClient = packetsToClient
        self.permissions = permissions
        self.channels = channels
        self.ageSeconds = ageSeconds
        self.expiresInSeconds = expiresInSeconds
    }
}

package struct AllocationList: Codable, Sendable {
    package var allocations: [AllocationView]
    /// Whether there are more than were asked for.
    package var isCut: Bool

    package init(allocations: [AllocationView], isCut: Bool) {
        self.allocations = allocations
        self.isCut = isCut
    }
}

package struct RelayStatusView: Codable, Sendable {
    package var version: String
    package var listen: [String]
    package var realm: String
    package var workers: Int
    package var isDraining: Bool
    package var allocations: Int
    package var allocationsMade: UInt64
    package var packetsIn: UInt64
    package var packetsToPeers: UInt64
    package var packetsToClients: UInt64
    package var bytesToPeers: UInt64
    package var bytesToClients: UInt64
    package var packetsDropped: UInt64
    /// By reason; those that never happened are left out.
    package var drops: [String: UInt64]
    package var authenticationFailures: UInt64
    /// By reason; those that never happened are left out, here and below.
    package var loginFailures: [String: UInt64]
    /// Answers that were errors, by code; `other` for one that is not known here.
    package var errors: [String: UInt64]
    package var connectionsAccepted: UInt64
    package var busyNanoseconds: UInt64

    package init(
        version: String,
        listen: [String],
        realm: String,
        workers: Int,
        isDraining: Bool,
        allocations: Int,
        allocationsMade: UInt64,
        packetsIn: UInt64,
        packetsToPeers: UInt64,
        packetsToClients: UInt64,
        bytesToPeers: UInt64,
        bytesToClients: UInt64,
        packetsDropped: UInt64,
        drops: [String: UInt64],
        authenticationFailures: UInt64,
        loginFailures: [String: UInt64],
        errors: [String: UInt64],
        connectionsAccepted: UInt64,
        busyNanoseconds: UInt64
    ) {
        self.version = version
        self.listen = listen
        self.realm = realm
        self.workers = workers
        self.isDraining = isDraining
        self.allocations = allocations
        self.allocationsMade = allocationsMade
        self.packetsIn = packetsIn
        self.packetsToPeers = packetsToPeers
        self.packetsToClients = packetsToClients
        self.bytesToPeers = bytesToPeers
        self.bytesToClients = bytesToClients
        self.packetsDropped = packetsDropped
        self.drops = drops
        self.authenticationFailures = authenticationFailures
        self.loginFailures = loginFailures
        self.errors = errors
        self.connectionsAccepted = connectionsAccepted
        self.busyNanoseconds = busyNanoseconds
    }
}

package struct ReloadView: Codable, Sendable {
    package var isReloaded: Bool
    /// Why not, or what was not taken.
    package var messages: [String]

    package init(isReloaded: Bool, messages: [String]) {
        self.isReloaded = isReloaded
        self.messages = messages
    }
}

/// An optional that is written as null where it is absent, so that a reader finds every member.
@propertyWrapper
package struct Nullable<Value: Codable & Sendable>: Codable, Sendable {
    package var wrappedValue: Value?

    package init(wrappedValue: Value?) { self.wrappedValue = wrappedValue }

    package init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        wrappedValue = container.decodeNil() ? nil : try container.decode(Value.self)
    }

    package func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        if let wrappedValue { try container.encode(wrappedValue) } else { try container.encodeNil() }
    }
}
