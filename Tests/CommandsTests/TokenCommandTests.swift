import Accounts
import Commands
import Foundation
import Testing

@Suite struct TokenCommandTests {
    @Test func tokenIsPrintedOnceAndKeptAsItsDigestAlone() async throws {
        let installation = Installation()
        let created = await installation.run("token", "create", "ci")
        #expect(created.status == 0)
        let token = created.output.trimmingCharacters(in: .newlines)
        #expect(token.wholeMatch(of: /tpk_[0-9A-Za-z]{52}/) != nil, "\(token)")
        #expect(created.messages == "turnpike: created token ci for an admin; it is shown only now\n")
        for file in try FileManager.default.contentsOfDirectory(atPath: installation.path) {
            let data = try Data(contentsOf: URL(fileURLWithPath: installation.path + "/" + file))
            #expect(data.range(of: Data(token.utf8)) == nil, "\(file)")
        }
        for format in ["text", "json"] {
            let list = await installation.run("token", "list", "--format", format)
            #expect(list.status == 0 && list.output.contains("ci") && !list.output.contains(token))
        }
    }

    @Test func listSaysWhoseTokenItIsAndUntilWhen() async throws {
        let installation = Installation()
        _ = await installation.run("user", "add", "alice")
        _ = await installation.run("token", "create", "ci")
        let created = await installation.run(
            "token",
            "create",
            "app",
            "--user",
            "alice",
            "--expires",
            "1h",
            "--format",
            "json"
        )
        let object = try #require(try JSONSerialization.jsonObject(with: Data(created.output.utf8)) as? [String: Any])
        #expect((object["token"] as? String)?.hasPrefix("tpk_") == true && object["user"] as? String == "alice")
        let list = await installation.run("token", "list", now: 1_700_003_599)
        #expect(
            list.output == """
                NAME  FOR         STATE   EXPIRES               CREATED
                ci    admin       active  never                 2023-11-14T22:13:20Z
                app   user alice  active  2023-11-14T23:13:20Z  2023-11-14T22:13:20Z

                """
        )
        #expect(await installation.run("token", "list", now: 1_700_003_600).output.contains("expired"))
    }

    @Test func revokedTokenIsGone() async throws {
        let installation = Installation()
        _ = await installation.run("token", "create", "ci")
        let twice = await installation.run("token", "create", "ci")
        #expect(twice.status == 1 && twice.output.isEmpty && twice.messages.contains("revoke it first"))
        #expect(await installation.run("token", "revoke", "ci").status == 0)
        #expect(try installation.store().allTokens().isEmpty)
        let again = await installation.run("token", "revoke", "ci")
        #expect(again.status == 1 && again.messages.contains("turnpike token list"))
        let list = await installation.run("token", "list")
        #expect(list.status == 0 && list.output.isEmpty && list.messages.contains("turnpike token create NAME"))
    }

    @Test func tokenForNobodyIsRefused() async throws {
        let installation = Installation()
        let early = await installation.run("token", "create", "app", "--user", "carol")
        #expect(early.status == 1)
        #expect(!FileManager.default.fileExists(atPath: installation.path), "a database has been made for nothing")
        _ = await installation.run("user", "add", "alice")
        let outcome = await installation.run("token", "create", "app", "--user", "carol")
        #expect(outcome.status == 1 && outcome.messages.contains("carol") && outcome.messageLines.count == 1)
        #expect(try installation.store().allTokens().isEmpty)
    }

    @Test(arguments: [
        ["token", "create"], ["token", "create", "a b"], ["token", "create", "a", "--user", "b:c"],
        ["token", "create", "a", "--expires", "2000-01-01"], ["token", "create", "a", "--format", "env"],
        ["token", "revoke"], ["token", "revoke", "a/b"],
    ])
    func mistakesGetStatus64AndMakeNothing(_ arguments: [String]) async {
        let installation = Installation()
        let outcome = await installation.run(arguments)
        #expect(outcome.status == 64 && outcome.output.isEmpty && outcome.messageLines.count == 1)
        #expect(!FileManager.default.fileExists(atPath: installation.path))
    }
}
