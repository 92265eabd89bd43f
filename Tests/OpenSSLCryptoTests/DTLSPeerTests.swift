import COpenSSL
import Foundation
import TestSupport
import Testing

@testable import OpenSSLCrypto

/// Peers, each with a certificate that the other knows by its fingerprint.
struct DTLSPeerTests {
    let mine: PeerIdentity
    let theirs: PeerIdentity

    init() throws {
        mine = try PeerIdentity()
        theirs = try PeerIdentity()
    }

    @Test func peersOfBothRolesExchangeDatagrams() throws {
        var wire = Wire()
        let (client, server) = try pair()
        wire.run(client, server)
        #expect(client.state == .established && server.state == .established)
        #expect(client.versionName == "DTLSv1.2")
        #expect(client.nextTimeoutNanoseconds == nil && server.nextTimeoutNanoseconds == nil)
        #expect(turnpike_ssl_has_extended_master_secret(client.ssl) == 1)
        #expect(turnpike_ssl_has_extended_master_secret(server.ssl) == 1)
        for number in UInt8(1)...5 {
            #expect(client.send([number, 1]) && server.send([number, 2]))
            let received = wire.carry(client, server)
            #expect(received.first == [[number, 2]] && received.second == [[number, 1]])
        }
        client.shutdown()
        wire.carry(client, server)
        #expect(client.state == .closed && server.state == .closed)
    }

    @Test func anIdentityIsAFreshP256KeyOfThirtyDays() throws {
        #expect(mine.fingerprint.algorithm == "sha-256" && mine.fingerprint != theirs.fingerprint)
        #expect(mine.context.fingerprint == mine.fingerprint.bytes)
        let left = mine.context.notAfterSeconds - Int64(time(nil))
        #expect((29 * 86_400...30 * 86_400).contains(left))
        let leaf = try #require(SSL_CTX_get0_certificate(mine.context.handle))
        #expect(EVP_PKEY_get_bits(X509_get0_pubkey(leaf)) == 256)
        #expect(X509_verify(leaf, X509_get0_pubkey(leaf)) == 1)
    }

    @Test(arguments: CertificateFingerprint.HashFunction.allCases)
    func knowsAPeerByEveryHashFunction(function: CertificateFingerprint.HashFunction) throws {
        let leaf = try #require(SSL_CTX_get0_certificate(theirs.context.handle))
        let right = try #require(CertificateFingerprint(of: leaf, function))
        let wrong = try #require(
            CertificateFingerprint(function, bytes: [UInt8](repeating: 1, count: function.byteCount))
        )
        // One of several of the same function is enough.
        for expected in [[right], [wrong, right]] {
            var wire = Wire()
            let (client, server) = try pair(clientExpects: expected)
            wire.run(client, server)
            #expect(client.state == .established && server.state == .established)
        }
    }

    /// RFC 8122 section 5.1: the strongest hash function decides, whatever a weaker one says.
    @Test func aWeakerFingerprintDoesNotSpeakForAStrongerOne() throws {
        let wrong = try #require(CertificateFingerprint(.sha512, bytes: [UInt8](repeating: 1, count: 64)))
        var wire = Wire()
        let (client, server) = try pair(clientExpects: [theirs.fingerprint, wrong])
        wire.run(client, server)
        #expect(client.state == .failed && server.state == .failed)
        #expect(client.verificationFailure == .unpinned(theirs.fingerprint))
    }

    @Test(arguments: [DTLSRole.client, .server])
    func neverGoesOnWithAnotherCertificate(refuser: DTLSRole) throws {
        let stranger = try PeerIdentity()
        let (client, server) = try pair(
            clientExpects: [refuser == .client ? stranger.fingerprint : theirs.fingerprint],
            serverExpects: [refuser == .server ? stranger.fingerprint : mine.fingerprint]
        )
        var wire = Wire()
        var wasEstablished = false
        wire.run(client, server) { client, server in
            if client.state == .established || server.state == .established { wasEstablished = true }
            return client.state == .failed && server.state == .failed
        }
        #expect(!wasEstablished)
        let (one, other) = refuser == .client ? (client, server) : (server, client)
        let found = refuser == .client ? theirs.fingerprint : mine.fingerprint
        #expect(one.verificationFailure == .unpinned(found))
        #expect(one.failure == CertificateProblem.unpinned(found).description)
        // The other side hears why (RFC 8122 section 6.2).
        #expect(other.failure == "sslv3 alert bad certificate")
        #expect(other.verificationFailure == nil)
        #expect(!one.send([1]) && !other.send([1]))
    }

    @Test func refusesAPeerThatShowsNoCertificate() throws {
        let server = try DTLSSession(
            peer: .server,
            identity: theirs,
            expecting: [mine.fingerprint],
            packetLimitBytes: 1_200
        )
        let client = try Client(datagrams: true)
        for _ in 0..<4 {
            client.advance()
            for datagram in client.takeDatagrams() { server.feed(datagram) }
            for datagram in server.takeAll() { client.receive(datagram: datagram) }
        }
        #expect(server.state == .failed)
        #expect(server.failure == "peer did not return a certificate")
        ERR_clear_error()
    }

    /// Its fingerprint says whose a key is, and nothing about who else may have found it.
    @Test func refusesAPeersKeyThatIsTooWeak() throws {
        let generator = try #require(EVP_PKEY_CTX_new_from_name(nil, "EC", nil))
        defer { EVP_PKEY_CTX_free(generator) }
        var made: OpaquePointer?
        EVP_PKEY_keygen_init(generator)
        EVP_PKEY_CTX_set_group_name(generator, "prime192v1")
        EVP_PKEY_generate(generator, &made)
        let key = try #require(made)
        defer { EVP_PKEY_free(key) }
        let certificate = try #require(X509_new())
        defer { X509_free(certificate) }
        #expect(X509_set_pubkey(certificate, key) == 1 && X509_sign(certificate, key, EVP_sha256()) > 0)
        let store = try #require(X509_STORE_CTX_new())
        defer { X509_STORE_CTX_free(store) }
        X509_STORE_CTX_init(store, nil, certificate, nil)
        let verification = CertificateVerification(
            .peer([try #require(CertificateFingerprint(of: certificate, .sha256))])
        )
        #expect(!verification.accepts(store))
        #expect(verification.problem == .unacceptable("its key is too weak"))
        #expect(X509_STORE_CTX_get_error(store) == X509_V_ERR_CERT_REJECTED)
    }

    @Test func saysWhatItCannotBeMadeFrom() {
        #expect(throws: TLSError.self) { try pair(clientExpects: []) }
        #expect(throws: TLSError.self) { try pair(packetLimitBytes: 255) }
        #expect(throws: TLSError.self) { _ = try DTLSGate(mine.context) }
        #expect(throws: TLSError.self) {
            try DTLSSession(mine.context, connectingTo: "a.example", packetLimitBytes: 1_200)
        }
    }

    @Test(arguments: [256, 512, 1_200, 1_400])
    func sendsNoDatagramPastItsLimit(packetLimitBytes: Int) throws {
        var wire = Wire()
        let (client, server) = try pair(packetLimitBytes: packetLimitBytes)
        wire.run(client, server)
        #expect(client.state == .established && server.state == .established)
        #expect(wire.longestBytes <= packetLimitBytes)
        let longest = DTLSSession.plaintextLimitBytes(packetLimitBytes: packetLimitBytes)
        #expect(client.send([UInt8](repeating: 1, count: longest)))
        #expect(client.takeAll().map(\.count) == [packetLimitBytes])
    }

    @Test(arguments: UInt64(1)...12)
    func connectsOverAPathThatLosesRepeatsAndReorders(seed: UInt64) throws {
        var wire = Wire(seed: seed)
        (wire.lossPercent, wire.repeatPercent, wire.delayPercent) = (25, 20, 20)
        let (client, server) = try pair(
            packetLimitBytes: seed.isMultiple(of: 2) ? 1_200 : 400,
            firstTimeoutMicroseconds: 4_000
        )
        wire.run(client, server)
        #expect(client.state == .established && server.state == .established, "\(client.failure ?? "")")
        // What is still on its way does no harm, and every datagram comes out once at most.
        var received: [[UInt8]] = []
        for number in UInt8(0)..<100 {
            #expect(client.send([number]))
            received += wire.carry(client, server).second
        }
        #expect(Set(received).count == received.count)
        #expect(received.count > 50)
        #expect(client.state == .established && server.state == .established)
    }

    /// The server is established first. If its last flight is lost, what it sends already must not keep that from
    /// coming again.
    @Test func dataAheadOfTheLastFlightDoNotKeepItAway() throws {
        let (client, server) = try pair(firstTimeoutMicroseconds: 4_000)
        client.advance()
        var wire = Wire()
        for _ in 0..<10 where server.state == .handshaking { wire.carry(client, server) }
        try #require(server.state == .established && client.state == .handshaking)
        let lost = server.takeAll()
        #expect(!lost.isEmpty)
        var kept: [[UInt8]] = []
        for number in UInt8(0)..<60 {
            #expect(server.send([number]))
            for datagram in server.takeAll() { kept += client.take(datagram) }
        }
        #expect(kept.isEmpty && client.state == .handshaking)
        while client.state == .handshaking, client.nextTimeoutNanoseconds != nil {
            usleep(2_000)
            client.handleTimeout()
            kept += wire.carry(client, server).first
        }
        #expect(client.state == .established)
        kept += [client.readOne(), client.readOne()].compactMap { $0 }
        #expect(kept.prefix(2) == [[0], [1]], "the first of them were kept")
    }

    @Test func givesUpOnAPeerThatNeverAnswers() throws {
        let client = try pair(firstTimeoutMicroseconds: 1).client
        client.advance()
        for _ in 0..<100 where client.state == .handshaking {
            #expect(client.nextTimeoutNanoseconds != nil)
            client.handleTimeout()
        }
        #expect(client.state == .failed)
        #expect(client.failure == "read timeout expired")
        #expect(client.nextTimeoutNanoseconds == nil)
    }

    @Test func forgedDatagramsDoNotEndASession() throws {
        var wire = Wire()
        let (client, server) = try pair()
        wire.run(client, server)
        // The whole handshake again, alerts and nonsense, toward both.
        let forged =
            wire.sent + [
                [21, 0xFE, 0xFD, 0, 0, 0, 0, 0, 0, 0, 9, 0, 2, 2, 40],
                [21, 0xFE, 0xFD, 0, 1, 0, 0, 0, 0, 0, 9, 0, 2, 2, 40],
                [22, 0xFE, 0xFD, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0], [], [23], [UInt8](repeating: 0xFF, count: 1_500),
            ]
        for datagram in forged {
            #expect(client.take(datagram).isEmpty)
            #expect(server.take(datagram).isEmpty)
        }
        #expect(client.send([1]) && server.send([2]))
        var rest = Wire()
        _ = rest.carry(client, server)
        #expect(client.state == .established && server.state == .established)
    }

    /// No change on the way may crash a session, let it take the wrong peer for the right one, or bring data that was
    /// not sent.
    @Test func outlivesChangedDatagramsInBothRoles() throws {
        var random = SeededGenerator(for: "DTLS between peers")
        ERR_clear_error()
        let stranger = try PeerIdentity().fingerprint
        let limit = fuzzRounds(5_000)
        var (round, mutated) = (0, 0)
        while mutated < limit {
            round += 1
            let isWrong = round.isMultiple(of: 3)
            let (client, server) = try pair(
                clientExpects: [isWrong ? stranger : theirs.fingerprint],
                serverExpects: [isWrong ? stranger : mine.fingerprint],
                packetLimitBytes: [256, 600, 1_200].randomElement(using: &random) ?? 1_200
            )
            var wire = Wire(seed: random.next())
            (wire.repeatPercent, wire.delayPercent) = (10, 10)
            let rate = Int.random(in: 1...60, using: &random)
            wire.tamper = { datagram, random in
                guard Int.random(in: 0..<100, using: &random) < rate else { return }
                mutated += 1
                mutate(&datagram, &random)
            }
            client.advance()
            for turn in UInt8(0)..<12 {
                _ = client.send([0xA5, turn])
                _ = server.send([0xA5, turn])
                let received = wire.carry(client, server)
                let isClean = (received.first + received.second).allSatisfy { $0.count == 2 && $0[0] == 0xA5 }
                #expect(isClean)
                client.handleTimeout()
                server.handleTimeout()
            }
            if isWrong { #expect(client.state != .established && server.state != .established) }
        }
        #expect(ERR_peek_error() == 0)
    }

    private func pair(
        clientExpects: [CertificateFingerprint]? = nil,
        serverExpects: [CertificateFingerprint]? = nil,
        packetLimitBytes: Int = 1_200,
        firstTimeoutMicroseconds: UInt32 = 1_000_000
    ) throws -> (client: DTLSSession, server: DTLSSession) {
        (
            try DTLSSession(
                peer: .client,
                identity: mine,
                expecting: clientExpects ?? [theirs.fingerprint],
                packetLimitBytes: packetLimitBytes,
                firstTimeoutMicroseconds: firstTimeoutMicroseconds
            ),
            try DTLSSession(
                peer: .server,
                identity: theirs,
                expecting: serverExpects ?? [mine.fingerprint],
                packetLimitBytes: packetLimitBytes,
                firstTimeoutMicroseconds: firstTimeoutMicroseconds
            )
        )
    }
}
