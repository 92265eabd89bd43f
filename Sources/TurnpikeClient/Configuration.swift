/// What a coordinator is told: servers, credentials and times.
///
///     var configuration = Configuration.fromEnvironment()
///     configuration.connectionTimeout = .seconds(10)
///     let coordinator = P2PCoordinator(configuration)
public struct Configuration: Sendable, Hashable {
    /// A TURN server, with the credential for it.
    public struct TURNServer: Sendable, Hashable {
        /// `turn:host:port` or `turns:host:port`, with `?transport=udp` or `?transport=tcp`; without it `turn:` is
        /// tried by UDP and TCP, and `turns:` by DTLS and TLS.
        public var url: String
        /// A user of the server, or a time-limited username.
        public var username: String
        /// The user's password.
        public var password: String

        /// Makes a server; the URL is checked by `P2PCoordinator.healthCheck()`.
        public init(url: String, username: String, password: String) {
            self.url = url
            self.username = username
            self.password = password
        }
    }

    /// Whom to believe that it is the server.
    public enum Trust: Sendable, Hashable {
        /// The certificate authorities of the system.
        case system
        /// Those of a file in PEM.
        case authorities(file: String)
        /// Certificates by their SHA-256, each of 32 bytes: for servers that have signed their own.
        case fingerprints([[UInt8]])
    }

    /// Whether ports of NATs are guessed that have another one for each destination; see
    /// `Configuration.symmetricPunching`.
    public enum SymmetricPunching: String, Sendable, Hashable, Codable {
        /// Where both NATs are known to be of kinds for which it works, and only while data goes over a relay.
        case auto
        /// Neither by this side nor for a peer.
        case never
        /// Also where not all is known of a NAT.
        case always
    }

    /// A value that cannot be used; `P2PCoordinator.healthCheck()` names all of them.
    public struct Issue: Error, Sendable, Hashable, CustomStringConvertible {
        /// The variable or property.
        public var name: String
        /// What is wrong, and the mend.
        public var problem: String

        /// Both in one line.
        public var description: String { "\(name): \(problem)" }
    }

    /// The signaling server, as `wss://host:8443/signal`; `nil` for none.
    public var signalingServer: String?
    /// Who signs in at the signaling server: a user, or a time-limited username.
    public var username: String?
    /// The password of `username`.
    public var password: String?
    /// What signs in at the signaling server in place of a username and a password.
    public var token: String?
    /// The id to register with when a program names none.
    public var peerID: PeerID?
    /// Servers that tell the outside address, as `stun:host:port` or `host:port`.
    public var stunServers: [String]
    /// Servers that relay.
    public var turnServers: [TURNServer]
    /// Whether the STUN and TURN servers that the signaling server names are used as well.
    public var usesServersFromSignaling = true
    /// Whom to believe that it is the server.
    public var trust: Trust
    /// The UDP port that peers are reached on; 0 for one of the system's choice.
    public var localPort: UInt16
    /// Whether the gateway is asked to let peers in, by PCP, NAT-PMP or UPnP.
    public var portMapping: Bool
    /// How often silent ways are kept open, at least.
    public var keepAliveInterval: Duration
    /// Until an attempt to connect has failed.
    public var connectionTimeout: Duration
    /// How often an attempt that failed is begun again within that time.
    public var maxRetries: Int
    /// Whether ports are guessed where a NAT has another one for each destination, to leave the relay. That takes a few
    /// packets with NATs that count their ports, and up to 1,400 in ten seconds with those that draw them, of 56 bytes,
    /// at most 180 in a second, to the peer's address alone.
    public var symmetricPunching: SymmetricPunching
    /// Whether what happens is written to standard error, line by line.
    public var enableDetailedLogging: Bool
    /// What of the environment could not be used.
    public var issues: [Issue] = []

    /// Makes a configuration; what is left out has its default.
    public init(
        signalingServer: String? = nil,
        username: String? = nil,
        password: String? = nil,
        peerID: PeerID? = nil,
        stunServers: [String] = [],
        turnServers: [TURNServer] = [],
        trust: Trust = .system,
        localPort: UInt16 = 0,
        portMapping: Bool = true,
        keepAliveInterval: Duration = .seconds(25),
        connectionTimeout: Duration = .seconds(30),
        maxRetries: Int = 3,
        symmetricPunching: SymmetricPunching = .auto,
        enableDetailedLogging: Bool = false
    ) {
        self.signalingServer = signalingServer
        self.username = username
        self.password = password
        self.peerID = peerID
        self.stunServers = stunServers
        self.turnServers = turnServers
        self.trust = trust
        self.localPort = localPort
        self.portMapping = portMapping
        self.keepAliveInterval = keepAliveInterval
        self.connectionTimeout = connectionTimeout
        self.maxRetries = maxRetries
        self.symmetricPunching = symmetricPunching
        self.enableDetailedLogging = enableDetailedLogging
    }
}
