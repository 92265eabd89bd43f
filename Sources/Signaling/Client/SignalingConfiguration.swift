/// What a client shows to say who it is. Not to be logged.
package enum SignalingCredentials: Sendable, Hashable {
    /// A user's password, or a time-limited credential: `<expiry>:<name>` and its password.
    case password(username: String, password: String)
    case token(String)

    /// The account's name, where the credentials tell it.
    package var user: String? {
        if case .password(let username, _) = self { return Name.user(ofUsername: username).name }
        return nil
    }

    /// When a time-limited credential ends, in seconds since the epoch by the server's clock.
    package var expirySeconds: Int64? {
        if case .password(let username, _) = self { return Name.user(ofUsername: username).expirySeconds }
        return nil
    }

    /// The value of the header `Authorization` (RFC 7617 section 2, RFC 6750 section 2.1).
    package var authorization: String {
        switch self {
        case .password(let username, let password): "Basic " + Base64.encode(Array("\(username):\(password)".utf8))
        case .token(let token): "Bearer " + token
        }
    }
}

/// Where a client shows its credentials.
package enum SignalingCredentialPlace: Sendable, Hashable {
    /// In the first message. It passes by no log: proxies write down requests and their headers, and not what is inside
    /// a WebSocket.
    case hello
    /// In the header `Authorization` of the upgrade, for a proxy that asks for one.
    case upgrade
}

package struct SignalingConfiguration: Sendable {
    package var credentials: SignalingCredentials
    package var credentialPlace = SignalingCredentialPlace.hello
    /// How long a request waits for its answer, and a message for a connection, from the call on.
    package var patienceSeconds: UInt64 = 30
    /// A connection on which nothing was heard for so long is asked for a sign of life.
    package var keepAliveSeconds: UInt64 = 20
    /// How long the answer to that may take. Then the connection is dead, whatever its socket says.
    package var silenceSeconds: UInt64 = 10
    /// Whether the server's clock is estimated, for peers that agree on a moment.
    package var synchronizesTime = true

    package init(credentials: SignalingCredentials) { self.credentials = credentials }
}
