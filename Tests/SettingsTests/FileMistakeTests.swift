import Testing

@testable import Settings

/// What is wrong with a file is said with its line and column, the key, and the mend.
@Suite struct FileMistakeTests {
    @Test(arguments: [
        ("relay:\n  min_prot: 50000\n", "2:3: error: relay.min_prot: unknown key; did you mean relay.min_port?"),
        ("realm: a\nmin_port: 50000\n", "2:1: error: min_port: unknown key; did you mean relay.min_port?"),
        ("limits:\n  minPort: 50000\n", "2:3: error: limits.minPort: unknown key; did you mean relay.min_port?"),
        ("log: {levle: info}\n", "1:7: error: log.levle: unknown key; did you mean log.level?"),
        ("limit:\n  allocations_total: 3\n", "1:1: error: limit: unknown key; did you mean limits?"),
        ("fingerprint: on\n", "1:1: error: fingerprint: unknown key; remove it"),
        (
            "relay.min_port: 50000\n",
            "1:1: error: relay.min_port: is written on two lines in a file: `relay:`, and `min_port:` under it"
        ),
    ])
    func unknownKeysSayWhatWasMeant(yaml: String, complaint: String) throws {
        #expect(try complaints(yaml) == ["turnpike.yml:" + complaint])
    }

    @Test func linesAndColumnsAreThoseOfAnEditor() throws {
        // Comments above, a comment behind, characters beyond ASCII in front, CRLF, and a byte order mark.
        #expect(
            try complaints("# ä \"\n\n  # *b [\nlog:\n    # c\n    level: loud  # d\n")[0].hasPrefix(
                "turnpike.yml:6:12: "
            )
        )
        let beyondASCII = try complaints("{realm: äöü€😀, workers: no}\n")
        #expect(beyondASCII[0].hasPrefix("turnpike.yml:1:25: error: workers: "))
        #expect(
            try complaints("realm: a\r\n# b\r\nworkers: no\r\n")[0].hasPrefix("turnpike.yml:3:10: error: workers: ")
        )
        #expect(try complaints("\u{FEFF}workers: no\n")[0].hasPrefix("turnpike.yml:1:10: error: workers: "))
        let list = "listen:\n  udp:\n    - 127.0.0.1:1\n    - 127.0.0.1:65536\n"
        #expect(
            try complaints(list) == [
                "turnpike.yml:4:7: error: listen.udp: \"127.0.0.1:65536\" has no valid port: \"65536\" is no "
                    + "number from 0 to 65535"
            ]
        )
    }

    @Test func allMistakesAreSaidAtOnce() throws {
        let lines = try complaints("workers: 0\nrelay:\n  tpc: true\n  max_port: x\nlog:\n  level: loud\n")
        #expect(lines.count == 4)
        #expect(lines.contains { $0.contains("trace, debug, info, notice, warning, error, critical") })
    }

    @Test func duplicateKeysAreRefusedAtTheSecond() throws {
        #expect(
            try complaints("log:\n  level: info\n  format: text\nrealm: a\n# c\nlog:\n  level: debug\n") == [
                "turnpike.yml:6:1: error: \"log\" is written a second time after line 1; remove one"
            ]
        )
        #expect(
            try complaints("log:\n  level: info\n  format: text\n  \"level\" : debug\n") == [
                "turnpike.yml:4:3: error: \"level\" is written a second time after line 2; remove one"
            ]
        )
        #expect(
            try complaints("log: {level: info, level: info}\n")[0].hasPrefix(
                "turnpike.yml:1:7: error: \"level\" is written"
            )
        )
    }

    @Test(arguments: [
        ("realm: [a, b]\n", "1:8", "realm: is a list, where one value belongs"),
        ("realm: {a: b}\n", "1:8", "realm: is a mapping, where one value belongs"),
        ("realm:\n", "1:7", "realm: has no value"),
        ("realm: ''\n", "1:8", "realm: is empty"),
        ("relay: 5\n", "1:8", "relay: is a section"),
        ("relay:\n  - tcp\n", "2:3", "relay: is a section"),
        ("listen: {udp: {a: b}}\n", "1:15", "listen.udp: is a mapping, where a list belongs"),
        ("listen: {udp: [[a]]}\n", "1:16", "listen.udp: is a list, where one value belongs"),
        ("listen:\n  udp:\n", "2:7", "listen.udp: has no value; write []"),
        ("relay: {tcp: [1]}\n", "1:14", "relay.tcp: is a list"),
        ("? [a]\n: b\n", "1:3", "a key must be one word"),
        ("- realm\n", "1:1", "does not hold keys and values"),
        ("just text\n", "1:1", "does not hold keys and values"),
    ])
    func wrongTypesAreRefused(yaml: String, position: String, message: String) throws {
        let lines = try complaints(yaml)
        #expect(lines.count == 1)
        #expect(lines.first?.hasPrefix("turnpike.yml:\(position): error: \(message)") == true, "\(lines)")
    }

    @Test(arguments: [
        ("realm: \"a\n", "2:1"), ("realm: a\n\tworkers: 2\n", "2:1"), ("a: b: c\n", "1:5"),
        ("realm: a\n---\nrealm: b\n", "2:1"),
        ("realm: *nobody\n", "1:8"), ("realm: a\u{7}b\n", "1:9"), ("realm: a\rworkers: 2\n", "1:9"), ("a: @b\n", "1:4"),
    ])
    func brokenYAMLIsRefusedWithItsPlace(yaml: String, position: String) throws {
        let lines = try complaints(yaml)
        #expect(lines.count == 1)
        #expect(lines.first?.hasPrefix("turnpike.yml:\(position): error: ") == true, "\(lines)")
        #expect(lines.first?.contains("\n") == false)
    }

    @Test func bytesThatAreNoUTF8AreRefusedWithTheirPlace() {
        let file = ConfigurationFile(name: "t.yml", bytes: Array("realm: a\nlog: ".utf8) + [0xFF, 0xFE])
        #expect(file.diagnostics.map(\.description) == ["t.yml:2:6: error: is not UTF-8; save it as UTF-8"])
    }

    @Test(arguments: ["", "\n", "# nothing\n", "---\n", "~", "{}", "relay:\nlog:\n  # level: debug\n"])
    func emptyFilesAreTheDefaults(yaml: String) throws {
        let outcome = try load(yaml)
        #expect(outcome.diagnostics.isEmpty)
        #expect(outcome.settings == Settings())
    }

    @Test func largeFilesAreRefused() {
        let bytes = [UInt8](repeating: UInt8(ascii: "#"), count: ConfigurationFile.maxBytes + 1)
        #expect(ConfigurationFile(name: "t.yml", bytes: bytes).diagnostics.first?.message.contains("larger") == true)
        #expect(ConfigurationFile(name: "t.yml", bytes: Array(bytes.dropLast())).diagnostics.isEmpty)
    }

    @Test func aFileFullOfMistakesIsNotListedWhole() throws {
        let yaml = (0..<5000).map { "key\($0): 1\n" }.joined()
        let lines = try complaints(yaml)
        #expect(lines.count == ConfigurationFile.maxDiagnostics + 1)
        #expect(lines.last?.contains("is this a Turnpike configuration?") == true)
    }

    @Test(arguments: ["[", "{a: ", "- ", "? ", "[{"])
    func deepNestingIsRefusedWithoutACrash(opening: String) throws {
        for count in [100, 1000, 50_000] {
            let lines = try complaints(
                "realm: a\nlog: " + (opening == "- " || opening == "? " ? "\n" : "")
                    + String(repeating: opening, count: count) + "\n"
            )
            #expect(!lines.isEmpty)
        }
    }

    @Test func aliasesThatMultiplyAreRefusedAtOnce() throws {
        var yaml = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
        for level in 1...12 {
            yaml +=
                "a\(level): &a\(level) [" + Array(repeating: "*a\(level - 1)", count: 9).joined(separator: ", ") + "]\n"
        }
        let start = ContinuousClock.now
        #expect(
            try complaints(yaml + "? *a12\n: x\n") == [
                "turnpike.yml: error: has more than 8 YAML aliases (*name); write the values out"
            ]
        )
        #expect(ContinuousClock.now - start < .seconds(5))
    }

    @Test func aFewAliasesWork() throws {
        let yaml =
            "relay:\n  # *not* *an* *alias* *any* *of* *these* *is* *an* *alias*\n"
            + "  deny_peers: &net [192.0.2.0/24]\n  allow_peers: *net\n"
        let relay = try #require(try load(yaml).settings?.relay)
        #expect(relay.allowPeers == relay.denyPeers && relay.allowPeers.count == 1)
    }

    @Test func messagesFromHostileTextStayOnOneHarmlessLine() throws {
        let lines = try complaints(
            "\"a\\nb\\e[31m\": 1\nworkers: \"\\e]0;x\\a\\n\"\nrealm: \(String(repeating: "x", count: 9000))\n"
        )
        #expect(lines.count == 3)
        for line in lines {
            #expect(line.count < 300)
            #expect(line.unicodeScalars.allSatisfy { $0.value >= 0x20 })
        }
    }
}
