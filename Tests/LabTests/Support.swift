import Lab
import OpenSSLCrypto
import STUN
import Testing

/// A house with two hosts behind a NAT, and two hosts outside, one of them with two addresses.
///
///             ┌── far            20.1.0.1, 20.1.0.2
///     core ───┼── other          20.1.0.9
///             └── NAT ─┬─ inner
///                      └─ neighbour
struct Yard {
    let internet: Internet
    let router: Router
    let inner: Host
    let neighbour: Host
    let far: Host
    let other: Host

    init(_ behavior: NATBehavior, seed: UInt64 = 1) {
        internet = Internet(seed: seed) { net in
            net.host("far", ["20.1.0.1", "20.1.0.2"].map { IPAddress($0) })
            net.host("other", [IPAddress("20.1.0.9")])
            net.nat("home", behavior) { lan in
                lan.host("inner")
                lan.host("neighbour")
            }
        }
        router = internet.router("home")
        inner = internet.host("inner")
        neighbour = internet.host("neighbour")
        far = internet.host("far")
        other = internet.host("other")
    }

    /// Sockets at 20.1.0.1:1000, 20.1.0.1:1001, 20.1.0.2:1000.
    func farSockets() throws -> [UDPSocket] {
        try [Endpoint("20.1.0.1", 1_000), Endpoint("20.1.0.1", 1_001), Endpoint("20.1.0.2", 1_000)].map {
            try #require(far.udp(port: $0.port, at: $0.address))
        }
    }

    /// The external endpoints that the sockets see when this one sends to each, in that order.
    func mapped(_ socket: UDPSocket, by sockets: [UDPSocket]) throws -> [Endpoint] {
        try sockets.map { seen in
            socket.send("who am I", to: try #require(seen.local()))
            try internet.run(seconds: 0.2)
            let last = seen.inbox.popLast()
            return try #require(last).from
        }
    }

    /// The external endpoint that this socket sees when a new one of the inner host, or of that host, sends to it.
    func mapped(_ port: UInt16 = 0, of host: Host? = nil, by socket: UDPSocket) throws -> Endpoint {
        let inner = try #require((host ?? self.inner).udp(port: port))
        return try mapped(inner, by: [socket])[0]
    }
}

/// A hand-built STUN message.
func message(
    _ type: MessageType,
    transaction: UInt64 = 1,
    _ attributes: (inout MessageBuilder) -> Void = { _ in }
) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: 1_500)
    let length = bytes.withUnsafeMutableBytes { buffer -> Int in
        var builder = MessageBuilder(type, TransactionID(high: transaction, low: 0), into: buffer)
        attributes(&builder)
        return builder.finish() ?? 0
    }
    return Array(bytes.prefix(length))
}

/// What a message says: nil where the bytes are none.
struct Reading {
    let type: MessageType
    private let attributes: [(AttributeType, [UInt8])]
    private let transaction: TransactionID

    init?(_ bytes: [UInt8]) {
        let parsed = bytes.withUnsafeBytes { buffer -> (MessageType, TransactionID, [(AttributeType, [UInt8])])? in
            guard let view = try? MessageView(buffer) else { return nil }
            var list: [(AttributeType, [UInt8])] = []
            var iterator = view.attributes
            while let attribute = iterator.next() { list.append((attribute.type, Array(attribute.value))) }
            return (view.type, view.transactionID, list)
        }
        guard let parsed else { return nil }
        (type, transaction, attributes) = parsed
    }

    func value(_ type: AttributeType) -> [UInt8]? { attributes.first { $0.0 == type }?.1 }

    func endpoint(_ type: AttributeType) -> Endpoint? {
        value(type)?.withUnsafeBytes { AddressAttribute.decodeXOR($0, transaction) }
    }

    func plainEndpoint(_ type: AttributeType) -> Endpoint? {
        value(type)?.withUnsafeBytes { AddressAttribute.decode($0) }
    }

    var error: Int? { value(.errorCode).map { Int($0[2]) * 100 + Int($0[3]) } }
}
