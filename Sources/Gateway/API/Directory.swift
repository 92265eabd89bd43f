/// Who users are: the account store, as the gateway sees it.
package protocol GatewayDirectory: Sendable {
    /// Who it is that says so.
    func login(_ login: GatewayLogin) async -> LoginOutcome
    /// Relay credentials that belong to a user.
    /// - Parameter seconds: how long they shall last; within the limits already.
    /// - Returns: nil where the user may have none, or the store does not answer.
    func iceServers(user: String, seconds: Int) async -> ICEServers?
    /// Where anybody may ask for his address: URLs of RFC 7064.
    func stunServers() -> [String]
}

/// What a client shows. Never logged, never kept.
package enum GatewayLogin: Sendable {
    /// A user's password, or a time-limited credential.
    case password(username: String, password: String)
    /// A token of `turnpike token create`.
    case token(String)
    /// The client holds the resume token of a session of this user; what is left to check is that he may still come in.
    case session(user: String)
}

package enum LoginOutcome: Sendable, Equatable {
    case accepted(Identity)
    case refused
    /// The store does not answer: the client should come again.
    case unavailable
}

/// Who has logged in.
package struct Identity: Sendable, Equatable {
    /// The user; nil for an admin token, which stands for no user.
    package var user: String?
    /// The token it was proved with, by its name.
    package var token: String?
    package var isAdmin: Bool
    /// When the proof ends, in seconds since 1970.
    package var expiresAtSeconds: Int64?

    package init(user: String?, token: String? = nil, isAdmin: Bool = false, expiresAtSeconds: Int64? = nil) {
        self.user = user
        self.token = token
        self.isAdmin = isAdmin
        self.expiresAtSeconds = expiresAtSeconds
    }

    /// The command line on the admin socket.
    package static let operatorOnSocket = Identity(user: nil, isAdmin: true)
}

/// As a browser's `RTCPeerConnection` takes it.
package struct ICEServers: Codable, Sendable, Equatable {
    package struct Server: Codable, Sendable, Equatable {
        package var urls: [String]
        package var username: String?
        package var credential: String?

        package init(urls: [String], username: String? = nil, credential: String? = nil) {
            self.urls = urls
            self.username = username
            self.credential = credential
        }
    }

    package var iceServers: [Server]
    /// Seconds from now.
    package var ttl: Int

    package init(iceServers: [Server], ttl: Int) {
        self.iceServers = iceServers
        self.ttl = ttl
    }
}
