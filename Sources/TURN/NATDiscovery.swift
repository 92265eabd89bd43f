import STUN

/// NAT behaviour discovery (RFC 5780) as far as this server's sockets go: where an answer may come from.
package struct NATDiscovery: Sendable {
    /// Two addresses A1 and A2 and two ports P1 and P2 of one family.
    package struct Pair: Sendable {
        /// A1 and P1. With a wildcard listener every address but A2 counts as A1, and this one is named where A2 was
        /// asked.
        package var primary: Endpoint
        /// A2 and P2.
        package var alternate: Endpoint
        /// The primary listener is bound to the wildcard address.
        package var isWildcard: Bool
        /// All four combinations have a socket.
        fileprivate var servesUDP = false
        fileprivate var servesTCP = false

        package init(primary: Endpoint, alternate: Endpoint, isWildcard: Bool) {
            self.primary = primary
            self.alternate = alternate
            self.isWildcard = isWildcard
        }

        /// All but A1:P1, which the operator has named himself.
        package var corners: [Endpoint] {
            [
                Endpoint(address: primary.address, port: alternate.port),
                Endpoint(address: alternate.address, port: primary.port),
                alternate,
            ]
        }

        /// Ca and Cp of RFC 5780 section 6.1, Table 1, for a request that came to Da and Dp; nil where that is none of
        /// the four combinations.
        func other(than server: Endpoint) -> Endpoint? {
            let port: UInt16
            switch server.port {
            case primary.port: port = alternate.port
            case alternate.port: port = primary.port
            default: return nil
            }
            if server.address == alternate.address { return Endpoint(address: primary.address, port: port) }
            // What is asked at a link-local address cannot be answered from one that is not.
            guard isWildcard && !server.address.isLinkLocal || server.address == primary.address else { return nil }
            return Endpoint(address: alternate.address, port: port)
        }
    }

    package var isEnabled = true
    package var v4: Pair?
    package var v6: Pair?
    private var sockets: [Endpoint] = []

    package init() {}

    /// Takes note of the sockets there are. A pair counts only where all of its combinations have one: otherwise a
    /// server must not speak of a second address (RFC 5780 section 6).
    /// - Parameter dtls: where nothing is taken in the clear. An answer may come from there all the same: it is the
    ///   source that a NAT lets through or not.
    package mutating func attach(udp: [Endpoint], tcp: [Endpoint], dtls: [Endpoint] = []) {
        sockets = udp + dtls
        func completed(_ pair: Pair?) -> Pair? {
            guard var pair else { return nil }
            let corners = pair.corners + [pair.primary]
            pair.servesUDP = corners.allSatisfy { Self.covers(udp, $0) }
            pair.servesTCP = corners.allSatisfy { Self.covers(tcp, $0) }
            return pair
        }
        v4 = completed(v4)
        v6 = completed(v6)
    }

    /// Whether one of these sockets takes what comes to `endpoint`.
    package static func covers(_ sockets: [Endpoint], _ endpoint: Endpoint) -> Bool {
        sockets.contains { $0.port == endpoint.port && covers($0, endpoint.address) }
    }

    /// The address and port that differ from those a request came to, both of them; nil where there is no second
    /// address.
    func other(than server: Endpoint, over transport: ClientTransport) -> Endpoint? {
        guard isEnabled, let pair = server.address.isIPv4 ? v4 : v6 else { return nil }
        switch transport {
        case .udp: return pair.servesUDP ? pair.other(than: server) : nil
        case .tcp: return pair.servesTCP ? pair.other(than: server) : nil
        // TLS has a port of its own, which no second one stands beside.
        default: return nil
        }
    }

    /// Where the answer to a datagram comes from (RFC 5780 section 6.1, Table 1); nil where there is no such socket.
    ///
    /// The table is for servers with two addresses, and one with a single address would refuse every CHANGE-REQUEST.
    /// This server grants what it can: to change nothing, or only the port where it listens on a second one.
    /// - Parameter other: what `other(than:over:)` said.
    func origin(_ server: Endpoint, _ other: Endpoint?, changesAddress: Bool, changesPort: Bool) -> Endpoint? {
        guard changesAddress || changesPort else { return server }
        if let other {
            return Endpoint(
                address: changesAddress ? other.address : server.address,
                port: changesPort ? other.port : server.port
            )
        }
        guard !changesAddress else { return nil }
        return sockets.first { $0.port != server.port && Self.covers($0, server.address) }
            .map { Endpoint(address: server.address, port: $0.port) }
    }

    private static func covers(_ socket: Endpoint, _ address: IPAddress) -> Bool {
        socket.address == address || socket.address.isIPv4 == address.isIPv4 && socket.isWildcard
    }
}

extension IPAddress {
    /// fe80::/10, which means nothing without an interface.
    fileprivate var isLinkLocal: Bool { !isIPv4 && high >> 54 == 0x3FA }
}

extension Endpoint {
    /// Bound to every address of its family.
    package var isWildcard: Bool { address.isIPv4 ? address.v4 == 0 : address.high == 0 && address.low == 0 }
}
