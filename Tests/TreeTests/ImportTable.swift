import Foundation

/// What each target is allowed to import. docs/architecture.md gives the reasons; a change here is a change there.
enum ImportTable {
    /// `Foundation` stands only where a library the target may import brings it anyway.
    static let allowed: [String: Set<String>] = [
        "CLinux": [],
        "COpenSSL": [],
        "CUsrSCTP": [],
        "DataChannels": ["CUsrSCTP"],
        "STUN": [],
        "TURN": ["STUN"],
        "Traversal": ["STUN"],
        "OpenSSLCrypto": ["COpenSSL", "STUN"],
        "LinuxIO": ["CLinux"],
        "Relay": ["LinuxIO", "OpenSSLCrypto", "STUN", "TURN"],
        "Signaling": [],
        "Accounts": ["Foundation", "GRDB"],
        "Settings": ["Foundation", "Yams"],
        "Gateway": [
            "Foundation", "HTTPTypes", "Hummingbird", "HummingbirdCore", "Logging", "NIOCore", "NIOPosix",
            "NIOWebSocket",
            "OpenSSLCrypto", "Signaling",
        ],
        "Server": [
            "Accounts", "CLinux", "COpenSSL", "Foundation", "Gateway", "LinuxIO", "Logging", "OpenSSLCrypto", "Relay",
            "STUN", "ServiceLifecycle", "Settings", "Signaling", "TURN", "UnixSignals",
        ],
        "CommandConsole": ["ArgumentParser", "Foundation"],
        "Commands": ["Accounts", "ArgumentParser", "CommandConsole", "Foundation", "Server", "Settings"],
        "TurnpikeClient": [
            "DataChannels", "Glibc", "NIOCore", "NIOHTTP1", "NIOPosix", "NIOWebSocket", "OpenSSLCrypto", "Signaling",
            "Traversal",
        ],
        "PeerCommands": ["ArgumentParser", "CommandConsole", "Foundation", "TurnpikeClient"],
        "turnpike": ["Commands"],
        "turnpike-peer": ["PeerCommands"],
    ]

    /// Modules of the standard library, which any target may use.
    static let standardLibrary: Set<String> = ["Swift", "Synchronization"]

    /// Modules that come with the toolchain, so that no line of the manifest names them.
    static let toolchain = standardLibrary.union(["Foundation", "Glibc"])
}

/// One `import` line.
struct Import: Hashable {
    let module: String
    let line: Int
}

enum ImportCheck {
    /// The modules that a Swift file imports, whatever access level or attribute stands before the word.
    static func imports(of source: String) -> [Import] {
        source.blanked.lines.enumerated().compactMap { number, line in
            var words = line.split(whereSeparator: \.isWhitespace)
            while let first = words.first, first.hasPrefix("@") || modifiers.contains(String(first)) {
                words.removeFirst()
            }
            guard words.first == "import", words.count > 1 else { return nil }
            words.removeFirst()
            if words.count > 1, kinds.contains(String(words[0])) { words.removeFirst() }
            let module = words[0].prefix { $0 != "." && $0 != ";" }
            return Import(module: String(module), line: number + 1)
        }
    }

    /// What a file of `target` imports against the table.
    static func violations(path: String, source: String, target: String, table: [String: Set<String>]) -> [Finding] {
        let allowed = table[target, default: []].union(ImportTable.standardLibrary)
        return imports(of: source).filter { !allowed.contains($0.module) }.map {
            Finding(path: path, line: $0.line, problem: "\(target) must not import \($0.module)")
        }
    }

    private static let modifiers: Set = ["public", "package", "internal", "fileprivate", "private"]
    private static let kinds: Set = ["typealias", "struct", "class", "enum", "protocol", "let", "var", "func", "actor"]
}
