import NIOEmbedded
import Testing

@testable import Gateway

struct RevocationTests {
    @Test func aTokenThatIsRevokedWhileItIsCheckedOpensNothing() {
        let loop = EmbeddedEventLoop()
        let runner = HubRunner(.init(GatewayConfiguration()), loop: loop, directory: NobodysDirectory())
        runner.revoke(token: "ci")
        #expect(!runner.note(token: "ci", of: "alice", checkedAt: 0))
        #expect(runner.note(token: "other", of: "alice", checkedAt: 0))
        #expect(runner.note(token: "ci", of: "alice", checkedAt: .max), "one of the same name that was made later")
    }
}

private struct NobodysDirectory: GatewayDirectory {
    func login(_ login: GatewayLogin) async -> LoginOutcome { .refused }
    func iceServers(user: String, seconds: Int) async -> ICEServers? { nil }
    func stunServers() -> [String] { [] }
}
