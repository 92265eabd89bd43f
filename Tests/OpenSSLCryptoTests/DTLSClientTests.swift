import Foundation
import TestSupport
import Testing

@testable import OpenSSLCrypto

/// The client's side of DTLS, against the gate of a server.
struct DTLSClientTests {
    let files: CertificateFiles
    let authority: Authority

    init() throws {
        files = try CertificateFiles()
        authority = try Authority("Test Root")
    }

    @Test func connectsBehindTheCookie() throws {
        let (client, server) = try connect(files.trust(authority), "relay.example")
        #expect(client.state == .established)
        let session = try #require(server)
        #expect(session.state == .established)
        #expect(client.applicationProtocol == "stun.turn" && session.applicationProtocol == "stun.turn")
        var wire = Wire()
        #expect(client.send([1]) && client.send([2, 2]) && session.send([3]))
        let received = wire.carry(client, session)
        #expect(received.first == [[3]] && received.second == [[1], [2, 2]])
        client.shutdown()
        wire.carry(client, session)
        #expect(session.state == .closed)
    }

    @Test func refusesWhatTLSRefuses() throws {
        let (client, server) = try connect(files.trust(authority), "b.example")
        #expect(client.state == .failed && server?.state == .failed)
        #expect(client.verificationFailure == .wrongName(["relay.example"]))
        let (other, _) = try connect(.system, "relay.example")
        #expect(other.verificationFailure == .unknownAuthority)
        let (third, _) = try connect(.fingerprints([[UInt8](repeating: 0, count: 32)]), nil)
        guard case .unpinned = third.verificationFailure else {
            Issue.record("\(String(describing: third.verificationFailure))")
            return
        }
    }

    @Test func outlivesChangedDatagramsOfAServer() throws {
        var random = SeededGenerator(for: "DTLS of a server")
        let context = try files.makeContext(authority.issue("DNS:relay.example"), kind: .dtls)
        let trusted = try TLSContext(trusting: .fingerprints([context.fingerprint]), isDatagram: true)
        let distrusted = try TLSContext(trusting: .system, isDatagram: true)
        let limit = fuzzRounds(400)
        var (round, mutated) = (0, 0)
        while mutated < limit {
            round += 1
            let isTrusted = round.isMultiple(of: 2)
            let client = try DTLSSession(
                isTrusted ? trusted : distrusted,
                connectingTo: "relay.example",
                packetLimitBytes: 1_200
            )
            _ = try converse(client, context) { datagram in
                guard Int.random(in: 0..<3, using: &random) == 0 else { return }
                mutated += 1
                mutate(&datagram, &random)
            }
            #expect(isTrusted || client.state != .established)
        }
    }

    private func connect(_ trust: ServerTrust, _ name: String?) throws -> (DTLSSession, DTLSSession?) {
        let client = try DTLSSession(
            TLSContext(trusting: trust, applicationProtocols: TLSContext.turnProtocols, isDatagram: true),
            connectingTo: name,
            packetLimitBytes: 1_200
        )
        let context = try files.makeContext(authority.issue("DNS:relay.example"), kind: .dtls)
        return (client, try converse(client, context))
    }

    /// - Returns: the server's session, if it came to one.
    private func converse(
        _ client: DTLSSession,
        _ context: TLSContext,
        _ tamper: (inout [UInt8]) -> Void = { _ in }
    ) throws -> DTLSSession? {
        var gate = try DTLSGate(context)
        var session: DTLSSession?
        client.advance()
        for _ in 0..<8 {
            for datagram in client.takeAll() {
                if let session {
                    _ = session.take(datagram)
                    continue
                }
                let answer = gate.ask(datagram)
                session = answer.session
                session?.advance()
                if var reply = answer.reply {
                    tamper(&reply)
                    _ = client.take(reply)
                }
            }
            for var datagram in session?.takeAll() ?? [] {
                tamper(&datagram)
                _ = client.take(datagram)
            }
        }
        return session
    }
}
