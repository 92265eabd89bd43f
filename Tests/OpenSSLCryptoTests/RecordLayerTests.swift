import COpenSSL
import Testing

@testable import OpenSSLCrypto

/// Sessions that go on without OpenSSL's, against OpenSSL's own client.
struct RecordLayerTests {
    let context: TLSContext

    init() throws { context = try CertificateFiles().makeContext() }

    @Test(arguments: ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"])
    func carriesDataBothWaysUnderEverySuite(suite: String) throws {
        let (client, server) = try connect { #expect(SSL_CTX_set_ciphersuites($0, suite) == 1) }
        #expect(SSL_get_current_cipher(client.ssl).map { String(cString: SSL_CIPHER_get_name($0)) } == suite)
        for round in 0..<3 {
            let sent = (0..<(40_000 + round)).map { UInt8(truncatingIfNeeded: $0 &* 31) }
            #expect(client.write(sent))
            server.feed(client.takeStream())
            let isSame = server.readAll() == sent
            #expect(server.send(sent))
            client.receive(server.takeAll())
            let isSameBack = client.readAll() == sent
            #expect(isSame && isSameBack)
        }
    }

    @Test func takesByteByByteAndInLoansWhatItTakesAtOnce() throws {
        let (client, server) = try connect()
        let sent = (0..<20_000).map { UInt8(truncatingIfNeeded: $0) }
        var received: [UInt8] = []
        for step in [1, 7, 5_000] {
            #expect(client.write(sent))
            let stream = client.takeStream()
            for start in stride(from: 0, to: stream.count, by: step) {
                stream[start..<min(start + step, stream.count)].withUnsafeBytes { bytes in
                    server.receive(lending: bytes) { received += $0.readAll() }
                }
            }
        }
        let isSame = received == sent + sent + sent
        #expect(isSame && !server.hasInput && !server.mayHaveMore)
    }

    @Test func givesALongRecordInPiecesToWhoHasLittleRoom() throws {
        let (client, server) = try connect()
        #expect(client.write([1, 2, 3, 4, 5]) && client.write([6]))
        server.feed(client.takeStream())
        var received: [[UInt8]] = []
        while server.mayHaveMore {
            var room: [UInt8] = [0, 0]
            let count = room.withUnsafeMutableBytes { server.read(into: $0) }
            received.append(Array(room.prefix(max(count, 0))))
        }
        #expect(received == [[1, 2], [3, 4], [5], [6]])
    }

    @Test(arguments: [SSL_KEY_UPDATE_REQUESTED, SSL_KEY_UPDATE_NOT_REQUESTED])
    func followsTheClientToItsNextKeys(kind: Int32) throws {
        let (client, server) = try connect()
        for value in UInt8(0)..<10 {
            #expect(SSL_key_update(client.ssl, kind) == 1)
            try echo(value, client, server)
        }
    }

    /// RFC 8446 section 5.5.
    @Test func changesItsOwnKeysBeforeTheyAreWornOut() throws {
        let (client, server) = try connect()
        try #require(server.records).recordsPerKey = 3
        for value in UInt8(0)..<20 { try echo(value, client, server) }
    }

    @Test func ownCloseWaitsForTheClientsLastWords() throws {
        let (client, server) = try connect()
        #expect(server.send([9]))
        server.shutdown()
        #expect(!server.send([10]) && server.state == .established)
        client.receive(server.takeAll())
        #expect(client.readAll() == [9])
        #expect(SSL_get_shutdown(client.ssl) & SSL_RECEIVED_SHUTDOWN != 0)
        #expect(client.write([8]))
        SSL_shutdown(client.ssl)
        server.feed(client.takeStream())
        #expect(server.readAll() == [8])
        #expect(server.state == .closed && server.pendingOutput == 0)
    }

    @Test func saysNothingBehindItsOwnClose() throws {
        let (client, server) = try connect()
        server.shutdown()
        client.receive(server.takeAll())
        #expect(SSL_key_update(client.ssl, SSL_KEY_UPDATE_REQUESTED) == 1)
        #expect(client.write([8]))
        server.feed(client.takeStream())
        #expect(server.readAll() == [8] && server.pendingOutput == 0)
        server.feed([23, 3, 3, 0x41, 1])
        #expect(server.readAll().isEmpty && server.state == .failed && server.pendingOutput == 0)
    }

    @Test func answersTheClientsClose() throws {
        let (client, server) = try connect()
        #expect(server.send([9]))
        SSL_shutdown(client.ssl)
        server.feed(client.takeStream())
        #expect(server.readAll().isEmpty && server.state == .closed)
        client.receive(server.takeAll())
        #expect(client.readAll() == [9])
        #expect(SSL_get_shutdown(client.ssl) & SSL_RECEIVED_SHUTDOWN != 0)
    }

    @Test func staysOpenToWriteWhereToldSo() throws {
        let (client, server) = try connect()
        server.staysOpenToWrite = true
        SSL_shutdown(client.ssl)
        server.feed(client.takeStream())
        #expect(server.readAll().isEmpty && server.hasHeardClose && server.state == .established)
        #expect(server.send([7]))
        client.receive(server.takeAll())
        #expect(client.readAll() == [7])
        server.shutdown()
        #expect(server.state == .closed)
    }

    /// What the client reads is the alert for it.
    @Test(
        arguments: [
            ([23, 3, 3, 0, 17] + [UInt8](repeating: 5, count: 17), "sslv3 alert bad record mac"),
            ([23, 3, 3, 0, 3, 1, 2, 3], "sslv3 alert bad record mac"),
            ([23, 3, 3, 0x41, 1], "tlsv1 alert record overflow"),
            ([22, 3, 3, 0, 4, 1, 0, 0, 0], "sslv3 alert unexpected message"),
            ([20, 3, 3, 0, 1, 1], "sslv3 alert unexpected message"),
            ([21, 3, 3, 0, 2, 1, 0], "sslv3 alert unexpected message"),
        ] as [([UInt8], String)]
    )
    func refusesWhatNobodySealed(record: [UInt8], alert: String) throws {
        let (client, server) = try connect()
        server.feed(record)
        #expect(server.readAll().isEmpty && server.state == .failed && server.failure != nil)
        client.receive(server.takeAll())
        _ = client.readAll()
        #expect(client.lastReason == alert)
        #expect(!server.send([1]))
    }

    @Test func refusesARecordThatComesTwiceOrOutOfTurn() throws {
        for order in [[0, 0], [1, 0]] {
            let (client, server) = try connect()
            var records: [[UInt8]] = []
            for value in UInt8(0)..<2 {
                #expect(client.write([value]))
                records.append(client.takeStream())
            }
            var received: [UInt8] = []
            for index in order {
                server.feed(records[index])
                received += server.readAll()
            }
            #expect(server.state == .failed && received == (order == [0, 0] ? [0] : []))
        }
    }

    /// Records sealed as the client would seal them, with contents that it never has.
    @Test(
        arguments: [
            ([1, 0], 21, .closeNotify), ([1, 90], 21, .control), ([2, 40], 21, .alert(40)), ([], 23, .control),
            ([7], 23, .data(1)), ([7, 0, 0], 23, .data(3)),
        ] as [([UInt8], UInt8, RecordLayer.Event)]
    )
    func hearsWhatARecordSays(text: [UInt8], type: UInt8, event: RecordLayer.Event) throws {
        let (sender, receiver) = try pair()
        #expect(try open(sender, receiver, text, type) == event)
    }

    @Test(
        arguments: [
            ([1], 21, 50), ([1, 0, 1, 0], 21, 50), ([24, 0, 0, 1, 2], 22, 47), ([24, 0, 0, 2, 0, 0], 22, 50),
            ([24, 0, 0, 1], 22, 50), ([1, 0, 0, 1, 0], 22, 10), ([20], 22, 10), ([1], 20, 10), ([1], 99, 10),
            ([0, 0], 0, 10), ([UInt8](repeating: 1, count: 16_385), 23, 22),
        ] as [([UInt8], UInt8, UInt8)]
    )
    func namesTheAlertForWhatHasNoPlace(text: [UInt8], type: UInt8, alert: UInt8) throws {
        let (sender, receiver) = try pair()
        let violation = try #require(throws: RecordLayer.Violation.self) { _ = try open(sender, receiver, text, type) }
        #expect(violation.alert == alert)
    }

    @Test func endsASessionThatFloodsKeyUpdates() throws {
        let (client, server) = try connect()
        for value in 0..<SessionPipe.controlRecordAllowance {
            #expect(SSL_key_update(client.ssl, SSL_KEY_UPDATE_REQUESTED) == 1)
            try echo(UInt8(value), client, server)
        }
        #expect(SSL_key_update(client.ssl, SSL_KEY_UPDATE_REQUESTED) == 1)
        #expect(client.write([1]))
        server.feed(client.takeStream())
        _ = server.readAll()
        #expect(server.state == .failed && server.failure == "a flood of records without data")
    }

    @Test func saysWhyTheClientEnded() throws {
        let (client, server) = try connect()
        // The client takes this for forged, and says so.
        client.receive([23, 3, 3, 0, 17] + [UInt8](repeating: 5, count: 17))
        _ = client.readAll()
        server.feed(client.takeStream())
        #expect(server.readAll().isEmpty && server.state == .failed)
        #expect(server.failure == "the peer says: bad record mac")
    }

    @Test func resumesByTicket() throws {
        let first = try connect()
        try echo(1, first.0, first.1)
        let ticket = SSL_get1_session(first.0.ssl)
        defer { SSL_SESSION_free(ticket) }
        let server = try TLSSession(context, isCompact: true)
        let client = try Client()
        #expect(SSL_set_session(client.ssl, ticket) == 1)
        exchange(client, server)
        #expect(SSL_session_reused(client.ssl) == 1 && server.records != nil)
        try echo(2, client, server)
    }

    /// TLS 1.2, and records of a length that was settled on (RFC 6066 section 4).
    @Test(arguments: [true, false])
    func leavesToOpenSSLWhatItDoesNotKnow(isOld: Bool) throws {
        let server = try TLSSession(context, isCompact: true)
        let client = try Client {
            if isOld {
                _ = turnpike_ctx_set_versions($0, TLS1_2_VERSION, TLS1_2_VERSION)
            } else {
                _ = SSL_CTX_set_tlsext_max_fragment_length($0, 1)
            }
        }
        exchange(client, server)
        #expect(server.state == .established && server.records == nil)
        #expect(server.versionName == (isOld ? "TLSv1.2" : "TLSv1.3"))
        try echo(3, client, server)
    }

    @Test func knowsItsNamesWithoutOpenSSL() throws {
        let wire = [9] + Array("stun.turn".utf8)
        let (_, server) = try connect { #expect(SSL_CTX_set_alpn_protos($0, wire, UInt32(wire.count)) == 0) }
        #expect(server.ssl == nil && server.versionName == "TLSv1.3" && server.applicationProtocol == "stun.turn")
        #expect(server.pipe.pointee.secrets == nil)
    }

    /// None may crash, and none may give the reader bytes that were not sent.
    @Test func refusesEveryMutatedRecord() throws {
        var random = SplitMix(state: 11)
        var (client, server) = try connect()
        for _ in 0..<5_000 {
            if server.state != .established { (client, server) = try connect() }
            #expect(client.write([0xA5, 0xA5]))
            var bytes = client.takeStream()
            mutate(&bytes, &random)
            var received: [UInt8] = []
            for piece in split(bytes, &random) {
                server.feed(piece)
                received += server.readAll()
            }
            let isClean = received.isEmpty || received == [0xA5, 0xA5]
            #expect(isClean)
        }
    }

    // MARK: Helpers

    private func connect(_ configure: (OpaquePointer) -> Void = { _ in }) throws -> (Client, TLSSession) {
        let server = try TLSSession(context, isCompact: true)
        let client = try Client(configure: configure)
        exchange(client, server)
        try #require(server.state == .established && server.records != nil)
        return (client, server)
    }

    private func echo(_ value: UInt8, _ client: Client, _ server: TLSSession) throws {
        #expect(client.write([value]))
        server.feed(client.takeStream())
        #expect(server.readAll() == [value])
        #expect(server.send([value, value]))
        client.receive(server.takeAll())
        #expect(client.readAll() == [value, value])
    }

    private func pair() throws -> (TrafficKeys, RecordLayer) {
        func keys(_ byte: UInt8) throws -> TrafficKeys {
            try #require(TrafficKeys(.aes128GCM, secret: Array(repeating: byte, count: 32), sequence: 0))
        }
        return (try keys(1), RecordLayer(inbound: try keys(1), outbound: try keys(2), applicationProtocol: nil))
    }

    private func open(
        _ sender: TrafficKeys,
        _ receiver: RecordLayer,
        _ text: [UInt8],
        _ type: UInt8
    ) throws -> RecordLayer.Event {
        let length = text.count + 1 + TrafficKeys.tagBytes
        var record = [23, 3, 3, UInt8(length >> 8), UInt8(length & 0xFF)] + [UInt8](repeating: 0, count: length)
        let header = Array(record[..<5])
        let isSealed = record.withUnsafeMutableBytes { record in
            text.withUnsafeBytes { text in
                header.withUnsafeBytes {
                    sender.seal(text, type, header: $0, into: UnsafeMutableRawBufferPointer(rebasing: record[5...]))
                }
            }
        }
        #expect(isSealed)
        var room = [UInt8](repeating: 0, count: record.count)
        return try record.withUnsafeBytes { bytes in
            #expect(try RecordLayer.length(of: bytes) == record.count)
            return try room.withUnsafeMutableBytes { try receiver.open(bytes, into: $0) { _ in } }
        }
    }
}
