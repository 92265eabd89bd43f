import Foundation
import Testing

@testable import Settings

/// Whatever stands in a file, a variable or a flag, the answer is settings or diagnostics.
@Suite struct FuzzTests {
    @Test func mutatedFilesNeverTrap() throws {
        let seed = Self.seed()
        print("settings fuzz, files: seed \(seed)")
        var random = SplitMix(state: seed)
        let documented = Array(try Data(contentsOf: URL(fileURLWithPath: DocumentedFileTests.path)))
        let bare = Array(documented.split(separator: 10).filter { !$0.contains(35) }.joined(separator: [10]))
        let corpus = [bare, bare, documented] + Self.samples.map { Array($0.utf8) }
        var soundCount = 0
        for _ in 0..<4000 {
            let bytes = random.mutated(corpus.randomElement(using: &random) ?? bare, with: Self.words)
            let file = ConfigurationFile(name: "f.yml", bytes: bytes)
            var assembly = Assembly()
            assembly.diagnostics = file.diagnostics
            for entry in file.entries { assembly.apply(entry.key, entry.raw, from: entry.place) }
            if assembly.isSound { assembly.checkRulesBetweenKeys() }
            if assembly.isSound { soundCount += 1 }
            check(assembly, "seed \(seed)")
        }
        // Mutations that are all refused, or all accepted, would try nothing.
        #expect(soundCount > 0 && soundCount < 4000)
    }

    @Test func mutatedValuesNeverTrap() {
        let seed = Self.seed()
        print("settings fuzz, values: seed \(seed)")
        var random = SplitMix(state: seed)
        for _ in 0..<4000 {
            let word = Self.words.randomElement(using: &random) ?? ""
            let value = String(decoding: random.mutated(Array(word.utf8), with: Self.words), as: UTF8.self)
            guard let key = KeyTable.keys.randomElement(using: &random) else { continue }
            var assembly = Assembly()
            assembly.apply(key, RawValue(text: value), from: .flag("--set \(key.path)"))
            if assembly.isSound { assembly.checkRulesBetweenKeys() }
            check(assembly, "seed \(seed)")
            _ = KeyTable.problem(unknown: value)
        }
    }

    private func check(_ assembly: Assembly, _ seed: Comment) {
        for diagnostic in assembly.diagnostics {
            let text = diagnostic.description
            #expect(text.unicodeScalars.allSatisfy { $0.properties.generalCategory != .control }, seed)
            #expect(text.unicodeScalars.count < 1200, seed)
        }
        guard assembly.isSound else { return }
        let settings = assembly.settings
        #expect(settings.relay.minPort >= 1024 && settings.relay.minPort <= settings.relay.maxPort, seed)
        #expect(!settings.listen.udp.isEmpty && !settings.realm.isEmpty && settings.auth.nonceLifetimeSeconds > 0, seed)
        #expect(settings.relay.allowPeers.allSatisfy { $0.lower.number <= $0.upper.number }, seed)
        // What is shown reads back as what it was.
        var again = Assembly()
        for origin in assembly.origins {
            guard let key = KeyTable.byPath[origin.key] else { continue }
            let text = if case .text(let text) = origin.value { text } else { origin.value.description }
            again.apply(key, RawValue(text: text), from: .builtIn)
        }
        #expect(again.diagnostics.isEmpty && again.settings == settings, seed)
    }

    /// A new seed each time, or the one to be replayed.
    private static func seed() -> UInt64 {
        ProcessInfo.processInfo.environment["SETTINGS_FUZZ_SEED"].flatMap { UInt64($0) }
            ?? UInt64.random(in: 0...UInt64.max)
    }

    private static let samples = [
        "a: &a [1, 2]\nb: *a\n? [x, {y: z}]\n: |\n  text\n",
        "%YAML 1.1\n---\n!!map {realm: !!str x, 'log': {\"level\": \"\\x41\\u00e9\"}}\n...\n",
        "external_address: [203.0.113.1/10.0.0.1, 203.0.113.2/10.0.0.2]\n"
            + "relay:\n  deny_peers:\n  - 2001:db8:1::ff-2001:db8:2::1\n  - ::/0\n",
    ]
    private static let words = [
        "[", "]", "{", "}", ": ", "- ", "? ", "&a ", "*a", "!!", "!<", "%", "|\n", ">\n", "\"", "'", "#", "\n", "\r\n",
        "\t", "---\n", "...\n", "<<: ", "~", "\0",
        "\u{FEFF}", "\u{85}", "\u{2028}", "\\ud800", "\\xff", "é", "😀", "65536", "-1", "9223372036854775808", "0",
        "1h30m", "7d", "auto", "true", "null",
        "::", "::/0", "0.0.0.0/0", "127.0.0.1:0", "[::1]:3478", "10.0.0.0/8", "fe80::1", "1-2", "relay", "listen",
        "realm: x\n", ",", "a,b", "203.0.113.1/10.0.0.1",
    ]
}

/// A generator whose whole state is the seed that is printed.
private struct SplitMix: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var value = state
        value = (value ^ (value >> 30)) &* 0xBF58_476D_1CE4_E5B9
        value = (value ^ (value >> 27)) &* 0x94D0_49BB_1331_11EB
        return value ^ (value >> 31)
    }

    /// `bytes` after up to five changes: bits flipped, pieces removed, repeated, or replaced by words of the format.
    mutating func mutated(_ bytes: [UInt8], with words: [String]) -> [UInt8] {
        var bytes = bytes
        for _ in 0..<Int.random(in: 0...5, using: &self) {
            let start = Int.random(in: 0...bytes.count, using: &self)
            let end = min(bytes.count, start + Int.random(in: 0...12, using: &self))
            switch Int.random(in: 0..<5, using: &self) {
            case 0 where start < end: bytes[start] ^= 1 << UInt8.random(in: 0..<8, using: &self)
            case 1: bytes.removeSubrange(start..<end)
            case 2: bytes.insert(contentsOf: bytes[start..<end], at: Int.random(in: 0...bytes.count, using: &self))
            case 3: bytes.replaceSubrange(start..<end, with: (words.randomElement(using: &self) ?? "").utf8)
            default: bytes.insert(contentsOf: (words.randomElement(using: &self) ?? "").utf8, at: start)
            }
        }
        return bytes
    }
}
