import COpenSSL
import Testing

@testable import OpenSSLCrypto

struct TLSSessionTests {
    let context: TLSContext

    init() throws { context = try CertificateFiles().makeContext() }

    @Test(arguments: [(TLS1_2_VERSION, "TLSv1.2"), (TLS1_3_VERSION, "TLSv1.3")])
    func handshakesAndCarriesDataBothWays(version: Int32, name: String) throws {
        let server = try TLSSession(context)
        let client = try Client { _ = turnpike_ctx_set_versions($0, version, version) }
        exchange(client, server)
        #expect(server.state == .established)
        #expect(client.advance())
        #expect(server.versionName == name)
        #expect(client.write([1, 2, 3]))
        server.feed(client.takeStream())
        #expect(server.readAll() == [1, 2, 3])
        #expect(server.send([4, 5]))
        client.receive(server.takeAll())
        #expect(client.readAll() == [4, 5])
    }

    @Test(arguments: [TLS1_2_VERSION, TLS1_3_VERSION])
    func showsTheFirstByteAndKeepsIt(version: Int32) throws {
        let server = try TLSSession(context)
        let client = try Client { _ = turnpike_ctx_set_versions($0, version, version) }
        #expect(server.peek() == nil)
        exchange(client, server)
        #expect(server.peek() == nil && server.state == .established)
        #expect(client.write([7, 8]) && client.write([9]))
        let records = client.takeStream()
        // Half a record shows nothing yet.
        server.feed(Array(records[..<10]))
        #expect(server.peek() == nil && server.state == .established)
        server.feed(Array(records[10...]))
        #expect(server.peek() == 7)
        #expect(server.peek() == 7)
        let moved = try #require(SessionTransfer(server).take())
        #expect(moved.readAll() == [7, 8, 9])
        #expect(moved.peek() == nil && moved.state == .established)
    }

    @Test func whatIsNoRecordEndsTheSessionThatIsLookedInto() throws {
        let server = try TLSSession(context)
        let client = try Client { _ in }
        exchange(client, server)
        server.feed([UInt8](repeating: 0x17, count: 64))
        #expect(server.peek() == nil)
        #expect(server.state == .failed)
    }

    @Test(arguments: [TLS1_VERSION, TLS1_1_VERSION])
    func refusesVersionsBefore12(version: Int32) throws {
        let server = try TLSSession(context)
        let client = try Client {
            _ = turnpike_ctx_set_versions($0, version, version)
            _ = SSL_CTX_set_cipher_list($0, "ALL:@SECLEVEL=0")
        }
        exchange(client, server)
        #expect(server.state == .failed)
        #expect(server.failure == "unsupported protocol")
    }

    @Test(arguments: ["ECDHE-ECDSA-AES128-SHA256", "ECDHE-ECDSA-AES256-SHA", "ECDHE-ECDSA-AES128-CCM", "NULL"])
    func refusesSuitesWithoutAEADOfTheList(suite: String) throws {
        let server = try TLSSession(context)
        let client = try Client {
            _ = turnpike_ctx_set_versions($0, TLS1_2_VERSION, TLS1_2_VERSION)
            #expect(SSL_CTX_set_cipher_list($0, suite + ":@SECLEVEL=0") == 1)
        }
        exchange(client, server)
        #expect(server.state == .failed)
        #expect(server.failure == "no shared cipher")
    }

    @Test(
        arguments: [
            (["stun.turn"], "stun.turn"), (["h2", "stun.nat-discovery"], "stun.nat-discovery"), ([], nil),
            (["stun.nat-discovery", "h2", "stun.turn"], "stun.turn"),
        ] as [([String], String?)]
    )
    func settlesOnAProtocolOfOurs(offered: [String], chosen: String?) throws {
        let server = try TLSSession(context)
        let client = try Client { offer(offered, on: $0) }
        exchange(client, server)
        #expect(server.state == .established)
        #expect(server.applicationProtocol == chosen)
    }

    @Test func refusesAClientThatNamesOtherProtocolsOnly() throws {
        let server = try TLSSession(context)
        let client = try Client { offer(["http/1.1", "h2"], on: $0) }
        client.advance()
        server.feed(client.takeStream())
        #expect(server.advance() == .failed)
        client.receive(server.takeAll())
        #expect(!client.advance())
        #expect(client.lastReason.contains("no application protocol"))
    }

    @Test(arguments: [TLS1_2_VERSION, TLS1_3_VERSION])
    func takesByteByByteWhatItTakesAtOnce(version: Int32) throws {
        let server = try TLSSession(context)
        let client = try Client { _ = turnpike_ctx_set_versions($0, version, version) }
        for _ in 0..<4 {
            client.advance()
            for byte in client.takeStream() {
                server.feed([byte])
                server.advance()
            }
            client.receive(server.takeAll())
        }
        #expect(server.state == .established)
        let sent = (0..<40_000).map { UInt8(truncatingIfNeeded: $0) }
        #expect(client.write(sent))
        var received: [UInt8] = []
        for byte in client.takeStream() {
            server.feed([byte])
            received += server.readAll()
        }
        let isSame = received == sent
        #expect(isSame)
    }

    @Test func carriesLargeTransfersBothWays() throws {
        let (client, server) = try connect()
        let chunk = (0..<16_000).map { UInt8(truncatingIfNeeded: $0 &* 7) }
        for _ in 0..<500 {
            #expect(client.write(chunk))
            let sealed = client.takeStream()
            var received: [UInt8] = []
            sealed.withUnsafeBytes { bytes in
                server.receive(lending: bytes) { received = $0.readAll() }
            }
            let isSame = received == chunk
            #expect(isSame)
            #expect(server.send(chunk))
            client.receive(server.takeAll())
            let isSameBack = client.readAll() == chunk
            #expect(isSameBack)
        }
    }

    @Test func keepsWhatALoanLeavesUnread() throws {
        let (client, server) = try connect()
        for value in 0..<5 { #expect(client.write([UInt8(value)])) }
        client.takeStream().withUnsafeBytes { bytes in
            server.receive(lending: bytes) { session in
                var one: UInt8 = 255
                #expect(withUnsafeMutableBytes(of: &one) { session.read(into: $0) } == 1)
                #expect(one == 0)
            }
        }
        #expect(server.readAll() == [1, 2, 3, 4])
    }

    @Test func takesNothingMoreFromAWriterPastItsOutputLimit() throws {
        let (_, server) = try connect()
        let chunk = [UInt8](repeating: 0, count: 16_384)
        var taken = 0
        while server.send(chunk), taken < 100 { taken += 1 }
        #expect(taken == 16)
        #expect(server.pendingOutput < TLSSession.outputLimitBytes + 17_000)
        _ = server.takeAll()
        #expect(server.send(chunk))
    }

    @Test func closesByNotificationBehindWhatWasWritten() throws {
        let (client, server) = try connect()
        #expect(server.send([9]))
        server.shutdown()
        #expect(!server.send([10]))
        client.receive(server.takeAll())
        #expect(client.readAll() == [9])
        #expect(SSL_get_shutdown(client.ssl) & SSL_RECEIVED_SHUTDOWN != 0)
        #expect(client.write([8]))
        SSL_shutdown(client.ssl)
        server.feed(client.takeStream())
        #expect(server.readAll() == [8], "the peer's last words")
        #expect(server.state == .closed)
        #expect(!server.send([1]))
        #expect(server.pendingOutput == 0)
    }

    @Test(arguments: [TLS1_2_VERSION, TLS1_3_VERSION])
    func answersTheNotificationOfAPeer(version: Int32) throws {
        let (client, server) = try connect(version)
        #expect(server.send([9]))
        SSL_shutdown(client.ssl)
        server.feed(client.takeStream())
        #expect(server.readAll().isEmpty)
        #expect(server.state == .closed)
        client.receive(server.takeAll())
        #expect(client.readAll() == [9])
        #expect(SSL_get_shutdown(client.ssl) & SSL_RECEIVED_SHUTDOWN != 0)
    }

    @Test(arguments: [TLS1_2_VERSION, TLS1_3_VERSION])
    func resumesByTicketInAnotherSession(version: Int32) throws {
        let first = try connect(version)
        #expect(first.1.send([1]))
        first.0.receive(first.1.takeAll())
        #expect(first.0.readAll() == [1], "which takes the ticket of TLS 1.3 along")
        #expect(SSL_session_reused(first.0.ssl) == 0)
        let ticket = SSL_get1_session(first.0.ssl)
        defer { SSL_SESSION_free(ticket) }
        let server = try TLSSession(context)
        let client = try Client { _ = turnpike_ctx_set_versions($0, version, version) }
        #expect(SSL_set_session(client.ssl, ticket) == 1)
        exchange(client, server)
        #expect(server.state == .established)
        #expect(SSL_session_reused(client.ssl) == 1)
    }

    @Test func writesNothingBeforeTheHandshake() throws {
        let server = try TLSSession(context)
        #expect(!server.send([1]))
        #expect(server.pendingOutput == 0)
    }

    func offer(_ names: [String], on context: OpaquePointer) {
        let wire = names.flatMap { [UInt8($0.utf8.count)] + Array($0.utf8) }
        if !wire.isEmpty { #expect(SSL_CTX_set_alpn_protos(context, wire, UInt32(wire.count)) == 0) }
    }

    func connect(_ version: Int32 = TLS1_3_VERSION) throws -> (Client, TLSSession) {
        let server = try TLSSession(context)
        let client = try Client { _ = turnpike_ctx_set_versions($0, version, version) }
        exchange(client, server)
        try #require(server.state == .established)
        return (client, server)
    }
}
