import COpenSSL
import Testing

@testable import OpenSSLCrypto

struct TLSHostileTests {
    let context: TLSContext

    init() throws { context = try CertificateFiles().makeContext() }

    @Test func endsASessionThatFloodsKeyUpdates() throws {
        let (client, server) = try connect(TLS1_3_VERSION)
        for _ in 0..<SessionPipe.controlRecordAllowance {
            #expect(SSL_key_update(client.ssl, SSL_KEY_UPDATE_REQUESTED) == 1)
            #expect(client.write([1]))
            server.feed(client.takeStream())
            #expect(server.readAll() == [1])
            client.receive(server.takeAll())
            _ = client.readAll()
        }
        #expect(server.state == .established)
        #expect(SSL_key_update(client.ssl, SSL_KEY_UPDATE_REQUESTED) == 1)
        #expect(client.write([1]))
        server.feed(client.takeStream())
        _ = server.readAll()
        #expect(server.state == .failed)
        #expect(server.failure == "a flood of records without data")
    }

    @Test func doesNotRenegotiate() throws {
        let (client, server) = try connect(TLS1_2_VERSION)
        #expect(SSL_renegotiate(client.ssl) == 1)
        client.advance()
        server.feed(client.takeStream())
        #expect(server.readAll().isEmpty)
        #expect(server.state == .established)
        client.receive(server.takeAll())
        #expect(!client.advance())
        #expect(client.lastReason == "no renegotiation")
    }

    /// A ClientHello of the largest length, in records of the same size each: it never ends.
    @Test(arguments: [(1, "the handshake came in too many records"), (512, "the handshake took more than 16384 bytes")])
    func boundsAHandshakeThatNeverEnds(recordBytes: Int, reason: String) throws {
        let server = try TLSSession(context)
        server.feed([22, 3, 1, 0, 4, 1, 0xFF, 0xFF, 0xFF])
        server.advance()
        #expect(server.state == .failed, "a message longer than any hello")
        let another = try TLSSession(context)
        another.feed([22, 3, 1, 0, 4, 1, 1, 0, 0])
        let header = [22, 3, 1, UInt8(recordBytes >> 8), UInt8(recordBytes & 0xFF)]
        let record = header + Array(repeating: 0, count: recordBytes)
        var sent = 9
        var records = 1
        while another.advance() == .handshaking, sent < 100_000 {
            another.feed(record)
            sent += record.count
            records += 1
        }
        #expect(another.state == .failed)
        #expect(sent <= SessionPipe.handshakeByteLimit + record.count)
        #expect(records <= SessionPipe.handshakeRecordLimit + 1)
        #expect(another.failure == reason)
    }

    @Test(arguments: [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "SSH-2.0-OpenSSH_9.2\r\n", "\0\u{1}\0\0\u{21}\u{12}\u{24}\u{42}",
    ])
    func failsForWhatIsNoTLS(greeting: String) throws {
        let server = try TLSSession(context)
        server.feed(Array(greeting.utf8) + [UInt8](repeating: 0, count: 32))
        #expect(server.advance() == .failed)
        #expect(server.failure != nil)
    }

    @Test func leavesNoErrorOfOneSessionToAnother() throws {
        let (client, server) = try connect(TLS1_3_VERSION)
        let broken = try TLSSession(context)
        broken.feed(Array("GET / HTTP/1.1\r\n\r\n".utf8))
        #expect(broken.advance() == .failed)
        #expect(ERR_peek_error() == 0)
        #expect(client.write([5]))
        server.feed(client.takeStream())
        #expect(server.readAll() == [5])
        #expect(server.state == .established)
    }

    /// No mutation may crash, and none may give the reader bytes that were not sent.
    @Test(arguments: [TLS1_2_VERSION, TLS1_3_VERSION])
    func outlivesMutatedRecords(version: Int32) throws {
        var random = SplitMix(state: UInt64(version))
        let sent = [UInt8](repeating: 0xA5, count: 100)
        for _ in 0..<1_000 {
            let server = try TLSSession(context)
            let client = try Client { _ = turnpike_ctx_set_versions($0, version, version) }
            let mutated = Int.random(in: 0..<3, using: &random)
            var received: [UInt8] = []
            for flight in 0..<4 {
                if client.advance(), flight > 1 { _ = client.write(sent) }
                var bytes = client.takeStream()
                if flight == mutated { mutate(&bytes, &random) }
                for piece in split(bytes, &random) {
                    server.feed(piece)
                    server.advance()
                    received += server.readAll()
                }
                client.receive(server.takeAll())
            }
            let isClean = received.allSatisfy { $0 == 0xA5 } && received.count <= 2 * sent.count
            #expect(isClean)
        }
    }

    /// Twenty thousand records with a mutation each, into established sessions.
    @Test func refusesEveryMutatedRecordOfASession() throws {
        var random = SplitMix(state: 7)
        var (client, server) = try connect(TLS1_3_VERSION)
        for _ in 0..<20_000 {
            if server.state != .established { (client, server) = try resume() }
            #expect(client.write([0xA5, 0xA5]))
            var bytes = client.takeStream()
            mutate(&bytes, &random)
            server.feed(bytes)
            let received = server.readAll()
            let isClean = received.isEmpty || received == [0xA5, 0xA5]
            #expect(isClean)
        }
    }

    private func resume() throws -> (Client, TLSSession) { try connect(TLS1_3_VERSION) }

    private func connect(_ version: Int32) throws -> (Client, TLSSession) {
        let server = try TLSSession(context)
        let client = try Client { _ = turnpike_ctx_set_versions($0, version, version) }
        exchange(client, server)
        try #require(server.state == .established)
        return (client, server)
    }
}

/// A generator that gives the same numbers in every run.
struct SplitMix: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }
}

/// Flips a bit, cuts, repeats or inserts.
func mutate(_ bytes: inout [UInt8], _ random: inout some RandomNumberGenerator) {
    guard let index = bytes.indices.randomElement(using: &random) else { return }
    switch Int.random(in: 0..<4, using: &random) {
    case 0: bytes[index] ^= 1 << UInt8.random(in: 0..<8, using: &random)
    case 1: bytes.removeSubrange(index...)
    case 2: bytes += bytes[index...]
    default: bytes.insert(UInt8.random(in: .min ... .max, using: &random), at: index)
    }
}

func split(_ bytes: [UInt8], _ random: inout SplitMix) -> [[UInt8]] {
    guard bytes.count > 1 else { return [bytes] }
    let cut = Int.random(in: 0..<bytes.count, using: &random)
    return [Array(bytes[..<cut]), Array(bytes[cut...])]
}
