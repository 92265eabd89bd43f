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

    /// AU-23: RFC 8265 section 4.2. What a client hashes that prepares its strings is what was stored.
    @Test(arguments: [
        // Section 4.3's examples: case and width stay, every space is U+0020.
        ("correct horse battery staple", "correct horse battery staple"),
        ("Correct Horse Battery Staple", "Correct Horse Battery Staple"),
        ("\u{3C0}\u{DF}\u{E5}", "\u{3C0}\u{DF}\u{E5}"), ("Jack of \u{2666}s", "Jack of \u{2666}s"),
        ("foo\u{1680}bar", "foo bar"), ("foo\u{3000}bar", "foo bar"),
        // Combining marks: composed, and put in order, and no compatibility mapping.
        ("A\u{30A}", "\u{C5}"), ("\u{212B}", "\u{C5}"), ("q\u{307}\u{323}", "q\u{323}\u{307}"),
        ("\u{2168}", "\u{2168}"), ("\u{AA}", "\u{AA}"), ("\u{FB01}", "\u{FB01}"), ("\u{FF21}", "\u{FF21}"),
        // Conjoining jamo, as some systems type Korean, make syllables.
        ("\u{1112}\u{1161}\u{11AB}", "\u{D55C}"),
        // From right to left, alone and mixed: OpaqueString has no rule of direction.
        ("\u{5E9}\u{5DC}\u{5D5}\u{5DD}", "\u{5E9}\u{5DC}\u{5D5}\u{5DD}"),
        ("\u{633}\u{644}\u{627}\u{645}abc1", "\u{633}\u{644}\u{627}\u{645}abc1"),
        // Joiners, where a script needs them.
        ("\u{915}\u{94D}\u{200D}", "\u{915}\u{94D}\u{200D}"),
    ])
    func au23_passwordsAreOpaqueStrings(_ typed: String, _ prepared: String) throws {
        #expect(try Password(typed).value.utf8.elementsEqual(prepared.utf8))
        // What is prepared stays what it is.
        #expect(try Password(prepared).value.utf8.elementsEqual(prepared.utf8))
    }

    @Test(arguments: [
        // Appendix B.1 of RFC 8489 tells of a password before its preparation that has a soft hyphen.
        "The\u{AD}M\u{AA}tr\u{2168}", "\u{378}", "a\u{E000}", "a\u{34F}b", "a\u{FE0F}",
        "\u{3164}",
        "\u{115F}", "a\u{200E}", "a\u{2066}b", "\u{FEFF}a", "a\u{E0041}",
    ])
    func au23_whatIsNoOpaqueStringIsRefused(_ typed: String) throws {
        #expect(throws: CredentialError.self) { try Password(typed) }
        // Nor is it a name or a realm.
        #expect(typed.hasPrefix("The") || (try? AccountName(typed)) == nil)
        #expect(typed.hasPrefix("The") || (try? Realm(typed)) == nil)
    }

    @Test func au23_namesAndRealmsAreOpaqueStrings() throws {
        for (typed, prepared) in [
            ("\u{30DE}\u{30C8}\u{30EA}\u{30C3}\u{30AF}\u{30B9}", "\u{30DE}\u{30C8}\u{30EA}\u{30C3}\u{30AF}\u{30B9}"),
            ("cafe\u{301}", "caf\u{E9}"), ("\u{5E9}\u{5DC}", "\u{5E9}\u{5DC}"), ("\u{FF21}", "\u{FF21}"),
        ] {
            #expect(try AccountName(typed).value.utf8.elementsEqual(prepared.utf8))
            #expect(try Realm(typed).value.utf8.elementsEqual(prepared.utf8))
        }
        // Typed in another form, it is the same user with the same keys.
        let composed = try keys("caf\u{E9}", "r\u{E9}seau", "\u{E9}t\u{E9}")
        #expect(try keys("cafe\u{301}", "re\u{301}seau", "e\u{301}te\u{301}") == composed)
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
