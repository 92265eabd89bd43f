import Lab
import OpenSSLCrypto
import STUN
import Testing
import TurnpikeClient

@Suite struct SecureTransportTests {
    /// What came of a stream that says `text` once it is open.
    struct Outcome: Sendable {
        var opened = false
        var text = ""
        var failure: NetworkFailure?
    }

    private func talk(
        to server: SecureServer,
        as name: String = "localhost",
        _ trust: ServerTrust,
        sending text: String = "hello"
    ) async throws -> Outcome {
        let endpoint = server.endpoint
        return try await onLoop { network, done in
            var outcome = Outcome()
            var held: SecureStream?
            let stream = try SecureStream(
                to: endpoint,
                serverName: name,
                trust: trust,
                protocols: ["stun.turn"],
                contexts: SecureContexts(),
                network: network
            ) { event in
                switch event {
                case .opened: outcome.opened = true
                case .bytes(let bytes):
                    outcome.text += String(decoding: bytes, as: UTF8.self)
                    if outcome.text.count == text.count {
                        held?.close()
                        done(outcome)
                    }
                case .writable: break
                case .closed(let failure):
                    outcome.failure = failure
                    done(outcome)
                }
            }
            held = stream
            // Before the handshake: it waits.
            Array(text.utf8).withUnsafeBytes { stream.send($0) }
            return [stream]
        }
    }

    @Test func aPinnedServerIsSpokenToWithoutNameOrAuthority() async throws {
        let server = try await SecureServer(.echo)
        let text = String(repeating: "turnpike ", count: 20_000)
        let outcome = try await talk(
            to: server,
            as: "another.example",
            .fingerprints([server.context.fingerprint]),
            sending: text
        )
        #expect(outcome.opened && outcome.text == text && outcome.failure == nil)
        try await server.stop()
    }

    @Test func anAuthoritysServerIsSpokenToByItsName() async throws {
        let server = try await SecureServer(.echo)
        let outcome = try await talk(to: server, .authorities(file: server.certificateFile))
        #expect(outcome.opened && outcome.text == "hello")
        let wrong = try await talk(to: server, as: "other.example", .authorities(file: server.certificateFile))
        #expect(!wrong.opened)
        #expect(wrong.failure?.reason == .certificate)
        #expect(wrong.failure?.description.contains("made out to localhost") == true)
        try await server.stop()
    }

    @Test func aStrangersCertificateIsRefusedBeforeAnythingIsSaid() async throws {
        let server = try await SecureServer(.echo)
        for trust in [ServerTrust.system, .fingerprints([Array(repeating: 7, count: 32)])] {
            let outcome = try await talk(to: server, trust)
            #expect(!outcome.opened && outcome.text.isEmpty)
            #expect(outcome.failure?.reason == .certificate)
        }
        try await server.stop()
    }

    @Test func aGoodbyeEndsTheStreamWithoutAFailure() async throws {
        let server = try await SecureServer(.hangUp)
        let outcome = try await talk(to: server, .fingerprints([server.context.fingerprint]))
        #expect(outcome.opened && outcome.failure == nil)
        try await server.stop()
    }

    @Test func aServerWithoutTLSIsNamed() async throws {
        let server = try await SecureServer(.echo, isSecure: false)
        let outcome = try await talk(to: server, .system)
        #expect(!outcome.opened)
        #expect(outcome.failure?.reason == .tls)
        try await server.stop()
    }

    @Test func aFileOfAuthoritiesThatIsNotThereIsNamed() async throws {
        let server = try await SecureServer(.echo)
        await #expect(throws: NetworkFailure.self) {
            _ = try await talk(to: server, .authorities(file: "/nowhere/ca.pem"))
        }
        try await server.stop()
    }

    // MARK: In the lab

    @Test func aServerThatTakesTheConnectionAndIsSilentIsGivenUp() throws {
        let lab = Internet(seed: 5) {
            $0.host("server")
            $0.host("ada")
        }
        let network = try LabNetwork(lab.host("ada"), seed: 5)
        lab.host("server").listen(443) { _ in }
        let address = try #require(lab.host("server").address())
        var ends: [NetworkFailure?] = []
        let stream = try SecureStream(
            to: Endpoint(address: address, port: 443),
            serverName: "server.example",
            trust: .system,
            protocols: [],
            contexts: SecureContexts(),
            network: network
        ) { if case .closed(let failure) = $0 { ends.append(failure) } }
        try #expect(lab.run(while: { ends.isEmpty }, atMostSeconds: 25))
        #expect(ends.first??.reason == .timedOut)
        withExtendedLifetime(stream) {}
    }

    @Test func aServerWithoutDTLSIsGivenUpAfterSomeFlights() throws {
        let lab = Internet(seed: 6) {
            $0.host("server")
            $0.host("ada")
        }
        let network = try LabNetwork(lab.host("ada"), seed: 6)
        let socket = try #require(lab.host("server").udp(port: 5_349))
        var ends: [NetworkFailure?] = []
        let endpoint = try #require(socket.local())
        let session = try SecureDatagrams(
            to: endpoint,
            serverName: "server.example",
            trust: .system,
            protocols: [],
            contexts: SecureContexts(),
            network: network
        ) { if case .closed(let failure) = $0 { ends.append(failure) } }
        try #expect(lab.run(while: { ends.isEmpty }, atMostSeconds: 15))
        #expect(ends.first??.reason == .timedOut)
        #expect(!socket.inbox.isEmpty)
        // A record of a handshake, DTLS 1.2 or its hello's 1.0.
        #expect(socket.inbox.allSatisfy { $0.bytes[0] == 22 && $0.bytes[1] == 0xFE && $0.bytes.count <= 1_232 })
        #expect(network.openPorts == 0)
        withExtendedLifetime(session) {}
    }
}
