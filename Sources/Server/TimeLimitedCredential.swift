import Accounts
import Foundation
import OpenSSLCrypto

/// A credential that a web service can mint without asking the server, as it shares a secret with it: the username is
/// `<expiry>:<name>`, the password `base64(HMAC-SHA1(secret, username))` (draft-uberti-behave-turn-rest-00 section
/// 2.2).
package struct TimeLimitedCredential: Hashable, Sendable {
    package let username: String
    package let password: String
    /// Seconds since 1970.
    package let expiresAtSeconds: Int64

    package init(name: AccountName, secret: SharedSecret, expiresAtSeconds: Int64) {
        let username = "\(expiresAtSeconds):\(name.value)"
        self.username = username
        self.expiresAtSeconds = expiresAtSeconds
        password = Data(HMAC.sha1(key: secret.value, message: Array(username.utf8))).base64EncodedString()
    }
}
