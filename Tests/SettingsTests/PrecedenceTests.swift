import Foundation
import Testing

@testable import Settings

@Suite struct PrecedenceTests {
    @Test func flagWinsOverEnvironmentOverFileOverDefault() throws {
        let yaml = "realm: of-file\nlog:\n  level: error\n  format: json\n"
        let environment = ["TURNPIKE_REALM": "of-environment", "TURNPIKE_LOG_LEVEL": "debug"]
        let outcome = try load(yaml, environment: environment, set: ["realm=of-flag"])
        let settings = try #require(outcome.settings)
        #expect(settings.realm == "of-flag")
        #expect(settings.log.level == .debug)
        #expect(settings.log.format == .json)
        #expect(settings.log.addresses == .full)
        #expect(outcome.origin(of: "realm") == "flag --set realm")
        #expect(outcome.origin(of: "log.level") == "environment TURNPIKE_LOG_LEVEL")
        #expect(outcome.origin(of: "log.format")?.hasSuffix("/turnpike.yml:4") == true)
        #expect(outcome.origin(of: "log.addresses") == "default")
    }

    @Test func laterSetOfTheSameKeyWins() throws {
        #expect(try load(set: ["realm=a", "realm=b"]).settings?.realm == "b")
    }

    @Test func everyKeyHasAnOrigin() throws {
        let outcome = try load("listen: {https: ['0.0.0.0:8443']}")
        #expect(outcome.origins.map(\.key) == KeyTable.keys.map(\.path))
        #expect(outcome.origins.count == 53)
    }

    @Test func emptyVariableCountsAsNone() throws {
        let outcome = try load("realm: of-file", environment: ["TURNPIKE_REALM": ""])
        #expect(outcome.settings?.realm == "of-file")
        #expect(outcome.diagnostics.isEmpty)
    }

    @Test func listsInVariablesAndFlagsAreCommaSeparatedOrInBrackets() throws {
        let expected = [
            SocketAddress(host: try #require(HostAddress("127.0.0.1")), port: 0),
            SocketAddress(host: try #require(HostAddress("::1")), port: 3478),
        ]
        for text in [
            "127.0.0.1:0,[::1]:3478", "127.0.0.1:0, [::1]:3478", "[127.0.0.1:0, [::1]:3478]",
            #"["127.0.0.1:0", '[::1]:3478']"#, "127.0.0.1:0,[::1]:3478,",
        ] {
            #expect(try load(environment: ["TURNPIKE_LISTEN_UDP": text]).settings?.listen.udp == expected, "\(text)")
            #expect(try load(set: ["listen.udp=" + text]).settings?.listen.udp == expected, "\(text)")
        }
        #expect(try load(set: ["listen.udp=[::1]:3478"]).settings?.listen.udp == [expected[1]])
        #expect(try load(set: ["relay.deny_peers="]).settings?.relay.denyPeers == [])
        #expect(
            try load("relay: {deny_peers: 10.0.0.0/8}", set: ["relay.deny_peers=[]"]).settings?.relay.denyPeers == []
        )
    }

    @Test func namedFileComesFromFlagThenEnvironmentThenDefault() throws {
        let directory = try TemporaryDirectory()
        let first = try directory.write("realm: first", to: "first.yml")
        let second = try directory.write("realm: second", to: "second.yml")
        let third = try directory.write("realm: third", to: "third.yml")
        var inputs = SettingsInputs(
            file: first,
            environment: ["TURNPIKE_CONFIG": second],
            isRoot: true,
            defaultFile: third
        )
        #expect(SettingsLoader(inputs: inputs).load().settings?.realm == "first")
        inputs.file = nil
        #expect(SettingsLoader(inputs: inputs).load().settings?.realm == "second")
        inputs.environment = [:]
        let outcome = SettingsLoader(inputs: inputs).load()
        #expect(outcome.settings?.realm == "third")
        #expect(outcome.file == third)
        inputs.defaultFile = directory.path + "/none.yml"
        #expect(SettingsLoader(inputs: inputs).load().settings?.realm == "turnpike")
    }

    @Test func dataDirectoryDependsOnWhoAsks() throws {
        func directory(
            _ yaml: String? = nil,
            _ environment: [String: String] = [:],
            flag: String? = nil,
            set: [String] = [],
            home: String? = "/home/ada",
            isRoot: Bool = false
        ) throws -> String? {
            try load(yaml, environment: environment, set: set, dataDirectory: flag, home: home, isRoot: isRoot)
                .settings?.dataDirectory
        }
        let file = "data_dir: /of/file/"
        let state = ["STATE_DIRECTORY": "/state/one:/state/two"]
        let both = state.merging(["TURNPIKE_DATA_DIR": "/of/environment"]) { $1 }
        #expect(try directory(file, both, flag: "/of/flag", set: ["data_dir=/of/set"]) == "/of/flag")
        #expect(try directory(file, both, set: ["data_dir=/of/set"]) == "/of/set")
        #expect(try directory(file, both) == "/of/environment")
        #expect(try directory(file, state) == "/of/file")
        #expect(try directory(nil, state) == "/state/one")
        #expect(try directory(isRoot: true) == "/var/lib/turnpike")
        #expect(try directory() == "/home/ada/.local/share/turnpike")
        #expect(try directory(flag: "data") == "/srv/here/data")
        #expect(try load(home: nil, isRoot: false).errors.map(\.message).first?.contains("--data-dir") == true)
        #expect(try load(dataDirectory: "/x").origin(of: "data_dir") == "flag --data-dir")
        #expect(try load(environment: state).origin(of: "data_dir") == "environment STATE_DIRECTORY")
    }

    @Test func unknownVariableIsAWarningThatSaysWhatWasMeant() throws {
        let outcome = try load(environment: [
            "TURNPIKE_RELAY_MIN_PROT": "50000", "TURNPIKE_CONFIG": "", "TURNPIKE_CA_FILE": "x",
            "TURNPIKE_CERT_FINGERPRINT": "sha256:00", "TURNPIKE_DATA_DIR": "/data", "TURN_USERNAME": "x",
        ])
        #expect(outcome.settings != nil)
        #expect(
            outcome.diagnostics.map(\.description) == [
                "environment TURNPIKE_RELAY_MIN_PROT: warning: names no key and has no effect; "
                    + "did you mean TURNPIKE_RELAY_MIN_PORT?"
            ]
        )
    }

    @Test func namesFromOutsideCannotForgeLines() throws {
        let outcome = try load(environment: ["TURNPIKE_\u{1B}[2J\nerror": "1"])
        #expect(
            outcome.diagnostics.first?.description.hasPrefix("environment TURNPIKE_\\u{1b}[2J\\u{a}error: ") == true
        )
    }

    @Test func mistakesInVariablesAndFlagsNameThem() throws {
        let outcome = try load(
            environment: ["TURNPIKE_RELAY_MIN_PORT": "abc"],
            set: ["relay.max_prot=5", "relay=5", "nonsense", "=x", "workers=0"]
        )
        #expect(outcome.settings == nil)
        #expect(outcome.origins.isEmpty)
        let lines = outcome.diagnostics.map(\.description)
        try #require(lines.count == 6)
        #expect(
            lines[0]
                == "environment TURNPIKE_RELAY_MIN_PORT: error: relay.min_port: \"abc\" is no whole number; "
                + "write a port from 1024 to 65535"
        )
        #expect(lines[1] == "flag --set: error: relay.max_prot: unknown key; did you mean relay.max_port?")
        #expect(lines[2].hasPrefix("flag --set: error: relay: is a section"))
        #expect(lines[3] == "flag --set: error: \"nonsense\" is not KEY=VALUE; write --set realm=example.org")
        #expect(lines[4].contains("\"=x\" is not KEY=VALUE"))
        #expect(lines[5].hasPrefix("flag --set workers: error: workers: \"0\" is out of range"))
    }

    @Test func missingNamedFileIsAnErrorAndADirectoryToo() throws {
        let directory = try TemporaryDirectory()
        let path = directory.path + "/absent.yml"
        let outcome = SettingsLoader(inputs: SettingsInputs(file: path, isRoot: true)).load()
        #expect(outcome.settings == nil)
        #expect(
            outcome.diagnostics.first?.description.hasPrefix("\(path): error: cannot be read: no such file") == true
        )
        let folder = SettingsLoader(inputs: SettingsInputs(file: directory.path, isRoot: true)).load()
        #expect(folder.settings == nil)
        #expect(folder.errors.first?.message.contains("directory") == true, "\(folder.diagnostics)")
    }
}
