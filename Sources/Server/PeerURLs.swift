import OpenSSLCrypto
import Settings

/// Where peers reach this server, as the URLs they are configured with (RFC 7064 for `stun:`, RFC 7065 for `turn:`).
package struct PeerURLs: Hashable, Sendable {
    package let address: SocketAddress

    /// - Parameter interfaces: the machine's own addresses in the order of its interfaces; they stand in for listeners
    ///   on the unspecified address.
    /// - Returns: `nil` where no listener has a port that is known before it listens.
    package init?(settings: Settings, interfaces: [HostAddress] = InterfaceAddresses.current()) {
        let listeners = settings.listen.udp.filter { $0.port != 0 }
        let candidates = listeners.flatMap { listener in
            Self.hosts(of: listener.host, interfaces: interfaces).map { SocketAddress(host: $0, port: listener.port) }
        }
        // A public address of the configuration comes first, then one that others can reach, then whatever there is.
        let external = Self.external(settings.externalAddress, listeners: listeners, candidates: candidates)
        guard let best = external ?? candidates.first(where: { !$0.host.isLoopback }) ?? candidates.first else {
            return nil
        }
        address = best
        func reaches(_ listener: SocketAddress) -> Bool {
            listener.host.isIPv4 == best.host.isIPv4
                && (listener.host.isUnspecified || listener.host == best.host || external != nil)
        }
        func place(_ listeners: [SocketAddress]) -> SocketAddress? {
            listeners.first { $0.port != 0 && reaches($0) }.map { SocketAddress(host: best.host, port: $0.port) }
        }
        hasTCP = settings.listen.tcp.contains { $0.port == best.port && reaches($0) }
        tls = place(settings.listen.tls)
        dtls = place(settings.listen.dtls)
        // An operator shares a port where few others come through: those who can use it should find it first.
        shared = place(settings.listen.shared)
        https = settings.signaling.isEnabled ? shared ?? place(settings.listen.https) : nil
        hostName = settings.hostName
        secureHost = hostName ?? Self.secureHost(settings, address: "\(best.host)")
    }

    package var stun: [String] { ["stun:\(plain)"] }

    /// Only the transports that this version serves.
    package var turn: [String] {
        ["turn:\(plain)?transport=udp"] + (hasTCP ? ["turn:\(plain)?transport=tcp"] : [])
    }

    /// The same over TLS and DTLS, which only helps a client that trusts the certificate. A browser does where the URL
    /// has a name that the certificate has.
    package var turns: [String] {
        [shared, tls].compactMap { $0.map { "turns:\(secured($0))?transport=tcp" } }
            + (dtls.map { ["turns:\(secured($0))?transport=udp"] } ?? [])
    }

    /// Where peers meet; `nil` where there is no signaling, or its port is not known before it listens.
    package var signaling: String? { https.map { "wss://\(secured($0))/signal" } }

    /// Whether anything here is reached by TLS or DTLS, so that a peer has to trust the certificate.
    package var needsCertificate: Bool { shared != nil || tls != nil || dtls != nil || https != nil }

    /// Whether TLS is reached by a name.
    package var hasSecureName: Bool { secureHost != nil }

    /// The address, or the name that the operator gave it.
    private var plain: String { hostName.map { "\($0):\(address.port)" } ?? "\(address)" }

    /// A place by the name that the certificate is made out to.
    private func secured(_ place: SocketAddress) -> String { secureHost.map { "\($0):\(place.port)" } ?? "\(place)" }

    /// Whether the same address takes TCP.
    private let hasTCP: Bool
    /// Where the same host takes TLS and HTTPS on one port.
    private let shared: SocketAddress?
    /// Where the same host takes TLS, and DTLS.
    private let tls: SocketAddress?
    private let dtls: SocketAddress?
    /// Where the same host takes HTTPS, if signaling is on.
    private let https: SocketAddress?
    /// The operator's name for the address.
    private let hostName: String?
    /// What stands for the address in `turns:` and `wss:`; nil for the address itself.
    private let secureHost: String?

    /// The first name of the operator's certificate. An address that is in it needs no name, and clients then need no
    /// DNS; a certificate of the server's own is trusted by whoever was given it, whatever its name.
    private static func secureHost(_ settings: Settings, address: String) -> String? {
        guard let path = settings.tls.certificate, settings.tls.privateKey != nil,
            let certificate = CertificateFile(path: path, addresses: [address]), certificate.addresses.isEmpty
        else { return nil }
        return certificate.hostNames.first
    }

    /// Whether peers outside the server's own network cannot have been meant (RFC 1918, RFC 6598, RFC 4193, loopback).
    /// What a name stands for elsewhere is not known here.
    package var isPrivate: Bool {
        if hostName != nil { return false }
        let host = address.host
        if host.isLoopback { return true }
        guard host.isIPv4 else { return host.high >> 57 == 0xFC >> 1 }
        return host.v4 >> 24 == 10 || host.v4 >> 20 == 0xAC1 || host.v4 >> 16 == 0xC0A8
            || host.v4 >> 22 == 0x6440_0000 >> 22
    }

    private static func hosts(of host: HostAddress, interfaces: [HostAddress]) -> [HostAddress] {
        guard host.isUnspecified else { return [host] }
        return interfaces.filter { $0.isIPv4 == host.isIPv4 && !$0.isLinkLocalIPv6 }
    }

    private static func external(
        _ external: Settings.ExternalAddress,
        listeners: [SocketAddress],
        candidates: [SocketAddress]
    ) -> SocketAddress? {
        switch external {
        case .auto:
            return nil
        case .addresses(let addresses):
            for listener in listeners where !listener.host.isLoopback {
                if let address = addresses.first(where: { $0.isIPv4 == listener.host.isIPv4 }) {
                    return SocketAddress(host: address, port: listener.port)
                }
            }
            return nil
        case .pairs(let pairs):
            for candidate in candidates {
                if let pair = pairs.first(where: { $0.privateAddress == candidate.host }) {
                    return SocketAddress(host: pair.publicAddress, port: candidate.port)
                }
            }
            return nil
        }
    }
}
