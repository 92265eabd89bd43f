import Testing

@testable import Settings

@Suite struct ValueTests {
    @Test(arguments: [
        ("auto", Settings.WorkerCount.auto), ("1", .count(1)), ("256", .count(256)), ("'8'", .count(8)),
    ])
    func workersAreAutoOrANumber(text: String, expected: Settings.WorkerCount) throws {
        #expect(try load("workers: \(text)").settings?.workers == expected)
    }

    @Test(arguments: ["0", "257", "-1", "1.5", "0x10", "08", "many", "99999999999999999999999", "+4", "1_0", "٣"])
    func otherWorkersAreRefusedByValue(text: String) throws {
        let message = try #require(try load("workers: \(text)").errors.first?.message)
        #expect(message.contains("\"\(text)\"") && message.contains("from 1 to 256"))
    }

    @Test(arguments: [
        ("90", 90), ("90s", 90), ("10m", 600), ("24h", 86_400), ("7d", 604_800), ("1h30m", 5400), ("1d2h3m4s", 93_784),
    ])
    func durationsHaveUnits(text: String, seconds: Int) throws {
        #expect(try load("auth: {max_credential_ttl: \(text)}").settings?.auth.maxCredentialTTLSeconds == seconds)
        #expect(DurationText.seconds(DurationText.text(seconds)) == seconds)
    }

    @Test(arguments: [
        "0", "-5m", "5x", "m", "1m1h", "1m1m", "10 m", "1.5h", "367d", "9223372036854775807", "999999999999d", "1hh",
        "٣s",
    ])
    func otherDurationsAreRefusedByValue(text: String) throws {
        let outcome = try load("auth: {max_credential_ttl: \(text)}")
        #expect(outcome.settings == nil)
        #expect(outcome.errors.first?.message.contains("\"\(text)\"") == true)
        #expect(outcome.errors.first?.column == 28)
    }

    @Test(arguments: ["65536", "-1", "abc", "1023", "0", "''"])
    func portsOutOfRangeAreRefused(text: String) throws {
        for key in ["min_port", "max_port"] {
            let outcome = try load("relay:\n  \(key): \(text)\n")
            #expect(outcome.settings == nil)
            let diagnostic = try #require(outcome.errors.first)
            #expect(diagnostic.message.hasPrefix("relay.\(key): "))
            #expect(diagnostic.message.contains("write a port from 1024 to 65535"))
            #expect(diagnostic.line == 2 && diagnostic.column == 13)
        }
    }

    @Test func anEmptyPortRangeIsRefusedWhereItWasMade() throws {
        let outcome = try load("relay:\n  max_port: 50000\n", set: ["relay.min_port=50001"])
        #expect(
            outcome.errors.map(\.description) == [
                "flag --set relay.min_port: error: relay.min_port: the range from relay.min_port 50001 to "
                    + "relay.max_port 50000 is empty; raise the one or lower the other"
            ]
        )
        #expect(try load("relay: {max_port: 2000}").errors.first?.message.hasPrefix("relay.max_port: ") == true)
        #expect(try load("relay: {min_port: 2000, max_port: 2000}").settings?.relay.minPort == 2000)
    }

    @Test(arguments: [("true", true), ("Yes", true), ("on", true), ("false", false), ("no", false), ("OFF", false)])
    func switchesAreWords(text: String, expected: Bool) throws {
        #expect(try load("auth: {require_sha256: \(text)}").settings?.auth.requireSHA256 == expected)
    }

    @Test(arguments: ["1", "0", "maybe", "[]", "null"])
    func otherSwitchesAreRefused(text: String) throws {
        #expect(try load("auth: {require_sha256: \(text)}").settings == nil)
    }

    @Test func realmsAreShortAndPlain() throws {
        #expect(try load("realm: 1234").settings?.realm == "1234")
        #expect(try load("realm: no").settings?.realm == "no")
        let longest = String(repeating: "ü", count: 127)
        #expect(try load("realm: \(longest)").settings?.realm == longest)
        #expect(try load("realm: \(longest)x").errors.first?.message.contains("at most 127") == true)
        #expect(try load(#"realm: 'a"b'"#).settings == nil)
        #expect(try load(#"realm: "a\nb""#).settings == nil)
    }

    @Test func pathsInTheFileAreAbsolute() throws {
        #expect(try load("data_dir: data").errors.first?.message.contains("begins with /") == true)
        #expect(try load("data_dir: /data").settings?.dataDirectory == "/data")
        #expect(try load(dataDirectory: "").settings == nil)
    }

    @Test func limitsAreBounded() throws {
        #expect(try load("limits: {allocations_total: 0}").settings != nil)
        for key in [
            "allocations_per_user", "permissions_per_allocation", "unauthenticated_replies_per_second",
            "binding_replies_per_second",
        ] {
            #expect(try load("limits: {\(key): 1}").settings != nil)
            #expect(try load("limits: {\(key): 0}").settings == nil)
            #expect(try load("limits: {\(key): 100000000}").settings == nil)
        }
    }

    @Test func limitsOfBandwidthAreBitsPerSecondAndZeroIsNone() throws {
        let settings = try load("limits: {bps_per_allocation: 2500000, bps_total: 400000000000}").settings
        #expect(settings?.limits.bpsPerAllocation == 2_500_000 && settings?.limits.bpsTotal == 400_000_000_000)
        for key in ["bps_per_allocation", "bps_total"] {
            #expect(try load("limits: {\(key): 0}").settings == Settings())
            for value in ["-1", "400000000001", "1e6", "2.5M"] {
                #expect(try load("limits: {\(key): \(value)}").settings == nil, "\(key): \(value)")
            }
        }
    }

    @Test func originsAreWrittenAsBrowsersSendThem() throws {
        let settings = try load(
            """
            signaling:
              allowed_origins: ['https://example.org', 'http://localhost:8000', 'https://[2001:db8::1]:8443']
            """
        ).settings
        #expect(settings?.signaling.allowedOrigins.count == 3)
        for origin in [
            "example.org", "https://Example.org", "https://example.org/", "null", "*", "https://a.org:443", "",
        ] {
            #expect(try load("signaling: {allowed_origins: ['\(origin)']}").settings == nil, "\(origin)")
        }
    }

    @Test func httpsIsWhereUDPIsUnlessItIsSaid() throws {
        let implied = try load("listen: {udp: ['127.0.0.1:4000', '[::1]:4000']}").settings
        #expect(implied?.listen.https.map(\.description) == ["127.0.0.1:8443", "[::1]:8443"])
        #expect(implied?.listen.implied.contains("listen.https") == true)
        let none = try load("listen: {https: []}").settings
        #expect(none?.listen.https == [] && none?.listen.implied.contains("listen.https") == false)
    }

    @Test func metricsAreOnLoopbackUnlessItIsSaid() throws {
        let implied = try load("listen: {udp: ['192.0.2.1:4000']}").settings
        #expect(implied?.listen.metrics.map(\.description) == ["127.0.0.1:9641"])
        #expect(implied?.listen.implied.contains("listen.metrics") == true)
        let chosen = try load("listen: {metrics: ['0.0.0.0:9000', '[::1]:0']}").settings
        #expect(chosen?.listen.metrics.map(\.description) == ["0.0.0.0:9000", "[::1]:0"])
        #expect(chosen?.listen.implied.contains("listen.metrics") == false)
        #expect(try load("listen: {metrics: []}").settings?.listen.metrics == [])
    }

    @Test func whatTurnsSomethingOffIsAccepted() throws {
        let silent = """
            listen: {tcp: [], tls: [], dtls: [], shared: [], metrics: [], alternate: []}
            relay: {tcp: false, mobility: no}
            tls: {certificate: null, private_key: ~}
            """
        #expect(try complaints(silent) == [])
        #expect(try load("listen: {https: nowhere}").settings == nil)
        #expect(try load("signaling: {nonsense: 1}").settings == nil)
    }

    @Test func aHostNameIsOneThatADNSCanHave() throws {
        let label = String(repeating: "a", count: 63)
        let longest = [label, label, label, String(repeating: "b", count: 61)].joined(separator: ".")
        for name in ["turn.example.org", "a", "xn--bcher-kva.example", "1.example", "a-b.c", longest] {
            #expect(try load("host_name: \(name)").settings?.hostName == name)
        }
        #expect(try load("host_name: Turn.Example.ORG").settings?.hostName == "turn.example.org")
        #expect(try load("host_name: null").settings?.hostName == nil)
        #expect(try load("host_name: turn.example", set: ["host_name="]).settings?.hostName == nil)
        for name in [
            "-a.example", "a-.example", "a..b", ".a", "a.", "a_b.example", "bücher.example", "'*.example'", "a.1", "1",
            "https://a.example", "a.example:443", "'a b'", label + "a", longest + "b", "true.", "192.0.2.256",
        ] {
            let said = try complaints("host_name: \(name)")
            #expect(said.count == 1 && said.first?.contains("is no host name; write one such as") == true, "\(said)")
        }
        for address in ["203.0.113.5", "'2001:db8::5'"] {
            #expect(try complaints("host_name: \(address)").first?.contains("write it as external_address") == true)
        }
        #expect(try load("host_name: [a.example]").settings == nil)
    }

    @Test func threadsOfSignalingAreCountedOrLeftToTheServer() throws {
        #expect(try load("signaling: {threads: auto}").settings?.signaling.threads == .auto)
        #expect(try load(set: ["signaling.threads=3"]).settings?.signaling.threads == .count(3))
        for value in ["0", "65", "many"] { #expect(try load("signaling: {threads: \(value)}").settings == nil) }
    }

    @Test func aSharedPortIsNobodyElses() throws {
        let https = try load("listen: {udp: ['192.0.2.1:3478'], shared: ['0.0.0.0:8443', '[::]:8443']}")
        #expect(https.diagnostics.isEmpty)
        #expect(https.settings?.listen.shared.map(\.description) == ["0.0.0.0:8443", "[::]:8443"])
        // Nobody wrote that one.
        #expect(https.settings?.listen.https == [])
        #expect(https.settings?.listen.tls.map(\.description) == ["192.0.2.1:5349"])
        let beside = try load("listen: {tls: ['192.0.2.1:443', '[::]:443'], shared: ['192.0.2.2:443', '192.0.2.1:0']}")
        #expect(beside.diagnostics.isEmpty)
        for (key, address) in [
            ("tcp", "192.0.2.1:443"), ("tls", "0.0.0.0:443"), ("https", "192.0.2.1:443"), ("metrics", "0.0.0.0:443"),
        ] {
            #expect(
                try complaints("listen:\n  \(key): ['\(address)']\n  shared: '192.0.2.1:443'\n") == [
                    "turnpike.yml:3:11: error: listen.shared: has the port of \(address) in listen.\(key), "
                        + "which it would be in the way of; remove one of them"
                ]
            )
        }
        let only = "listen: {udp: [], tcp: [], tls: [], dtls: [], https: [], metrics: [], shared: ['127.0.0.1:443']}"
        #expect(try complaints(only + "\nrelay: {allow_loopback_peers: true}") == [])
        #expect(try complaints("listen: {udp: '127.0.0.1:1', shared: ':443'}").count == 1)
        let open = "listen: {udp: '127.0.0.1:1', shared: '0.0.0.0:443'}\nrelay: {allow_loopback_peers: true}"
        #expect(try complaints(open).first?.contains("while listen.shared has 0.0.0.0:443") == true)
    }
}
