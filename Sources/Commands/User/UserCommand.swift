import Accounts
import ArgumentParser

struct UserCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "user",
        abstract: "Add, show and change users.",
        subcommands: [
            UserAdd.self, UserList.self, UserShow.self, UserPasswd.self, UserLimit.self, UserEnable.self,
            UserDisable.self,
            UserRemove.self, UserUsage.self,
        ]
    )
}

/// A user as the lists print it.
struct UserReport: Encodable {
    let user: User
    let now: Int64

    private enum CodingKeys: String, CodingKey {
        case name, realm, state, createdAt, expiresAt, maxAllocations, maxBps, monthlyBytes
    }

    func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(user.name, forKey: .name)
        try container.encode(user.realm, forKey: .realm)
        try container.encode(user.state(atSeconds: now).rawValue, forKey: .state)
        try container.encode(Timestamp.text(seconds: user.createdAtSeconds), forKey: .createdAt)
        try container.encode(user.expiresAtSeconds.map(Timestamp.text), forKey: .expiresAt)
        try container.encode(user.maxAllocations, forKey: .maxAllocations)
        try container.encode(user.maxBitsPerSecond, forKey: .maxBps)
        try container.encode(user.monthlyBytes, forKey: .monthlyBytes)
    }

    var expires: String { user.expiresAtSeconds.map(Timestamp.text) ?? "never" }
    var maxAllocations: String { user.maxAllocations.map(String.init) ?? "default" }
    var maxBps: String { user.maxBitsPerSecond.map { $0 == 0 ? "unlimited" : String($0) } ?? "default" }
    var monthlyBytes: String { user.monthlyBytes.map(String.init) ?? "unlimited" }
    var state: String { user.state(atSeconds: now).rawValue }
    var created: String { Timestamp.text(seconds: user.createdAtSeconds) }
}
