import Accounts
import Foundation
import Gateway
import Settings

/// Users, secrets and tokens.
extension AdminControl {
    func users(after: String?, limit: Int) async throws(APIProblem) -> [UserView] {
        let store = store
        return try await onStore { try store.users(after: after, limit: limit).map(UserView.init) }
    }

    func user(_ name: String) async throws(APIProblem) -> UserView {
        let store = store
        return try await onStore { UserView(try store.user(AccountName(name))) }
    }

    func addUser(_ user: NewUser) async throws(APIProblem) -> PasswordView {
        let (store, settings) = (store, settings())
        return try await onStore {
            let name = try AccountName(user.name)
            let realm = try Realm(user.realm ?? settings.realm)
            let password = try user.password.map { try Password($0) } ?? Password.generated()
            try store.addUser(
                name,
                realm: realm,
                keys: CredentialDerivation.keys(name: name, realm: realm, password: password),
                expiresAtSeconds: user.expiresAt.map(Timestamp.seconds),
                maxAllocations: user.maxAllocations,
                maxBitsPerSecond: user.maxBps,
                monthlyBytes: user.monthlyBytes
            )
            return PasswordView(
                name: name.value,
                realm: realm.value,
                password: user.password == nil ? password.value : nil
            )
        }
    }

    func setPassword(_ name: String, _ given: String?) async throws(APIProblem) -> PasswordView {
        let (store, settings) = (store, settings())
        return try await onStore {
            let name = try AccountName(name)
            _ = try store.user(name)
            let realm = try Realm(settings.realm)
            let password = try given.map { try Password($0) } ?? Password.generated()
            let keys = try CredentialDerivation.keys(name: name, realm: realm, password: password)
            try store.setKeys(keys, realm: realm, of: name)
            return PasswordView(name: name.value, realm: realm.value, password: given == nil ? password.value : nil)
        }
    }

    func setEnabled(_ name: String, _ isEnabled: Bool) async throws(APIProblem) -> UserView {
        let store = store
        return try await onStore {
            let name = try AccountName(name)
            try store.setEnabled(isEnabled, name)
            return UserView(try store.user(name))
        }
    }

    func setLimits(_ name: String, _ limits: LimitsChange) async throws(APIProblem) -> UserView {
        let store = store
        return try await onStore {
            let name = try AccountName(name)
            var expiry: Int64??
            if case .present(let text) = limits.expiresAt { expiry = .some(try text.map(Timestamp.seconds)) }
            let newExpiry = expiry
            try store.setLimits(of: name) { held in
                if let newExpiry { held.expiresAtSeconds = newExpiry }
                if case .present(let value) = limits.maxAllocations { held.maxAllocations = value }
                if case .present(let value) = limits.maxBps { held.maxBitsPerSecond = value }
                if case .present(let value) = limits.monthlyBytes { held.monthlyBytes = value }
            }
            return UserView(try store.user(name))
        }
    }

    func removeUser(_ name: String) async throws(APIProblem) {
        let store = store
        try await onStore { try store.removeUser(AccountName(name)) }
    }

    func usage(user: String?, month: String?) async throws(APIProblem) -> [UsageView] {
        let store = store
        return try await onStore {
            let wanted = try month.map { text throws(APIProblem) in
                guard let month = UsageMonth(text) else { throw APIProblem(422, "month has to be such as 2026-11") }
                return month
            }
            if let user {
                let all = try store.usage(of: user)
                if all.isEmpty { _ = try store.user(AccountName(user)) }
                return all.filter { wanted == nil || $0.month == wanted }.map(UsageView.init)
            }
            let present = UsageMonth(containingSeconds: Int64(Date().timeIntervalSince1970))
            return try store.usage(in: wanted ?? present).map(UsageView.init)
        }
    }

    func secrets() async throws(APIProblem) -> [SecretView] {
        let store = store
        return try await onStore {
            try store.allSecrets().map {
                SecretView(name: $0.name, createdAt: Timestamp.text($0.createdAtSeconds))
            }
        }
    }

    func addSecret(_ name: String, _ given: String?) async throws(APIProblem) -> SecretView {
        let store = store
        return try await onStore {
            let value = given ?? SecretGenerator.sharedSecret()
            try store.addSecret(AccountName(name), value: Array(value.utf8))
            return SecretView(
                name: name,
                createdAt: Timestamp.text(Int64(Date().timeIntervalSince1970)),
                value: given == nil ? value : nil
            )
        }
    }

    func removeSecret(_ name: String) async throws(APIProblem) {
        let store = store
        try await onStore { try store.removeSecret(AccountName(name)) }
    }

    func tokens() async throws(APIProblem) -> [TokenView] {
        let store = store
        return try await onStore { try store.allTokens().map { TokenView($0, token: nil) } }
    }

    func createToken(_ new: NewToken) async throws(APIProblem) -> TokenView {
        let store = store
        return try await onStore {
            let name = try AccountName(new.name)
            let text = TokenText.generated()
            try store.addToken(
                name,
                digest: TokenText.digest(text),
                user: new.user.map { try AccountName($0) },
                expiresAtSeconds: new.expiresAt.map(Timestamp.seconds)
            )
            guard let made = try store.token(named: name.value) else {
                throw APIProblem(404, "the token was revoked as it was being made")
            }
            return TokenView(made, token: text)
        }
    }

    func revokeToken(_ name: String) async throws(APIProblem) {
        let store = store
        try await onStore { try store.revokeToken(AccountName(name)) }
    }
}

/// Times as the API writes them: `2026-11-22T12:43:20Z`.
private enum Timestamp {
    static func text(_ seconds: Int64) -> String {
        Date(timeIntervalSince1970: TimeInterval(seconds)).formatted(.iso8601)
    }

    static func seconds(_ text: String) throws(APIProblem) -> Int64 {
        guard text.utf8.count <= 40, let date = try? Date(text, strategy: .iso8601),
            let seconds = Int64(exactly: date.timeIntervalSince1970.rounded())
        else { throw APIProblem(422, "expiresAt has to be a time such as 2027-01-31T18:00:00Z") }
        return seconds
    }
}

extension UserView {
    fileprivate init(_ user: User) {
        self.init(
            name: user.name,
            realm: user.realm,
            state: user.state(atSeconds: Int64(Date().timeIntervalSince1970)).rawValue,
            createdAt: Timestamp.text(user.createdAtSeconds),
            expiresAt: user.expiresAtSeconds.map(Timestamp.text),
            maxAllocations: user.maxAllocations,
            maxBps: user.maxBitsPerSecond,
            monthlyBytes: user.monthlyBytes
        )
    }
}

extension UsageView {
    fileprivate init(_ usage: MonthlyUsage) {
        self.init(
            user: usage.user,
            month: usage.month.description,
            bytesToPeers: usage.usage.bytesToPeers,
            bytesToClients: usage.usage.bytesToClients,
            packetsToPeers: usage.usage.packetsToPeers,
            packetsToClients: usage.usage.packetsToClients,
            monthlyBytes: usage.monthlyBytes
        )
    }
}

extension TokenView {
    fileprivate init(_ token: Token, token text: String?) {
        self.init(
            name: token.name,
            user: token.user,
            createdAt: Timestamp.text(token.createdAtSeconds),
            expiresAt: token.expiresAtSeconds.map(Timestamp.text),
            token: text
        )
    }
}
