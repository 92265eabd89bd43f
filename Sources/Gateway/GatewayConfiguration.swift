import OpenSSLCrypto

/// How a gateway is set up for its whole life.
package struct GatewayOptions: Sendable {
    package var listeners: [GatewayListener]
    /// What TLS sessions are made from.
    package var certificate: TLSContext?
    /// Where the admin API listens besides; nil for nowhere.
    package var adminSocket: AdminSocket?
    package var configuration: GatewayConfiguration
    /// Threads for connections. One carries some ten thousand messages a second.
    package var loops: Int

    package init(
        listeners: [GatewayListener],
        certificate: TLSContext?,
        adminSocket: AdminSocket?,
        configuration: GatewayConfiguration,
        loops: Int
    ) {
        self.listeners = listeners
        self.certificate = certificate
        self.adminSocket = adminSocket
        self.configuration = configuration
        self.loops = loops
    }
}

/// Where clients come to.
package struct GatewayListener: Hashable, Sendable {
    /// An address in text, without brackets.
    package var host: String
    package var port: Int
    /// Nobody asked for it by name: where it cannot be had, the server says so and goes without.
    package var isImplied: Bool

    package init(host: String, port: Int, isImplied: Bool) {
        self.host = host
        self.port = port
        self.isImplied = isImplied
    }

    package var description: String { host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)" }
}

/// The socket of the command line: who may open the file may do everything.
package struct AdminSocket: Hashable, Sendable {
    package var path: String
    package var isImplied: Bool

    package init(path: String, isImplied: Bool) {
        self.path = path
        self.isImplied = isImplied
    }
}

/// What of a gateway may change while it runs.
package struct GatewayConfiguration: Sendable, Equatable {
    package var realm = ""
    package var isSignalingEnabled = true
    /// HTTP and `ws://` without TLS for those who come from loopback or a private network, where a proxy stands.
    package var allowsPlaintext = false
    /// Of browsers; compared byte for byte.
    package var allowedOrigins: [String] = []
    package var maxMessageBytes = 65_536
    package var messagesPerSecond = 50
    package var burst = 100
    package var connectionsPerUser = 20
    package var connectionsPerAddress = 100
    package var peerTimeoutSeconds = 300
    package var resumeWindowSeconds = 30
    package var maxCredentialSeconds = 86_400
    /// Addresses of this machine for connections to clients that ask for one: the second of each family, with which
    /// NATs are found out about.
    package var probeSources: [String] = []

    package init() {}
}

/// A gateway cannot run as it is set up: what is wrong and the mend, in one line.
package struct GatewayError: Error, Sendable, CustomStringConvertible {
    package let description: String

    init(_ description: String) { self.description = description }
}
