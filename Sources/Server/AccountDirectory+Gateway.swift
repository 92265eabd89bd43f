import Accounts
import Foundation
import Gateway
import Logging
import OpenSSLCrypto
import Settings

/// The account store on behalf of the gateway.
final class GatewayAccounts: GatewayDirectory {
    private let store: AccountStore
    /// The directory's, so that an answer and the news that outdates it keep their order.
    private let queue: DispatchQueue
    private let settings: @Sendable () -> Settings
    private let tell: @Sendable (AccountError) -> Void
    /// Hands the workers a secret at once that was made this moment.
    private let onSecrets: @Sendable ([SharedSecret]) -> Void

    init(
        _ directory: AccountDirectory,
        settings: @escaping @Sendable () -> Settings,
        onSecrets: @escaping @Sendable ([SharedSecret]) -> Void
    ) {
        store = directory.store
        queue = directory.queue
        tell = { [weak directory] in directory?.tell($0) }
        self.settings = settings
        self.onSecrets = onSecrets
    }

    func login(_ login: GatewayLogin) async -> LoginOutcome {
        let most = settings().auth.maxCredentialTTLSeconds
        return await onQueue { [store] () throws(AccountError) in
            let now = Int64(Date().timeIntervalSince1970)
            return try LoginCheck(store: store, nowSeconds: now, maxCredentialSeconds: most).outcome(login)
        } ?? .unavailable
    }

    func iceServers(user: String, seconds: Int) async -> ICEServers? {
        let settings = settings()
        return await onQueue { () throws(AccountError) in
            guard let name = try? AccountName(user), name.isSpelled(user) else { return nil }
            let now = Int64(Date().timeIntervalSince1970)
            let record = try self.store.credentialRecord(username: user)
            guard record?.isUsable(atSeconds: now) != false else { return nil }
            // A credential must not outlive its user.
            let life = min(Int64(seconds), (record?.expiresAtSeconds).map { $0 - now } ?? .max)
            let credential = TimeLimitedCredential(
                name: name,
                secret: try self.secret(),
                expiresAtSeconds: now + life
            )
            let urls = PeerURLs(settings: settings)
            var servers: [ICEServers.Server] = []
            if let urls {
                servers.append(ICEServers.Server(urls: urls.stun))
                servers.append(
                    ICEServers.Server(
                        urls: urls.turn + urls.turns,
                        username: credential.username,
                        credential: credential.password
                    )
                )
            }
            return ICEServers(iceServers: servers, ttl: Int(clamping: life))
        } ?? nil
    }

    func stunServers() -> [String] { PeerURLs(settings: settings())?.stun ?? [] }

    /// Makes sure that there is a secret to mint with, before anybody asks. It writes to the disk, so it comes before
    /// the workers are there.
    static func prepare(_ store: AccountStore) throws(AccountError) {
        guard try store.allSecrets().isEmpty else { return }
        do throws(AccountError) {
            try store.addSecret(AccountName("signaling"), value: Array(SecretGenerator.sharedSecret().utf8))
        } catch {
            // A command may have been quicker.
            guard error.code == .alreadyExists else { throw error }
        }
    }

    /// The newest secret; one of the server's own where there is none.
    private func secret() throws(AccountError) -> SharedSecret {
        if let newest = try store.allSecrets().last { return newest }
        try Self.prepare(store)
        let all = try store.allSecrets()
        onSecrets(all)
        guard let newest = all.last else {
            throw AccountError(.notFound, "there is no shared secret; run: turnpike secret add NAME")
        }
        return newest
    }

    private func onQueue<Value: Sendable>(
        _ body: @escaping @Sendable () throws(AccountError) -> Value
    ) async -> Value? {
        await withCheckedContinuation { continuation in
            queue.async {
                do throws(AccountError) {
                    continuation.resume(returning: try body())
                } catch {
                    self.tell(error)
                    continuation.resume(returning: nil)
                }
            }
        }
    }
}
