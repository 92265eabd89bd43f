import COpenSSL
import Foundation
import Testing

@testable import OpenSSLCrypto

/// OpenSSL's own client, over a pipe instead of a socket.
final class Client {
    let ssl: OpaquePointer
    let pipe: UnsafeMutablePointer<SessionPipe>
    private let context: OpaquePointer

    /// - Parameter configure: changes the context before the session is made from it.
    init(
        datagrams: Bool = false,
        firstTimeoutMicroseconds: UInt32 = 1_000_000,
        configure: (OpaquePointer) -> Void = { _ in }
    ) throws {
        context = try #require(SSL_CTX_new(datagrams ? DTLS_client_method() : TLS_client_method()))
        // The lowest level, so that what is refused is refused by the server and not by this client.
        SSL_CTX_set_security_level(context, 0)
        if datagrams { _ = SSL_CTX_set_options(context, turnpike_op_no_query_mtu) }
        configure(context)
        pipe = SessionPipe.make()
        pipe.pointee.firstTimeoutMicroseconds = firstTimeoutMicroseconds
        ssl = try #require(SSL_new(context))
        let bio = try #require(PipeBIO.make(over: pipe, datagrams: datagrams))
        SSL_set_bio(ssl, bio, bio)
        SSL_set_connect_state(ssl)
        if datagrams {
            turnpike_ssl_set_app_data(ssl, pipe)
            _ = turnpike_ssl_set_mtu(ssl, 1_200)
            DTLS_set_timer_cb(ssl, CookieCallbacks.timer)
        }
    }

    deinit {
        SSL_free(ssl)
        SSL_CTX_free(context)
        SessionPipe.destroy(pipe)
    }

    /// - Returns: whether the handshake is over.
    @discardableResult
    func advance() -> Bool {
        ERR_clear_error()
        guard SSL_do_handshake(ssl) == 1 else { return false }
        // The bounds that a pipe holds a server's session to are not this client's.
        pipe.pointee.isEstablished = true
        return true
    }

    /// The reason of the last error on this thread, such as that of an alert.
    var lastReason: String { TLSError.takeReason() }

    func takeStream() -> [UInt8] {
        let bytes = Array(pipe.pointee.output.bytes)
        pipe.pointee.output.remove(bytes.count)
        return bytes
    }

    func takeDatagrams() -> [[UInt8]] {
        var datagrams: [[UInt8]] = []
        while let first = pipe.pointee.output.firstDatagram {
            datagrams.append(Array(first))
            pipe.pointee.output.removeFirstDatagram()
        }
        return datagrams
    }

    func receive(_ bytes: [UInt8]) {
        bytes.withUnsafeBytes { pipe.pointee.input.append($0) }
    }

    func receive(datagram: [UInt8]) {
        datagram.withUnsafeBytes { pipe.pointee.input.appendDatagram($0) }
    }

    func write(_ bytes: [UInt8]) -> Bool {
        ERR_clear_error()
        return SSL_write(ssl, bytes, Int32(bytes.count)) == Int32(bytes.count)
    }

    func read(_ count: Int = 16_384) -> [UInt8] {
        ERR_clear_error()
        var bytes = [UInt8](repeating: 0, count: count)
        let read = SSL_read(ssl, &bytes, Int32(count))
        return Array(bytes.prefix(Int(max(read, 0))))
    }

    func readAll() -> [UInt8] {
        var all: [UInt8] = []
        while true {
            let bytes = read()
            if bytes.isEmpty { return all }
            all += bytes
        }
    }
}

extension TLSSession {
    func takeAll() -> [UInt8] {
        var bytes: [UInt8] = []
        takeOutput { pending in
            bytes = Array(pending)
            return pending.count
        }
        return bytes
    }

    func feed(_ bytes: [UInt8]) {
        bytes.withUnsafeBytes { receive($0) }
    }

    func send(_ bytes: [UInt8]) -> Bool { bytes.withUnsafeBytes { write($0) } }

    func readAll() -> [UInt8] {
        var all: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 16_384)
        while true {
            let count = buffer.withUnsafeMutableBytes { read(into: $0) }
            guard count > 0 else { return all }
            all += buffer.prefix(count)
        }
    }
}

extension DTLSSession {
    func takeAll() -> [[UInt8]] {
        var datagrams: [[UInt8]] = []
        var buffer = [UInt8](repeating: 0, count: 20_000)
        while true {
            let count = buffer.withUnsafeMutableBytes { takeOutput(into: $0) }
            guard count > 0 else { return datagrams }
            datagrams.append(Array(buffer.prefix(count)))
        }
    }

    @discardableResult
    func feed(_ bytes: [UInt8]) -> TLSState { bytes.withUnsafeBytes { receive($0) } }

    func send(_ bytes: [UInt8]) -> Bool { bytes.withUnsafeBytes { write($0) } }

    /// One application datagram; nil where none waits.
    func readOne() -> [UInt8]? {
        var buffer = [UInt8](repeating: 0, count: 20_000)
        let count = buffer.withUnsafeMutableBytes { read(into: $0) }
        return count > 0 ? Array(buffer.prefix(count)) : nil
    }
}

/// Moves bytes both ways until both stand still.
func exchange(_ client: Client, _ server: TLSSession) {
    for _ in 0..<20 {
        client.advance()
        let up = client.takeStream()
        server.feed(up)
        server.advance()
        let down = server.takeAll()
        client.receive(down)
        if up.isEmpty && down.isEmpty { return }
    }
}

/// A directory of certificate files, gone with the object.
final class CertificateFiles {
    let directory: URL

    init() throws {
        directory = FileManager.default.temporaryDirectory.appendingPathComponent("turnpike-tls-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
    }

    deinit { try? FileManager.default.removeItem(at: directory) }

    func path(_ name: String) -> String { directory.appendingPathComponent(name).path }

    func write(_ text: String, to name: String) throws -> String {
        try Data(text.utf8).write(to: URL(fileURLWithPath: path(name)))
        return path(name)
    }

    /// - Returns: the paths of a fresh certificate and its key.
    func makePair(_ name: String = "server", days: Int = 30) throws -> (certificate: String, key: String) {
        let made = try SelfSignedCertificate.make(hosts: ["relay.example"], addresses: ["192.0.2.1"], days: days)
        return (try write(made.certificatePEM, to: name + ".pem"), try write(made.privateKeyPEM, to: name + ".key"))
    }

    func makeContext(_ kind: TLSContext.Kind = .tls) throws -> TLSContext {
        let pair = try makePair(UUID().uuidString)
        return try TLSContext(
            kind: kind,
            certificateChainPath: pair.certificate,
            privateKeyPath: pair.key,
            nowSeconds: Int64(Date().timeIntervalSince1970)
        )
    }
}
