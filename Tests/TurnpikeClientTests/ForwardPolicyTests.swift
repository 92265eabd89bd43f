import DataChannels
import Testing

@testable import TurnpikeClient

@Suite struct ForwardPolicyTests {
    private func reason(
        _ policy: ForwardPolicy,
        _ text: String,
        peer: PeerID = "bob/x",
        own: PeerID = "alice/desk"
    ) -> ForwardRefusal.Reason? {
        switch policy.answer(text, to: peer, by: own) {
        case .success: nil
        case .failure(let refusal): refusal.reason
        }
    }

    @Test(arguments: ["localhost:80", "LOCALHOST:80", "127.0.0.1:65535", "[::1]:1", "[0:0:0::0001]:22"])
    func withoutARuleTheMachineItselfIsAllowed(_ text: String) { #expect(reason(ForwardPolicy(), text) == nil) }

    /// Spellings that some readers take for a loopback address, and neighbours of it, are none.
    @Test(arguments: [
        "127.0.0.2:80", "10.0.0.5:80", "[::ffff:127.0.0.1]:80", "[::ffff:7f00:1]:80", "0.0.0.0:80", "[::]:80",
        "localhost.:80", "localhost.example.org:80", "0x7f.0.0.1:80",
        "[fe80::1]:80", "169.254.169.254:80", "example.org:80",
    ])
    func withoutARuleNothingElseIs(_ text: String) { #expect(reason(ForwardPolicy(), text) == .notAllowed) }

    @Test(arguments: [
        "", ":", ":80", "localhost", "localhost:", "localhost:0", "localhost:65536", "localhost:+80", "a b:80",
        "::1:80", "[::1]", "[]:80", "[::1%lo]:80", "127.0.0.1:80\n", "127.0.0.1:80:80", "\u{0}:80", "ö:80",
        "[127.0.0.1]:80",
        "127.1:80", "2130706433:80", "0:80", "127.0.0.1.1:80",
    ])
    func whatIsNoTargetIsNoCrime(_ text: String) { #expect(reason(ForwardPolicy(), text) == .failed) }

    @Test func portsAndTargetsAreAllowedByTheirText() {
        var policy = ForwardPolicy.none
        policy.ports = [80]
        policy.targets = [ForwardTarget("db.example.org:5432"), ForwardTarget("[2001:db8::1]:80")].reduce(into: []) {
            if let target = $1 { $0.insert(target) }
        }
        #expect(reason(policy, "localhost:80") == nil)
        #expect(reason(policy, "[::1]:80") == nil)
        #expect(reason(policy, "localhost:81") == .notAllowed)
        #expect(reason(policy, "DB.example.org:5432") == nil)
        #expect(reason(policy, "db.example.org:5433") == .notAllowed)
        #expect(reason(policy, "[2001:DB8:0::1]:80") == nil)
        #expect(reason(policy, "10.0.0.5:80") == .notAllowed)
        #expect(reason(.none, "localhost:80") == .notAllowed)
    }

    @Test(arguments: [
        ("alice", true), ("alice/laptop", true), ("alice/a/b", true), ("alicia/laptop", false), ("alice2", false),
        ("bob/alice", false), ("Alice/laptop", false),
    ])
    func onlyTheOwnUsersPeersWhereTheRuleSaysSo(_ peer: String, _ isAllowed: Bool) {
        var policy = ForwardPolicy()
        policy.isOwnUserOnly = true
        #expect(reason(policy, "localhost:80", peer: PeerID(peer)) == (isAllowed ? nil : .notAllowed))
    }
}
