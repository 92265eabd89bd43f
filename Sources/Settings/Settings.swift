/// Everything an operator can decide about a server, validated as a whole. `Settings()` is the built-in defaults.
///
/// The properties mirror the levels of `turnpike.yml`; `KeyTable` says how each is read.
package struct Settings: Sendable, Equatable {
    /// The realm of long-term credentials (RFC 8489 section 9.2): 1 to 127 characters.
    package var realm = "turnpike"
    /// Where the server keeps its database and keys; an absolute path.
    package var dataDirectory = "/var/lib/turnpike"
    /// Data-plane threads: as many as there are CPU cores, or 1 to 256.
    package var workers = WorkerCount.auto
    package var listen = Listen()
    package var externalAddress = ExternalAddress.auto
    /// What stands for the address in every URL that peers are given: a name of the DNS, in small letters.
    package var hostName: String?
    package var relay = Relay()
    /// RFC 5780. Whole only with `listen.alternate`.
    package var natDiscovery = true
    package var tls = TLS()
    package var auth = Auth()
    package var limits = Limits()
    package var signaling = Signaling()
    package var admin = Admin()
    package var log = Log()

    package init() {}

    /// How many threads of a kind there are: as suits the CPU cores, or a number.
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
        /// Likewise. Where it is not empty, `udp` takes DTLS too.
        package var dtls = Self.everywhere(port: 5349)
        /// Signaling, the API and the web pages. Port 8443 of the hosts that `udp` has, where it is not set itself.
        package var https = Self.everywhere(port: 8443)
        /// TURN over TLS and what `https` is for, on one port. No address of it is in `tcp`, `tls`, `https` or
        /// `metrics`.
        package var shared: [SocketAddress] = []
        /// Prometheus' metrics, without TLS and without a password.
        package var metrics = [SocketAddress(host: HostAddress(v4: 0x7F00_0001), port: 9641)]
        /// The second address and port of NAT behaviour discovery (RFC 5780 section 6): one address of this machine for
        /// a family at most, none of them the wildcard, no port 0. Each has a `primary`.
        package var alternate: [SocketAddress] = []
        /// The lists that nobody wrote.
        package var implied: Set<String> = [
            "listen.udp", "listen.tcp", "listen.tls", "listen.dtls", "listen.https", "listen.metrics",
        ]

        package init() {}

        /// By what is listened on: who wrote it is no part of that.
        package static func == (left: Listen, right: Listen) -> Bool {
            left.udp == right.udp && left.tcp == right.tcp && left.tls == right.tls && left.dtls == right.dtls
                && left.https == right.https && left.shared == right.shared && left.metrics == right.metrics
                && left.alternate == right.alternate
        }

        /// The UDP listener that an alternate address stands beside: the first of its family that has another address.
        package func primary(of alternate: SocketAddress) -> SocketAddress? {
            udp.first { $0.isIPv4 == alternate.isIPv4 && $0.host != alternate.host }
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
        /// IPv6 prefixes of 32, 40, 48, 56, 64 or 96 bits (RFC 6052).
        package var nat64Prefixes: [AddressRange] = []
        /// True only while every listener is on loopback.
        package var allowLoopbackPeers = false
        package var tcp = false
        package var rfc5766Channels = false
        /// RFC 8016.
        package var mobility = false
        /// Where clients are sent while this server drains. Port 0: the port they came to.
        package var alternateServers: [SocketAddress] = []

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
        /// What the server plans its allocations and connections for; 0 for what cgroup and machine have.
        package var memoryBytes = 0
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
        /// That carry the connections of `https` and `shared`: from the CPU cores, or 1 to 64.
        package var threads = WorkerCount.auto

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
