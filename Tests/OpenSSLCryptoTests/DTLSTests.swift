import COpenSSL
import TestSupport
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

    @Test func keepsNothingAboutAddressesWithoutCookie() throws {
        var gate = try DTLSGate(context)
        let client = try Client(datagrams: true)
        client.advance()
        let hello = try #require(client.takeDatagrams().first)
        var replies = Set<[UInt8]>()
        for index in 0..<10_000 {
            let address = [10, 0, UInt8(index >> 8), UInt8(index & 0xFF), 0, 9]
            replies.insert(try #require(gate.ask(hello, from: address).reply))
        }
        #expect(replies.count == 10_000, "a cookie for each address")
        #expect(gate.listeningBytes == 0)
    }

    @Test func takesACookieFromItsAddressOnlyAndForAMinuteAtMost() throws {
        var gate = try DTLSGate(context)
        let hello = try helloWithCookie(&gate, Client(datagrams: true))
        #expect(gate.ask(hello, from: [192, 0, 2, 7, 0x12, 0x35]).reply != nil, "another port")
        #expect(gate.ask(hello, from: [192, 0, 2, 8, 0x12, 0x34]).reply != nil, "another address")
        #expect(gate.ask(hello, at: 1_060).reply != nil, "too old")
        var other = try DTLSGate(context)
        #expect(other.ask(hello).reply != nil, "another process")
        var flipped = hello
        // The cookie lies behind headers of 25 bytes, version, random and an empty session id, and its own length.
        flipped[25 + 2 + 32 + 1 + 1 + 5] ^= 1
        #expect(gate.ask(flipped).reply != nil, "a flipped bit")
        #expect(gate.ask(hello, at: 1_029).session != nil, "the next window takes it")
    }

    @Test func staysSilentForWhatIsNoClientHello() throws {
        var gate = try DTLSGate(context)
        let (client, _) = try connect(context)
        #expect(client.write([1]))
        let record = try #require(client.takeDatagrams().first)
        #expect(gate.ask(record).isDropped)
        for type in [UInt8(20), 21, 23] {
            #expect(gate.ask([type, 0xFE, 0xFD] + [UInt8](repeating: 0, count: 60)).isDropped)
        }
        #expect(gate.ask([]).isDropped)
        #expect(gate.ask([22, 0xFE, 0xFD]).isDropped)
    }

    @Test func outlivesEveryFlippedBitAndCutOfAHello() throws {
        var gate = try DTLSGate(context)
        let hello = try helloWithCookie(&gate, Client(datagrams: true))
        for index in hello.indices {
            for bit in 0..<8 {
                var flipped = hello
                flipped[index] ^= 1 << UInt8(bit)
                if let session = gate.ask(flipped).session { session.advance() }
            }
            if let session = gate.ask(Array(hello[..<index])).session { session.advance() }
        }
        #expect(gate.ask(hello).session?.advance() == .handshaking)
    }

    /// DT-04: a hello in fragments of one byte is not the client's of anybody.
    @Test func keepsNothingOfAFragmentedHello() throws {
        var gate = try DTLSGate(context)
        let hello = try helloWithCookie(&gate, Client(datagrams: true))
        for index in 25..<hello.count {
            var fragment = Array(hello[..<25]) + [hello[index]]
            fragment[12] = 13
            (fragment[19], fragment[20], fragment[21]) = (0, UInt8((index - 25) >> 8), UInt8((index - 25) & 0xFF))
            (fragment[22], fragment[23], fragment[24]) = (0, 0, 1)
            #expect(gate.ask(fragment).session == nil)
        }
        #expect(gate.listeningBytes == 0)
        #expect(gate.ask(hello).session != nil)
    }

    @Test func refusesDTLS10() throws {
        var gate = try DTLSGate(context)
        let client = try Client(datagrams: true) {
            _ = turnpike_ctx_set_versions($0, DTLS1_VERSION, DTLS1_VERSION)
            _ = SSL_CTX_set_cipher_list($0, "ALL:@SECLEVEL=0")
        }
        let session = gate.ask(try helloWithCookie(&gate, client)).session
        #expect(session?.advance() == .failed)
        #expect(session?.failure == "unsupported protocol")
    }

    @Test func dropsReplayedAndForgedRecordsAndGoesOn() throws {
        let (client, server) = try connect(context)
        #expect(client.write([1]))
        let record = try #require(client.takeDatagrams().first)
        server.feed(record)
        #expect(server.readOne() == [1])
        server.feed(record)
        #expect(server.readOne() == nil, "replayed")
        #expect(client.write([2]))
        let next = try #require(client.takeDatagrams().first)
        for index in next.indices {
            var flipped = next
            flipped[index] ^= 0x40
            server.feed(flipped)
            #expect(server.readOne() == nil)
        }
        server.feed([0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42] + [UInt8](repeating: 0, count: 12))
        #expect(server.readOne() == nil, "plain STUN")
        server.feed([21, 0xFE, 0xFD, 0, 0, 0, 0, 0, 0, 0, 9, 0, 2, 2, 40])
        #expect(server.readOne() == nil, "a forged alert of the first epoch")
        server.feed(next)
        #expect(server.readOne() == [2])
        #expect(server.state == .established)
    }

    /// In virtual time, by which OpenSSL's timers go.
    @Test(arguments: [0, 1])
    func handshakesWhileEveryOtherDatagramIsLost(parity: Int) throws {
        try VirtualClock.run {
            var gate = try DTLSGate(context, firstTimeoutMicroseconds: 5_000)
            let client = try Client(datagrams: true, firstTimeoutMicroseconds: 5_000)
            let server = try #require(gate.ask(try helloWithCookie(&gate, client)).session)
            server.advance()
            var sent = parity
            var isConnected = false
            for round in 1...2_000 where !(isConnected && server.state == .established) {
                for datagram in server.takeAll() {
                    sent += 1
                    if sent.isMultiple(of: 2) { client.receive(datagram: datagram) }
                }
                isConnected = client.advance()
                for datagram in client.takeDatagrams() {
                    sent += 1
                    if sent.isMultiple(of: 2) { server.feed(datagram) }
                }
                VirtualClock.set(nanoseconds: UInt64(round) * 5_000_000)
                server.handleTimeout()
                turnpike_dtls_handle_timeout(client.ssl)
                // The last flight is the server's: the client's again brings it again.
                if server.state == .established { _ = server.readOne() }
            }
            #expect(server.state == .established)
            #expect(isConnected)
            #expect(server.nextTimeoutNanoseconds == nil)
        }
    }

    @Test func closesByNotification() throws {
        let (client, server) = try connect(context)
        server.shutdown()
        #expect(server.state == .closed)
        for datagram in server.takeAll() { client.receive(datagram: datagram) }
        #expect(client.read().isEmpty)
        #expect(SSL_get_shutdown(client.ssl) & SSL_RECEIVED_SHUTDOWN != 0)
        let (leaver, other) = try connect(context)
        SSL_shutdown(leaver.ssl)
        for datagram in leaver.takeDatagrams() { other.feed(datagram) }
        #expect(other.readOne() == nil)
        #expect(other.state == .closed)
    }

    @Test func sealsWhereTheCallerSays() throws {
        let (client, server) = try connect(context)
        var buffer = [UInt8](repeating: 0, count: 1_400 + DTLSSession.sealedBytes)
        for keeps in [false, true, false] {
            server.keepsBuffers = keeps
            let plaintext = [UInt8](repeating: 7, count: 1_400)
            let length = plaintext.withUnsafeBytes { plaintext in
                buffer.withUnsafeMutableBytes { server.seal(plaintext, into: $0) }
            }
            #expect(length > 1_400)
            #expect(!server.hasOutput)
            client.receive(datagram: Array(buffer.prefix(length)))
            #expect(client.read() == plaintext)
        }
        let tooLong = [UInt8](repeating: 7, count: DTLSSession.recordLimitBytes + 1)
        let length = tooLong.withUnsafeBytes { tooLong in
            buffer.withUnsafeMutableBytes { server.seal(tooLong, into: $0) }
        }
        #expect(length == 0)
        #expect(server.state == .established)
    }

    @Test func readsOnWithAndWithoutItsBuffers() throws {
        let (client, server) = try connect(context)
        for number in UInt8(0)..<20 {
            server.keepsBuffers = number % 3 == 0
            #expect(client.write([number]))
            #expect(client.write([number, number]))
            // Two records in one datagram.
            server.feed(client.takeDatagrams().flatMap { $0 })
            #expect(server.readOne() == [number])
            server.rest()
            #expect(server.readOne() == [number, number])
            #expect(server.readOne() == nil)
        }
    }

    @Test func keepsNoMoreForAHandshakeThanOneTakes() throws {
        var gate = try DTLSGate(context)
        let client = try Client(datagrams: true)
        let session = try #require(gate.ask(try helloWithCookie(&gate, client)).session)
        let ahead: [UInt8] = [22, 0xFE, 0xFD, 0, 1, 0, 0, 0, 0, 0, 0, 0, 8] + [UInt8](repeating: 0, count: 8)
        func keep(_ datagram: [UInt8]) -> Bool { datagram.withUnsafeBytes { session.keep($0) } }
        for _ in 0..<8 { #expect(keep(ahead)) }
        #expect(!keep(ahead))
        #expect(!keep(record(epoch: 0) + ahead), "behind a record of the first epoch")
        for _ in 0..<15 { #expect(keep(record(epoch: 0, count: 1_000))) }
        #expect(!keep(record(epoch: 0, count: 1_500)))
    }

    private func record(epoch: UInt8, count: Int = 12) -> [UInt8] {
        [22, 0xFE, 0xFD, 0, epoch, 0, 0, 0, 0, 0, 0, UInt8(count >> 8), UInt8(count & 0xFF)]
            + [UInt8](repeating: 0, count: count)
    }

    @Test func cookiesOutliveARenewedCertificate() throws {
        var gate = try DTLSGate(context)
        let client = try Client(datagrams: true)
        let hello = try helloWithCookie(&gate, client)
        gate.renew(try CertificateFiles().makeContext(.dtls))
        #expect(gate.ask(hello).session?.advance() == .handshaking)
    }

    @Test func aHelloIsKnownAgainWithItsCookieAndFromAnother() throws {
        var gate = try DTLSGate(context)
        func mark(_ datagram: [UInt8]) -> UInt64? { datagram.withUnsafeBytes { DTLSGate.helloMark($0) } }
        let client = try Client(datagrams: true)
        client.advance()
        let hello = try #require(client.takeDatagrams().first)
        client.receive(datagram: try #require(gate.ask(hello).reply))
        client.advance()
        let second = try #require(client.takeDatagrams().first)
        #expect(mark(hello) != nil)
        #expect(mark(hello) == mark(second))
        #expect(mark(hello) != mark(try helloWithCookie(&gate, Client(datagrams: true))))
        #expect(mark(Array(hello.prefix(38))) == nil)
        #expect(mark(record(epoch: 1, count: 60)) == nil)
    }

    @Test func readsALentDatagramAndDropsWhatIsLeftOfIt() throws {
        let (client, server) = try connect(context)
        #expect(client.write([7, 7]))
        let datagram = try #require(client.takeDatagrams().first)
        var buffer = [UInt8](repeating: 0, count: 100)
        let count = buffer.withUnsafeMutableBytes { target in
            datagram.withUnsafeBytes { server.open($0, into: target) }
        }
        let read = Array(buffer.prefix(max(count, 0)))
        #expect(read == [7, 7])
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
