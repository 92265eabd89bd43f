import STUN

/// Who a client is: its address, the server's address it talks to, and the transport (RFC 8656 section 3.1).
package struct FiveTuple: Equatable, Sendable, BitwiseCopyable {
    package var client: Endpoint
    package var server: Endpoint
    package var transport: ClientTransport

    @inlinable
    package init(client: Endpoint, server: Endpoint, transport: ClientTransport) {
        self.client = client
        self.server = server
        self.transport = transport
    }

    @inline(__always)
    package static func == (left: FiveTuple, right: FiveTuple) -> Bool {
        left.client.address.low == right.client.address.low && left.client.port == right.client.port
            && left.client.address.high == right.client.address.high
            && left.server.address.low == right.server.address.low && left.server.port == right.server.port
            && left.server.address.high == right.server.address.high && left.transport == right.transport
            && left.client.address.isIPv4 == right.client.address.isIPv4
    }
}

extension FiveTuple: Hashable {
    /// For the slow path; packets are looked up by `TableHash`.
    package func hash(into hasher: inout Hasher) {
        hasher.combine(client.address.high)
        hasher.combine(client.address.low)
        hasher.combine(client.port)
        hasher.combine(server.port)
        hasher.combine(transport)
    }
}

/// What carries a client's messages.
package enum ClientTransport: UInt8, Sendable, BitwiseCopyable {
    case udp, tcp, tls, dtls

    /// Whether the client's address has proved itself, by a connection or by the cookie of DTLS.
    package var isProven: Bool { self != .udp }

    /// Whether the client holds a connection.
    package var isStream: Bool { self == .tcp || self == .tls }
}

/// A keyed hash for the tables: two secret numbers make its collisions unpredictable, so nobody can choose addresses
/// that pile up in one place.
package struct TableHash: Sendable {
    let first: UInt64
    let second: UInt64

    package init(_ cryptography: any Cryptography) {
        var seeds = (UInt64(0), UInt64(0))
        withUnsafeMutableBytes(of: &seeds) { cryptography.random($0) }
        first = seeds.0
        second = seeds.1
    }

    @inline(__always)
    package func callAsFunction(_ tuple: FiveTuple) -> UInt32 {
        let ports =
            UInt64(tuple.client.port) << 32 | UInt64(tuple.server.port) << 8 | UInt64(tuple.transport.rawValue)
        let client = fold(tuple.client.address.low ^ first, tuple.client.address.high ^ ports ^ second)
        return finish(client, tuple.server.address.low ^ tuple.server.address.high)
    }

    @inline(__always)
    func callAsFunction(_ allocation: UInt32, _ address: IPAddress) -> UInt32 {
        finish(fold(address.low ^ first, address.high ^ second), UInt64(allocation))
    }

    @inline(__always)
    func callAsFunction(_ allocation: UInt32, _ endpoint: Endpoint) -> UInt32 {
        finish(
            fold(endpoint.address.low ^ first, endpoint.address.high ^ second),
            UInt64(allocation) << 16 | UInt64(endpoint.port)
        )
    }

    @inline(__always)
    func callAsFunction(_ allocation: UInt32, channel: UInt16) -> UInt32 {
        finish(first, UInt64(allocation) << 16 | UInt64(channel))
    }

    @inline(__always)
    private func finish(_ state: UInt64, _ more: UInt64) -> UInt32 {
        UInt32(truncatingIfNeeded: fold(state ^ second, more ^ 0x9E37_79B9_7F4A_7C15) >> 16)
    }

    @inline(__always)
    private func fold(_ left: UInt64, _ right: UInt64) -> UInt64 {
        // `| 1` keeps a zero factor from swallowing the other.
        let product = (left | 1).multipliedFullWidth(by: right | 1)
        return product.high ^ product.low ^ left ^ right
    }
}
