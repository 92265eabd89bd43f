import COpenSSL
import Testing

@testable import OpenSSLCrypto

struct DTLSTests {
    let context: TLSContext

    init() throws { context = try CertificateFiles().makeContext(.dtls) }

    @Test func answersAHelloWithoutCookieByAHelloVerifyRequestOnly() throws {
        var gate = try DTLSGate(context)
        let client = try Client(datagrams: true)
        client.advance()
        let hello = try #require(client.takeDatagrams().first)
        let reply = try #require(gate.ask(hello).reply)
        #expect(reply[0] == 22 && reply[13] == 3, "a handshake record with a HelloVerifyRequest")
        #expect(reply.count < hello.count, "no amplification")
    }

    @Test func handshakesBehindTheCookieAndKeepsDatagramsApart() throws {
        let (client, server) = try connect(context)
        #expect(client.write([1]))
        #expect(client.write([2, 2]))
        for datagram in client.takeDatagrams() { server.feed(datagram) }
        #expect(server.readOne() == [1])
        #expect(server.readOne() == [2, 2])
        #expect(server.readOne() == nil)
        #expect(server.send([3]))
        #expect(server.send([4, 4]))
        let sealed = server.takeAll()
        #expect(sealed.count == 2)
        for datagram in sealed { client.receive(datagram: datagram) }
        #expect(client.read() == [3])
        #expect(client.read() == [4, 4])
    }
}

/// What a gate answered, out of its buffers.
struct GateAnswer {
    var reply: [UInt8]?
    var session: DTLSSession?
    var isDropped: Bool { reply == nil && session == nil }
}

extension DTLSGate {
    mutating func ask(
        _ datagram: [UInt8],
        from address: [UInt8] = [192, 0, 2, 7, 0x12, 0x34],
        at nowSeconds: Int64 = 1_000
    )
        -> GateAnswer
    {
        var buffer = [UInt8](repeating: 0, count: 256)
        let verdict = buffer.withUnsafeMutableBytes { reply in
            datagram.withUnsafeBytes { datagram in
                address.withUnsafeBytes { receive(datagram, from: $0, nowSeconds: nowSeconds, reply: reply) }
            }
        }
        switch verdict {
        case .reply(let length): return GateAnswer(reply: Array(buffer.prefix(length)))
        case .verified(let session): return GateAnswer(session: session)
        case .drop: return GateAnswer()
        }
    }
}

/// A client's hello that carries a cookie for the default address, and the client.
func helloWithCookie(_ gate: inout DTLSGate, _ client: Client) throws -> [UInt8] {
    client.advance()
    let hello = try #require(client.takeDatagrams().first)
    client.receive(datagram: try #require(gate.ask(hello).reply))
    client.advance()
    return try #require(client.takeDatagrams().first)
}

func connect(_ context: TLSContext) throws -> (Client, DTLSSession) {
    var gate = try DTLSGate(context)
    let client = try Client(datagrams: true)
    let hello = try helloWithCookie(&gate, client)
    let server = try #require(gate.ask(hello).session)
    server.advance()
    for _ in 0..<5 {
        let down = server.takeAll()
        #expect(down.allSatisfy { $0.count <= PipeBIO.handshakeMTU })
        for datagram in down { client.receive(datagram: datagram) }
        client.advance()
        for datagram in client.takeDatagrams() { server.feed(datagram) }
    }
    try #require(server.state == .established)
    return (client, server)
}
