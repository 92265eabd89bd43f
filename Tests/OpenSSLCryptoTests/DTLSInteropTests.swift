import Foundation
import TestSupport
import Testing

@testable import OpenSSLCrypto

/// Peers' DTLS against OpenSSL's own programs, over loopback.
struct DTLSInteropTests {
    let files: CertificateFiles
    let certificate: String
    let key: String
    let identity: PeerIdentity

    init() throws {
        files = try CertificateFiles()
        (certificate, key) = try files.makePair("program")
        identity = try PeerIdentity()
    }

    @Test func weAreTheClientOfSServer() throws {
        let program = try Program(
            files,
            ["s_server", "-dtls1_2", "-accept", "127.0.0.1:0", "-cert", certificate, "-key", key, "-Verify", "1"]
        )
        let port = try program.port()
        let socket = try UDPSocket()
        socket.peer = UDPSocket.loopback(port)
        let session = try DTLSSession(
            peer: .client,
            identity: identity,
            expecting: [fingerprint()],
            packetLimitBytes: 1_200,
            firstTimeoutMicroseconds: 200_000
        )
        session.advance()
        try converse(session, over: socket, with: program)
        #expect(program.output.contains("subject=CN = "), "it was shown our certificate")
    }

    @Test func weAreTheServerOfSClient() throws {
        let socket = try UDPSocket()
        let program = try Program(
            files,
            ["s_client", "-dtls1_2", "-connect", "127.0.0.1:\(socket.port)", "-cert", certificate, "-key", key]
        )
        let session = try DTLSSession(
            peer: .server,
            identity: identity,
            expecting: [fingerprint()],
            packetLimitBytes: 1_200,
            firstTimeoutMicroseconds: 200_000
        )
        try converse(session, over: socket, with: program)
        #expect(program.output.contains("Extended master secret: yes"))
    }

    @Test func refusesTheProgramsWithoutTheirFingerprint() throws {
        let socket = try UDPSocket()
        let program = try Program(
            files,
            ["s_client", "-dtls1_2", "-connect", "127.0.0.1:\(socket.port)", "-cert", certificate, "-key", key]
        )
        let session = try DTLSSession(
            peer: .server,
            identity: identity,
            expecting: [identity.fingerprint],
            packetLimitBytes: 1_200
        )
        try wait("the handshake fails") {
            socket.exchange(session)
            return session.state != .handshaking
        }
        #expect(session.state == .failed)
        #expect(session.verificationFailure == .unpinned(try fingerprint()))
        try wait("the program hears why") { program.output.contains("alert bad certificate") }
    }

    /// Waits for the handshake, and for a line each way.
    private func converse(_ session: DTLSSession, over socket: UDPSocket, with program: Program) throws {
        try wait("the handshake") {
            socket.exchange(session)
            session.handleTimeout()
            return session.state != .handshaking
        }
        try #require(session.state == .established, "\(session.failure ?? "") \(program.output)")
        #expect(session.versionName == "DTLSv1.2")
        #expect(session.send(Array("a line of ours\n".utf8)))
        try wait("our line at the program") {
            socket.exchange(session)
            return program.output.contains("a line of ours")
        }
        program.type("a line of the program\n")
        var received: [UInt8] = []
        try wait("the program's line here") {
            received += socket.exchange(session).joined()
            return received == Array("a line of the program\n".utf8)
        }
    }

    private func fingerprint() throws -> CertificateFingerprint {
        let text = try String(contentsOfFile: certificate, encoding: .utf8)
        let body = text.split(separator: "\n").filter { !$0.hasPrefix("-") }.joined()
        let der = try #require(Data(base64Encoded: body))
        return try #require(CertificateFingerprint(.sha256, bytes: Digest.sha256(Array(der))))
    }
}

private func wait(_ what: String, _ isDone: () throws -> Bool) throws {
    let clock = ContinuousClock()
    let end = clock.now + .seconds(60)
    while clock.now < end {
        if try isDone() { return }
        // The thread itself waits, for a task that does may not be resumed for a minute while many tests run.
        usleep(2_000)
    }
    Issue.record("in vain: \(what)")
}

/// `openssl` with its input and output.
private final class Program {
    private let process = Process()
    private let input = Pipe()
    private let path: String

    init(_ files: CertificateFiles, _ arguments: [String]) throws {
        path = try files.write("", to: "output")
        let file = try #require(FileHandle(forWritingAtPath: path))
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = ["openssl"] + arguments
        process.standardInput = input
        process.standardOutput = file
        process.standardError = file
        try process.run()
    }

    deinit {
        // It has this thread's signals, of which SIGTERM may be blocked.
        kill(process.processIdentifier, SIGKILL)
        process.waitUntilExit()
    }

    var output: String { (try? String(contentsOfFile: path, encoding: .utf8)) ?? "" }

    func type(_ text: String) { input.fileHandleForWriting.write(Data(text.utf8)) }

    /// Where a server listens, once it says so.
    func port() throws -> UInt16 {
        var port: UInt16?
        try wait("the program listens") {
            let line = output.split(separator: "\n").first { $0.hasPrefix("ACCEPT 127.0.0.1:") }
            port = line.flatMap { UInt16($0.drop { $0 != ":" }.dropFirst()) }
            return port != nil
        }
        return try #require(port)
    }
}

private final class UDPSocket {
    private let descriptor: Int32
    let port: UInt16
    /// Where to; the sender of what came last.
    var peer: sockaddr_in?

    init() throws {
        descriptor = socket(AF_INET, Int32(SOCK_DGRAM.rawValue), 0)
        try #require(descriptor >= 0)
        var address = Self.loopback(0)
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let isBound = withUnsafeMutablePointer(to: &address) { [descriptor] pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(descriptor, $0, length) == 0 && getsockname(descriptor, $0, &length) == 0
            }
        }
        port = UInt16(bigEndian: address.sin_port)
        try #require(isBound)
    }

    deinit { close(descriptor) }

    static func loopback(_ port: UInt16) -> sockaddr_in {
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        return address
    }

    /// Sends what the session has, and gives it what came.
    /// - Returns: the data in it.
    @discardableResult
    func exchange(_ session: DTLSSession) -> [[UInt8]] {
        var received: [[UInt8]] = []
        while let datagram = receive() { received += session.take(datagram) }
        for datagram in session.takeAll() { send(datagram) }
        return received
    }

    private func send(_ datagram: [UInt8]) {
        guard var peer else { return }
        withUnsafePointer(to: &peer) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                _ = sendto(descriptor, datagram, datagram.count, 0, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
    }

    private func receive() -> [UInt8]? {
        var bytes = [UInt8](repeating: 0, count: 2_048)
        var sender = sockaddr_in()
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let count = withUnsafeMutablePointer(to: &sender) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                recvfrom(descriptor, &bytes, bytes.count, Int32(MSG_DONTWAIT), $0, &length)
            }
        }
        guard count >= 0 else { return nil }
        peer = sender
        return Array(bytes.prefix(count))
    }
}
