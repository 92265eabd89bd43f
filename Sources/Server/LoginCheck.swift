import Accounts
import Foundation
import Gateway
import OpenSSLCrypto

/// Whether what a client shows is the user's, by the account store. Reads it anew each time: a read by primary key
/// takes some 20 µs, and what is not kept need not be forgotten when a user is disabled.
struct LoginCheck {
    let store: AccountStore
    let nowSeconds: Int64
    let maxCredentialSeconds: Int

    /// - Throws: `AccountError` where the store does not answer.
    func outcome(_ login: GatewayLogin) throws(AccountError) -> LoginOutcome {
        switch login {
        case .token(let token):
            return try check(token: token)
        case .password(let username, let password):
            if let (expiry, name) = Self.timeLimited(username) {
                return try check(expiry: expiry, name: name, username: username, password: password)
            }
            return try check(user: username, password: password)
        case .session(let user):
            let record = try store.credentialRecord(username: user)
            // A name without a record is one of time-limited credentials: those of users who are removed have no
            // session left.
            guard record?.isUsable(atSeconds: nowSeconds) != false else { return .refused }
            return .accepted(Identity(user: user, expiresAtSeconds: record?.expiresAtSeconds))
        }
    }

    private func check(user: String, password: String) throws(AccountError) -> LoginOutcome {
        let record = try store.credentialRecord(username: user)
        // Who is not there costs what who is there does, so that the answer's time does not tell.
        let name = (try? AccountName(user)) ?? Self.nobody
        guard let realm = try? Realm(record?.realm ?? "turnpike"), let password = try? Password(password),
            let name, let keys = try? CredentialDerivation.keys(name: name, realm: realm, password: password)
        else { return .refused }
        let isRight = Self.areEqual(keys.sha256Key, record?.keys.sha256Key ?? [UInt8](repeating: 0, count: 32))
        guard let record, isRight, record.name == user, record.isUsable(atSeconds: nowSeconds) else { return .refused }
        return .accepted(Identity(user: record.name, expiresAtSeconds: record.expiresAtSeconds))
    }

    /// A time-limited credential: of a shared secret, for a name that need not be a user's. One that is must not be
    /// kept out.
    private func check(
        expiry: Int64,
        name: String,
        username: String,
        password: String
    ) throws(AccountError) -> LoginOutcome {
        let message = Array(username.utf8)
        let shown = Array(password.utf8)
        var isRight = false
        for secret in try store.allSecrets() {
            let expected = Data(HMAC.sha1(key: secret.value, message: message)).base64EncodedString()
            if Self.areEqual(shown, Array(expected.utf8)) { isRight = true }
        }
        guard isRight, expiry > nowSeconds, expiry - nowSeconds <= Int64(maxCredentialSeconds),
            let account = try? AccountName(name), account.isSpelled(name)
        else { return .refused }
        let record = try store.credentialRecord(username: name)
        guard record?.isUsable(atSeconds: nowSeconds) != false else { return .refused }
        let end = record?.expiresAtSeconds.map { min($0, expiry) } ?? expiry
        return .accepted(Identity(user: name, expiresAtSeconds: end))
    }

    private func check(token: String) throws(AccountError) -> LoginOutcome {
        // Found by its digest, so there is nothing to compare that a stopwatch could help to guess.
        guard TokenText.isPlausible(token), let found = try store.token(digest: TokenText.digest(token)),
            found.isUsable(atSeconds: nowSeconds)
        else { return .refused }
        guard let user = found.user else {
            return .accepted(
                Identity(user: nil, token: found.name, isAdmin: true, expiresAtSeconds: found.expiresAtSeconds)
            )
        }
        guard let record = try store.credentialRecord(username: user), record.isUsable(atSeconds: nowSeconds) else {
            return .refused
        }
        let end = [found.expiresAtSeconds, record.expiresAtSeconds].compactMap(\.self).min()
        return .accepted(Identity(user: user, token: found.name, expiresAtSeconds: end))
    }

    /// `<expiry>:<name>`. No user's name has a colon.
    private static func timeLimited(_ username: String) -> (Int64, String)? {
        guard let colon = username.utf8.firstIndex(of: UInt8(ascii: ":")) else { return nil }
        let digits = username[..<colon]
        guard (1...18).contains(digits.utf8.count), digits.utf8.allSatisfy({ (0x30...0x39).contains($0) }),
            let expiry = Int64(digits)
        else { return nil }
        return (expiry, String(username[username.utf8.index(after: colon)...]))
    }

    private static func areEqual(_ left: [UInt8], _ right: [UInt8]) -> Bool {
        left.withUnsafeBytes { left in right.withUnsafeBytes { ConstantTime.areEqual(left, $0) } }
    }

    private static let nobody = try? AccountName("nobody")
}

/// Tokens of the API: a mark by which leaked ones are found, and 260 random bits.
package enum TokenText {
    package static func generated() -> String { prefix + SecretGenerator.text(characters: 52) }

    /// What the store keeps. The token's own randomness makes a slow hash unnecessary.
    package static func digest(_ token: String) -> [UInt8] { Digest.sha256(Array(token.utf8)) }

    /// Keeps what cannot be one from being hashed and looked up.
    static func isPlausible(_ token: String) -> Bool {
        token.utf8.count == prefix.utf8.count + 52 && token.hasPrefix(prefix)
    }

    private static let prefix = "tpk_"
}
