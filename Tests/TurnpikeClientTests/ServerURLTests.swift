import Testing
import TurnpikeClient

@Suite struct ServerURLTests {
    @Test(arguments: [
        ("turn:a.example", "turn:a.example:3478"),
        ("TURN:a.example:80?transport=TCP", "turn:a.example:80?transport=tcp"),
        ("turns:a.example", "turns:a.example:5349"), ("a.example:443", "turn:a.example:443"),
        ("turns:[2001:db8::1]?transport=udp", "turns:[2001:db8::1]:5349?transport=udp"),
        ("turn:192.0.2.1:65535", "turn:192.0.2.1:65535"),
    ])
    func aRelayIsReadAsRFC7065WritesIt(text: String, meaning: String) throws {
        #expect(try ServerURL(text, usual: .turn).description == meaning)
    }

    @Test(arguments: [
        ("turn:a.example:+80", "1 to 65535"), ("turn:a.example:", "1 to 65535"),
        ("turn:a.example:080000", "1 to 65535"),
        ("turn:ada:secret@a.example", "TURN_USERNAME"), ("turn:ada@a.example:80", "TURN_USERNAME"),
        ("http://a.example", "turn:host:3478"), ("stuns:a.example", "turn:host:3478"),
        ("turn:[a.example]:80", "no IPv6 address"), ("turn:[192.0.2.1]", "no IPv6 address"),
        ("turn:[2001:db8::1", "bracket"), ("turn:[2001:db8::1]80", "behind the bracket"),
        ("turn:a.example?transport=sctp", "transport=udp"), ("turn:a.example?transport=udp&x=1", "transport=udp"),
        ("turn:a%2eexample", "names no host"), ("turn:a\\b", "names no host"), ("turn:", "names no host"),
        ("turn:" + String(repeating: "a", count: 256), "names no host"),
        (String(repeating: "a", count: 1_025), "longer than 1024"),
    ])
    func whatIsNoRelayIsRefusedWithItsMend(text: String, mend: String) {
        #expect { _ = try ServerURL(text, usual: .turn) } throws: { "\($0)".contains(mend) }
    }
}
