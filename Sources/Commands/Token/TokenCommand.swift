import Accounts
import ArgumentParser

struct TokenCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "token",
        abstract: "Create, list and revoke tokens for the HTTP API and for signaling.",
        discussion: """
            A token stands in the Authorization field, as in: Authorization: Bearer tpk_… Without --user it is an \
            admin's, who may do by the API what these commands do. The database keeps only its SHA-256.
            """,
        subcommands: [TokenCreate.self, TokenList.self, TokenRevoke.self]
    )
}

/// A token as it is printed.
struct TokenReport: Encodable {
    let entry: Token
    let now: Int64
    /// The token itself, at the one moment at which it is known.
    var text: String?

    private enum CodingKeys: String, CodingKey {
        case name, user, state, createdAt, expiresAt, token
    }

    func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(entry.name, forKey: .name)
        try container.encode(entry.user, forKey: .user)
        try container.encode(state, forKey: .state)
        try container.encode(Timestamp.text(seconds: entry.createdAtSeconds), forKey: .createdAt)
        try container.encode(entry.expiresAtSeconds.map(Timestamp.text), forKey: .expiresAt)
        try container.encodeIfPresent(text, forKey: .token)
    }

    var state: String { entry.isUsable(atSeconds: now) ? "active" : "expired" }

    /// Beneath NAME, FOR, STATE, EXPIRES and CREATED.
    var cells: [String] {
        [
            entry.name, entry.user.map { "user \($0)" } ?? "admin", state,
            entry.expiresAtSeconds.map(Timestamp.text) ?? "never", Timestamp.text(seconds: entry.createdAtSeconds),
        ]
    }
}
