import COpenSSL
import Foundation
import Testing

@testable import OpenSSLCrypto

/// The client's side of TLS and DTLS, against the server's.
struct TLSClientTests {
    let files: CertificateFiles
    let authority: Authority

    init() throws {
        files = try CertificateFiles()
        authority = try Authority("Test Root")
    }

    @Test(
        arguments: [
            ("DNS:relay.example", "relay.example"), ("DNS:relay.example", "Relay.Example."),
            ("DNS:*.example.org", "relay.example.org"), ("IP:192.0.2.1", "192.0.2.1"),
            ("IP:2001:db8::1", "[2001:db8::1]"),
            ("DNS:a.example,IP:2001:db8::1", "2001:db8:0::1"),
        ]
    )
    func connectsToAServerThatItsAuthorityNames(names: String, asked: String) throws {
        let (client, server) = try handshake(names, asked)
        #expect(client.state == .established && server.state == .established)
        #expect(client.verificationFailure == nil && client.failure == nil)
        #expect(client.versionName == "TLSv1.3")
        #expect(client.send([1, 2]) && server.send([3]))
        exchange(client, server)
        #expect(server.readAll() == [1, 2])
        #expect(client.readAll() == [3])
        client.shutdown()
        exchange(client, server)
        #expect(server.readAll().isEmpty)
        #expect(server.state == .closed)
    }

    @Test(
        arguments: [
            ("DNS:a.example,IP:192.0.2.9", "relay.example", ["a.example", "192.0.2.9"]),
            ("DNS:*.a.example", "a.b.a.example", ["*.a.example"]),
            ("DNS:rel*.example", "relay.example", ["rel*.example"]),
            ("DNS:192.0.2.1", "192.0.2.1", ["192.0.2.1"]),
            ("IP:2001:db8::1", "2001:db8::2", ["2001:db8::1"]),
            (nil, "relay.example", []),
        ] as [(String?, String, [String])]
    )
    func refusesACertificateForAnotherName(names: String?, asked: String, shown: [String]) throws {
        let (client, server) = try handshake(names, asked)
        #expect(client.state == .failed)
        guard case .wrongName(let found) = client.verificationFailure else {
            Issue.record("\(String(describing: client.verificationFailure))")
            return
        }
        #expect(found == shown)
        #expect(client.failure?.contains("made out to") == true)
        #expect(server.state == .failed, "it got the alert")
    }

    @Test func refusesAServerOfAnUnknownAuthority() throws {
        let other = try Authority("Another Root")
        let (client, server) = try handshake("DNS:relay.example", "relay.example", trust: files.trust(other))
        #expect(client.state == .failed)
        #expect(client.verificationFailure == .unknownAuthority)
        #expect(server.state == .failed)
        #expect(server.failure == "tlsv1 alert unknown ca")
        let (second, _) = try handshake("DNS:relay.example", "relay.example", trust: .system)
        #expect(second.verificationFailure == .unknownAuthority)
    }

    @Test(arguments: [(-48..<(-24), CertificateProblem.expired), (24..<48, .notYetValid)])
    func refusesACertificateOutsideItsTime(hours: Range<Int>, problem: CertificateProblem) throws {
        let pair = try authority.issue("DNS:relay.example", hours: hours)
        let context = try files.makeContext(pair, hoursFromNow: hours.lowerBound + 1)
        let (client, server) = try handshake(context, "relay.example", files.trust(authority))
        #expect(client.state == .failed)
        #expect(client.verificationFailure == problem)
        #expect(client.failure == problem.description)
        #expect(server.state == .failed)
    }

    /// A pin says which certificate, so it may be made out to anything, and this machine's clock may be behind.
    @Test(arguments: [(-1..<24, nil), (24..<48, nil), (-48..<(-24), CertificateProblem.expired)])
    func aPinAcceptsACertificateUnlessItHasExpired(hours: Range<Int>, problem: CertificateProblem?) throws {
        let pair = try authority.issue("DNS:other.example", hours: hours)
        let context = try files.makeContext(pair, hoursFromNow: hours.lowerBound + 1)
        let trust = ServerTrust.fingerprints([[UInt8](repeating: 7, count: 32), context.fingerprint])
        for name in ["relay.example", "192.0.2.7", nil] {
            let (client, _) = try handshake(context, name, trust)
            #expect(client.verificationFailure == problem)
            #expect(client.state == (problem == nil ? .established : .failed))
        }
    }

    @Test func refusesACertificateThatIsNotPinned() throws {
        let context = try files.makeContext()
        let pin = [UInt8](repeating: 7, count: 32)
        let (client, server) = try handshake(context, "relay.example", .fingerprints([pin]))
        #expect(client.state == .failed)
        let found = try #require(CertificateFingerprint(.sha256, bytes: context.fingerprint))
        #expect(client.verificationFailure == .unpinned(found))
        #expect(client.failure?.contains(found.description) == true)
        #expect(server.failure == "sslv3 alert bad certificate")
    }

    @Test func refusesAClientsCertificateInAServersPlace() throws {
        let pair = try authority.issue("DNS:relay.example", usage: "clientAuth")
        let (client, _) = try handshake(files.makeContext(pair), "relay.example", files.trust(authority))
        #expect(client.state == .failed)
        guard case .unacceptable = client.verificationFailure else {
            Issue.record("\(String(describing: client.verificationFailure))")
            return
        }
    }

    @Test func followsAChainToItsAuthorityAndTrustsWhateverTheFileHolds() throws {
        let middle = try Authority("Test Intermediate", of: authority)
        let pair = try middle.issue("DNS:relay.example")
        let whole = try files.makeContext(pair, chain: middle.pem)
        #expect(try handshake(whole, "relay.example", files.trust(authority)).0.state == .established)
        let leafAlone = try files.makeContext(pair)
        let (client, _) = try handshake(leafAlone, "relay.example", files.trust(authority))
        #expect(client.verificationFailure == .unknownAuthority)
        #expect(try handshake(leafAlone, "relay.example", files.trust(middle)).0.state == .established)
        // A server's own self-signed certificate.
        let own = try files.makePair("own")
        let context = try files.makeContext(
            (String(contentsOfFile: own.certificate, encoding: .utf8), String(contentsOfFile: own.key, encoding: .utf8))
        )
        let trust = ServerTrust.authorities(file: own.certificate)
        #expect(try handshake(context, "relay.example", trust).0.state == .established)
        #expect(
            try handshake(context, "b.example", trust).0.verificationFailure
                == .wrongName(["relay.example", "192.0.2.1"])
        )
    }

    @Test func trustsTheAuthoritiesOfThisMachine() throws {
        let context = try TLSContext(trusting: .system, isDatagram: false)
        let directory = try #require(X509_get_default_cert_dir().map { String(cString: $0) })
        let roots = try FileManager.default.contentsOfDirectory(atPath: directory).filter { $0.hasSuffix(".0") }
        #expect(
            roots.contains { root in
                guard let file = BIO_new_file(directory + "/" + root, "r") else { return false }
                defer { BIO_free(file) }
                guard let certificate = PEM_read_bio_X509(file, nil, nil, nil) else { return false }
                defer { X509_free(certificate) }
                guard let store = X509_STORE_CTX_new() else { return false }
                defer { X509_STORE_CTX_free(store) }
                X509_STORE_CTX_init(store, SSL_CTX_get_cert_store(context.handle), certificate, nil)
                return X509_verify_cert(store) == 1
            }
        )
    }

    @Test func namesTheServerAndOffersProtocols() throws {
        let context = try files.makeContext(authority.issue("DNS:relay.example,IP:192.0.2.1"))
        for (name, shown) in [("relay.example.", "relay.example"), ("192.0.2.1", nil)] as [(String, String?)] {
            let (client, server) = try handshake(
                context,
                name,
                files.trust(authority),
                applicationProtocols: ["h2", "stun.turn"]
            )
            #expect(client.applicationProtocol == "stun.turn")
            #expect(SSL_get_servername(server.ssl, TLSEXT_NAMETYPE_host_name).map { String(cString: $0) } == shown)
        }
        let (refused, _) = try handshake(
            context,
            "relay.example",
            files.trust(authority),
            applicationProtocols: ["h2"]
        )
        #expect(refused.state == .failed)
        #expect(refused.verificationFailure == nil)
    }

    @Test func saysWhatItCannotBeMadeFrom() throws {
        #expect(
            message { _ = try TLSContext(trusting: .authorities(file: "/nowhere"), isDatagram: false) }
                .hasPrefix("authorities /nowhere: ")
        )
        for digests in [[], [[1, 2]], [[UInt8](repeating: 0, count: 32), []]] {
            #expect(throws: TLSError.self) { try TLSContext(trusting: .fingerprints(digests), isDatagram: true) }
        }
        #expect(throws: TLSError.self) {
            try TLSContext(trusting: .system, applicationProtocols: [""], isDatagram: false)
        }
        let server = try files.makeContext()
        let stream = try TLSContext(trusting: .system, isDatagram: false)
        let datagram = try TLSContext(trusting: .system, isDatagram: true)
        for name in ["", ".", "a b", "a\0b", "*.example", "relay.example:5349", String(repeating: "a", count: 254)] {
            #expect(
                message { _ = try TLSSession(stream, connectingTo: name) }.contains("neither a host name"),
                "\(name)"
            )
        }
        #expect(throws: TLSError.self) { try TLSSession(stream, connectingTo: nil) }
        #expect(throws: TLSError.self) { try TLSSession(datagram, connectingTo: "a") }
        #expect(throws: TLSError.self) { try TLSSession(server, connectingTo: "a") }
        #expect(throws: TLSError.self) { try TLSSession(stream) }
        #expect(throws: TLSError.self) { try DTLSSession(stream, connectingTo: "a", packetLimitBytes: 1_200) }
        #expect(throws: TLSError.self) { _ = try DTLSGate(datagram) }
        for limit in [0, 255, 4_097] {
            #expect(throws: TLSError.self) { try DTLSSession(datagram, connectingTo: "a", packetLimitBytes: limit) }
        }
    }

    @Test(arguments: ["TLSv1.1", "TLSv1.2"])
    func speaksNothingBelow12AndNoWeakSuite(version: String) throws {
        let pair = try files.makePair("weak")
        let number = version == "TLSv1.1" ? TLS1_1_VERSION : TLS1_2_VERSION
        let suite = version == "TLSv1.1" ? "ALL:@SECLEVEL=0" : "ECDHE-ECDSA-AES128-SHA256:@SECLEVEL=0"
        let context = try #require(SSL_CTX_new(TLS_server_method()))
        defer { SSL_CTX_free(context) }
        SSL_CTX_use_certificate_chain_file(context, pair.certificate)
        SSL_CTX_use_PrivateKey_file(context, pair.key, SSL_FILETYPE_PEM)
        _ = turnpike_ctx_set_versions(context, number, number)
        #expect(SSL_CTX_set_cipher_list(context, suite) == 1)
        let pipe = SessionPipe.make()
        defer { SessionPipe.destroy(pipe) }
        let (ssl, bio) = try #require(PipeBIO.makeSession(context, over: pipe, datagrams: false))
        defer { SSL_free(ssl) }
        SSL_set_bio(ssl, bio, bio)
        SSL_set_accept_state(ssl)
        let trust = ServerTrust.authorities(file: pair.certificate)
        let client = try TLSSession(TLSContext(trusting: trust, isDatagram: false), connectingTo: "relay.example")
        client.advance()
        client.takeAll().withUnsafeBytes { pipe.pointee.input.append($0) }
        #expect(SSL_do_handshake(ssl) != 1)
        client.feed(Array(pipe.pointee.output.bytes))
        client.advance()
        #expect(client.state == .failed)
        ERR_clear_error()
    }

    /// What a server sends may be anything.
    @Test(arguments: ["HTTP/1.1 400 Bad Request\r\n\r\n", "\u{16}\u{3}\u{3}\u{0}\u{4}abcd"])
    func failsForWhatIsNoTLS(answer: String) throws {
        let context = try TLSContext(trusting: .system, isDatagram: false)
        let client = try TLSSession(context, connectingTo: "relay.example")
        client.advance()
        client.feed(Array(answer.utf8))
        #expect(client.advance() == .failed)
        #expect(client.failure != nil && client.verificationFailure == nil)
    }

    @Test func boundsWhatAServersHandshakeTakes() throws {
        let context = try TLSContext(trusting: .system, isDatagram: false)
        let client = try TLSSession(context, connectingTo: "relay.example")
        client.advance()
        var sent = 0
        // A ServerHello that claims 32 KiB and never ends.
        client.feed([22, 3, 3, 0, 4, 2, 0, 0x80, 0])
        while client.advance() == .handshaking, sent < 200_000 {
            client.feed([22, 3, 3, 0x40, 0] + [UInt8](repeating: 0, count: 16_384))
            sent += 16_384
        }
        #expect(client.state == .failed)
        #expect(sent <= 2 * SessionPipe.certificateByteLimit)
    }

    private func handshake(
        _ names: String?,
        _ asked: String,
        trust: ServerTrust? = nil
    ) throws -> (TLSSession, TLSSession) {
        try handshake(files.makeContext(authority.issue(names)), asked, trust ?? files.trust(authority))
    }

    private func handshake(
        _ context: TLSContext,
        _ asked: String?,
        _ trust: ServerTrust,
        applicationProtocols: [String] = TLSContext.turnProtocols
    ) throws -> (TLSSession, TLSSession) {
        let client = try TLSSession(
            TLSContext(trusting: trust, applicationProtocols: applicationProtocols, isDatagram: false),
            connectingTo: asked
        )
        let server = try TLSSession(context)
        exchange(client, server)
        return (client, server)
    }

    private func message(_ body: () throws -> Void) -> String {
        do {
            try body()
            return ""
        } catch {
            return "\(error)"
        }
    }
}

/// Moves bytes both ways until both stand still.
func exchange(_ client: TLSSession, _ server: TLSSession) {
    for _ in 0..<20 {
        client.advance()
        let up = client.takeAll()
        server.feed(up)
        server.advance()
        let down = server.takeAll()
        client.feed(down)
        if up.isEmpty && down.isEmpty { return }
    }
}
