import Testing

@testable import TurnpikeClient

@Suite struct ConfigurationTests {
    private let printed = [
        "SIGNALING_SERVER": "wss://relay.example:8443/signal",
        "STUN_SERVERS": "stun:relay.example:3478, other.example",
        "TURN_SERVERS": "turn:relay.example:3478,turns:relay.example:5349?transport=tcp",
        "TURN_USERNAME": "alice",
        "TURN_PASSWORD": "secret",
        "PEER_ID": "alice/desk",
        "TURNPIKE_CERT_FINGERPRINT": "sha256:" + String(repeating: "ab", count: 32),
    ]

    @Test func whatTheServerPrintsIsReadWhole() {
        let configuration = Configuration.fromEnvironment(printed)
        #expect(configuration.issues.isEmpty)
        #expect(configuration.allIssues.isEmpty)
        #expect(configuration.signalingServer == "wss://relay.example:8443/signal")
        #expect(configuration.stunServers == ["stun:relay.example:3478", "other.example"])
        #expect(
            configuration.turnServers.map(\.url) == [
                "turn:relay.example:3478", "turns:relay.example:5349?transport=tcp",
            ]
        )
        #expect(configuration.turnServers.allSatisfy { $0.username == "alice" && $0.password == "secret" })
        #expect(configuration.peerID == "alice/desk")
        #expect(configuration.trust == .fingerprints([Array(repeating: 0xAB, count: 32)]))
    }

    @Test func theNamesOfTheOriginalAreUnderstood() {
        let configuration = Configuration.fromEnvironment([
            "P2P_STUN_SERVERS": "stun:a.example:19302",
            "P2P_TURN_SERVER": "turn:b.example:3478",
            "P2P_TURN_USERNAME": "user",
            "P2P_TURN_PASSWORD": "pass",
            "P2P_CONNECTION_TIMEOUT": "10000",
            "P2P_KEEP_ALIVE_INTERVAL": "15000",
            "P2P_HOLE_PUNCHING_PORT": "4000",
        ])
        #expect(configuration.issues.isEmpty)
        #expect(configuration.stunServers == ["stun:a.example:19302"])
        #expect(configuration.turnServers == [.init(url: "turn:b.example:3478", username: "user", password: "pass")])
        #expect(configuration.connectionTimeout == .seconds(10))
        #expect(configuration.keepAliveInterval == .seconds(15))
        #expect(configuration.localPort == 4_000)
    }

    @Test func serversMayBeJSONAsBrowsersHaveIt() {
        let configuration = Configuration.fromEnvironment([
            "TURN_SERVERS":
                #"[{"urls": ["turn:a.example", "turns:a.example"], "username": "u", "credential": "p"}, "#
                + #"{"urls": "turn:b"}]"#,
            "TURN_USERNAME": "alice",
            "TURN_PASSWORD": "secret",
        ])
        #expect(configuration.issues.isEmpty)
        #expect(
            configuration.turnServers == [
                .init(url: "turn:a.example", username: "u", password: "p"),
                .init(url: "turns:a.example", username: "u", password: "p"),
                .init(url: "turn:b", username: "alice", password: "secret"),
            ]
        )
    }

    @Test func anEmptyEnvironmentGivesTheDefaults() {
        let configuration = Configuration.fromEnvironment([:])
        #expect(configuration == Configuration())
        #expect(configuration.connectionTimeout == .seconds(30))
        #expect(configuration.keepAliveInterval == .seconds(25))
        #expect(configuration.maxRetries == 3)
        #expect(configuration.localPort == 0)
        #expect(configuration.allIssues.map(\.name) == ["signalingServer"])
    }

    @Test(arguments: [
        ("SIGNALING_SERVER", "https://relay.example", "wss://host:8443/signal"),
        ("SIGNALING_SERVER", "wss://relay.example:port", "1 to 65535"),
        ("STUN_SERVERS", "turn:relay.example", "stun:host:3478"),
        ("STUN_SERVERS", "fd00::1:3478", "[address]:port"),
        ("TURN_SERVER", "turn:relay.example?transport=sctp", "transport=udp"),
        ("TURN_SERVERS", "[{\"urls\": 7}]", "\"urls\""),
        ("TURN_SERVERS", "[{", "\"urls\""),
        ("TURNPIKE_CERT_FINGERPRINT", "sha256:12", "64 hexadecimal digits"),
        // As many bytes, and fewer characters.
        ("TURNPIKE_CERT_FINGERPRINT", String(repeating: "a", count: 62) + "\u{e9}", "64 hexadecimal digits"),
        ("TURNPIKE_CA_FILE", "/nowhere/ca.pem", "PEM"),
        ("P2P_CONNECTION_TIMEOUT", "soon", "milliseconds"),
        ("P2P_KEEP_ALIVE_INTERVAL", "-1", "milliseconds"),
        ("P2P_HOLE_PUNCHING_PORT", "70000", "0 to 65535"),
    ])
    func aBadValueIsNamedWithTheMend(name: String, value: String, mend: String) {
        var environment = printed
        environment["TURNPIKE_CERT_FINGERPRINT"] = nil
        environment["TURN_SERVERS"] = nil
        environment[name] = value
        let issues = Configuration.fromEnvironment(environment).issues
        #expect(issues.count == 1)
        #expect(issues.first?.name == name)
        #expect(issues.first?.problem.contains(mend) == true, "\(issues)")
    }

    @Test func aRelayWithoutCredentialsIsNamedAndLeftOut() {
        let configuration = Configuration.fromEnvironment(["TURN_SERVER": "turn:relay.example"])
        #expect(configuration.turnServers.isEmpty)
        #expect(configuration.issues.map(\.name) == ["TURN_USERNAME"])
    }

    @Test(arguments: [
        ("relay.example", "stun:relay.example:3478"),
        ("stun:[fd00::1]:5000", "stun:[fd00::1]:5000"),
        ("[fd00::1]", "stun:[fd00::1]:3478"),
        ("stun://relay.example", "stun:relay.example:3478"),
    ])
    func addressesOfServersAreReadAsPeopleWriteThem(text: String, meaning: String) throws {
        #expect(try ServerURL(text, usual: .stun).description == meaning)
    }

    @Test(arguments: ["", " ", ":3478", "host:0", "host:99999", "[fd00::1", "a b:1", "user@host", "host:1:2"])
    func whatIsNoAddressOfAServerIsRefused(text: String) {
        #expect(throws: ServerURLProblem.self) { try ServerURL(text, usual: .stun) }
    }

    @Test func aWebSocketKeepsItsPathAndQuery() throws {
        let url = try ServerURL("wss://relay.example/other?room=1", usual: .wss)
        #expect(url.path == "/other?room=1")
        #expect(url.port == 8_443)
        #expect(try ServerURL("ws://127.0.0.1:8080", usual: .wss).path == "/signal")
    }
}
