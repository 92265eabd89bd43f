import OpenSSLCrypto
import Signaling

extension Configuration {
    /// What is shown to the signaling server; nil where there is nothing to show.
    var signalingCredentials: SignalingCredentials? {
        if let token { return .token(token) }
        guard let username, let password, !username.isEmpty, !password.isEmpty else { return nil }
        return .password(username: username, password: password)
    }

    /// Every value that cannot be used: of the environment, and of the properties as they are.
    var allIssues: [Issue] {
        var found = issues
        func add(_ name: String, _ problem: String) {
            let issue = Issue(name: name, problem: problem)
            if !found.contains(issue) { found.append(issue) }
        }
        func check(_ text: String, _ usual: ServerURL.Scheme, _ name: String) {
            do throws(ServerURLProblem) { _ = try ServerURL(text, usual: usual) } catch { add(name, error.description) }
        }
        if let signalingServer {
            check(signalingServer, .wss, "signalingServer")
            if signalingCredentials == nil {
                add("username", "the signaling server needs a user; set TURN_USERNAME and TURN_PASSWORD, or a token")
            }
        } else {
            add("signalingServer", "there is none, so no peer can be found; set SIGNALING_SERVER")
        }
        for server in stunServers { check(server, .stun, "stunServers") }
        for server in turnServers {
            check(server.url, .turn, "turnServers")
            if server.username.isEmpty || server.password.isEmpty {
                add("turnServers", "\(server.url) has no username or password; set TURN_USERNAME and TURN_PASSWORD")
            }
        }
        if case .fingerprints(let digests) = trust, digests.isEmpty || digests.contains(where: { $0.count != 32 }) {
            add("trust", "a fingerprint is not of 32 bytes; take the SHA-256 that the server prints")
        }
        if connectionTimeout <= .zero { add("connectionTimeout", "it has to be longer than nothing; 30 s are usual") }
        if keepAliveInterval < .seconds(1) {
            add("keepAliveInterval", "it has to be a second at least; 25 s are usual")
        }
        if maxRetries < 0 { add("maxRetries", "it has to be 0 or more; 3 are usual") }
        return found
    }
}

extension ServerTrust {
    init(_ trust: Configuration.Trust) {
        self =
            switch trust {
            case .system: .system
            case .authorities(let file): .authorities(file: file)
            case .fingerprints(let digests): .fingerprints(digests)
            }
    }
}
