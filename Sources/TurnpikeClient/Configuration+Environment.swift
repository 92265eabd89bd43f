import Glibc
import Signaling

extension Configuration {
    /// Reads the variables that `turnpike user add --format env` prints, and those of the original.
    ///
    /// A value that cannot be used is left out, and stands in `issues` with the mend.
    ///
    /// - Parameter environment: names and values; `nil` for the process's own.
    public static func fromEnvironment(_ environment: [String: String]? = nil) -> Configuration {
        var reader = EnvironmentReader { name in
            if let environment { return environment[name] }
            return getenv(name).map { String(cString: $0) }
        }
        return reader.read()
    }
}

/// Takes values by their names, the new ones before those of the original.
private struct EnvironmentReader {
    let lookUp: (String) -> String?
    private var configuration = Configuration()

    init(_ lookUp: @escaping (String) -> String?) { self.lookUp = lookUp }

    mutating func read() -> Configuration {
        if let (name, text) = value("SIGNALING_SERVER"), url(text, .wss, name) != nil {
            configuration.signalingServer = text
        }
        configuration.username = value("TURN_USERNAME", "P2P_TURN_USERNAME")?.text
        configuration.password = value("TURN_PASSWORD", "P2P_TURN_PASSWORD")?.text
        configuration.peerID = (value("PEER_ID")?.text).map { PeerID($0) }
        if let (name, text) = value("STUN_SERVERS", "P2P_STUN_SERVERS") {
            for server in list(text) where url(server, .stun, name) != nil {
                configuration.stunServers.append(server)
            }
        }
        readRelays()
        readTrust()
        if let (name, text) = value("P2P_CONNECTION_TIMEOUT"), let time = milliseconds(text, name) {
            configuration.connectionTimeout = time
        }
        if let (name, text) = value("P2P_KEEP_ALIVE_INTERVAL"), let time = milliseconds(text, name) {
            configuration.keepAliveInterval = time
        }
        if let (name, text) = value("P2P_HOLE_PUNCHING_PORT") {
            if let port = UInt16(text) {
                configuration.localPort = port
            } else {
                report(name, "\(text) is no port; write a number from 0 to 65535, 0 for any")
            }
        }
        if let (name, text) = value("P2P_PORT_MAPPING") {
            switch text.lowercased() {
            case "1", "true", "yes", "on": configuration.portMapping = true
            case "0", "false", "no", "off": configuration.portMapping = false
            default: report(name, "\(text) is neither yes nor no; write true or false")
            }
        }
        return configuration
    }

    /// The first that is there and not empty.
    private func value(_ names: String...) -> (name: String, text: String)? {
        for name in names {
            if let text = lookUp(name)?.trimmingBlanks, !text.isEmpty { return (name, text) }
        }
        return nil
    }

    private mutating func report(_ name: String, _ problem: String) {
        configuration.issues.append(Configuration.Issue(name: name, problem: problem))
    }

    private mutating func url(_ text: String, _ usual: ServerURL.Scheme, _ name: String) -> ServerURL? {
        do throws(ServerURLProblem) {
            return try ServerURL(text, usual: usual)
        } catch {
            report(name, error.description)
            return nil
        }
    }

    private func list(_ text: String) -> [String] {
        text.split(separator: ",").map(\.trimmingBlanks).filter { !$0.isEmpty }
    }

    private mutating func milliseconds(_ text: String, _ name: String) -> Duration? {
        guard let number = Int64(text), 1...86_400_000 ~= number else {
            report(name, "\(text) is no time; write milliseconds, from 1 to 86400000")
            return nil
        }
        return .milliseconds(number)
    }

    // MARK: Relays

    private mutating func readRelays() {
        let names = ["TURN_SERVERS", "TURN_SERVER", "P2P_TURN_SERVERS", "P2P_TURN_SERVER"]
        for name in names {
            guard let (_, text) = value(name) else { continue }
            let found =
                text.hasPrefix("[") && !text.hasPrefix("[:") && text.contains("{") || text.hasPrefix("{")
                ? relays(json: text, name) : list(text).map { ($0, nil, nil) }
            for (url, username, password) in found { addRelay(url, username, password, name) }
        }
        let missing = configuration.turnServers.contains { $0.username.isEmpty || $0.password.isEmpty }
        if missing {
            report("TURN_USERNAME", "a TURN server has no username or password; set TURN_USERNAME and TURN_PASSWORD")
            configuration.turnServers.removeAll { $0.username.isEmpty || $0.password.isEmpty }
        }
    }

    private mutating func addRelay(_ text: String, _ username: String?, _ password: String?, _ name: String) {
        guard url(text, .turn, name) != nil else { return }
        let server = Configuration.TURNServer(
            url: text,
            username: username ?? configuration.username ?? "",
            password: password ?? configuration.password ?? ""
        )
        if !configuration.turnServers.contains(server) { configuration.turnServers.append(server) }
    }

    /// As browsers have it: `[{"urls": …, "username": …, "credential": …}]`, or one of those, or a list of URLs.
    private mutating func relays(json text: String, _ name: String) -> [(String, String?, String?)] {
        let form = #"[{"urls": "turn:host:3478", "username": "…", "credential": "…"}]"#
        guard let value = try? JSONText(text).value else {
            report(name, "it is no JSON; write \(form), or URLs with commas between")
            return []
        }
        let servers = (value.array ?? [value]).map { server -> [(String, String?, String?)] in
            let urls = server["urls"] ?? server["url"] ?? server
            let password = server["credential"] ?? server["password"]
            return (urls.array ?? [urls]).compactMap(\.string).map {
                ($0, server["username"]?.string, password?.string)
            }
        }
        if servers.contains(where: \.isEmpty) { report(name, "an entry has no URL; write \(form)") }
        return servers.flatMap(\.self)
    }

    // MARK: Trust

    private mutating func readTrust() {
        if let (name, text) = value("TURNPIKE_CERT_FINGERPRINT") {
            var digests: [[UInt8]] = []
            for part in list(text) {
                if let digest = Self.digest(part) {
                    digests.append(digest)
                } else {
                    report(name, "\(part) is no fingerprint; write sha256: and 64 hexadecimal digits")
                }
            }
            if !digests.isEmpty { configuration.trust = .fingerprints(digests) }
        } else if let (name, text) = value("TURNPIKE_CA_FILE") {
            if access(text, R_OK) == 0 {
                configuration.trust = .authorities(file: text)
            } else {
                report(name, "\(text) cannot be read; name a file of certificates in PEM")
            }
        }
    }

    private static func digest(_ text: String) -> [UInt8]? {
        var rest = text.lowercased()[...]
        for prefix in ["sha256:", "sha-256:", "sha-256 "] where rest.hasPrefix(prefix) {
            rest = rest.dropFirst(prefix.count)
        }
        let digits = rest.filter { $0 != ":" }
        guard digits.utf8.count == 64, digits.utf8.allSatisfy({ $0 < 0x80 }) else { return nil }
        var bytes: [UInt8] = []
        var index = digits.startIndex
        while index < digits.endIndex {
            let end = digits.index(index, offsetBy: 2)
            guard let byte = UInt8(digits[index..<end], radix: 16), digits[index] != "+" else { return nil }
            bytes.append(byte)
            index = end
        }
        return bytes
    }
}
