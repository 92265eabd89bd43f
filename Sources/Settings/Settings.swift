/// Everything an operator can decide about a server, validated as a whole. `Settings()` is the built-in defaults.
///
/// The properties mirror the levels of `turnpike.yml`; `KeyTable` says how each is read.
package struct Settings: Sendable, Equatable {
    /// The realm of long-term credentials (RFC 8489 section 9.2): 1 to 127 characters.
    package var realm = "turnpike"
    /// Where the server keeps its database and keys; an absolute path.
    package var dataDirectory = "/var/lib/turnpike"
    package var workers = WorkerCount.auto
    package var listen = Listen()
    package var externalAddress = ExternalAddress.auto
    package var relay = Relay()
    package var tls = TLS()
    package var auth = Auth()
    package var limits = Limits()
    package var signaling = Signaling()
    package var admin = Admin()
    package var log = Log()

    package init() {}

    /// How many data-plane threads there are: as many as there are CPU cores, or a number from 1 to 256.
    package enum WorkerCount: Sendable, Equatable {
        case auto
        case count(Int)
    }

    package struct Listen: Sendable, Equatable {
        /// Port 0 lets the kernel choose. One of the two lists holds at least one address.
        package var udp = Self.everywhere(port: 3478)
        /// What `udp` is, where it is not set itself.
        package var tcp = Self.everywhere(port: 3478)
        /// Port 5349 of the hosts that `udp` has, where it is not set itself.
        package var tls = Self.everywhere(port: 5349)
        /// Signaling, the API and the web pages. Port 8443 of the hosts that `udp` has, where it is not set itself.
        package var https = Self.everywhere(port: 8443)
        /// The lists that nobody wrote.
        package var implied: Set<String> = ["listen.udp", "listen.tcp", "listen.tls", "listen.https"]

        package init() {}

        /// By what is listened on: who wrote it is no part of that.
        package static func == (left: Listen, right: Listen) -> Bool {
            left.udp == right.udp && left.tcp == right.tcp && left.tls == right.tls && left.https == right.https
        }

        private static func everywhere(port: UInt16) -> [SocketAddress] {
            [SocketAddress(host: .unspecifiedIPv4, port: port), SocketAddress(host: .unspecifiedIPv6, port: port)]
        }
    }

    /// The pair is given whole or not at all.
    package struct TLS: Sendable, Equatable {
        /// PEM, the server's own certificate first. Nil: one that the server makes itself, in the data directory.
        package var certificate: String?
        package var privateKey: String?

        package init() {}
    }

    /// What clients are told instead of the addresses the server itself sees, for 1:1 NAT.
    package enum ExternalAddress: Sendable, Equatable {
        case auto
        /// One address, or one of each family.
        case addresses([HostAddress])
        /// Which public address stands for which private one.
        case pairs([AddressPair])
    }

    /// Both addresses are of one family.
    package struct AddressPair: Sendable, Equatable {
        package var publicAddress: HostAddress
        package var privateAddress: HostAddress

        package init(publicAddress: HostAddress, privateAddress: HostAddress) {
            self.publicAddress = publicAddress
            self.privateAddress = privateAddress
        }
    }

    /// Where relayed transport addresses are allocated.
    package enum RelayAddresses: Sendable, Equatable {
        case auto
        /// At least one, none twice.
        case list([HostAddress])
    }

    package struct Relay: Sendable, Equatable {
        package var addresses = RelayAddresses.auto
        /// From 1024 to `maxPort`.
        package var minPort: UInt16 = 49152
        package var maxPort: UInt16 = 65535
        /// What is opened of the ranges denied by default; no entry lies wholly inside a range that stays closed.
        package var allowPeers: [AddressRange] = []
        /// Wins over `allowPeers`.
        package var denyPeers: [AddressRange] = []
        /// True only while every listener is on loopback.
        package var allowLoopbackPeers = false
        package var rfc5766Channels = false

        package init() {}
    }

    package struct Auth: Sendable, Equatable {
        package var nonceLifetimeSeconds = 600
        package var requireSHA256 = false
        package var maxCredentialTTLSeconds = 86_400

        package init() {}
    }

    package struct Limits: Sendable, Equatable {
        package var allocationsPerUser = 10
        /// 0: bounded by ports and memory.
        package var allocationsTotal = 0
        package var permissionsPerAllocation = 128
        /// Bits per second of relayed payload, both directions together; 0 for no limit.
        package var bpsPerAllocation = 0
        package var bpsTotal = 0
        package var unauthenticatedRepliesPerSecond = 10
        package var bindingRepliesPerSecond = 500

        package init() {}
    }

    package struct Signaling: Sendable, Equatable {
        package var isEnabled = true
        /// HTTP without TLS, for those who come from loopback or a private network.
        package var allowsPlaintext = false
        /// Of browsers; exact.
        package var allowedOrigins: [String] = []
        package var maxMessageBytes = 65_536
        package var messagesPerSecond = 50
        package var burst = 100
        package var connectionsPerUser = 20
        package var connectionsPerAddress = 100
        package var peerTimeoutSeconds = 300
        package var resumeWindowSeconds = 30

        package init() {}
    }

    package struct Admin: Sendable, Equatable {
        /// Nil: `admin.sock` in the data directory.
        package var socket: String?

        package init() {}
    }

    package struct Log: Sendable, Equatable {
        package var level = LogLevel.info
        package var format = LogFormat.text
        package var addresses = LogAddresses.full

        package init() {}
    }

    /// The levels of swift-log, by the same names.
    package enum LogLevel: String, Sendable, CaseIterable {
        case trace, debug, info, notice, warning, error, critical
    }

    package enum LogFormat: String, Sendable, CaseIterable {
        case text, json
    }

    /// Whether addresses of clients and peers are logged whole.
    package enum LogAddresses: String, Sendable, CaseIterable {
        case full, masked
    }
}
