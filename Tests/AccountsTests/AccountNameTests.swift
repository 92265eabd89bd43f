import Accounts
import Testing

@Suite struct AccountNameTests {
    @Test(arguments: ["a", "alice", "alice@example.org", "Ünïcode", "名前", "a-b_c.d", "O'Brien", "x;--", "🦊"])
    func ordinaryNamesAreTaken(_ text: String) throws {
        #expect(Array(try AccountName(text).value.utf8) == Array(text.utf8))
    }

    @Test(arguments: [
        "", "-x", "--help", "a:b", "a/b", "a b", "a\tb", "a\nb", "\u{0}", "a\u{7F}", "a\u{A0}b", "a\u{2028}",
        "a\u{200B}b",
        "a\u{202E}b", "a\u{FEFF}", "a\u{E000}", "a\u{3000}b", "a\u{FFFF}", "a\u{3164}",
    ])
    func namesThatCouldMisleadAreRefused(_ text: String) {
        #expect(accountError { _ = try AccountName(text) }?.code == .invalidName)
    }

    @Test func lengthIsCountedInBytes() throws {
        #expect(try AccountName(String(repeating: "é", count: 127)).value.utf8.count == 254)
        #expect(accountError { _ = try AccountName(String(repeating: "é", count: 128)) }?.code == .invalidName)
        #expect(try AccountName(String(repeating: "a", count: 255)).value.utf8.count == 255)
    }

    @Test func decomposedNameIsComposed() throws {
        #expect(Array(try AccountName("e\u{301}").value.utf8) == Array("\u{E9}".utf8))
    }

    @Test func realmIsOneToOneHundredTwentySevenQuotableCharacters() throws {
        #expect(try Realm(String(repeating: "名", count: 127)).value.unicodeScalars.count == 127)
        #expect(try Realm("my realm: 1").value == "my realm: 1")
        for text in ["", String(repeating: "a", count: 128), "a\"b", "a\\b", "a\nb"] {
            #expect(accountError { _ = try Realm(text) }?.code == .invalidRealm)
        }
    }

    @Test func messageAboutANameStaysOnOneLineAndShort() {
        let error = accountError { _ = try AccountName("\u{1B}[31m\n" + String(repeating: "x", count: 200)) }
        #expect(error?.message.unicodeScalars.contains { $0.value < 0x20 } == false)
        #expect((error?.message.count ?? .max) < 250)
    }
}
