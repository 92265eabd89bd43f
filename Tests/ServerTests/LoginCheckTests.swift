import Accounts
import Foundation
import Gateway
import OpenSSLCrypto
import Testing

@testable import Server

struct LoginCheckTests {
    /// A disabled user whose name has a letter that can be spelled in two ways.
    @Test(arguments: ["zoe\u{308}", "zo\u{EB}"])
    func aNameInAnotherSpellingIsNotAWayAroundItsUser(name: String) throws {
        let path = NSTemporaryDirectory() + "login-check-" + UUID().uuidString
        defer { try? FileManager.default.removeItem(atPath: path) }
        let store = try AccountStore(
            dataDirectory: path,
            mode: .readWrite,
            createIfMissing: true,
            actor: "test",
            report: { _ in }
        )
        let user = try AccountName("zo\u{EB}")
        let realm = try Realm("turnpike")
        let keys = try CredentialDerivation.keys(name: user, realm: realm, password: Password("long enough"))
        try store.addUser(user, realm: realm, keys: keys)
        try store.setEnabled(false, user)
        let secret = Array("a secret of the web".utf8)
        try store.addSecret(AccountName("web"), value: secret)

        let username = "2000:" + name
        let password = Data(HMAC.sha1(key: secret, message: Array(username.utf8))).base64EncodedString()
        let check = LoginCheck(store: store, nowSeconds: 1_000, maxCredentialSeconds: 3_600)
        #expect(try check.outcome(.password(username: username, password: password)) == .refused)
        let other = "2000:somebody"
        let theirs = Data(HMAC.sha1(key: secret, message: Array(other.utf8))).base64EncodedString()
        #expect(
            try check.outcome(.password(username: other, password: theirs))
                == .accepted(Identity(user: "somebody", expiresAtSeconds: 2_000))
        )
    }
}
