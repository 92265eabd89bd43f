import Accounts
import Server
import Testing

@Suite struct CredentialDerivationTests {
    /// RFC 8489 section 18.5.1.1 names the key of this user, realm and password.
    @Test func md5KeyOfTheRFCsExample() throws {
        let keys = try keys("user", "realm", "pass")
        #expect(hex(keys.md5Key) == "8493fbc53ba582fb4c044c456bdc40eb")
    }

    /// RFC 8489 appendix B.1 has this user, and its USERHASH.
    @Test func keysOfTheRFCsTestVector() throws {
        let keys = try keys("マトリックス", "example.org", "TheMatrIX")
        #expect(hex(keys.userhash) == "4a3cf38fef6992bda952c6780417da0f24819415569e60b205c46e41407f1704")
        #expect(hex(keys.md5Key) == "e8ca7ad59d5eb0518e312911d2dab2a9")
        #expect(hex(keys.sha256Key) == "dd295a613b9058c3c23d6dc7165bda072304d989c9d0af3a8c7e184b4f9bb4a1")
    }

    @Test func passwordIsPreparedBeforeItIsHashed() throws {
        // RFC 8265 section 4.2: every space is a space, and composed is the one spelling.
        #expect(try Password("a\u{A0}b\u{3000}c").value.utf8.elementsEqual("a b c".utf8))
        #expect(try Password("e\u{301}").value.utf8.elementsEqual("\u{E9}".utf8))
        #expect(try Password("Pass Word").value == "Pass Word")
    }

    @Test(arguments: ["", "a\tb", "a\u{0}", "a\u{7F}", "a\u{AD}b", "a\u{202E}", "\u{E000}", "\u{2028}", "a\u{FFFF}"])
    func passwordThatNobodyCanTypeIsRefusedWithoutRepeatingIt(_ text: String) throws {
        do {
            _ = try Password(text)
            Issue.record("\(text.unicodeScalars.map(\.value)) should be refused")
        } catch {
            #expect(text.isEmpty || !error.message.contains(text))
            #expect(error.isAboutInput)
        }
    }

    @Test func passwordOfMoreThanTheLimitIsRefused() {
        #expect(throws: CredentialError.self) { try Password(String(repeating: "a", count: Password.bytesMax + 1)) }
    }

    @Test func generatedPasswordsDifferAndHaveEnoughBits() throws {
        let passwords = (0..<100).map { _ in Password.generated().value }
        #expect(Set(passwords).count == 100)
        for password in passwords {
            // 32 symbols, five bits each.
            #expect(password.count * 5 >= 128)
            #expect(Set(password).count > 4)
            #expect(try Password(password).value == password)
        }
        #expect(SecretGenerator.sharedSecret().count * 5 >= 256)
    }

    @Test func estimateGrowsWithLengthAndKinds() throws {
        #expect(try Password("hunter2").estimatedBits == 36)
        #expect(try Password("1234").estimatedBits < Password("abcd").estimatedBits)
        #expect(try Password(String(repeating: "aB3", count: 8)).estimatedBits >= 128)
        #expect(try Password("correct horse battery staple").estimatedBits >= 128)
    }

    @Test func timeLimitedCredentialIsWhatOtherToolsMint() throws {
        let secret = SharedSecret(name: "web", value: Array("north".utf8), createdAtSeconds: 0)
        let credential = try TimeLimitedCredential(
            name: AccountName("alice"),
            secret: secret,
            expiresAtSeconds: 1_433_895_918
        )
        #expect(credential.username == "1433895918:alice")
        // printf 1433895918:alice | openssl dgst -sha1 -hmac north -binary | base64
        #expect(credential.password == "RqMvcGPYTJMGThVLSi4amT4zFtI=")
    }

    private func keys(_ name: String, _ realm: String, _ password: String) throws -> DerivedKeys {
        try CredentialDerivation.keys(name: AccountName(name), realm: Realm(realm), password: Password(password))
    }

    private func hex(_ bytes: [UInt8]) -> String {
        bytes.map { String($0 >> 4, radix: 16) + String($0 & 15, radix: 16) }.joined()
    }
}
